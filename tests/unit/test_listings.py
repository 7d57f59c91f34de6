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
from airflow_provider_agentruns.polling.order import WaitingRuns
from airflow_provider_agentruns.polling.poller import RunPoller
from airflow_provider_agentruns.polling.waiting_run import WaitingRun
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
            began=0.0,
            seen=float(number),
            asked=float(number),
            polled=float(number),
            not_before=0.0,
        )
        waiting.put(run, float(number))
    yield waiting
    loop.close()


def _by_id(runs: Iterable[WaitingRun]) -> dict[str, WaitingRun]:
    return {run.poller.ref.run_id: run for run in runs}


def _listings() -> Listings:
    return Listings("the key", clock=lambda: pytest.fail("it is told the time"))


def _answer(
    listings: Listings,
    runs: WaitingRuns,
    now: float,
    changed: dict[str, str] | None = None,
    going_on: Iterable[str] = (),
    size: int = 0,
    bulk: BulkPolling | None = None,
) -> None:
    listings.call(bulk or RecordingBulk().polling, runs)
    listing = Listing(changed or {}, frozenset(going_on))
    listings.answered(SizedListing(listing, size), runs, runs, now, sent=now, since=now)


def _take(runs: WaitingRuns, now: float) -> str:
    run = runs.take(now, rate=RATE, is_scarce=True)
    assert run
    return run.poller.ref.run_id


def test_a_listing_and_a_poll_take_turns(runs: WaitingRuns) -> None:
    """A listing may miss what it does not show, so single polls go on."""
    listings = _listings()
    assert listings.is_next(5.0, list(runs), runs)
    _answer(listings, runs, 5.0)
    assert not listings.is_next(6.0, list(runs), runs)
    listings.polled()
    assert listings.is_next(7.0, list(runs), runs)


def test_listings_that_tell_of_each_run_how_it_stands_go_thrice_for_each_poll(runs: WaitingRuns) -> None:
    listings = _listings()
    ids = [f"r{number}" for number in range(5)]
    for number in range(3):
        assert listings.is_next(5.0 + number, list(runs), runs)
        _answer(listings, runs, 5.0 + number, going_on=ids)
    assert not listings.is_next(9.0, list(runs), runs)
    listings.polled()
    assert listings.is_next(9.0, list(runs), runs)
    _answer(listings, runs, 9.0, going_on=ids[1:])
    assert not listings.is_next(10.0, list(runs), runs)


def test_without_runs_that_may_be_listed_there_are_no_listings(runs: WaitingRuns) -> None:
    assert not _listings().is_next(5.0, [], runs)


def test_a_run_that_seems_to_have_changed_is_asked_before_all_others_and_once_for_each_mark(
    runs: WaitingRuns,
) -> None:
    listings = _listings()
    _answer(listings, runs, 5.0, {"r4": "ended", "unknown": "ended"})
    listings.polled()
    assert not listings.is_next(5.0, list(runs), runs), "the hint goes first"
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


def test_the_call_names_the_runs_left_alone_longest_and_since_when_they_were_listed(
    runs: WaitingRuns,
) -> None:
    bulk = RecordingBulk(most_runs=2)
    listings = _listings()
    _answer(listings, runs, 5.0, bulk=bulk.polling)
    _by_id(runs)["r0"].asked = 6.0
    _answer(listings, runs, 7.0, bulk=bulk.polling)
    _by_id(runs)["r2"].asked = 8.0
    _answer(listings, runs, 9.0, bulk=bulk.polling)
    _by_id(runs)["r3"].asked = _by_id(runs)["r4"].asked = 10.0
    _answer(listings, runs, 11.0, bulk=bulk.polling)
    assert bulk.asked == [
        (["r0", "r1"], None),
        (["r1", "r2"], None),
        (["r1", "r3"], None),
        (["r1", "r0"], 5.0),
    ]


def test_the_size_of_an_answer_is_that_of_its_body(runs: WaitingRuns) -> None:
    bulk = RecordingBulk()
    call = _listings().call(bulk.polling, runs)
    answer = call.parse(Response(status=200, headers={}, body=b'["r1"]'))
    assert answer == SizedListing(Listing({"r1": "done"}), 6)


def test_large_answers_make_listings_rarer(runs: WaitingRuns) -> None:
    """No minute takes more than 8 MiB in the mean."""
    listings = _listings()
    _answer(listings, runs, 100.0, size=2 * MEBIBYTE)
    listings.polled()
    assert not listings.is_next(114.9, list(runs), runs)
    assert listings.is_next(115.1, list(runs), runs)


def _rest(listings: Listings, runs: WaitingRuns, now: float) -> int:
    """Return for how many minutes from a time nothing is listed."""
    return next(
        minutes for minutes in range(200) if listings.is_next(now + minutes * 60 + 1, list(runs), runs)
    )


def test_listings_that_fail_rest_ever_longer_and_at_most_an_hour(runs: WaitingRuns) -> None:
    listings = _listings()
    rests = []
    for number in range(8):
        listings.failed(number * 10_000.0, "why")
        rests.append(_rest(listings, runs, number * 10_000.0))
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60]
    _answer(listings, runs, 90_000.0)
    listings.polled()
    listings.failed(90_001.0, "why")
    assert _rest(listings, runs, 90_001.0) == 1


def test_only_a_second_refusal_in_a_row_makes_listings_rest(runs: WaitingRuns) -> None:
    listings = _listings()
    listings.refused(0.0, "429")
    assert _rest(listings, runs, 0.0) == 0
    _answer(listings, runs, 10.0)
    listings.polled()
    listings.refused(20.0, "429")
    assert _rest(listings, runs, 20.0) == 0
    listings.refused(30.0, "429")
    assert _rest(listings, runs, 30.0) == 1


def _ends(listings: Listings, runs: WaitingRuns, *, seen: float, shown: int, of: int) -> None:
    run = _by_id(runs)["r0"]
    run.seen = seen
    for number in range(of):
        run.is_hinted = number < shown
        listings.saw_end(run, 100.0)


@pytest.mark.parametrize(("shown", "minutes"), [(4, 60), (5, 0)])
def test_listings_that_show_few_ends_first_rest_for_an_hour(
    shown: int, minutes: int, runs: WaitingRuns
) -> None:
    listings = _listings()
    _answer(listings, runs, 50.0)
    listings.polled()
    _ends(listings, runs, seen=40.0, shown=shown, of=20)
    assert _rest(listings, runs, 100.0) == minutes


def test_ends_that_no_listing_could_show_say_nothing_about_it(runs: WaitingRuns) -> None:
    listings = _listings()
    _ends(listings, runs, seen=40.0, shown=0, of=30)
    _answer(listings, runs, 50.0)
    listings.polled()
    _ends(listings, runs, seen=60.0, shown=0, of=30)
    assert _rest(listings, runs, 100.0) == 0
