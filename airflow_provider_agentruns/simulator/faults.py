"""Which faults are set and which request each one strikes; `strikes` carries them out."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

from airflow_provider_agentruns.simulator.operations import OPERATIONS, VENDORS

FAULT_KINDS = ("rate_limit", "server_error", "latency", "reset", "truncated_json", "html", "hang")
_DEFAULT_STATUS = {
    "rate_limit": HTTPStatus.TOO_MANY_REQUESTS,
    "server_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "html": HTTPStatus.BAD_GATEWAY,
}


class FaultError(ValueError):
    """Tell who asked for a fault why there is no such one."""


@dataclass(kw_only=True)
class Fault:
    """A fault and the requests it is meant for.

    :param kind: one of `FAULT_KINDS`.
    :param vendor: strike requests to this vendor only.
    :param operation: strike this operation only, see `OPERATIONS`.
    :param run_id: strike requests about this run only.
    :param times: strike so many times; None for ever.
    :param after_effect: let the request take effect at the vendor first (a run is started, a draft
        confirmed), then strike the answer. `truncated_json` and a halved `reset` need the answer, so they
        always do; the others strike before unless told otherwise.
    :param status: HTTP status of `server_error` (500 to 599) and `html` (any).
    :param seconds: how long `latency` holds the request or, after its effect, the answer.
    :param retry_after: seconds that a `rate_limit` tells the client to wait; None sends no header.
    :param retry_after_as: send it as `seconds` or as an HTTP `date`.
    :param half: `reset` the connection after half of the answer, not before it.
    :raises FaultError: when a value is none of those above.
    """

    kind: str
    vendor: str | None = None
    operation: str | None = None
    run_id: str | None = None
    times: int | None = None
    after_effect: bool | None = None
    status: int | None = None
    seconds: float = 1.0
    retry_after: float | None = None
    retry_after_as: str = "seconds"
    half: bool = False
    id: int = field(init=False, default=0)
    struck: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._check_names()
        if self.times is not None and self.times < 1:
            raise FaultError("times must be 1 or more; leave it out for a fault that stays")
        if self.seconds < 0 or (self.retry_after or 0) < 0:
            raise FaultError("seconds and retry_after must be 0 or more")
        if self.status is not None and self.kind not in ("server_error", "html"):
            raise FaultError(f"a {self.kind} fault takes no status")
        if self.status is None:
            self.status = _DEFAULT_STATUS.get(self.kind)
        elif self.kind == "server_error" and not 500 <= self.status <= 599:  # noqa: PLR2004
            raise FaultError("the status of a server_error must be from 500 to 599")
        needs_answer = self.kind == "truncated_json" or (self.kind == "reset" and self.half)
        if self.after_effect is None:
            self.after_effect = needs_answer
        elif needs_answer and not self.after_effect:
            raise FaultError(f"a {self.kind} that shows a part of the answer strikes after the effect")

    def _check_names(self) -> None:
        for name, value, known in (
            ("kind", self.kind, FAULT_KINDS),
            ("vendor", self.vendor, (None, *VENDORS)),
            ("operation", self.operation, (None, *OPERATIONS)),
            ("retry_after_as", self.retry_after_as, ("seconds", "date")),
        ):
            if value not in known:
                choices = ", ".join(filter(None, known))
                raise FaultError(f"Unknown {name} {value!r}: expected one of {choices}")

    def wants(self, *, operation: str, vendor: str, run_id: str | None) -> bool:
        """Say whether the fault is meant for this request and has strikes left."""
        return (
            (self.times is None or self.struck < self.times)
            and self.vendor in (None, vendor)
            and self.operation in (None, operation)
            and self.run_id in (None, run_id)
        )


@dataclass
class FaultBox:
    """The faults that are set, oldest first; the first that is meant for a request strikes it, alone."""

    faults: list[Fault] = field(default_factory=list)
    _last_id: int = 0

    def add(self, fault: Fault) -> int:
        """Set a fault and return its id."""
        self._last_id += 1
        fault.id = self._last_id
        self.faults.append(fault)
        return fault.id

    def remove(self, fault_id: int | None = None) -> int:
        """Remove one fault, or all; return how many there were."""
        kept = [fault for fault in self.faults if fault_id not in (None, fault.id)]
        removed = len(self.faults) - len(kept)
        self.faults = kept
        return removed

    def find(self, *, operation: str, vendor: str, run_id: str | None) -> Fault | None:
        """Return the fault that will strike this request."""
        for fault in self.faults:
            if fault.wants(operation=operation, vendor=vendor, run_id=run_id):
                return fault
        return None
