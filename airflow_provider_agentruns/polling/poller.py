"""
What to do with a poll's answer or error, and when to ask again.

No I/O and no clock: a loop on a worker and a trigger both drive it.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

from airflow_provider_agentruns.client.exceptions import (
    AgentRunsError,
    APIError,
    AuthenticationError,
    InvalidInputError,
    NotFoundError,
    RateLimitError,
)
from airflow_provider_agentruns.client.models import HumanRequest, Run, RunRef, RunStatus
from airflow_provider_agentruns.client.retry import JITTER, backoff, rate_limit_pause
from airflow_provider_agentruns.polling.human_watch import HumanPolicy, HumanWatch
from airflow_provider_agentruns.polling.outcome import Outcome

_JITTER = 0.1
_LONGEST_BACKOFF = 60.0
# A vendor that invents a new word each time must fill neither the log nor the memory.
_MOST_LOGGED = 50


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the task's log."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What follows from one poll.

    :param outcome: why the wait is over, or None if it goes on.
    :param wait: seconds to wait before the next poll.
    :param notes: what to log.
    :param run: the run as last seen.
    :param error: why the vendor refused, if it did.
    :param resolve_connection: look the connection up again before the next poll: its key was refused.
    """

    outcome: Outcome | None
    wait: float = 0.0
    notes: tuple[Note, ...] = ()
    run: Run | None = None
    error: AgentRunsError | None = None
    resolve_connection: bool = False


