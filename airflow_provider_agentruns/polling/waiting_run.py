"""One run that somebody waits for: when it was asked, what it was seen to do, what that teaches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller
from airflow_provider_agentruns.vendors.base import BulkPolling

_LONGEST_WITHOUT_HINTS = 3600.0


@dataclass(eq=False, slots=True)
class WaitingRun:
    """
    A run that somebody waits for.

    Times are seconds on one monotonic clock.

    :param interval: seconds between its polls, as far as the budget allows.
    :param on_note: takes lines for the log of whoever waits.
    :param finished: what ended the wait.
    :param bulk: the vendor's call that tells how many runs stand, if it may be used.
    :param label: runs with the same one are expected to last alike, until the vendor names the agent.
    :param agent: whose run it is.
    :param began: when the run began, as far as is known.
    :param seen: when it was last seen going on.
    :param asked: when it was last asked or seen going on, or began to wait.
    :param polled: when it was last asked singly, or began to wait.
    :param not_before: when it may be asked first.
    :param deadline: when its wait ends.
    :param due: when it is to be asked next.
    :param failed_at: when its last poll failed, None if it was answered.
    :param mark: of the newest listing that showed the run to have changed.
    :param is_hinted: whether the run is to be polled because of that.
    :param hints_from: what listings show before then is not worth a poll.
    :param listed: when a listing was last sent that named it, seconds since the epoch.
    :param context: of whoever waits, for lines of its log.
    """

    poller: RunPoller
    call: Call[Run]
    settings: ClientSettings
    interval: float
    on_note: Callable[[Note], None]
    finished: asyncio.Future[Decision]
    began: float
    seen: float
    asked: float
    polled: float
    not_before: float
    bulk: BulkPolling | None = None
    label: str = ""
    agent: str = ""
    deadline: float = float("inf")
    due: float = 0.0
    was_seen: bool = False
    failed_at: float | None = None
    poll: asyncio.Task[None] | None = None
    turn: int = 0
    mark: str | None = None
    is_hinted: bool = False
    hints_from: float = float("-inf")
    false_hints: int = 0
    listed: float | None = None
    listed_before: float | None = None
    context: Context = field(default_factory=copy_context)

    def learn(self, answer: Run, durations: RunDurations, now: float, wall_now: float) -> float | None:
        """
        Take note of an answer, for this run and for those that last alike.

        :param wall_now: seconds since the epoch.
        :return: for how many seconds the run had been over, if that can be told.
        """
        self.failed_at = None
        if answer.agent_id:
            self.agent = answer.agent_id
        started, finished = answer.started_at or answer.created_at, answer.finished_at
        if not self.was_seen and started is not None:
            # How old the run is, the vendor knows; a clock that is ahead of ours does not make it younger.
            self.began = min(self.began, now - max(0.0, wall_now - started.timestamp()))
        if not answer.status.is_terminal:
            self.saw_going_on(durations, now)
            return None
        if finished is None and not self.was_seen:
            return None
        late = max(0.0, wall_now - finished.timestamp()) if finished else (now - self.seen) / 2
        seen_age = self.seen_age
        for kind in self._kinds:
            durations.saw_end(kind, seen_age, max(seen_age, now - late - self.began))
        return late if finished and self.was_seen else None

    def saw_going_on(self, durations: RunDurations, now: float) -> None:
        """Take note that the run goes on."""
        for kind in self._kinds:
            durations.saw_running(kind, self.seen_age, now - self.began)
        self.asked = self.seen = now
        self.was_seen = True

    @property
    def seen_age(self) -> float:
        """Return to which age it is known to have gone on, seconds."""
        # What ended before it was looked at is seen as well, so all runs count from their beginning.
        return self.seen - self.began if self.was_seen else 0.0

    def failed(self, now: float, wait: float) -> None:
        """Take note that a poll brought no status, and leave the run alone for so many seconds."""
        self.failed_at = now
        # What was hinted at is not known yet: a later listing may hint at it again.
        self.mark, self.listed = None, self.listed_before
        self.hints_from = now + wait

    def hint_was_false(self, now: float) -> None:
        """Take note that a listing hinted at nothing: one that always does must not take all polls."""
        self.false_hints += 1
        wait = self.interval * 2.0 ** min(self.false_hints, 32)
        self.hints_from = now + min(_LONGEST_WITHOUT_HINTS, wait)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return (self.label, self.agent) if self.label and self.agent not in {"", self.label} else (self.kind,)

    @property
    def kind(self) -> str:
        """Return what it is compared by: its agent, or its label before that is known."""
        return self.agent or self.label
