"""What an adapter declares about its vendor, and the calls that it builds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import InvalidInputError, ResponseFormatError
from airflow_provider_agentruns.client.models import (
    HumanAnswer,
    HumanRequest,
    Run,
    RunRef,
    RunStatus,
    check_run_id,
)
from airflow_provider_agentruns.client.text import one_line


class StartRequest(BaseModel):
    """
    What to run.

    :param agent_id: the agent; may be left out where the vendor has a default agent.
    :param message: what to tell the agent.
    :param tool_id: a tool to run in place of an agent, where the vendor has tools.
    :param inputs: the tool's parameters, JSON data.
    :param options: the vendor's own start parameters, by the vendor's names.
    """

    model_config = ConfigDict(frozen=True)

    agent_id: str | None = None
    message: str | None = None
    tool_id: str | None = None
    inputs: dict[str, Any] | None = None
    options: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Listing:
    """
    What one call told of many runs. It is a hint: a status call confirms it.

    :param changed: runs that seem to have ended or to wait for a human, by run id, each with a mark; the run
        is asked once for each mark.
    :param going_on: ids of runs that are certainly going on.
    """

    changed: Mapping[str, str]
    going_on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AcceptedStart:
    """
    A start that a vendor shows to have accepted.

    :param at: when, seconds since the epoch by the vendor's clock.
    :param ref: the run, None where the vendor does not name it.
    """

    at: float
    ref: RunRef | None


@dataclass(frozen=True, slots=True)
class AcceptedStarts:
    """
    One page of the starts that a vendor has accepted.

    :param starts: those that were asked for, newest first.
    :param cursor: of the next page; None when there is none, or only older ones.
    """

    starts: tuple[AcceptedStart, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class BulkPolling:
    """
    A vendor's call that tells how many runs stand.

    :param call: builds it from the runs that wait, those left alone longest first, and from when it was last
        answered: seconds since the epoch by the local clock, None if never.
    :param most_runs: runs that one call can name.
    :param is_heavy: whether its answers are so large that users have to ask for it, with the connection extra
        ``bulk_polling``.
    """

    call: Callable[[Sequence[RunRef], float | None], Call[Listing]]
    most_runs: int = 1000
    is_heavy: bool = False


class VendorAdapter(ABC):
    """
    Everything the package knows about one vendor.

    An adapter is stateless and does no I/O: each method returns a call, a value that a client sends.

    :cvar conn_type: the Airflow connection type, which is also the vendor's name in a run.
    :cvar display_name: the vendor's name for people.
    :cvar default_url: where the vendor is reached when the connection names no host.
    :cvar api_path: path of the API below that, for hosts given with or without it.
    :cvar requests_per_minute: requests that the vendor allows for one key in any 60 seconds.
    :cvar run_kinds: the kinds of run that the vendor tells apart; the first is the default.
    :cvar request_topics: what a run may ask of a human, by the vendor's words; empty where it never asks.
    """

    conn_type: ClassVar[str]
    display_name: ClassVar[str]
    default_url: ClassVar[str]
    api_path: ClassVar[str]
    requests_per_minute: ClassVar[int]
    run_kinds: ClassVar[tuple[str, ...]] = ("agent",)
    request_topics: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def auth_headers(self, api_key: str) -> dict[str, str]:
        """Return the headers that carry the key."""

    @abstractmethod
    def probe(self) -> Call[str]:
        """
        Build the cheapest unbilled call that shows whether the key works.

        Its result is a sentence for the user who tests a connection.
        """

    @abstractmethod
    def start(self, start_request: StartRequest) -> Call[Run]:
        """
        Build the call that starts a run.

        :raises InvalidInputError: the vendor would refuse this.
        """

    @abstractmethod
    def status(self, ref: RunRef) -> Call[Run]:
        """
        Build the call that asks how a run stands.

        :param ref: a run of this vendor, from :meth:`ref`.
        """

    def bulk_polling(self) -> BulkPolling | None:
        """Return the call that tells how many runs stand, or None where the vendor documents none."""
        return None

    def result(self, run: Run) -> Call[Run] | None:
        """
        Build the call that completes a run that has ended by its output or error.

        :param run: the run as its status call told it.
        :return: None where the status call tells it all.
        """
        return None

    def accepted_starts(
        self, start_request: StartRequest, since: float, cursor: str | None = None
    ) -> Call[AcceptedStarts] | None:
        """
        Build the call that lists the accepted starts of the same input, to find one whose answer was lost.

        :param since: what was accepted before is not asked for; seconds since the epoch.
        :param cursor: of the page before.
        :return: None where the vendor documents no such call.
        """
        return None

    def cancel(self, ref: RunRef) -> Call[None] | None:
        """
        Build the call that cancels a run; one that has ended already is no error.

        :return: None where the vendor documents no such call.
        """
        return None

    def human_request(self, ref: RunRef, request: HumanRequest) -> Call[HumanRequest] | None:
        """
        Build the call that reads in full what a run asks: the text to judge, and what an answer needs.

        :param request: one of ``human_requests`` of the run's status.
        :return: None where the status tells it all.
        """
        return None

    def answer(
        self, ref: RunRef, request: HumanRequest, answer: HumanAnswer, options: Mapping[str, Any]
    ) -> tuple[Call[None], ...]:
        """
        Build the calls that answer what a run asks, in their order.

        :param request: in full.
        :param options: what the run was started with, as far as that is known.
        :raises InvalidInputError: the vendor documents no such answer, or it would refuse this one.
        """
        raise InvalidInputError(f"{self.display_name} documents no way to answer a run")

    def resume(self, ref: RunRef, request: HumanRequest, options: Mapping[str, Any]) -> Call[None] | None:
        """
        Build the call that lets a run go on after what it asked was accepted; sending it twice does no harm.

        :param request: in full.
        :param options: what the run was started with, as far as that is known.
        :return: None where a run goes on by itself.
        """
        return None

    def ref(self, run_id: object, kind: str | None = None) -> RunRef:
        """
        Return what identifies a run of this vendor.

        :param run_id: the id as it came from outside.
        :param kind: one of ``run_kinds``; the vendor's default if None.
        :raises InvalidInputError: no run of this vendor can have this id or kind.
        """
        if kind is not None and kind not in self.run_kinds:
            raise InvalidInputError(
                f"run_kind {one_line(repr(kind), 80)} is unknown to {self.display_name}; "
                f"it has {' and '.join(map(repr, self.run_kinds))}"
            )
        return RunRef(run_id=check_run_id(run_id), kind=kind or self.run_kinds[0])


def normalize_status(statuses: Mapping[str, RunStatus], raw_status: str) -> RunStatus:
    """
    Return what a vendor's word means; a word that is not documented is ``UNKNOWN``.

    :param statuses: the vendor's words in lower case.
    """
    return statuses.get(raw_status.strip().lower(), RunStatus.UNKNOWN)


def path_segment(value: str) -> str:
    """Return an id quoted so that it stays one segment of a path."""
    return quote(value, safe="")


def check_same_run(ref: RunRef, answered_id: str | None) -> None:
    """
    Make sure that the answer is about the run that was asked for.

    :raises ResponseFormatError: it is about another run, as a confused cache or proxy would have it.
    """
    if answered_id is not None and answered_id.lower() != ref.run_id.lower():
        raise ResponseFormatError(
            f"the answer is about run {one_line(answered_id, 80)!r}, not {ref.run_id!r}"
        )
