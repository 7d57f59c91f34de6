"""What happens under one key in minutes and hours, with many runs: the real scheduler in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    AuthenticationError,
    RateLimitError,
    ServerError,
)
from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.vendors.base import Listing
from tests.unit.simulated_time import (
    EPOCH,
    LISTING,
    SETTINGS,
    Bench,
    SimulatedVendor,
    ended,
    going_on,
    now,
    simulate,
)

HALF_AN_HOUR = 1800.0
PER_MINUTE = SETTINGS.polls_per_minute
Monkey = pytest.MonkeyPatch


def _ids(count: int) -> list[str]:
    return [f"run-{number}" for number in range(count)]


def _round(count: int) -> float:
    return count * 60.0 / PER_MINUTE


def _let_wait(
    vendor: SimulatedVendor, monkeypatch: Monkey, count: int, *, seconds: float, lists: bool = False
) -> None:
    """Let so many runs wait for so long."""
    vendor.install(monkeypatch)

    async def main() -> None:
        bench = Bench(vendor)
        for run_id in _ids(count):
            bench.watch(run_id, bulk=vendor.bulk() if lists else None)
        await asyncio.sleep(seconds)
        await bench.close()

    simulate(main())


@pytest.mark.parametrize(("count", "bad"), [(40, 12), (40, 20), (300, 100)])
def test_runs_that_fail_for_reasons_of_their_own_do_not_stop_the_others(
    count: int, bad: int, monkeypatch: Monkey
) -> None:
    """As when one mapped task has a wrong proxy, and its runs are the first to wait."""
    bad_ids = set(_ids(bad))
    vendor = SimulatedVendor(
        lambda run_id: ServerError("500", status_code=500) if run_id in bad_ids else going_on(run_id)
    )
    _let_wait(vendor, monkeypatch, count, seconds=HALF_AN_HOUR)
    gaps = [vendor.longest_gap(run_id, HALF_AN_HOUR) for run_id in _ids(count)[bad:]]
    assert max(gaps) <= 3 * _round(count) + 60
    polls = vendor.polls()
    assert sum(polls[run_id] for run_id in _ids(count)[bad:]) >= 0.45 * HALF_AN_HOUR / 60 * PER_MINUTE


def test_an_outage_gets_a_handful_of_probes_and_all_runs_go_on_after_it(monkeypatch: Monkey) -> None:
    away = range(600, 1200)
    vendor = SimulatedVendor(
        lambda run_id: APIConnectionError("away") if int(now()) in away else going_on(run_id)
    )
    _let_wait(vendor, monkeypatch, 400, seconds=3000)
    assert sum(at // 1 in away for at, _ in vendor.sent) <= 50
    assert set(vendor.polls(since=1230)) == set(_ids(400))


def test_no_minute_holds_more_than_the_budget_whatever_happens(monkeypatch: Monkey) -> None:
    def answer(run_id: str) -> Run | BaseException:
        if 300 <= now() <= 310:
            return RateLimitError("429", status_code=429)
        if 1000 <= now() <= 1100:
            return ServerError("503", status_code=503)
        return going_on(run_id)

    vendor = SimulatedVendor(answer)
    _let_wait(vendor, monkeypatch, 100, seconds=HALF_AN_HOUR, lists=True)
    times = [at for at, _ in vendor.sent]
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[PER_MINUTE:], strict=False))


def test_a_run_that_a_listing_shows_is_polled_next(monkeypatch: Monkey) -> None:
    """Between a run's end and its poll are the listing that shows it and the poll that was due before."""
    over: set[str] = set()

    def listing(ids: Sequence[str], _since: float | None) -> Listing:
        ended_ids = over.intersection(ids)
        return Listing(dict.fromkeys(ended_ids, "ended"), frozenset(ids) - ended_ids)

    vendor = SimulatedVendor(lambda run_id: (ended if run_id in over else going_on)(run_id), listing)
    vendor.install(monkeypatch)

    async def main() -> list[int]:
        bench = Bench(vendor)
        for run_id in _ids(100):
            bench.watch(run_id, bulk=vendor.bulk())
        await asyncio.sleep(2 * _round(100))
        between: list[int] = []
        for run_id in _ids(100)[::7]:
            over.add(run_id)
            at_its_end = len(vendor.sent)
            await bench.tasks.pop(run_id)
            between.append([operation for _, operation in vendor.sent[at_its_end:]].index(run_id))
            # At another moment between two polls each time.
            await asyncio.sleep(1.37)
        await bench.close()
        return between

    assert max(simulate(main())) <= 2


@pytest.mark.parametrize("restless", [1, 20])
def test_runs_that_listings_always_show_as_changed_do_not_starve_the_others(
    restless: int, monkeypatch: Monkey
) -> None:
    """A vendor's mark may be the time of a run's last event."""

    def listing(_ids_: Sequence[str], _since: float | None) -> Listing:
        return Listing({run_id: str(now()) for run_id in _ids(restless)})

    vendor = SimulatedVendor(going_on, listing)
    _let_wait(vendor, monkeypatch, 100, seconds=HALF_AN_HOUR, lists=True)
    # Half of the polls are listings.
    assert max(vendor.longest_gap(run_id, HALF_AN_HOUR) for run_id in _ids(100)) <= 3 * 2 * _round(100)


