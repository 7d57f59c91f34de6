"""
The contract that every adapter keeps, as tests: also a third party's adapter can be put through it.

Write a :class:`ContractVendor` for a server that behaves as your vendor, and subclass the contract in a
test module; pytest is needed::

    class TestMyVendor(AdapterContract):
        @pytest.fixture
        def vendor(self): ...
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import pytest

from airflow_provider_agentruns.client._async import AsyncClient
from airflow_provider_agentruns.client._sync import Client
from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    InvalidInputError,
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
)
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequestKind, Run, RunRef, RunStatus
from airflow_provider_agentruns.client.retry import ONCE
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.vendors.base import AcceptedStarts, Listing, StartRequest, VendorAdapter

T = TypeVar("T")
Send = Callable[[ClientSettings, Call[T]], T]


class ContractVendor(Protocol):
    """
    A server that behaves as the vendor, and what the contract needs to know about it.

    :ivar settings: with a key that works.
    :ivar unknown_run: a ref that is well-formed and that no run has.
    :ivar start_request: starts a run that succeeds.
    """

    adapter: VendorAdapter
    settings: ClientSettings
    unknown_run: RunRef
    start_request: StartRequest

    def create_run(self, status: RunStatus, *, output: str | None = None, error: str | None = None) -> RunRef:
        """Make a run that stands at a status now; ``UNKNOWN`` is a status word nobody documents."""

    def answer_next(self, fault: str, **details: Any) -> None:
        """
        Answer the next request with a fault.

        :param fault: ``rate_limit`` (with ``retry_after`` seconds or None), ``server_error``, ``reset``,
            ``truncated_json``, ``html`` (with ``status``) or ``hang``.
        """


def send_on_worker(settings: ClientSettings, call: Call[T]) -> T:
    """Send a call once as a worker does."""
    with Client(settings, retry=ONCE) as client:
        return client.send(call)


def send_in_triggerer(settings: ClientSettings, call: Call[T]) -> T:
    """Send a call once as a triggerer does."""

    async def send() -> T:
        async with AsyncClient(settings) as client:
            return await client.send(call)

    return asyncio.run(send())


class AdapterContract:
    """What holds for every adapter, through the synchronous and the asynchronous client."""

    @pytest.fixture
    def vendor(self) -> ContractVendor:
        """Return the vendor under test; a subclass must override this."""
        raise NotImplementedError("override the fixture `vendor`")

    @pytest.fixture(params=[send_on_worker, send_in_triggerer], ids=["sync", "async"])
    def send(self, request: pytest.FixtureRequest) -> Send[Any]:
        """Return what sends a call once: on a worker, or in a triggerer."""
        sender: Send[Any] = request.param
        return sender

    def result(self, vendor: ContractVendor, send: Send[Any], ref: RunRef) -> Run:
        """Return a run with its output, in one or two calls as the adapter needs."""
        run: Run = send(vendor.settings, vendor.adapter.status(ref))
        if call := vendor.adapter.result(run):
            run = send(vendor.settings, call)
        return run

    @pytest.mark.parametrize("status", list(RunStatus))
    def test_tells_every_status(self, vendor: ContractVendor, send: Send[Any], status: RunStatus) -> None:
        """A status is normalized, the vendor's word kept, and only an ended run is terminal."""
        try:
            ref = vendor.create_run(status)
        except NotImplementedError:
            pytest.skip(f"the vendor has no status {status}")
        run = send(vendor.settings, vendor.adapter.status(ref))
        assert run.status is status
        assert run.raw_status
        assert run.ref == ref
        assert run.vendor == vendor.adapter.conn_type
        assert bool(run.human_requests) == (status is RunStatus.WAITING)

    def test_surfaces_the_output(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A run that succeeded has its output and no error, and its summary lacks the output."""
        ref = vendor.create_run(RunStatus.SUCCEEDED, output="Forty-two, naturally: 四十二.")
        run = self.result(vendor, send, ref)
        assert run.status is RunStatus.SUCCEEDED
        assert "Forty-two, naturally: 四十二." in json.dumps(run.output, ensure_ascii=False)
        assert run.error_message is None
        assert "output" not in run.summary()

    def test_surfaces_the_error(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A run that failed has the vendor's message and no output."""
        ref = vendor.create_run(RunStatus.FAILED, error="the page is gone")
        run = self.result(vendor, send, ref)
        assert run.status is RunStatus.FAILED
        assert run.error_message is not None
        assert "the page is gone" in run.error_message
        assert run.output is None

    def test_starts_a_run(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A start gives the id of a run that the vendor knows and that has not ended yet."""
        run = send(vendor.settings, vendor.adapter.start(vendor.start_request))
        assert not run.status.is_terminal
        status = send(vendor.settings, vendor.adapter.status(run.ref))
        assert status.run_id == run.run_id

    def test_lists_what_has_ended(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A call about many runs, where there is one, hints at runs that ended and at none that goes on."""
        bulk = vendor.adapter.bulk_polling()
        if bulk is None:
            pytest.skip("the vendor has no call about many runs")
        ended = [vendor.create_run(status) for status in (RunStatus.SUCCEEDED, RunStatus.FAILED)]
        going_on = vendor.create_run(RunStatus.RUNNING)
        listing: Listing = send(vendor.settings, bulk.call([going_on, *ended], None))
        assert going_on.run_id not in listing.changed
        assert {ref.run_id for ref in ended} <= set(listing.changed)
        assert not listing.going_on & {ref.run_id for ref in ended}

    def test_cancels_a_run(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A call that cancels, where there is one, ends a run; to cancel it once more is no error."""
        ref = vendor.create_run(RunStatus.RUNNING)
        call = vendor.adapter.cancel(ref)
        if call is None:
            pytest.skip("the vendor has no call that cancels")
        send(vendor.settings, call)
        assert send(vendor.settings, vendor.adapter.status(ref)).status is RunStatus.CANCELLED
        send(vendor.settings, call)

    def test_lets_a_run_go_on_when_what_it_asks_is_accepted(
        self, vendor: ContractVendor, send: Send[Any]
    ) -> None:
        """A draft is shown in full and accepted; to resume its run once more is no error."""
        adapter = vendor.adapter
        if not adapter.request_topics:
            pytest.skip("the vendor's runs ask no human")
        ref = vendor.create_run(RunStatus.WAITING)
        [request] = send(vendor.settings, adapter.status(ref)).human_requests
        assert request.topic in adapter.request_topics
        if request.kind is not HumanRequestKind.APPROVAL:
            pytest.skip("the run asks for something else than an approval")
        if call := adapter.human_request(ref, request):
            in_full = send(vendor.settings, call)
            assert (in_full.id, in_full.prompt) == (request.id, request.prompt)
            assert in_full.text
            request = in_full
        for answer in adapter.answer(ref, request, HumanAnswer(), {}):
            send(vendor.settings, answer)
        if resume := adapter.resume(ref, request, {}):
            send(vendor.settings, resume)
            send(vendor.settings, resume)
        assert request.id not in {
            asked.id for asked in send(vendor.settings, adapter.status(ref)).human_requests
        }

    def test_lists_the_starts_it_has_taken(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A list of accepted starts, where there is one, has those of the same input since then."""
        call = vendor.adapter.accepted_starts(vendor.start_request, 0.0)
        if call is None:
            pytest.skip("the vendor has no list of accepted starts")
        assert send(vendor.settings, call).starts == ()
        run = send(vendor.settings, vendor.adapter.start(vendor.start_request))
        [start] = send(vendor.settings, call).starts
        assert start.ref in {None, run.ref}
        later = vendor.adapter.accepted_starts(vendor.start_request, start.at + 1)
        assert later is not None
        assert send(vendor.settings, later) == AcceptedStarts(())
        other = vendor.start_request.model_copy(update={"message": "Something else."})
        call = vendor.adapter.accepted_starts(other, 0.0)
        assert call is not None
        assert send(vendor.settings, call).starts == ()

    def test_probe_accepts_a_good_key(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """The probe of a key that works returns a sentence."""
        assert vendor.adapter.display_name in send(vendor.settings, vendor.adapter.probe())

    def test_refuses_a_bad_key(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A wrong key is an AuthenticationError everywhere, which does not show the key."""
        key = "wrong_key_4e1b9ad2"
        settings = replace(vendor.settings, api_key=key, auth_headers=vendor.adapter.auth_headers(key))
        ref = vendor.create_run(RunStatus.RUNNING)
        adapter = vendor.adapter
        calls: list[Call[Any]] = [adapter.probe(), adapter.status(ref), adapter.start(vendor.start_request)]
        if bulk := adapter.bulk_polling():
            calls.append(bulk.call([ref], None))
        for call in calls:
            with pytest.raises(AuthenticationError) as caught:
                send(settings, call)
            assert key not in str(caught.value)
        assert key not in repr(settings)

    def test_knows_when_there_is_no_such_run(self, vendor: ContractVendor, send: Send[Any]) -> None:
        """A run that nobody knows is a NotFoundError."""
        with pytest.raises(NotFoundError):
            send(vendor.settings, vendor.adapter.status(vendor.unknown_run))

    @pytest.mark.parametrize("retry_after", [7, None])
    def test_tells_a_rate_limit(
        self, vendor: ContractVendor, send: Send[Any], retry_after: int | None
    ) -> None:
        """A 429 is a RateLimitError that carries the seconds to wait, if the vendor gave them."""
        ref = vendor.create_run(RunStatus.RUNNING)
        vendor.answer_next("rate_limit", retry_after=retry_after)
        with pytest.raises(RateLimitError) as caught:
            send(vendor.settings, vendor.adapter.status(ref))
        assert caught.value.retry_after == retry_after
        assert caught.value.is_transient

    @pytest.mark.parametrize(
        ("fault", "details", "error_class"),
        [
            ("server_error", {"status": 503}, ServerError),
            ("html", {"status": 502}, ServerError),
            ("html", {"status": 200}, ResponseFormatError),
            ("truncated_json", {}, ResponseFormatError),
            ("reset", {}, APIConnectionError),
            ("reset", {"half": True}, APIConnectionError),
            ("hang", {}, APITimeoutError),
        ],
    )
    def test_tells_a_passing_fault(
        self,
        vendor: ContractVendor,
        send: Send[Any],
        fault: str,
        details: dict[str, Any],
        error_class: type[APIError],
    ) -> None:
        """What may be over in a moment is told as transient, and the next poll works."""
        ref = vendor.create_run(RunStatus.RUNNING)
        vendor.answer_next(fault, **details)
        # Only what hangs is to end soon; on a busy machine the others may take their time.
        settings = replace(vendor.settings, timeout=0.5) if fault == "hang" else vendor.settings
        with pytest.raises(error_class) as caught:
            send(settings, vendor.adapter.status(ref))
        assert caught.value.is_transient
        assert ref.run_id in str(caught.value)
        assert send(vendor.settings, vendor.adapter.status(ref)).status is RunStatus.RUNNING

    @pytest.mark.parametrize(
        "base_url", ["http://127.0.0.1:9", "http://no-such-host.invalid"], ids=["refused", "no-address"]
    )
    def test_tells_an_unreachable_host(self, vendor: ContractVendor, send: Send[Any], base_url: str) -> None:
        """A request that cannot have arrived is told apart: only such a start may be sent again."""
        with pytest.raises(APIConnectionError) as caught:
            send(replace(vendor.settings, base_url=base_url), vendor.adapter.start(vendor.start_request))
        assert not caught.value.may_have_been_sent
        assert base_url in str(caught.value)

    @pytest.mark.parametrize("run_id", ["", "None", "..", "a/b", "a?b", "a#b", "a b", "a\n", "é", "x" * 300])
    def test_refuses_a_hostile_run_id(self, vendor: ContractVendor, run_id: str) -> None:
        """A run id that could change a URL, or cannot be one, is refused before anything is sent."""
        with pytest.raises(InvalidInputError):
            vendor.adapter.ref(run_id)

    def test_refuses_an_unknown_kind(self, vendor: ContractVendor) -> None:
        """A kind of run that the vendor does not have is refused, and the error lists those it has."""
        with pytest.raises(InvalidInputError, match="agent"):
            vendor.adapter.ref(vendor.unknown_run.run_id, "no-such-kind")
