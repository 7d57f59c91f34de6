"""Answers that last as long as a Snorbe run: its event stream, and the blocking result."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from airflow_provider_agentruns.simulator.calls import Call
from airflow_provider_agentruns.simulator.runs import Phase, Run
from airflow_provider_agentruns.simulator.snorbe_events import (
    Event,
    closing_event,
    complete_text,
    config_event,
    events_of,
    on_stream,
)
from airflow_provider_agentruns.simulator.snorbe_turns import agent_name, turn_id
from airflow_provider_agentruns.simulator.statuses import snorbe_status

EVENT_STREAM = "text/event-stream"
_PING_SECONDS = 15.0
_LAST_EVENTS = ("complete", "error")


def as_line(event: object) -> bytes:
    """Write an event as a line of the stream."""
    return b"data: " + json.dumps(event).encode() + b"\n\n"


@dataclass
class _LastingAnswer:
    """Follow a run until it ends or stops at a draft, the client leaves or the server closes.

    The run itself goes on, whoever listens; only with `resume_needs_listener` a resume does not.
    """

    call: Call
    run: Run
    is_resume: bool = False
    status: int = HTTPStatus.OK
    content_type: str = "application/json"

    @property
    def run_id(self) -> str | None:
        """Id of the run that is followed."""
        return self.run.id

    def _settle(self) -> float:
        now = self.call.state.now
        self.call.state.runs.find(self.run.id, now)
        return now

    def _has_stopped(self, now: float) -> bool:
        return self.run.phase(now) is Phase.ENDED or self.run.pending_draft is not None

    async def _pause(self, request: web.Request | None) -> bool:
        """Let the run go on for a moment; say whether nobody listens any more."""
        moment = min(max(self.run.work_seconds / 50, 0.01), 0.25)
        closing = await self.call.state.pause(moment)
        return closing or (request is not None and request.transport is None)

    def _left_early(self) -> None:
        state = self.call.state
        if self.is_resume and state.settings.resume_needs_listener and not self._has_stopped(self._settle()):
            self.run.abort_resume()


@dataclass
class StreamAnswer(_LastingAnswer):
    """Server-sent events: `config` first, then what happens from now on, then how it ended."""

    already_told: int = 0
    content_type: str = EVENT_STREAM

    async def first_bytes(self) -> bytes:
        """Return the `config` event."""
        return self._line(config_event(self.run, self.call.now))

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Answer the request."""
        response = web.StreamResponse(
            status=self.status, headers={"Content-Type": self.content_type, "Cache-Control": "no-cache"}
        )
        left = True
        try:
            await response.prepare(request)
            async for line in self._lines(request):
                await response.write(line)
            left = request.transport is None
            await response.write_eof()
        except ConnectionError:
            left = True
        finally:
            if left:
                self._left_early()
        return response

    async def _lines(self, request: web.Request) -> AsyncIterator[bytes]:
        yield self._line(config_event(self.run, self.call.now))
        told, last, quiet_since = max(self.already_told, 1), "config", self.call.state.now
        while True:
            now = self._settle()
            for event in events_of(self.run, now)[told:]:
                yield self._line(event)
                told, last, quiet_since = told + 1, event.name, now
            if self._has_stopped(now):
                break
            if now - quiet_since >= _PING_SECONDS:
                yield as_line({"type": "ping", "payload": {}})
                quiet_since = now
            if await self._pause(request):
                return
        if last not in _LAST_EVENTS:
            yield self._line(closing_event(self.run, now))

    def _line(self, event: Event) -> bytes:
        return as_line(on_stream(self.run, event))


@dataclass
class BlockingAnswer(_LastingAnswer):
    """The result as one JSON body, once there is one."""

    async def first_bytes(self) -> bytes:
        """Wait for the result and return it."""
        await self._wait(None)
        return json.dumps(self._result()).encode()

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Answer the request."""
        if not await self._wait(request):
            self._left_early()
        return web.json_response(self._result())

    async def _wait(self, request: web.Request | None) -> bool:
        while not self._has_stopped(self._settle()):
            if await self._pause(request):
                return False
        return True

    def _result(self) -> dict[str, object]:
        now = self._settle()
        ending = self.run.scenario.ending
        return {
            "text": complete_text(self.run),
            "finishReason": {"fail": "error", "cancel": "cancelled"}.get(ending or "", "stop"),
            "model": {"name": self.run.body.get("modelName")},
            "runId": self.run.id,
            "status": snorbe_status(self.run, now),
            "assistantTurnId": turn_id(self.run, "assistant"),
            "agentId": self.run.agent_id,
            "agentName": agent_name(self.call, self.run),
        }
