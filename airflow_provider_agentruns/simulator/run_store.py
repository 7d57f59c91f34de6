"""All runs of one simulator: make them, find them, bring them up to date."""

from __future__ import annotations

import math
import random
import secrets
import string
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from airflow_provider_agentruns.simulator.accounts import Accounts
from airflow_provider_agentruns.simulator.journal import Journal, StartRecord
from airflow_provider_agentruns.simulator.runs import Run
from airflow_provider_agentruns.simulator.scenarios import Scenario, find_scenario, parse_scenario
from airflow_provider_agentruns.simulator.settings import Settings

_CUID_ALPHABET = string.ascii_lowercase + string.digits


def new_cuid() -> str:
    """Return an opaque id as Snorbe gives them."""
    return "c" + "".join(secrets.choice(_CUID_ALPHABET) for _ in range(24))


@dataclass
class RunStore:
    """The runs, in the order of their starts."""

    settings: Settings
    accounts: Accounts
    journal: Journal
    _runs: dict[str, Run] = field(default_factory=dict)
    _dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.settings.seed)  # noqa: S311  # durations for show

    def choose_scenario(self, vendor: str, run_input: object) -> Scenario:
        """Return what the input's directive asks for, else the default.

        :param run_input: the run's input, any JSON value.
        :raises ScenarioError: the directive does not parse.
        """
        return find_scenario(run_input, vendor) or self.default_scenario(vendor)

    def default_scenario(self, vendor: str) -> Scenario:
        """Return the default scenario; a human's part at Snorbe is plain success at Flowyble."""
        text = self.settings.scenario
        if vendor == "flowyble" and text.lstrip().startswith("wait"):
            return Scenario()
        return parse_scenario(text, vendor)

    def create(
        self,
        *,
        vendor: str,
        kind: str,
        agent_id: str,
        account: str,
        input_text: str,
        scenario: Scenario,
        origin: str,
        now: float,
        body: Mapping[str, object] | None = None,
        parent_run_id: str | None = None,
    ) -> Run:
        """Start a run at `now` (seconds since the epoch) and write the start down."""
        # Drawn also when the scenario sets the duration: the other runs' durations do not depend on it.
        drawn = self._dice.lognormvariate(math.log(self.settings.median_seconds or 1e-9), self.settings.sigma)
        duration = drawn if scenario.duration is None else scenario.duration
        queued = duration * self.settings.queued_share
        run = Run(
            id=str(uuid.uuid4()) if vendor == "flowyble" else new_cuid(),
            vendor=vendor,
            kind=kind,
            agent_id=agent_id,
            account=account,
            input_text=input_text,
            scenario=scenario,
            created_at=now,
            queued_seconds=queued,
            work_seconds=duration - queued,
            seed=self._dice.getrandbits(32),
            origin=origin,
            body=body or {},
            parent_run_id=parent_run_id,
        )
        self._runs[run.id] = run
        self.journal.starts.append(StartRecord(now, vendor, kind, origin, run.id, agent_id, input_text))
        self._settle(run, now)
        return run

    def find(
        self, run_id: str, now: float, *, vendor: str | None = None, account: str | None = None
    ) -> Run | None:
        """Return the run, settled for `now`; None if there is none, at this vendor, for this account."""
        run = self._runs.get(run_id)
        if run is None or vendor not in (None, run.vendor) or account not in (None, run.account):
            return None
        self._settle(run, now)
        return run

    def all(self, now: float, *, vendor: str | None = None, account: str | None = None) -> list[Run]:
        """Return the runs, settled for `now`, oldest first."""
        return list(self._each(now, vendor, account))

    def _each(self, now: float, vendor: str | None, account: str | None) -> Iterator[Run]:
        for run in list(self._runs.values()):
            if vendor in (None, run.vendor) and account in (None, run.account):
                self._settle(run, now)
        for run in self._runs.values():
            if vendor in (None, run.vendor) and account in (None, run.account):
                yield run

    def _settle(self, run: Run, now: float) -> None:
        run.settle(now, self.accounts.secrets[run.account])
        if run.ended_at is not None and not run.has_delegated:
            run.has_delegated = True
            self._delegate(run, run.ended_at, now)

    def _delegate(self, run: Run, ended_at: float, now: float) -> None:
        """Start a run of each agent that a Snorbe run mentioned, as the vendor does once that run is done."""
        mentions = run.body.get("mentions")
        if run.vendor != "snorbe" or run.scenario.ending != "succeed" or not isinstance(mentions, list):
            return
        for mention in mentions:
            if mention["type"] != "agent" or mention["id"] == run.agent_id:
                continue
            child = self.create(
                vendor="snorbe",
                kind="agent",
                agent_id=mention["id"],
                account=run.account,
                input_text=run.output,
                scenario=self.default_scenario("snorbe"),
                origin="delegation",
                now=ended_at,
                body={key: value for key, value in run.body.items() if key != "mentions"},
                parent_run_id=run.id,
            )
            self._settle(child, now)
