"""Everything one simulator knows, and what the control plane and the Python API can do to it.

All of it belongs to the server's event loop; `Simulator` calls into that loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_agentruns.simulator.accounts import (
    AGENT_STATUSES,
    DEFAULT_ACCOUNT,
    Accounts,
    Agent,
    Key,
    Webhook,
    is_uuid,
)
from airflow_provider_agentruns.simulator.faults import Fault, FaultBox
from airflow_provider_agentruns.simulator.journal import CancelRecord, Journal
from airflow_provider_agentruns.simulator.operations import VENDORS
from airflow_provider_agentruns.simulator.rate_limit import SlidingWindow
from airflow_provider_agentruns.simulator.run_store import RunStore, new_cuid
from airflow_provider_agentruns.simulator.runs import Run
from airflow_provider_agentruns.simulator.scenarios import ENDINGS, ScenarioError, make_scenario
from airflow_provider_agentruns.simulator.settings import Settings
from airflow_provider_agentruns.simulator.statuses import vendor_status

AGENT_WEBHOOK = "agent-webhook"
TOOL_WEBHOOK = "tool-webhook"
DEFAULT_AGENT_ID = "a0000000-0000-4000-8000-000000000001"
DEFAULT_TOOL_ID = "b0000000-0000-4000-8000-000000000001"


class ControlError(ValueError):
    """Tell who controls the simulator what is wrong with the request."""


class RunEndedError(ControlError):
    """The run has ended already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What the simulator itself knows of a run; times in seconds since the epoch.

    :param phase: queued, running, waiting or ended.
    :param status: the vendor's word.
    :param waiting_for: the human's part the run stands at.
    :param answers: what humans answered to drafts and questions so far.
    :param resumes: the bodies of the resume requests so far.
    """

    run_id: str
    vendor: str
    kind: str
    agent_id: str
    account: str
    scenario: str
    phase: str
    status: str
    input_text: str
    output: str
    created_at: float
    ended_at: float | None
    origin: str
    parent_run_id: str | None
    waiting_for: str | None
    answers: tuple[str, ...]
    resumes: tuple[Mapping[str, object], ...]


class SimulatorState:
    """What one simulator knows."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.closing = asyncio.Event()
        self.reset()
        for vendor in VENDORS:
            self.runs.default_scenario(vendor)  # a default that does not parse is told now, not at a start

    @property
    def now(self) -> float:
        """Seconds since the epoch, by the injected clock."""
        return self.settings.clock()

    async def pause(self, seconds: float) -> bool:
        """Wait for real seconds; return True at once if the server is closing."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.closing.wait(), seconds)
        return self.closing.is_set()

    def reset(self) -> None:
        """Forget runs, faults, logs and everything registered; the keys work again."""
        settings = self.settings
        self.journal = Journal()
        self.faults = FaultBox()
        self.accounts = Accounts(registered_only=settings.registered_agents_only)
        self.runs = RunStore(settings, self.accounts, self.journal)
        self.key_limits = SlidingWindow(settings.requests_per_minute)
        self.webhook_limits = SlidingWindow(settings.webhook_requests_per_minute)
        self.workspace_ids: dict[str, str] = {}
        self.accounts.add_key(Key("flowyble", settings.flowyble_key))
        self.accounts.add_key(Key("snorbe", settings.snorbe_key))
        for vendor, kind, agent_id in (
            ("flowyble", "agent", DEFAULT_AGENT_ID),
            ("flowyble", "tool", DEFAULT_TOOL_ID),
            ("snorbe", "agent", new_cuid()),
        ):
            self.accounts.add_agent(
                Agent(vendor, kind, agent_id, f"simulated {kind}", self.now, is_default=True)
            )
        self.accounts.webhooks = {
            AGENT_WEBHOOK: Webhook(AGENT_WEBHOOK, "agent", DEFAULT_AGENT_ID),
            TOOL_WEBHOOK: Webhook(TOOL_WEBHOOK, "tool", DEFAULT_TOOL_ID),
        }

    def workspace_id(self, account: str) -> str:
        """Return Snorbe's id of an account's workspace."""
        return self.workspace_ids.setdefault(account, new_cuid())

    def create_run(
        self,
        vendor: str,
        *,
        kind: str = "agent",
        agent_id: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        input_text: str = "",
        scenario: str | None = None,
        **options: object,
    ) -> str:
        """Start a run that no client asked for.

        :raises ControlError: vendor, kind or agent id is none the vendor would have.
        :raises ScenarioError: unknown scenario or option.
        """
        self._check_kind(vendor, kind)
        agent_id = agent_id or self.accounts.default_agent(vendor, kind).id
        self._check_agent_id(vendor, agent_id)
        if scenario is None and not options:
            chosen = self.runs.choose_scenario(vendor, input_text)
        else:
            chosen = make_scenario(scenario or "succeed", options, vendor)
        run = self.runs.create(
            vendor=vendor,
            kind=kind,
            agent_id=agent_id,
            account=account,
            input_text=input_text,
            scenario=chosen,
            origin="control",
            now=self.now,
        )
        return run.id

    def finish_run(
        self, run_id: str, *, scenario: str = "succeed", output: str | None = None, error: str | None = None
    ) -> None:
        """End a run now, whatever its scenario was.

        :raises ControlError: there is no such run.
        :raises ScenarioError: `scenario` is no way to end.
        """
        run = self._require_run(run_id)
        if scenario not in ENDINGS:
            raise ScenarioError(f"A run can end by {', '.join(ENDINGS)}, not by {scenario!r}")
        given = {name: value for name, value in (("output", output), ("error", error)) if value is not None}
        run.finish(self.now, make_scenario(scenario, given, run.vendor))

    def cancel_run(self, run_id: str) -> None:
        """Cancel a run for a client, and write that down.

        :raises RunEndedError: it has ended already.
        :raises ControlError: there is no such run.
        """
        run, now = self._require_run(run_id), self.now
        if run.ended_at is not None:
            raise RunEndedError(f"Run {run_id} has ended already")
        run.finish(now, make_scenario("cancel", {}, run.vendor))
        self.journal.cancels.append(CancelRecord(now, run.vendor, run.kind, run.id, run.input_text))

    def find_run(self, run_id: str) -> RunRecord:
        """Return the record of one run.

        :raises ControlError: there is no such run.
        """
        return _record(self._require_run(run_id), self.now)

    def list_runs(self) -> list[RunRecord]:
        """Return a record of every run, oldest first."""
        now = self.now
        return [_record(run, now) for run in self.runs.all(now)]

    def add_fault(self, fault: Fault) -> int:
        """Set a fault and return its id."""
        return self.faults.add(fault)

    def add_agent(
        self,
        vendor: str,
        *,
        kind: str = "agent",
        agent_id: str,
        name: str | None = None,
        status: str = "active",
    ) -> None:
        """Register an agent or tool.

        :raises ControlError: vendor, kind, agent id or status is none the vendor would have.
        """
        self._check_kind(vendor, kind)
        self._check_agent_id(vendor, agent_id)
        if status not in AGENT_STATUSES:
            raise ControlError(f"Unknown status {status!r}: expected one of {', '.join(AGENT_STATUSES)}")
        known = self.accounts.agents.get((vendor, kind, agent_id))
        self.accounts.add_agent(
            Agent(
                vendor,
                kind,
                agent_id,
                name or agent_id,
                self.now,
                status,
                is_default=bool(known and known.is_default),
            )
        )

    def add_key(self, key: Key) -> None:
        """Add a key, or change what it may do.

        :raises ControlError: there is no such vendor, or the key is empty.
        """
        self._check_kind(key.vendor, "agent")
        if not key.value:
            raise ControlError("The key must not be empty")
        self.accounts.add_key(key)

    def revoke_key(self, vendor: str, value: str) -> None:
        """Let the vendor refuse a key from now on."""
        self.accounts.keys.pop((vendor, value), None)

    def add_webhook(self, webhook: Webhook) -> None:
        """Add an incoming webhook of Flowyble.

        :raises ControlError: kind or agent id is none Flowyble would have.
        """
        self._check_kind("flowyble", webhook.kind)
        self._check_agent_id("flowyble", webhook.agent_id)
        self.accounts.webhooks[webhook.token] = webhook

    def webhook_target(self, kind: str) -> str:
        """Return the agent or tool a webhook starts when none is named."""
        self._check_kind("flowyble", kind)
        return self.accounts.default_agent("flowyble", kind).id

    def _require_run(self, run_id: str) -> Run:
        run = self.runs.find(run_id, self.now)
        if run is None:
            raise ControlError(f"No run {run_id!r}")
        return run

    def _check_kind(self, vendor: str, kind: str) -> None:
        if vendor not in VENDORS:
            raise ControlError(f"Unknown vendor {vendor!r}: expected one of {', '.join(VENDORS)}")
        kinds = ("agent", "tool") if vendor == "flowyble" else ("agent",)
        if kind not in kinds:
            raise ControlError(f"Unknown kind {kind!r} at {vendor}: expected one of {', '.join(kinds)}")

    def _check_agent_id(self, vendor: str, agent_id: str) -> None:
        if vendor == "flowyble" and not is_uuid(agent_id):
            raise ControlError(f"Ids at Flowyble are uuids, not {agent_id!r}")


def _record(run: Run, now: float) -> RunRecord:
    gate = run.open_gate
    return RunRecord(
        run_id=run.id,
        vendor=run.vendor,
        kind=run.kind,
        agent_id=run.agent_id,
        account=run.account,
        scenario=run.scenario.name,
        phase=run.phase(now).value,
        status=vendor_status(run, now),
        input_text=run.input_text,
        output=run.output,
        created_at=run.created_at,
        ended_at=run.ended_at,
        origin=run.origin,
        parent_run_id=run.parent_run_id,
        waiting_for=gate.kind if gate else None,
        answers=tuple(text for each in run.gates for _, text in each.answers),
        resumes=tuple(run.resumes),
    )
