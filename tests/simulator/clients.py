"""How these tests speak to the simulator: as a user's own HTTP client would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import requests

AGENT_ID = "11111111-1111-4111-8111-111111111111"
TOOL_ID = "22222222-2222-4222-8222-222222222222"
START_BODY = {
    "modelName": "snorbe-fast",
    "inputText": "compare batteries",
    "promptKey": "chat-routing",
    "locale": "en",
}
RESUME_BODY = {name: START_BODY[name] for name in ("modelName", "promptKey", "locale")}


class HandClock:
    """A clock that only moves when a test says so; seconds since the epoch."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """Send requests below one base URL, with one key."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        self._base_url = base_url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(headers)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 10)
        return self._session.request(method, self._base_url + path, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.send("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> requests.Response:
        return self.send("POST", path, json=body, **options)

    def read(self, path: str) -> Any:
        """Get a JSON value that has to be there."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()


def events_of(response: requests.Response) -> list[dict[str, Any]]:
    """Read an event stream to its end."""
    lines = [line for line in response.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)
