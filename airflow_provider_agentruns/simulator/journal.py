"""What the simulator writes down: the requests it received, the starts and the cancels it accepted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

_KEPT_ENTRIES = 100_000


@dataclass(slots=True)
class RequestRecord:
    """One request received.

    :param time: seconds since the epoch.
    :param operation: None for a path or method that the vendor does not document.
    :param status: HTTP status answered; None while there is no answer, or when a fault withheld it.
    :param key_hash: short hash of the API key or webhook token, None without one.
    :param fault: kind of the fault that struck.
    """

    sequence: int
    time: float
    vendor: str
    operation: str | None
    method: str
    path: str
    status: int | None = None
    run_id: str | None = None
    key_hash: str | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class StartRecord:
    """One start that a vendor accepted, whether or not the answer got through.

    :param time: seconds since the epoch.
    """

    time: float
    vendor: str
    kind: str
    operation: str
    run_id: str
    agent_id: str
    input_text: str


@dataclass(frozen=True, slots=True)
class CancelRecord:
    """One run that a client cancelled.

    :param time: seconds since the epoch.
    """

    time: float
    vendor: str
    kind: str
    run_id: str
    input_text: str


@dataclass
class Journal:
    """All logs, oldest first; beyond 100 000 entries the oldest are dropped."""

    requests: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=_KEPT_ENTRIES))
    starts: deque[StartRecord] = field(default_factory=lambda: deque(maxlen=_KEPT_ENTRIES))
    cancels: deque[CancelRecord] = field(default_factory=lambda: deque(maxlen=_KEPT_ENTRIES))
    _sequence: int = 0

    def open_request(
        self, *, time: float, vendor: str, operation: str | None, method: str, path: str
    ) -> RequestRecord:
        """Write a request down as it arrives; the caller fills in how it ended."""
        self._sequence += 1
        record = RequestRecord(self._sequence, time, vendor, operation, method, path)
        self.requests.append(record)
        return record

    def read_requests(
        self, *, vendor: str | None = None, operation: str | None = None, run_id: str | None = None
    ) -> list[RequestRecord]:
        """Return copies of the requests that match all the filters given."""
        return [
            replace(record)
            for record in self.requests
            if vendor in (None, record.vendor)
            and operation in (None, record.operation)
            and run_id in (None, record.run_id)
        ]
