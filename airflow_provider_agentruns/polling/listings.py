"""When one call that tells of many runs goes in place of a poll, what it hints at, and whether that helps."""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from airflow_provider_agentruns.client.calls import MEBIBYTE, Call, Response
from airflow_provider_agentruns.client.exceptions import APIError, RateLimitError
from airflow_provider_agentruns.polling.order import WaitingRuns
from airflow_provider_agentruns.polling.sender import Sender
from airflow_provider_agentruns.polling.waiting_run import WaitingRun
from airflow_provider_agentruns.vendors.base import BulkPolling, Listing

log = logging.getLogger(__name__)

# A listing may carry far more than a status does, and the loop that reads it serves all triggers.
_BYTES_PER_SECOND = 8 * MEBIBYTE / 60
# Of so many ends the listings must have shown so many first; by chance they show less.
_JUDGED_ENDS = 20
_LEAST_SHOWN = 5
# Where a listing tells of each run how it stands, a single poll tells little more.
_MOST_IN_A_ROW = 3
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
    The listing calls of one key: they take turns with polls, as long as they help.

    :param key: names the key in the log.
    :param clock: monotonic seconds.
    :param wall_clock: seconds since the epoch.
    """

    def __init__(
        self, key: str, *, clock: Callable[[], float], wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._clock = clock
        self._wall_clock = wall_clock
        self._in_a_row = 0
        self._tells_all = False
        self._not_before = float("-inf")
        self._named: list[WaitingRun] = []
        self._since: float | None = None
        self._answered_at = float("-inf")
        self._failures = 0
        self._refusals = 0
        self._was_shown: deque[bool] = deque(maxlen=_JUDGED_ENDS)

    def is_next(self, now: float, listed: Collection[WaitingRun], runs: WaitingRuns) -> bool:
        """
        Tell whether a listing goes before the next poll.

        :param listed: the runs that may be listed.
        """
        most = _MOST_IN_A_ROW if self._tells_all else 1
        is_turn = bool(listed) and self._in_a_row < most and now >= self._not_before
        return is_turn and not runs.has_hints(now)

    def polled(self) -> None:
        """Take note that a single run is polled: after it, it is a listing's turn."""
        self._in_a_row = 0

    async def ask(self, listed: dict[WaitingRun, BulkPolling], runs: WaitingRuns, sender: Sender) -> None:
        """
        Send a listing call, and take note of what came of it. No error leaves it.

        :param listed: the runs that may be listed, with the call for it, oldest first.
        """
        if not listed:
            return
        # Those that were answered came a way that works.
        via = next(
            (run for run in reversed(listed) if run.was_seen and run.failed_at is None), next(iter(listed))
        )
        sent, since = self._clock(), self._wall_clock()
        try:
            answer = await sender.send(self.call(listed[via], listed), via.settings)
        except RateLimitError as error:
            self.refused(self._clock(), error)
        except APIError as error:
            self.failed(self._clock(), error)
        except Exception as error:
            log.exception("%s: a listing of runs could not be read", self._key)
            self.failed(self._clock(), error)
        else:
            self.answered(answer, listed, runs, self._clock(), sent=sent, since=since)

    def call(self, bulk: BulkPolling, runs: Iterable[WaitingRun]) -> Call[SizedListing]:
        """Return the call to send now, for the runs that were left alone longest."""
        self._in_a_row += 1
        self._named = heapq.nsmallest(bulk.most_runs, runs, key=lambda run: run.asked)
        listed = [run.listed for run in self._named]
        # What changed is asked for from the oldest time at which one of them was listed.
        known = [at for at in listed if at is not None]
        self._since = min(known) if len(known) == len(listed) else None
        call = bulk.call([run.poller.ref for run in self._named], self._since)

        def parse(response: Response) -> SizedListing:
            return SizedListing(call.parse(response), len(response.body))

        return Call(call.request, parse, call.expected)

    def answered(
        self,
        answer: SizedListing,
        listed: Iterable[WaitingRun],
        runs: WaitingRuns,
        now: float,
        *,
        sent: float,
        since: float,
    ) -> None:
        """
        Ask for the runs that a listing shows to have changed, and leave those alone that go on.

        :param listed: the runs that may be listed.
        :param sent: when it was sent.
        :param since: the same in seconds since the epoch.
        """
        self._failures = self._refusals = 0
        self._answered_at = now
        told = answer.listing.changed.keys() | answer.listing.going_on
        self._tells_all = all(run.poller.ref.run_id in told for run in self._named)
        self._not_before = sent + answer.size / _BYTES_PER_SECOND
        # A poll that is on its way may bring an older answer: a later listing has to tell again.
        # So has one of which a hint came too soon after a poll that failed or found nothing.
        for run in self._named:
            if run.poll is None and now >= run.hints_from:
                run.listed_before, run.listed = self._since, since
        for run in [run for run in listed if run.poll is None]:
            run_id = run.poller.ref.run_id
            mark = answer.listing.changed.get(run_id)
            if mark is not None and mark != run.mark:
                if now >= run.hints_from:
                    run.mark = mark
                    runs.hint(run, now)
            elif run_id in answer.listing.going_on:
                runs.saw_going_on(run, now)

    def saw_end(self, run: WaitingRun, now: float) -> None:
        """Take note of an end: listings that do not show the ends first are not worth their polls."""
        if run.seen >= self._answered_at:
            # No listing was answered in which it could have been shown.
            return
        self._was_shown.append(run.is_hinted)
        if len(self._was_shown) == _JUDGED_ENDS and sum(self._was_shown) < _LEAST_SHOWN:
            self._rest(now, _LONGEST_REST, "they show few of the ends that polls find")

    def refused(self, now: float, reason: object) -> None:
        """Take note of a 429. One is about the key; two in a row mean that listings are limited more."""
        self._refusals += 1
        if self._refusals > 1:
            self.failed(now, reason)

    def failed(self, now: float, reason: object) -> None:
        """Take note that a listing brought nothing."""
        self._failures += 1
        self._rest(now, min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(self._failures - 1, 32)), reason)

    def _rest(self, now: float, seconds: float, reason: object) -> None:
        self._not_before = max(self._not_before, now + seconds)
        self._was_shown.clear()
        log.info(
            "%s: listings of runs rest for %.0f s, runs are polled singly: %s", self._key, seconds, reason
        )