def test_a_listing_that_is_stale_does_not_hide_an_end_for_ever(monkeypatch: Monkey) -> None:
    vendor = SimulatedVendor(going_on, lambda ids, _since: Listing({}, frozenset(ids)))
    _let_wait(vendor, monkeypatch, 100, seconds=HALF_AN_HOUR, lists=True)
    assert max(vendor.longest_gap(run_id, HALF_AN_HOUR) for run_id in _ids(100)) <= 3 * 2 * _round(100)


def test_a_vendor_that_limits_listings_more_than_polls_is_polled_singly(monkeypatch: Monkey) -> None:
    vendor = SimulatedVendor(going_on, lambda _ids, _since: RateLimitError("429", status_code=429))
    _let_wait(vendor, monkeypatch, 50, seconds=HALF_AN_HOUR, lists=True)
    assert sum(vendor.polls().values()) >= 0.25 * HALF_AN_HOUR / 60 * PER_MINUTE


def test_listings_are_not_judged_while_none_are_sent(monkeypatch: Monkey) -> None:
    """After a batch, single runs come and go under the budget; the next batch is listed again."""
    ends: dict[str, float] = {}

    def answer(run_id: str) -> Run:
        return ended(run_id, ends[run_id]) if now() >= ends[run_id] else going_on(run_id)

    def listing(ids: Sequence[str], _since: float | None) -> Listing:
        return Listing({run_id: "ended" for run_id in ids if now() >= ends[run_id]})

    vendor = SimulatedVendor(answer, listing)
    vendor.install(monkeypatch)

    async def batch(bench: Bench, name: str, count: int) -> None:
        ids = [f"{name}-{number}" for number in range(count)]
        ends.update({run_id: now() + 30 + number for number, run_id in enumerate(ids)})
        await asyncio.gather(*(bench.watch(run_id, bulk=vendor.bulk()) for run_id in ids))

    async def main() -> int:
        bench = Bench(vendor)
        await batch(bench, "first", 50)
        for number in range(30):
            await batch(bench, f"single-{number}", 1)
        before = len(vendor.sent)
        await batch(bench, "second", 50)
        return sum(operation == LISTING for _, operation in vendor.sent[before:])

    assert simulate(main()) >= 10


def test_a_hint_outlives_a_poll_that_fails(monkeypatch: Monkey) -> None:
    failures = [ServerError("503", status_code=503)]

    def answer(run_id: str) -> Run | BaseException:
        if run_id != "run-500" or now() < 300:
            return going_on(run_id)
        return failures.pop() if failures else ended(run_id)

    def listing(_: Sequence[str], _since: float | None) -> Listing:
        return Listing({"run-500": "ended"} if now() >= 300 else {})

    vendor = SimulatedVendor(answer, listing)
    vendor.install(monkeypatch)

    async def main() -> float:
        bench = Bench(vendor)
        for run_id in _ids(1000):
            bench.watch(run_id, bulk=vendor.bulk())
        await bench.tasks.pop("run-500")
        seen = now()
        await bench.close()
        return seen

    assert simulate(main()) <= 300 + 60


def test_what_changed_is_asked_for_since_the_named_runs_were_listed(monkeypatch: Monkey) -> None:
    """A call that names few runs at a time misses no change of the others."""
    ends = {run_id: 60.0 + 5 * number for number, run_id in enumerate(_ids(100))}

    def answer(run_id: str) -> Run:
        return ended(run_id, ends[run_id]) if now() >= ends[run_id] else going_on(run_id)

    def listing(ids: Sequence[str], since: float | None) -> Listing:
        changed = {
            run_id: "ended"
            for run_id in ids
            if now() >= ends[run_id] and (since is None or EPOCH + ends[run_id] >= since)
        }
        return Listing(changed, frozenset(ids) - changed.keys())

    vendor = SimulatedVendor(answer, listing)
    vendor.install(monkeypatch)
    seen: dict[str, float] = {}

    async def main() -> None:
        bench = Bench(vendor)

        async def watch(run_id: str) -> None:
            await bench.watch(run_id, bulk=vendor.bulk(most_runs=20))
            seen[run_id] = now()

        await asyncio.gather(*map(watch, _ids(100)))

    simulate(main())
    lateness = [seen[run_id] - ends[run_id] for run_id in ends]
    assert max(lateness) <= 60


def test_metrics_that_nobody_can_take_end_no_wait(
    monkeypatch: Monkey, caplog: pytest.LogCaptureFixture
) -> None:
    vendor = SimulatedVendor(going_on)
    vendor.install(monkeypatch)

    def broken(*_: object) -> None:
        raise OSError("no metrics here")

    async def main() -> None:
        bench = Bench(vendor, emit=broken)
        tasks = [bench.watch(run_id) for run_id in _ids(10)]
        await asyncio.sleep(600)
        assert not any(task.done() for task in tasks)
        await bench.close()

    simulate(main())
    assert "the metrics of the last minute were lost" in caplog.text