class RunPoller:
    """
    Follow one run from answer to answer until the wait is over.

    :param ref: the run.
    :param interval: seconds between polls.
    :param end_time: when to give up, seconds since the epoch.
    :param not_found_until: until when "no such run" is taken for a run too young to be seen, seconds
        since the epoch.
    :param stall_timeout: give up when the vendor has shown no change of a run for so many seconds; one that
        waits for a human may take its time. None for never.
    :param human: what to do about what the run asks of a human; None to go on waiting.
    :raises InvalidInputError: the interval is not positive.
    """

    # Thousands wait at once.
    __slots__ = (
        "_changed_at",
        "_failures",
        "_human",
        "_key_was_refused",
        "_logged",
        "_not_found_until",
        "_rng",
        "_run",
        "_stall_timeout",
        "end_time",
        "interval",
        "ref",
    )

    def __init__(
        self,
        ref: RunRef,
        *,
        interval: float,
        end_time: float,
        not_found_until: float = 0.0,
        stall_timeout: float | None = None,
        human: HumanWatch | None = None,
        rng: random.Random = JITTER,
    ) -> None:
        if not interval > 0:
            raise InvalidInputError(
                f"the poll interval must be a positive number of seconds, not {interval!r}"
            )
        self.ref = ref
        self.interval = interval
        self.end_time = end_time
        self._not_found_until = not_found_until
        self._stall_timeout = stall_timeout
        self._human = human
        self._changed_at = float("-inf")
        self._rng = rng
        self._run: Run | None = None
        self._failures = 0
        self._key_was_refused = False
        self._logged: frozenset[str] = frozenset()

    def on_answer(self, run: Run, now: float) -> Decision:
        """
        Decide on a status that the vendor gave.

        :param now: seconds since the epoch.
        """
        notes = self._recovery() + self._changes(run)
        self._note_change(run, now)
        self._run, self._failures, self._key_was_refused = run, 0, False
        if self._human and (outcome := self._human.look_at(run, now)):
            return Decision(outcome, notes=notes, run=run)
        if run.status.is_terminal:
            return Decision(Outcome.ENDED, notes=notes, run=run)
        if self._stall_timeout is not None and now - self._changed_at >= self._stall_timeout:
            return Decision(Outcome.STALLED, notes=notes, run=run)
        jitter = self._rng.uniform(1 - _JITTER, 1 + _JITTER)
        return self._go_on(self.interval * jitter, now, *notes)

    def on_error(self, error: APIError, now: float) -> Decision:
        """
        Decide on a poll that brought no status.

        :param now: seconds since the epoch.
        """
        if isinstance(error, AuthenticationError) and not self._key_was_refused:
            # Perhaps it was replaced while we waited.
            self._key_was_refused = True
            return Decision(None, run=self._run, resolve_connection=True)
        if isinstance(error, NotFoundError) and now < self._not_found_until:
            return self._go_on(self.interval, now, *self._once("young", logging.INFO, f"{error}; waiting"))
        if not error.is_transient:
            return Decision(Outcome.REFUSED, run=self._run, error=error)
        if isinstance(error, RateLimitError):
            # The pace was wrong, not the run: this is no failure to report as one.
            pause = max(rate_limit_pause(error, self._rng), self.interval)
            text = f"rate limit reached, polls pause for {pause:.0f} s: {error}"
            return self._go_on(pause, now, *self._once("rate limit", logging.INFO, text))
        self._failures += 1
        wait = self.interval + backoff(
            self._failures, base=self.interval, cap=_LONGEST_BACKOFF, rng=self._rng
        )
        if self._failures > 1:
            return self._go_on(wait, now)
        return self._go_on(wait, now, Note(logging.WARNING, f"{error}; asking again until the deadline"))

    def on_deadline(self) -> Decision:
        """Decide when the deadline has passed without a poll."""
        return Decision(Outcome.TIMED_OUT, run=self._run)

    def _go_on(self, wait: float, now: float, *notes: Note) -> Decision:
        left = self.end_time - now
        if left <= 0:
            return Decision(Outcome.TIMED_OUT, notes=notes, run=self._run)
        # The last poll is at the deadline, not an interval before it.
        wait = min(wait, left)
        answer_by = self._human.exchange.answer_by if self._human else None
        if answer_by is not None and answer_by > now:
            wait = min(wait, answer_by - now)
        return Decision(None, wait=wait, notes=notes, run=self._run)

    def _note_change(self, run: Run, now: float) -> None:
        if self._run is None:
            # A triggerer may have been restarted: since when nothing moved, the vendor may know.
            updated_at = run.updated_at.timestamp() if run.updated_at else now
            self._changed_at = min(now, updated_at)
        elif run != self._run:
            self._changed_at = now
        if run.status is RunStatus.WAITING:
            self._changed_at = now

    def _recovery(self) -> tuple[Note, ...]:
        if not self._failures:
            return ()
        polls = "poll" if self._failures == 1 else "polls"
        return (Note(logging.INFO, f"the vendor answers again, after {self._failures} failed {polls}"),)

    def _changes(self, run: Run) -> tuple[Note, ...]:
        if run is self._run:
            return ()
        notes: list[Note] = []
        if run.status is RunStatus.UNKNOWN:
            text = f"status {run.raw_status!r} is not documented by the vendor; waiting on"
            notes += self._once(f"raw {run.raw_status}", logging.WARNING, text)
        elif self._run is None or self._run.status is not run.status:
            notes.append(Note(logging.INFO, f"status {run.status} (vendor: {run.raw_status!r})"))
        for request in run.human_requests:
            text = f"waits for a human: {request.prompt}{self._where_to_answer(request)}"
            notes += self._once(f"asks {request.id}", logging.WARNING, text)
        return tuple(notes)

    def _where_to_answer(self, request: HumanRequest) -> str:
        if self._human is None:
            return "; answer it at the vendor"
        exchange = self._human.exchange
        if exchange.asked == request.id:
            return "; answer it in Airflow, under Required Actions, or at the vendor"
        is_left = self._human.policies.policy_for(request) is HumanPolicy.WAIT or request.id in exchange.left
        return "; answer it at the vendor" if is_left else ""

    def _once(self, key: str, level: int, text: str) -> tuple[Note, ...]:
        if key in self._logged:
            return ()
        if len(self._logged) >= _MOST_LOGGED:
            return ()
        self._logged |= {key}
        return (Note(level, text),)
