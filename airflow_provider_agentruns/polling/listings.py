"""When one call that tells of many runs goes in place of a poll, what it hints at, and whether that helps."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from airflow_provider_agentruns.client.calls import MEBIBYTE, Call, Response
from airflow_provider_agentruns.polling.order import WaitingRun, WaitingRuns
from airflow_provider_agentruns.vendors.base import BulkPolling, Listing

# A listing may carry far more than a status does, and the loop that reads it serves all triggers.
_BYTES_PER_SECOND = 8 * MEBIBYTE / 60
# Of so many ends the listings must have shown so many first; by chance they show less.
_JUDGED_ENDS = 20
_LEAST_SHOWN = 5
_FIRST_REST = 60.0
_LONGEST_REST = 3600.0


class SizedListing(NamedTuple):
    """
    A listing, and how large its answer was.

    :param size: bytes, decompressed.
    """

    listing: Listing
    size: int


class Listings:
    """
    The listing calls of one key: every other poll is one, as long as they help.

    Times are seconds on one monotonic clock.

    :ivar bulk: the vendor's call, None while it is not to be used.
    """

    def __init__(self) -> None:
        self.bulk: BulkPolling | None = None
        self._is_turn = True
        self._not_before = float("-inf")
        self._since: float | None = None
        self._helps_from: float | None = None
        self._failures = 0
        self._was_shown: deque[bool] = deque(maxlen=_JUDGED_ENDS)

    def is_next(self, now: float, runs: WaitingRuns) -> bool:
        """Tell whether a listing goes before the next poll."""
        if self.bulk is None or not self._is_turn or now < self._not_before:
            return False
        return not runs.has_hints(now)

    def polled(self) -> None:
        """Take note that a single run is polled: after it, it is a listing's turn."""
        self._is_turn = True

    def send(self, bulk: BulkPolling, runs: Iterable[WaitingRun]) -> Call[SizedListing]:
        """Return the call to send now, for the runs that were left alone longest."""
        self._is_turn = False
        oldest = heapq.nsmallest(bulk.most_runs, runs, key=lambda run: run.asked)
        call = bulk.call([run.poller.ref for run in oldest], self._since)

        def parse(response: Response) -> SizedListing:
            return SizedListing(call.parse(response), len(response.body))

        return Call(call.request, parse, call.expected)

    def answered(
        self, answer: SizedListing, runs: WaitingRuns, now: float, *, sent: float, since: float
    ) -> None:
        """
        Ask for the runs that a listing shows to have changed, and leave those alone that go on.

        :param sent: when it was sent.
        :param since: the same in seconds since the epoch.
        """
        self._failures, self._since = 0, since
        self._not_before = sent + answer.size / _BYTES_PER_SECOND
        if self._helps_from is None:
            self._helps_from = now
        for run in list(runs):
            run_id = run.poller.ref.run_id
            mark = answer.listing.changed.get(run_id)
            if run.poll is not None:
                # Its answer may be older than this one; the next listing shows it again.
                continue
            if mark is not None and mark != run.mark:
                run.mark = mark
                runs.hint(run, now)
            elif run_id in answer.listing.going_on:
                runs.saw_going_on(run, now)

    def saw_end(self, run: WaitingRun, now: float) -> bool:
        """Take note of an end, and return whether listings rest from now on because they do not help."""
        if self.bulk is None or self._helps_from is None or run.seen < self._helps_from:
            return False
        self._was_shown.append(run.is_hinted)
        if len(self._was_shown) < _JUDGED_ENDS or sum(self._was_shown) >= _LEAST_SHOWN:
            return False
        self._rest(now, _LONGEST_REST)
        return True

    def failed(self, now: float) -> float:
        """Take note that a listing brought nothing, and return for how many seconds listings rest."""
        self._failures += 1
        rest = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(self._failures - 1, 32))
        self._rest(now, rest)
        return rest

    def _rest(self, now: float, seconds: float) -> None:
        self._not_before = max(self._not_before, now + seconds)
        self._helps_from = None
        self._was_shown.clear()
