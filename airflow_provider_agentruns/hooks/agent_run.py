"""The hook for any vendor."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from pydantic import ValidationError

from airflow_provider_agentruns.client._sync import Client
from airflow_provider_agentruns.client.calls import Call, describe
from airflow_provider_agentruns.client.exceptions import (
    AgentRunsError,
    APIError,
    AuthenticationError,
    InvalidInputError,
    PermissionDeniedError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.models import HumanAnswer, HumanRequest, Run, RunRef
from airflow_provider_agentruns.client.retry import ONCE
from airflow_provider_agentruns.connections import VendorConnection, get_vendor_connection
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import Decision, RunPoller
from airflow_provider_agentruns.vendors.base import AcceptedStart, StartRequest, VendorAdapter
from airflow_provider_agentruns.xcom import xcom_value

T = TypeVar("T")

# Of accepted starts to look through for one.
_MOST_PAGES = 20


def _start_request(what: dict[str, Any]) -> StartRequest:
    try:
        return StartRequest(**{**what, "options": what.get("options") or {}})
    except ValidationError as error:
        raise InvalidInputError(describe(error)) from None


class AgentRunHook(BaseHook):
    """
    Start runs, ask how they stand and read their results, at whichever vendor the connection names.

    :param conn_id: the Airflow connection; its type selects the vendor.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    conn_type: ClassVar[str | None] = None
    hook_name: ClassVar[str] = "Agent runs"

    def __init__(self, conn_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    @cached_property
    def vendor_connection(self) -> VendorConnection:
        """
        Return the connection, understood.

        :raises InvalidInputError: it is not complete, or something in it cannot be right.
        :raises AirflowNotFoundException: there is no such connection.
        """
        connection = get_vendor_connection(self.conn_id)
        if self.conn_type not in {None, connection.adapter.conn_type}:
            raise InvalidInputError(
                f"connection {self.conn_id!r} is of type {connection.adapter.conn_type!r}, "
                f"not {self.conn_type!r}"
            )
        return connection

    @property
    def adapter(self) -> VendorAdapter:
        """Return the adapter of the connection's vendor."""
        return self.vendor_connection.adapter

    def get_conn(self) -> Client:
        """Return a client for the connection; use it as a context manager."""
        return Client(self.vendor_connection.settings)

    def ref(self, run_id: object, run_kind: str | None = None) -> RunRef:
        """
        Return what identifies a run at this vendor.

        :param run_kind: ``agent`` or ``tool`` where the vendor tells them apart.
        :raises InvalidInputError: no run of this vendor can have this id or kind.
        """
        return self.adapter.ref(run_id, run_kind)

    def start(
        self,
        *,
        agent_id: str | None = None,
        message: str | None = None,
        tool_id: str | None = None,
        inputs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> Run:
        """
        Start a run and return it, with its id and first status.

        A start is never sent twice unless the vendor certainly did not accept it.

        :param agent_id: the agent; may be left out where the vendor has a default agent.
        :param message: what to tell the agent.
        :param tool_id: a tool in place of an agent, where the vendor has tools.
        :param inputs: the tool's parameters, JSON data.
        :param options: the vendor's own start parameters, by the vendor's names.
        :raises InvalidInputError: the input cannot be right; nothing was sent.
        :raises APIError: the vendor refused, or could not be reached.
        """
        return self._send(
            self.start_call(
                agent_id=agent_id, message=message, tool_id=tool_id, inputs=inputs, options=options
            )
        )

    def start_call(self, **what: Any) -> Call[Run]:
        """
        Return what :meth:`start` would send.

        :param what: as :meth:`start` takes it.
        :raises InvalidInputError: the input cannot be right.
        """
        return self.adapter.start(_start_request(what))

    def accepted_starts(self, *, since: float, **what: Any) -> list[AcceptedStart] | None:
        """
        Look for starts of the same input that the vendor has accepted.

        :param since: seconds since the epoch, by the vendor's clock.
        :param what: as :meth:`start` takes it.
        :return: newest first; None where the vendor documents no way to look.
        :raises APIError: the vendor refused, could not be reached, or lists too much to look through.
        """
        found: list[AcceptedStart] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            call = self.adapter.accepted_starts(_start_request(what), since, cursor)
            if call is None:
                return None
            page = self._send(call)
            found += page.starts
            if page.cursor is None:
                return found
            cursor = page.cursor
        raise ResponseFormatError(f"the start was not found on {_MOST_PAGES} pages, and there are more")

    def get_status(self, run_id: str, run_kind: str | None = None) -> Run:
        """
        Ask how a run stands.

        :raises InvalidInputError: no run can have this id.
        :raises APIError: the vendor refused, or could not be reached.
        """
        return self._send(self.adapter.status(self.ref(run_id, run_kind)))

    def peek(self, run_id: str, run_kind: str | None = None) -> Run | None:
        """
        Ask how a run stands, once and without sending again what goes wrong.

        :return: None if that cannot be told now.
        """
        try:
            return self._polling_client.send(self.adapter.status(self.ref(run_id, run_kind)))
        except (AgentRunsError, AirflowNotFoundException):
            return None

    def get_result(self, run_id: str, run_kind: str | None = None) -> Run:
        """
        Read a run with its output or error, sources and images; a run that goes on has none yet.

        :raises InvalidInputError: no run can have this id.
        :raises APIError: the vendor refused, or could not be reached.
        """
        return self.complete(self.get_status(run_id, run_kind))

    def complete(self, run: Run) -> Run:
        """
        Return a run that has ended with its output or error; one that goes on comes back as it is.

        An output that no XCom could hold comes as JSON text.

        :raises APIError: the vendor refused, or could not be reached.
        """
        call = self.adapter.result(run) if run.status.is_terminal else None
        complete = self._send(call) if call else run
        # Here, not in the operators: a task that returns what it read through a hook pushes it as well.
        return complete.model_copy(update={"output": xcom_value(complete.output)})

    def read_request(self, ref: RunRef, request: HumanRequest) -> HumanRequest:
        """
        Read in full what a run asks of a human.

        :param request: one of the run's ``human_requests``.
        :raises APIError: the vendor refused, or could not be reached.
        """
        call = self.adapter.human_request(ref, request)
        return self._send(call) if call else request

    def answer(
        self,
        ref: RunRef,
        request: HumanRequest,
        answer: HumanAnswer,
        options: dict[str, Any] | None = None,
    ) -> None:
        """
        Answer what a run asks. A draft that was accepted needs :meth:`resume` as well.

        :param request: in full, from :meth:`read_request`.
        :param options: what the run was started with, as far as that is known.
        :raises InvalidInputError: the vendor documents no such answer, or it would refuse this one.
        :raises APIError: the vendor refused, or could not be reached.
        """
        for call in self.adapter.answer(ref, request, answer, options or {}):
            self._send(call)

    def resume(self, ref: RunRef, request: HumanRequest, options: dict[str, Any] | None = None) -> None:
        """
        Let a run go on after what it asked was accepted. To do so twice does no harm.

        :param request: in full, from :meth:`read_request`.
        :param options: what the run was started with, as far as that is known.
        :raises APIError: the vendor refused, or could not be reached.
        """
        if call := self.adapter.resume(ref, request, options or {}):
            self._send(call)

    def cancel(self, run_id: str, run_kind: str | None = None) -> bool:
        """
        Cancel a run.

        :return: whether that was asked for; False where the vendor documents no way to.
        :raises InvalidInputError: no run can have this id.
        :raises APIError: the vendor refused, or could not be reached.
        """
        call = self.adapter.cancel(self.ref(run_id, run_kind))
        if call is None:
            return False
        self._send(call)
        return True

    def wait(
        self,
        poller: RunPoller,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Decision:
        """
        Poll a run until its poller says that the wait is over. Holds the worker for so long.

        :param clock: seconds since the epoch.
        """
        while True:
            decision = self.poll(poller, clock=clock)
            if decision.outcome is not None:
                return decision
            sleep(decision.wait)

    def poll(self, poller: RunPoller, *, clock: Callable[[], float] = time.time) -> Decision:
        """
        Ask once how the poller's run stands, log what is worth it, and return what follows.

        :param clock: seconds since the epoch.
        """
        try:
            run = self._polling_client.send(self.adapter.status(poller.ref))
            decision = poller.on_answer(run, clock())
        except APIError as error:
            decision = poller.on_error(error, clock())
        except (AgentRunsError, AirflowNotFoundException) as error:
            return Decision(Outcome.REFUSED, error=AgentRunsError(str(error)))
        if decision.resolve_connection:
            self._polling_client.close()
            del self._polling_client, self.vendor_connection
        for note in decision.notes:
            self.log.log(note.level, "Run %s: %s", poller.ref.run_id, note.text)
        return decision

    @cached_property
    def _polling_client(self) -> Client:
        """Return the client of all polls of a wait, which share its connection; each is sent once."""
        return Client(self.vendor_connection.settings, retry=ONCE)

    def test_connection(self) -> tuple[bool, str]:
        """Make one cheap, unbilled call, and tell whether the connection works or what to mend."""
        try:
            connection = self.vendor_connection
            with Client(connection.settings, retry=ONCE) as client:
                return True, client.send(connection.adapter.probe())
        except AuthenticationError as error:
            return False, f"The API key is wrong or has expired: {error}"
        except PermissionDeniedError as error:
            return False, f"The API key is known, but its plan has no API access: {error}"
        except (AgentRunsError, AirflowNotFoundException) as error:
            return False, str(error)

    def _send(self, call: Call[T]) -> T:
        with self.get_conn() as client:
            return client.send(call)
