"""Play Airflow's supervisor to a trigger runner: hand out triggers and connections, take events."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.fernet import Fernet

from benchmarks.clock import Clock
from benchmarks.processes import FERNET_KEY

# As measured with an API server: each look-up takes that long, and is served one at a time.
_LOOK_UP_SECONDS = 0.04
# No more than a triggerer's default capacity at once.
_MOST_AT_ONCE = 1000
_VERSION = str(uuid.UUID(int=1))

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class Supervisor:
    """
    Speak Airflow's protocol on a socket, in a thread of its own.

    :param connections: by id, as Airflow's supervisor answers with them.
    :ivar calls: messages that came from the runner, by type.
    :ivar events: payloads by trigger.
    :ivar syncs_after_last_creation: how often the runner has asked since it was given triggers.
    :ivar failures: the last line of the error by trigger that ended without an event.
    """

    def __init__(
        self, runner: socket.socket, clock: Clock, connections: Mapping[str, dict[str, Any]]
    ) -> None:
        self._socket = runner
        self._clock = clock
        self._connections = connections
        self._fernet = Fernet(FERNET_KEY)
        self._to_create: deque[dict[str, Any]] = deque()
        self.calls: Counter[str] = Counter()
        self.events: dict[int, Any] = {}
        self.failures: dict[int, str] = {}
        self.syncs_after_last_creation = 0
        self.is_ready = threading.Event()
        self.changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Tell the runner to start."""
        self._send(0, {"type": "StartTriggerer"})
        self._thread.start()

    def create(self, trigger_id: int, classpath: str, kwargs: Mapping[str, Any]) -> None:
        """Let the runner run a trigger of a deferred task."""
        self.syncs_after_last_creation = 0
        self._to_create.append(
            {
                "type": "RunTrigger",
                "id": trigger_id,
                "classpath": classpath,
                "encrypted_kwargs": self._fernet.encrypt(json.dumps(kwargs).encode()).decode(),
                "ti": {
                    "id": str(uuid.UUID(int=trigger_id)),
                    "dag_version_id": _VERSION,
                    "task_id": "wait",
                    "dag_id": "benchmark",
                    "run_id": "manual",
                    "try_number": 1,
                    "map_index": trigger_id,
                    "pool_slots": 1,
                    "priority_weight": 1,
                },
            }
        )

    def _serve(self) -> None:
        try:
            while True:
                size = int.from_bytes(self._receive(4), "big")
                number, body, *_ = _decoder.decode(self._receive(size))
                self._send(number, self._answer(body))
        except (EOFError, OSError):
            # The runner was ended.
            return

    def _answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        self.calls[message["type"]] += 1
        match message["type"]:
            case "TriggerStateChanges":
                return self._sync(message)
            case "GetConnection":
                self._clock.sleep(_LOOK_UP_SECONDS)
                return {"type": "ConnectionResult", **self._connections[message["conn_id"]]}
            case _:
                return None

    def _sync(self, message: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            for trigger_id, event, _ in message["events"] or ():
                self.events[trigger_id] = event["payload"]
            for trigger_id, error in message["failures"] or ():
                self.failures[trigger_id] = error[-1].strip() if error else "no event"
            self.changed.notify_all()
        at_once = min(_MOST_AT_ONCE, len(self._to_create))
        self.syncs_after_last_creation = 0 if at_once else self.syncs_after_last_creation + 1
        to_create = [self._to_create.popleft() for _ in range(at_once)]
        self.is_ready.set()
        return {"type": "TriggerStateSync", "to_create": to_create, "to_cancel": []}

    def _send(self, number: int, body: dict[str, Any] | None) -> None:
        content = _encoder.encode([number, body, None])
        self._socket.sendall(len(content).to_bytes(4, "big") + content)

    def _receive(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            chunk = self._socket.recv(size - len(content))
            if not chunk:
                raise EOFError
            content += chunk
        return bytes(content)