def test_a_run_that_ended_in_time_is_not_told_to_have_timed_out(monkeypatch: Monkey) -> None:
    """However long the line is: at its deadline each run is asked once more, before the others."""
    deadlines = {run_id: 60.0 + number * 9 for number, run_id in enumerate(_ids(400))}

    def answer(run_id: str) -> Run:
        return ended(run_id) if now() >= deadlines[run_id] - 60 else going_on(run_id)

    vendor = SimulatedVendor(answer)
    vendor.install(monkeypatch)

    async def main() -> tuple[set[Outcome | None], float]:
        bench = Bench(vendor)
        late = [0.0]

        async def watch(run_id: str) -> Outcome | None:
            decision = await bench.watch(run_id, end_in=deadlines[run_id])
            late.append(now() - deadlines[run_id])
            return decision.outcome

        return set(await asyncio.gather(*map(watch, _ids(400)))), max(late)

    outcomes, latest = simulate(main())
    assert outcomes == {Outcome.ENDED}
    assert latest <= 20


def test_the_smallest_budget_of_those_who_wait_counts(monkeypatch: Monkey) -> None:
    vendor = SimulatedVendor(going_on)
    vendor.install(monkeypatch)

    async def main() -> None:
        bench = Bench(vendor)
        for run_id in _ids(20):
            bench.watch(run_id, settings=replace(SETTINGS, polls_per_minute=10))
        other = bench.watch("other")
        await asyncio.sleep(1200)
        assert len([at for at, _ in vendor.sent if at >= 600]) <= 101
        for run_id in _ids(20):
            bench.tasks[run_id].cancel()
        await asyncio.sleep(600)
        assert vendor.polls(since=1200)["other"] >= 100, "its own interval again"
        assert not other.done()
        await bench.close()

    simulate(main())


def test_a_connection_without_listings_does_not_turn_them_off_for_another(monkeypatch: Monkey) -> None:
    vendor = SimulatedVendor(going_on)
    vendor.install(monkeypatch)
    wrong = replace(SETTINGS, proxy="http://wrong")

    async def main() -> None:
        bench = Bench(vendor)
        for run_id in _ids(50):
            bench.watch(run_id, bulk=vendor.bulk())
        await asyncio.sleep(60)
        bench.watch("other", settings=wrong)
        await asyncio.sleep(60)
        await bench.close()

    simulate(main())
    listings = [
        number for number, (at, operation) in enumerate(vendor.sent) if operation == LISTING and at > 60
    ]
    assert len(listings) >= 30
    assert {vendor.settings[number].proxy for number in listings} == {None}


def test_a_key_that_was_replaced_costs_a_few_polls_not_one_for_each_run(monkeypatch: Monkey) -> None:
    vendor = SimulatedVendor(lambda _: AuthenticationError("401", status_code=401))
    vendor.install(monkeypatch)

    async def main() -> None:
        bench = Bench(vendor)
        decisions = await asyncio.gather(*map(bench.watch, _ids(500)))
        assert all(decision.resolve_connection for decision in decisions)

    simulate(main())
    assert len(vendor.sent) <= 5


def test_a_poll_that_breaks_off_is_sent_again(monkeypatch: Monkey) -> None:
    """A library may cancel what it waits for itself, as a pool does that is closed."""
    failures = [asyncio.CancelledError()]
    vendor = SimulatedVendor(lambda run_id: failures.pop() if failures else ended(run_id))
    vendor.install(monkeypatch)

    async def main() -> Outcome | None:
        bench = Bench(vendor)
        return (await bench.watch("run-1")).outcome

    assert simulate(main()) is Outcome.ENDED


def test_runs_of_one_task_are_expected_to_last_alike_where_no_agent_is_named(monkeypatch: Monkey) -> None:
    """Short runs among long ones are seen to end sooner."""

    def mean_lateness(*, is_labelled: bool) -> float:
        vendor = SimulatedVendor(
            lambda run_id: ended(run_id, 8) if "short" in run_id and now() >= 8 else going_on(run_id)
        )
        vendor.install(monkeypatch)
        late: list[float] = []

        async def main() -> None:
            bench = Bench(vendor)

            async def watch(number: int) -> None:
                await bench.watch(f"short-{number}", label="short" if is_labelled else "")
                late.append(now() - 8)

            for number in range(50):
                bench.watch(f"long-{number}", label="long" if is_labelled else "")
            await asyncio.gather(*map(watch, range(50)))
            await asyncio.gather(*(bench.tasks.pop(f"short-{number}") for number in range(50)))
            await bench.close()

        simulate(main())
        return sum(late) / len(late)

    assert mean_lateness(is_labelled=True) < 0.75 * mean_lateness(is_labelled=False)
