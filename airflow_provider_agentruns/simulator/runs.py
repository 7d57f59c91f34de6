"""A run's life as a function of time: queued, running, waiting for a human, ended.

Nothing ticks. Whoever looks at a run settles it for the present moment first, so that a run goes on whether
or not a client listens, and a test that injects a clock needs no sleep.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from airflow_provider_agentruns.simulator.scenarios import DRAFTS, Scenario, without_directive


class Phase(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    ENDED = "ended"


@dataclass
class Gate:
    """A point at which the run cannot go on before a human acts; times in seconds since the epoch.

    A draft is passed by a confirmation and then a resume; a secret or a browser question by the answer.
    """

    kind: str
    opened_at: float | None = None
    confirmed_at: float | None = None
    passed_at: float | None = None
    answers: list[tuple[float, str]] = field(default_factory=list)

    @property
    def is_draft(self) -> bool:
        """Say whether a human reviews a draft here."""
        return self.kind in DRAFTS


@dataclass(kw_only=True)
class Run:
    """One run at one vendor.

    :param seed: decides the counters, so that every answer about the run agrees with the others.
    :param body: what the start request said, as far as later answers repeat it.
    :param origin: the operation that started it, or `control` when "somebody else" did.
    """

    id: str
    vendor: str
    kind: str
    agent_id: str
    account: str
    input_text: str
    scenario: Scenario
    created_at: float
    queued_seconds: float
    work_seconds: float
    seed: int
    origin: str
    body: Mapping[str, object] = field(default_factory=dict)
    parent_run_id: str | None = None
    gates: list[Gate] = field(init=False)
    part_starts: list[float] = field(init=False, default_factory=list)
    resumes: list[Mapping[str, object]] = field(init=False, default_factory=list)
    finish_at: float | None = field(init=False, default=None)
    ended_at: float | None = field(init=False, default=None)
    has_delegated: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.gates = [Gate(kind) for kind in self.scenario.human]

    @property
    def starts_at(self) -> float:
        """When the run leaves the queue."""
        return self.created_at + self.queued_seconds

    @property
    def part_seconds(self) -> float:
        """How long the run works before each of its gates, and after the last."""
        return self.work_seconds / (len(self.gates) + 1)

    @property
    def planned_steps(self) -> int:
        """How many steps the run makes in all."""
        return 1 + self.seed % 12

    @property
    def output(self) -> str:
        """The final output of a run that succeeds."""
        if self.scenario.output is not None:
            return self.scenario.output
        return f"Simulated answer to: {without_directive(self.input_text)[:200]}"

    @property
    def error(self) -> str:
        """The error message of a run that fails."""
        return "The simulated agent gave up" if self.scenario.error is None else self.scenario.error

    @property
    def browser_session_id(self) -> str:
        """What a browser question is answered under; not to be guessed from the run's id."""
        return "bs_" + hashlib.sha256(f"browser:{self.id}:{self.seed}".encode()).hexdigest()[:24]

    @property
    def open_gate(self) -> Gate | None:
        """The gate the run stands at, also when its draft is confirmed and only the resume is missing."""
        if self.ended_at is None:
            for gate in self.gates:
                if gate.opened_at is not None and gate.passed_at is None:
                    return gate
        return None

    @property
    def pending_draft(self) -> Gate | None:
        """The gate whose draft a human has yet to accept."""
        gate = self.open_gate
        return gate if gate and gate.is_draft and gate.confirmed_at is None else None

    def settle(self, now: float, secrets: Mapping[str, float]) -> None:
        """Bring gates and end up to `now`.

        :param secrets: registration time of each secret the run's account has.
        """
        if self.ended_at is not None:
            return
        horizon = now if self.finish_at is None else min(now, self.finish_at)
        self.part_starts = [self._first_part_start]
        if not self._walk_gates(horizon, secrets) and self.scenario.ending is not None:
            end = self.part_starts[-1] + self.part_seconds
            if end <= horizon:
                self.ended_at = end
                return
        if self.finish_at is not None and self.finish_at <= now:
            self.ended_at = self.finish_at

    @property
    def _first_part_start(self) -> float:
        return self.starts_at + (self.scenario.unknown_seconds or 0.0)

    def _walk_gates(self, horizon: float, secrets: Mapping[str, float]) -> bool:
        """Open the gates the run has reached; say whether it stands before or at one."""
        for gate in self.gates:
            opens = self.part_starts[-1] + self.part_seconds
            if opens > horizon:
                return True
            gate.opened_at = opens
            if gate.kind == "secret" and gate.passed_at is None:
                registered = [secrets.get(name) for name in self.scenario.secrets]
                known = [at for at in registered if at is not None]
                if len(known) == len(registered):
                    gate.passed_at = max(opens, *known)
            if gate.passed_at is None:
                return True
            self.part_starts.append(gate.passed_at)
        return False

    def finish(self, now: float, scenario: Scenario) -> None:
        """End a settled run now, as `scenario` says; its output and error replace those of before."""
        if self.ended_at is None:
            self.scenario = replace(
                self.scenario, name=scenario.name, output=scenario.output, error=scenario.error
            )
            self.finish_at = now
            self.ended_at = now

    def resume(self, now: float) -> None:
        """Let the run go on if its draft is confirmed; otherwise change nothing."""
        gate = self.open_gate
        if gate and gate.confirmed_at is not None:
            gate.passed_at = now

    def abort_resume(self) -> None:
        """Take back the last resume and what was done since: the run stands at the confirmed draft."""
        passed = [gate for gate in self.gates if gate.is_draft and gate.passed_at is not None]
        if passed and self.ended_at is None and self.open_gate is None:
            passed[-1].passed_at = None

    def phase(self, now: float) -> Phase:
        """Say where the settled run is in its life."""
        if self.ended_at is not None:
            return Phase.ENDED
        if now < self.starts_at:
            return Phase.QUEUED
        return Phase.WAITING if self.open_gate else Phase.RUNNING

    def shows_unknown_status(self, now: float) -> bool:
        """Say whether the vendor reports a status that nobody documented."""
        if self.scenario.name != "unknown" or self.phase(now) is not Phase.RUNNING:
            return False
        return self.scenario.unknown_seconds is None or now < self._first_part_start

    def progress(self, now: float) -> float:
        """Return the share of the work that is done, 0 to 1; a run that never ends never gets to 1."""
        if self.ended_at is not None and self.finish_at is None:
            return 1.0
        if now < self.starts_at or not self.part_starts:
            return 0.0
        until = now if self.ended_at is None else self.ended_at
        worked = min(max(until - self.part_starts[-1], 0.0), self.part_seconds)
        share = worked / self.part_seconds if self.part_seconds else 1.0
        done = (len(self.part_starts) - 1 + share) / (len(self.gates) + 1)
        return done if self.scenario.ending else min(done, 0.95)

    def steps_executed(self, now: float) -> int:
        """Return how many steps are done."""
        return int(self.progress(now) * self.planned_steps)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, with its share of the usage; tokens and milliseconds."""

    number: int
    tool: str
    input_tokens: int
    output_tokens: int
    milliseconds: int


def steps_of(run: Run, now: float) -> list[Step]:
    """Return the steps a settled run has made so far; the same ones whoever asks."""
    dice = random.Random(run.seed)  # noqa: S311  # figures for show
    share = max(run.work_seconds, 0.001) * 1000 / run.planned_steps
    made = []
    for number in range(1, run.steps_executed(now) + 1):
        tool = dice.choice(("web_search", "read_page", "summarize", "query_database", "send_request"))
        made.append(Step(number, tool, dice.randint(200, 2000), dice.randint(50, 800), max(1, round(share))))
    return made
