"""Which waiting run is polled next."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterator

from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.waiting_run import WaitingRun

# In periods of a round robin: a little below the bound that is promised, 3.
_LONGEST_LEFT = 2.8
# Of each agent's runs that are due, only those left longest are compared: a run that was asked after
# them can hardly be worth more, and a choice must not cost more the more runs wait.
_MOST_COMPARED = 2000
_COMPARED_PER_MINUTE = 120_000
# Of polls in a row, so many may follow hints; the others go on as without them.
_MOST_HINTS_IN_A_ROW = 3


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
        self._deadlines: list[tuple[float, int, WaitingRun]] = []
        # By kind, in the order in which they became due; a dict because it deletes and keeps order.
        self._due: dict[str, dict[WaitingRun, None]] = {}
        # Due as well, but before the others: runs that seem to have changed, and those whose time is over.
        self._hinted: dict[WaitingRun, None] = {}
        self._overdue: dict[WaitingRun, None] = {}
        self._hints_in_a_row = 0
        self._all: set[WaitingRun] = set()
        self._in_round = 0.0
        self.demand = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[WaitingRun]:
        return iter(self._all)

    def __contains__(self, run: object) -> bool:
        return run in self._all

    def put(self, run: WaitingRun, due: float) -> None:
        """Let a run wait until a time, in place of any time before."""
        turn = next(self._turns)
        if run not in self._all:
            self._all.add(run)
            self.demand += 60.0 / run.interval
            heapq.heappush(self._deadlines, (run.deadline, turn, run))
        self._leave_queue(run)
        run.due, run.turn = due, turn
        heapq.heappush(self._sleeping, (due, turn, run))

    def hint(self, run: WaitingRun, now: float) -> None:
        """Let a run that seems to have changed be asked before others."""
        run.is_hinted = True
        self.put(run, max(now, run.not_before))

    def saw_going_on(self, run: WaitingRun, now: float) -> None:
        """Take note that a run was seen to go on without having been asked."""
        run.saw_going_on(self._durations, now)
        run.is_hinted = False

    def has_hints(self, now: float) -> bool:
        """Tell whether a run is due that seems to have changed."""
        self._wake(now)
        return bool(self._hinted)

    def resume(self, failed_since: float, now: float, rng: random.Random) -> None:
        """Let each run whose polls failed since a time be due within its interval, none later than it was."""
        for run in list(self._all):
            if run.poll is None and run.failed_at is not None and run.failed_at >= failed_since:
                due = max(run.not_before, now + rng.uniform(0, run.interval))
                if due < run.due:
                    self.put(run, due)

    def remove(self, run: WaitingRun) -> None:
        """Forget a run."""
        if run in self._all:
            self._all.discard(run)
            self.demand -= 60.0 / run.interval
        self._leave_queue(run)
        run.turn = 0
        # What is left of it in the heaps must not outgrow the runs that wait.
        if len(self._sleeping) > 2 * len(self._all) + 16:
            self._sleeping = [item for item in self._sleeping if item[2].turn == item[1]]
            heapq.heapify(self._sleeping)
        if len(self._deadlines) > 2 * len(self._all) + 16:
            self._deadlines = [item for item in self._deadlines if item[2] in self._all]
            heapq.heapify(self._deadlines)

    def next_due(self, now: float) -> float | None:
        """Return when the next run is due, or None if none will be by itself."""
        self._wake(now)
        if self._due or self._hinted or self._overdue:
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
        if self._overdue:
            chosen = next(iter(self._overdue))
        elif self._hinted and (self._hints_in_a_row < _MOST_HINTS_IN_A_ROW or not self._due):
            chosen = next(iter(self._hinted))
            self._hints_in_a_row += 1
        elif self._due:
            chosen = self._choose(now, rate, is_scarce=is_scarce)
            self._hints_in_a_row = 0
        else:
            return None
        return self._taken(chosen, now)

    def take_probe(self, now: float, rng: random.Random) -> WaitingRun | None:
        """Return a due run to try the vendor with: one that was answered last time, if there is one."""
        self._wake(now)
        due = [*self._overdue, *self._hinted, *itertools.chain.from_iterable(self._due.values())]
        if not due:
            return None
        answered = [run for run in due if run.was_seen and run.failed_at is None]
        chosen = min(answered, key=lambda run: run.polled) if answered else rng.choice(due)
        return self._taken(chosen, now)

    def _taken(self, run: WaitingRun, now: float) -> WaitingRun:
        self._leave_queue(run)
        run.asked = run.polled = now
        return run

    def _choose(self, now: float, rate: float, *, is_scarce: bool) -> WaitingRun:
        heads = [next(iter(queue)) for queue in self._due.values()]
        # By when it was polled, not seen: a run whose polls fail must not come before all others for ever.
        chosen = min(heads, key=lambda run: run.polled)
        # A round takes as long as it began: it does not become shorter at once when many runs end in it.
        self._in_round = max(len(self._all), self._in_round - 1 + len(self._all) / max(1.0, self._in_round))
        longest_left = _LONGEST_LEFT * max(self._in_round * 60.0 / rate, chosen.interval)
        if is_scarce and now - chosen.polled < longest_left:
            compared = max(1, int(min(_MOST_COMPARED, _COMPARED_PER_MINUTE / rate)) // len(heads))
            candidates = (run for queue in self._due.values() for run in itertools.islice(queue, compared))
            chosen = max(candidates, key=lambda run: self._worth(run, now))
        return chosen

    def _worth(self, run: WaitingRun, now: float) -> float:
        # Each run that has ended grows late as fast as any other, so the likeliest to have ended is worth
        # most. The time it was left lets those take part of which a poll each minute finds little.
        likely = self._durations.likely_ended(run.kind, run.asked - run.began, now - run.began)
        return likely * math.sqrt(now - run.asked)

    def _wake(self, now: float) -> None:
        while self._sleeping and self._sleeping[0][0] <= now:
            _, turn, run = heapq.heappop(self._sleeping)
            if run.turn == turn:
                self._queue_for(run, now)[run] = None
        while self._sleeping and self._sleeping[0][2].turn != self._sleeping[0][1]:
            heapq.heappop(self._sleeping)
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, run = heapq.heappop(self._deadlines)
            # One that is not due yet becomes so at its deadline at the latest.
            if self._leave_queue(run):
                self._overdue[run] = None

    def _queue_for(self, run: WaitingRun, now: float) -> dict[WaitingRun, None]:
        if run.deadline <= now:
            return self._overdue
        return self._hinted if run.is_hinted else self._due.setdefault(run.kind, {})

    def _leave_queue(self, run: WaitingRun) -> bool:
        """Take a run out of the queues, and return whether it was due."""
        was_due = False
        for queue in (self._overdue, self._hinted, self._due.get(run.kind, {})):
            if run in queue:
                del queue[run]
                was_due = True
        if not self._due.get(run.kind, True):
            del self._due[run.kind]
        return was_due
