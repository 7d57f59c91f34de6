"""Snorbe: the turns of a workspace, newest first."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from airflow_provider_agentruns.simulator.calls import Answer, ApiError, Call, JsonAnswer
from airflow_provider_agentruns.simulator.runs import Run
from airflow_provider_agentruns.simulator.snorbe_events import events_of, in_process
from airflow_provider_agentruns.simulator.statuses import snorbe_status
from airflow_provider_agentruns.simulator.timestamps import iso

_DEFAULT_LIMIT = 10
_HIGHEST_LIMIT = 50


@dataclass(frozen=True, slots=True)
class _Turn:
    id: str
    kind: str
    content: str
    at: float
    run: Run


def turn_id(run: Run, kind: str) -> str:
    """Return the id of a run's turn."""
    return "c" + hashlib.sha256(f"{run.id}:{kind}".encode()).hexdigest()[:24]


def images_of(run: Run) -> list[dict[str, str]]:
    """Return the images a run found."""
    name = f"https://example.com/{run.seed}"
    return [
        {"imageUrl": f"{name}.jpg", "thumbnailUrl": f"{name}-t.jpg", "title": "Simulated image", "link": name}
    ]


def agent_name(call: Call, run: Run) -> str | None:
    """Return the name of the agent a run belongs to; None if it is gone."""
    agent = call.state.accounts.find_agent("snorbe", "agent", run.agent_id)
    return agent.name if agent else None


def list_turns(call: Call) -> Answer:
    """Answer one page of turns."""
    limit = _limit(call.query)
    turns = [
        turn
        for run in call.state.runs.all(call.now, vendor="snorbe", account=call.account)
        for turn in _turns(run)
    ]
    turns.sort(key=lambda turn: turn.at)
    turns.reverse()
    first = 0
    if cursor := call.query.get("cursor"):
        ids = [turn.id for turn in turns]
        if cursor not in ids:
            raise ApiError(HTTPStatus.BAD_REQUEST, "Invalid cursor")
        first = ids.index(cursor)
    page = turns[first : first + limit]
    rest = turns[first + limit :]
    body = {"turns": [_write(call, turn) for turn in page], "nextCursor": rest[0].id if rest else None}
    return JsonAnswer(body)


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_DEFAULT_LIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _HIGHEST_LIMIT:
        raise ApiError(HTTPStatus.BAD_REQUEST, f"limit must be from 1 to {_HIGHEST_LIMIT}")
    return int(text)


def _turns(run: Run) -> list[_Turn]:
    turns = [_Turn(turn_id(run, "user"), "user", run.input_text, run.created_at, run)]
    if run.ended_at is not None and run.scenario.ending == "succeed":
        turns.append(_Turn(turn_id(run, "assistant"), "assistant", run.output, run.ended_at, run))
    elif run.ended_at is not None and run.scenario.ending == "fail":
        turns.append(_Turn(turn_id(run, "error"), "error", run.error, run.ended_at, run))
    return turns


def _write(call: Call, turn: _Turn) -> dict[str, object]:
    run = turn.run
    agent_run = None
    if turn.kind != "user":
        agent_run = {
            "id": run.id,
            "status": snorbe_status(run, call.now),
            "process": [in_process(run, event) for event in events_of(run, call.now)],
            "images": images_of(run),
            "publicSourceAgentRuns": [],
            "privateSourceAgentRuns": [],
            "agent": {"id": run.agent_id, "name": agent_name(call, run)},
        }
    return {
        "id": turn.id,
        "kind": turn.kind,
        "content": turn.content,
        "agentRunId": run.id if agent_run else None,
        "createdAt": iso(turn.at),
        "agentRun": agent_run,
    }
