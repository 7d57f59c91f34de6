"""When one call about many runs goes in place of a poll, and what comes of it: a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import pytest

from airflow_provider_agentruns.client.calls import MEBIBYTE, Call, Request, Response
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.polling.durations import RunDurations
from airflow_provider_agentruns.polling.listings import Listings, SizedListing
from airflow_provider_agentruns.polling.order import WaitingRun, WaitingRuns
from airflow_provider_agentruns.polling.poller import RunPoller
from airflow_provider_agentruns.vendors.base import BulkPolling, Listing

RATE = 60.0


class RecordingBulk:
    """Remember what was asked for."""

    def __init__(self, most_runs: int = 1000) -> None:
        self.asked: list[tuple[list[str], float | None]] = []
        self.polling = BulkPolling(call=self._call, most_runs=most_runs)

    def _call(self, refs: Sequence[RunRef], since: float | None) -> Call[Listing]:
        self.asked.append(([ref.run_id for ref in refs], since))
        request = Request(operation="list runs", method="GET", path="/runs")
        return Call(request, lambda response: Listing(dict.fromkeys(response.json(), "done")))


@pytest.fixture
def runs() -> Iterator[WaitingRuns]:
    """Return the waiting runs r0 to r4, asked at 0 s to 4 s and due."""
    loop = asyncio.new_event_loop()
    waiting = WaitingRuns(RunDurations())
    for number in range(5):
        run = WaitingRun(
            poller=RunPoller(RunRef(run_id=f"r{number}"), interval=2.0, end_time=9e9),
            call=cast("Any", None),
            settings=cast("Any", None),
            interval=2.0,
            on_note=lambda _: None,
            finished=loop.create_future(),
            agent="",
            began=0.0,
            seen=float(number),
            asked=float(number),
            not_before=0.0,
        )
        waiting.put(run, float(number))
    yield waiting
    loop.close()


def _by_id(runs: Iterable[WaitingRun]) -> dict[str, WaitingRun]:
    return {run.poller.ref.run_id: run for run in runs}


def _listings(bulk: BulkPolling | None = None) -> Listings:
    listings = Listings()
    listings.bulk = bulk or RecordingBulk().polling
    return listings


def _answer(
    listings: Listings,
    runs: WaitingRuns,
    now: float,
    changed: dict[str, str] | None = None,
    going_on: Iterable[str] = (),
    size: int = 0,
) -> None:
    assert listings.bulk
    listings.send(listings.bulk, runs)
    listing = Listing(changed or {}, frozenset(going_on))
    listings.answered(SizedListing(listing, size), runs, now, sent=now, since=now)


def _take(runs: WaitingRuns, now: float) -> str:
    run = runs.take(now, rate=RATE, is_scarce=True)
    assert run
    return run.poller.ref.run_id


def test_a_listing_and_a_poll_take_turns(runs: WaitingRuns) -> None:
    """A listing may miss what it does not show, so single polls go on."""
    listings = _listings()
    assert listings.is_next(5.0, runs)
    _answer(listings, runs, 5.0)
    assert not listings.is_next(6.0, runs)
    listings.polled()
    assert listings.is_next(7.0, runs)


def test_without_the_call_there_are_no_listings(runs: WaitingRuns) -> None:
    assert not Listings().is_next(5.0, runs)


def test_a_run_that_seems_to_have_changed_is_asked_before_all_others_and_once_for_each_mark(
    runs: WaitingRuns,
) -> None:
    listings = _listings()
    _answer(listings, runs, 5.0, {"r4": "ended", "unknown": "ended"})
    listings.polled()
    assert not listings.is_next(5.0, runs), "the hint goes first"
    assert _take(runs, 5.0) == "r4"
    run = _by_id(runs)["r4"]
    run.is_hinted = False
    runs.put(run, 7.0)
    _answer(listings, runs, 8.0, {"r4": "ended"})
    assert _take(runs, 8.0) != "r4"
    _answer(listings, runs, 9.0, {"r4": "ended again"})
    assert _take(runs, 9.0) == "r4"


def test_a_hint_does_not_make_a_poll_too_early(runs: WaitingRuns) -> None:
    listings = _listings()
    _by_id(runs)["r3"].not_before = 30.0
    _answer(listings, runs, 5.0, {"r3": "ended"})
    assert _take(runs, 5.0) != "r3"
    assert _take(runs, 30.0) == "r3"


def test_a_run_whose_poll_is_on_its_way_is_hinted_at_by_the_next_listing(runs: WaitingRuns) -> None:
    """The poll's answer may be older than the listing's."""
    listings = _listings()
    run = _by_id(runs)["r0"]
    assert _take(runs, 5.0) == "r0"
    run.poll = cast("Any", object())
    _answer(listings, runs, 5.1, {"r0": "ended"})
    run.poll = None
    runs.put(run, 60.0)
    _answer(listings, runs, 6.0, {"r0": "ended"})
    assert _take(runs, 6.0) == "r0"


def test_runs_that_a_listing_shows_going_on_are_not_asked_for_the_while(runs: WaitingRuns) -> None:
    listings = _listings()
    _answer(listings, runs, 10.0, going_on=["r0", "r1"])
    assert _by_id(runs)["r0"].seen == 10.0
    assert [_take(runs, 11.0) for _ in range(3)] == ["r2", "r3", "r4"]
    assert {_take(runs, 11.0) for _ in range(2)} == {"r0", "r1"}


def test_the_call_names_the_runs_left_alone_longest_and_when_it_was_last_answered(
    runs: WaitingRuns,
) -> None:
    bulk = RecordingBulk(most_runs=2)
    listings = _listings(bulk.polling)
    _answer(listings, runs, 5.0)
    _by_id(runs)["r0"].asked = 6.0
    _answer(listings, runs, 7.0)
    assert bulk.asked == [(["r0", "r1"], None), (["r1", "r2"], 5.0)]


def test_the_size_of_an_answer_is_that_of_its_body(runs: WaitingRuns) -> None:
    bulk = RecordingBulk()
    call = _listings(bulk.polling).send(bulk.polling, runs)
    answer = call.parse(Response(status=200, headers={}, body=b'["r1"]'))
    assert answer == SizedListing(Listing({"r1": "done"}), 6)


def test_large_answers_make_listings_rarer(runs: WaitingRuns) -> None:
    """No minute takes more than 8 MiB in the mean."""
    listings = _listings()
    _answer(listings, runs, 100.0, size=2 * MEBIBYTE)
    listings.polled()
    assert not listings.is_next(114.9, runs)
    assert listings.is_next(115.1, runs)


def test_listings_that_fail_rest_ever_longer_and_at_most_an_hour(runs: WaitingRuns) -> None:
    listings = _listings()
    assert [listings.failed(0.0) for _ in range(8)] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert not listings.is_next(3599.0, runs)
    assert listings.is_next(3601.0, runs)
    _answer(listings, runs, 3601.0)
    assert listings.failed(3602.0) == 60


def _ends(listings: Listings, runs: WaitingRuns, now: float, *, shown: int, of: int) -> list[bool]:
    run = _by_id(runs)["r0"]
    run.seen = now
    results = []
    for number in range(of):
        run.is_hinted = number < shown
        results.append(listings.saw_end(run, now))
    return results


def test_listings_that_show_few_ends_first_rest_for_an_hour(runs: WaitingRuns) -> None:
    listings = _listings()
    _answer(listings, runs, 0.0)
    listings.polled()
    assert _ends(listings, runs, 100.0, shown=4, of=20) == [False] * 19 + [True]
    assert not listings.is_next(3699.0, runs)
    assert listings.is_next(3701.0, runs)


def test_listings_that_show_ends_go_on(runs: WaitingRuns) -> None:
    listings = _listings()
    _answer(listings, runs, 0.0)
    listings.polled()
    assert not any(_ends(listings, runs, 100.0, shown=5, of=20))
    assert listings.is_next(100.0, runs)


def test_ends_of_before_the_first_listing_say_nothing_about_it(runs: WaitingRuns) -> None:
    listings = _listings()
    assert not any(_ends(listings, runs, 100.0, shown=0, of=30))
    _answer(listings, runs, 200.0)
    assert not any(_ends(listings, runs, 100.0, shown=0, of=30))
