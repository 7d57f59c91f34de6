"""
A vendor in a process of its own, which sees what each contender does: ``python -m benchmarks.vendor``.

It serves Flowyble's status route and, for the dbt Cloud provider's trigger, a look-alike of that vendor's. It
prints two ports: where it is polled, and where it is told of runs and asked what it saw.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import signal
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from benchmarks.clock import Clock
from benchmarks.shared_key import SlidingWindow

_LOOPBACK = "127.0.0.1"
_HOME: web.AppKey[Vendor] = web.AppKey("home")
# What dbt Cloud calls running and success.
_DBT_RUNNING, _DBT_SUCCESS = 3, 10
# The documented answers carry about this much text beside the status.
_TEXT = "Summarize the tickets of last week and draft an answer to each. " * 4


@dataclass(slots=True)
class VendorRun:
    """
    A run at this vendor.

    :param agent: a UUID.
    :param started: seconds since the epoch.
    :param told: when a poll was first told of the end, seconds since the epoch.
    """

    run_id: str
    agent: str
    started: float
    duration: float
    told: float | None = None

    def tell(self, now: float) -> bool:
        """Return whether the run is over, and remember that it was told."""
        is_over = now >= self.started + self.duration
        if is_over and self.told is None:
            self.told = now
        return is_over


class Vendor:
    """
    What the vendor knows, and what it saw.

    :param enforces_limit: whether it refuses what exceeds 100 requests in 60 seconds.
    """

    def __init__(self, clock: Clock, *, enforces_limit: bool) -> None:
        self.clock = clock
        self.runs: dict[str, VendorRun] = {}
        self.requests: list[tuple[float, bool]] = []
        self.polled: set[str] = set()
        self.server: _CountingServer
        self._limit = SlidingWindow() if enforces_limit else None

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a poll of either vendor's status route, and count it."""
        now = self.clock.now()
        is_accepted = self._limit is None or self._limit.ask(now) <= 0
        self.requests.append((now, is_accepted))
        if not is_accepted:
            return web.json_response({"success": False, "message": "Rate limit exceeded"}, status=429)
        for route, describe in _ROUTES.items():
            if (match := route.fullmatch(request.path)) and (run := self.runs.get(match[1])):
                self.polled.add(run.run_id)
                return web.json_response(describe(run, run.tell(now)))
        return web.json_response({"success": False, "message": "Run not found"}, status=404)


class _CountingServer(web.Server):
    """Count the sockets that the contender opens."""

    opened = 0
    at_once = 0

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.opened += 1
        self.at_once = max(self.at_once, len(self.connections))


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _flowyble(run: VendorRun, is_over: bool) -> dict[str, Any]:  # noqa: FBT001 - an entry of a table
    return {
        "id": run.run_id,
        "agentId": run.agent,
        "status": "Completed" if is_over else "Running",
        "userMessage": _TEXT,
        "finalOutput": _TEXT if is_over else None,
        "errorMessage": None,
        "stepsExecuted": 3,
        "tokensUsed": 4096,
        "actionsUsed": 2,
        "creditsUsed": 1.5,
        "createdAt": _timestamp(run.started),
        "startedAt": _timestamp(run.started),
        "finishedAt": _timestamp(run.started + run.duration) if is_over else None,
    }


def _dbt_cloud(run: VendorRun, is_over: bool) -> dict[str, Any]:  # noqa: FBT001 - an entry of a table
    status = _DBT_SUCCESS if is_over else _DBT_RUNNING
    data = {"id": int(run.run_id), "status": status, "is_complete": is_over, "notes": _TEXT}
    return {"status": {"code": 200, "is_success": True}, "data": data}


_ROUTES = {
    re.compile(r"/v1/agents/run/([^/]+)/status"): _flowyble,
    re.compile(r"/api/v2/accounts/1/runs/([^/]+)/"): _dbt_cloud,
}


async def _add_runs(request: web.Request) -> web.Response:
    for run in await request.json():
        request.app[_HOME].runs[run["run_id"]] = VendorRun(**run)
    return web.json_response({})


async def _counts(request: web.Request) -> web.Response:
    vendor = request.app[_HOME]
    return web.json_response({"requests": len(vendor.requests), "polled": len(vendor.polled)})


async def _seen(request: web.Request) -> web.Response:
    vendor = request.app[_HOME]
    return web.json_response(
        {
            "runs": [asdict(run) for run in vendor.runs.values()],
            "requests": vendor.requests,
            "sockets_opened": vendor.server.opened,
            "sockets_at_once": vendor.server.at_once,
        }
    )


async def _serve(vendor: Vendor) -> None:
    # Sockets are kept longer than the triggers do: who closes one is to be the one under test.
    vendor.server = _CountingServer(vendor.answer, access_log=None, keepalive_timeout=3600)
    told = web.Application(client_max_size=64 * 1024**2)
    told[_HOME] = vendor
    told.router.add_post("/runs", _add_runs)
    told.router.add_get("/counts", _counts)
    told.router.add_get("/seen", _seen)
    ports = []
    for runner in (web.ServerRunner(vendor.server), web.AppRunner(told, access_log=None)):
        await runner.setup()
        await web.TCPSite(runner, _LOOPBACK, 0, backlog=4096).start()
        ports.append(runner.addresses[0][1])
    print(*ports, flush=True)  # noqa: T201 - who started it reads the ports
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epoch", type=float, required=True)
    parser.add_argument("--factor", type=float, required=True)
    parser.add_argument("--limit", action="store_true")
    arguments = parser.parse_args()
    # A contender may open thousands of sockets at once.
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    clock = Clock(arguments.epoch, arguments.factor)
    asyncio.run(_serve(Vendor(clock, enforces_limit=arguments.limit)))


if __name__ == "__main__":
    main()
