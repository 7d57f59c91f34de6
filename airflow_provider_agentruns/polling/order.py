"""Which waiting run is asked next."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.poller import Decision, Note, RunPoller

# In periods of a round robin: a little below the bound that is promised, 3.
_LONGEST_LEFT = 2.8
# Of each agent's runs that are due, only those left longest are compared: a run that was asked after
# them can hardly be worth more, and a choice must not cost more the more runs wait.
_MOST_COMPARED = 2000
_COMPARED_PER_MINUTE = 120_000


@dataclass(eq=False, slots=True)
class WaitingRun:
    """
    A run that somebody waits for.

    Times are seconds on one monotonic clock.

    :param interval: seconds between its polls, as far as the budget allows.
    :param agent: whose runs last alike, as far as we know.
    :param began: when the run began, as far as we know.
    :param seen: when it was last seen going on.
    :param asked: when it was last asked, or began to wait.
    :param not_before: when it may be asked first.
    :param due: when it is to be asked next.
    :param mark: of the newest listing that showed the run to have changed.
    :param is_hinted: whether the run is polled because of that.
    :param context: of whoever waits, for lines of its log.
    """

    poller: RunPoller
    call: Call[Run]
    settings: ClientSettings
    interval: float
    on_note: Callable[[Note], None]
    finished: asyncio.Future[Decision]
    agent: str
    began: float
    seen: float
    asked: float
    not_before: float
    due: float = 0.0
    was_seen: bool = False
    poll: asyncio.Task[None] | None = None
    turn: int = 0
    mark: str | None = None
    is_hinted: bool = False
    context: Context = field(default_factory=copy_context)

    def learn(self, answer: Run, durations: RunDurations, now: float, wall_now: float) -> float | None:
        """
        Take note of an answer, for this run and for its agent's durations.

        :param wall_now: seconds since the epoch.
        :return: for how many seconds the run had been over, if that can be told.
        """
        if answer.agent_id:
            self.agent = answer.agent_id
        if not self.was_seen:
            # How old the run is, the vendor knows; a clock that is ahead of ours does not make it younger.
            started = answer.started_at or answer.created_at
            if started is not None:
                self.began = min(self.began, now - max(0.0, wall_now - started.timestamp()))
        if not answer.status.is_terminal:
            self.saw_going_on(durations, now)
            return None
        finished = answer.finished_at
        if not self.was_seen:
            return None
        late = wall_now - finished.timestamp() if finished else (now - self.seen) / 2
        seen_age, age = self.seen - self.began, now - self.began
        durations.saw_end(self.agent, seen_age, min(age, max(seen_age, age - late)))
        return max(0.0, late) if finished else None

    def saw_going_on(self, durations: RunDurations, now: float) -> None:
        """Take note that the run goes on."""
        age = now - self.began
        durations.saw_running(self.agent, self.seen - self.began if self.was_seen else age, age)
        self.seen, self.was_seen = now, True


class WaitingRuns:
    """
    The runs that wait under one key, and whose turn it is.

    :param durations: what is known of how long runs last.
    :ivar demand: polls per minute that the runs would take if each were asked at its interval.
    """

    def __init__(self, durations: RunDurations) -> None:
        self._durations = durations
        self._turns = itertools.count(1)
        self._sleeping: list[tuple[float, int, WaitingRun]] = []
        # By agent, in the order in which they became due; a dict because it deletes and keeps order.
        self._due: dict[str, dict[WaitingRun, None]] = {}
        # Due as well, but before all others.
        self._hinted: dict[WaitingRun, None] = {}
        self._all: set[WaitingRun] = set()
        self.demand = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[WaitingRun]:
        return iter(self._all)

    def put(self, run: WaitingRun, due: float) -> None:
        """Let a run wait until a time, in place of any time before."""
        if run not in self._all:
            self._all.add(run)
            self.demand += 60.0 / run.interval
        self._leave_queue(run)
        run.due = due
        run.turn = next(self._turns)
        heapq.heappush(self._sleeping, (due, run.turn, run))

    def hint(self, run: WaitingRun, now: float) -> None:
        """Let a run that seems to have changed be asked before all others."""
        run.is_hinted = True
        self.put(run, max(now, run.not_before))

    def saw_going_on(self, run: WaitingRun, now: float) -> None:
        """Take note that a run was seen to go on without having been asked."""
        run.saw_going_on(self._durations, now)
        run.asked, run.is_hinted = now, False
        if run.due <= now:
            # To the end of its line, which is in the order of asking.
            self.put(run, now)

    def has_hints(self, now: float) -> bool:
        """Tell whether a run is due that seems to have changed."""
        self._wake(now)
        return bool(self._hinted)

    def spread(self, now: float, rng: random.Random) -> None:
        """Let each run that sleeps be due within its interval, but none later than it was, or too soon."""
        for run in list(self._all):
            due = max(run.not_before, now + rng.uniform(0, run.interval))
            if run.poll is None and due < run.due:
                self.put(run, due)

    def remove(self, run: WaitingRun) -> None:
        """Forget a run."""
        if run in self._all:
            self._all.discard(run)
            self.demand -= 60.0 / run.interval
        self._leave_queue(run)
        run.turn = 0
        # What is left of it in the heap must not outgrow the runs that wait.
        if len(self._sleeping) > 2 * len(self._all) + 16:
            self._sleeping = [item for item in self._sleeping if item[2].turn == item[1]]
            heapq.heapify(self._sleeping)

    def next_due(self, now: float) -> float | None:
        """Return when the next run is due, or None if none will be by itself."""
        self._wake(now)
        if self._due or self._hinted:
            return now
        return self._sleeping[0][0] if self._sleeping else None

    def take(self, now: float, *, rate: float, is_scarce: bool) -> WaitingRun | None:
        """
        Return the run whose turn it is, taken out of the queue, or None if none is due.

        :param rate: polls per minute under the budget.
        :param is_scarce: whether the budget is what keeps runs waiting; if not, the one that was left alone
            for longest goes first.
        """
        self._wake(now)
        if self._hinted:
            chosen = next(iter(self._hinted))
        elif self._due:
            chosen = self._choose(now, rate, is_scarce=is_scarce)
        else:
            return None
        self._leave_queue(chosen)
        chosen.asked = now
        return chosen

    def _choose(self, now: float, rate: float, *, is_scarce: bool) -> WaitingRun:
        heads = [next(iter(queue)) for queue in self._due.values()]
        # By when it was asked, not seen: a run whose polls fail must not come before all others for ever.
        chosen = min(heads, key=lambda run: run.asked)
        longest_left = _LONGEST_LEFT * max(len(self._all) * 60.0 / rate, chosen.interval)
        if is_scarce and now - chosen.asked < longest_left:
            compared = max(1, int(min(_MOST_COMPARED, _COMPARED_PER_MINUTE / rate)) // len(heads))
            candidates = (run for queue in self._due.values() for run in itertools.islice(queue, compared))
            chosen = max(candidates, key=lambda run: self._worth(run, now))
        return chosen

    def _worth(self, run: WaitingRun, now: float) -> float:
        return self._durations.expected_lateness(run.agent, run.asked - run.began, now - run.began)

    def _wake(self, now: float) -> None:
        while self._sleeping and self._sleeping[0][0] <= now:
            _, turn, run = heapq.heappop(self._sleeping)
            if run.turn == turn:
                queue = self._hinted if run.is_hinted else self._due.setdefault(run.agent, {})
                queue[run] = None
        while self._sleeping and self._sleeping[0][2].turn != self._sleeping[0][1]:
            heapq.heappop(self._sleeping)

    def _leave_queue(self, run: WaitingRun) -> None:
        self._hinted.pop(run, None)
        queue = self._due.get(run.agent)
        if queue is not None:
            queue.pop(run, None)
            if not queue:
                del self._due[run.agent]
