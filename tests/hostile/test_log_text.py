"""A vendor's words cannot pass for lines of the log, for groups of lines or for another level."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_agentruns.client._sync import Client
from airflow_provider_agentruns.client.retry import ONCE
from airflow_provider_agentruns.client.text import one_line
from airflow_provider_agentruns.hooks import AgentRunHook
from airflow_provider_agentruns.operators import AgentRunOperator, AgentRunResultOperator
from airflow_provider_agentruns.runs_sensor import AgentRunsSensor
from airflow_provider_agentruns.sensors import AgentRunSensor
from tests.hostile.hostile_server import KEY, HostileServer, head
from tests.hostile.vendor_calls import SNORBE_ID, UUID
from tests.outcomes.task_runs import run_task

FORGED = (
    "bad\n[2026-01-01 00:00:00] ERROR - forged\r::group::forged\n::endgroup::\n##[group]forged\n##[error]"
    "\n##vso[task.complete result=Succeeded;]forged\n::ENDGROUP::\x1b[31mred\x1b[0m\x9b31m\u2028forged\u2029"
    "\x85\x0b\x0c\u202eorder\u2066\u200b\ufeff\x00\x08\x7f\ud800{{ 7*7 }} %s %(x)s {0} {x}"
)
LOG_COMMANDS = re.compile(r"::(end)?group|##\w*\[", re.IGNORECASE)
each_vendor = pytest.mark.parametrize("vendor", ["flowyble", "snorbe"])


def check_line(text: str) -> None:
    assert text.isprintable(), ascii(text)
    assert not LOG_COMMANDS.search(text)


def check_log(written: str) -> None:
    """Look at what Airflow's own logging made of it; splitlines knows more ends of lines than a terminal."""
    lines = [line for line in written.splitlines() if line]
    assert lines
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[", line), "each line is one of the log's own"
        check_line(line)


@settings(max_examples=500)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=())),
            st.sampled_from(
                ["::", ":", "group", "endgroup", "GROUP::", "#", "##", "[", "\n", "\x00", "\u202e", " "]
            ),
        )
    ).map("".join)
)
def test_one_line_is_one_printable_line_without_log_commands(text: str) -> None:
    line = one_line(text)
    check_line(line)
    assert len(line) <= 500 + text.count(":") + text.count("#")
    assert one_line(line) == line, "quoted twice it stays as it is"


@pytest.mark.parametrize(
    "text", ["std::vector", "a::b", "#12 [x]", "# [x]", "http://[::1]/", "naïve 四十二 😀"]
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


ANSWERS: dict[str, dict[str, Any]] = {
    "flowyble": {"id": UUID, "status": FORGED, "errorMessage": FORGED, "agentId": FORGED, "toolName": FORGED},
    "snorbe": {
        "id": SNORBE_ID,
        "status": FORGED,
        "browseState": {"isBrowsing": True, "askHumanQuestion": FORGED},
        "skillState": {"isRunningSkill": True, "skillName": FORGED, "pendingSecretKeys": [FORGED]},
        f"pending{'A' * 40}Draft": True,
        "agentId": FORGED,
        "agentName": FORGED,
        "process": [{"type": "error", "message": FORGED}],
    },
}
RUN_IDS = {"flowyble": UUID, "snorbe": SNORBE_ID}


@pytest.fixture
def conn_id(vendor: str, server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> str:
    value = {"conn_type": vendor, "host": server.url, "password": KEY, "extra": {"polls_per_minute": 100_000}}
    monkeypatch.setenv("AIRFLOW_CONN_HOSTILE", json.dumps(value))
    return "hostile"


def tasks_of(vendor: str, conn_id: str, *, deferrable: bool) -> list[Any]:
    settings: dict[str, Any] = {"conn_id": conn_id, "deferrable": deferrable, "timeout": 0.3}
    ids = {"conn_id": conn_id, "run_id": RUN_IDS[vendor]}
    return [
        AgentRunSensor(task_id="sensor", poke_interval=0.1, **settings | ids),
        AgentRunResultOperator(task_id="result", poll_interval=0.1, **settings | ids),
        AgentRunsSensor(task_id="sensors", run_ids=[RUN_IDS[vendor]], poke_interval=0.1, **settings),
        AgentRunOperator(task_id="start", message="hello", agent_id=UUID, poll_interval=0.1, **settings),
    ]


def answer(server: HostileServer, vendor: str, situation: str) -> None:
    plain = ANSWERS[vendor]
    failed = {**plain, "status": "failed", "browseState": None}
    refusal = json.dumps({"success": False, "message": FORGED, "error": FORGED}).encode()
    situations: dict[str, tuple[int, bytes]] = {
        "goes-on": (200, json.dumps(plain).encode()),
        "failed": (200, json.dumps(failed).encode()),
        "other-run": (200, json.dumps({**plain, "id": FORGED}).encode()),
        "no-json": (200, FORGED.encode("utf-8", "replace")),
        "wrong-type": (200, json.dumps({"status": {FORGED: FORGED}, FORGED: 1}).encode()),
        "refused": (403, refusal),
        "key": (401, refusal),
        "unknown": (404, refusal),
        "broken": (500, refusal),
        "redirect": (308, b""),
    }
    status, body = situations[situation]
    kind = one_byte_each(FORGED)
    headers = b"Location: http://%b/\r\nContent-Type: text/%b\r\n" % (kind, kind)
    server.pieces(head(status, headers + b"Content-Length: %d\r\n" % len(body)) + body)


def one_byte_each(text: str) -> bytes:
    """Return a text as a header can hold it."""
    return text.encode("latin-1", "ignore").translate(None, b"\r\n\0")


SITUATIONS = [
    "goes-on",
    "failed",
    "other-run",
    "no-json",
    "wrong-type",
    "refused",
    "key",
    "unknown",
    "broken",
    "redirect",
]


@each_vendor
@pytest.mark.parametrize(
    ("situation", "deferrable"),
    [(situation, False) for situation in SITUATIONS]
    + [("goes-on", True), ("failed", True), ("refused", True)],
)
def test_nothing_that_is_logged_or_raised_holds_more_than_a_line(
    deferrable: bool,
    situation: str,
    vendor: str,
    conn_id: str,
    server: HostileServer,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        AgentRunHook, "get_conn", lambda hook: Client(hook.vendor_connection.settings, retry=ONCE)
    )
    caplog.set_level(logging.DEBUG)
    answer(server, vendor, situation)
    for task in tasks_of(vendor, conn_id, deferrable=deferrable):
        outcome = run_task(task)
        assert outcome.error is not None
        error: BaseException | None = outcome.error
        while error is not None:
            check_line(str(error))
            error = error.__cause__ or error.__context__
        for event in outcome.events:
            check_line(json.dumps(event, ensure_ascii=False))
        summary = outcome.xcoms.get("agent_run") or {}
        for name in ("raw_status", "agent_id", "agent_name"):
            check_line(str(summary.get(name)))
    for record in caplog.records:
        if record.name.startswith("airflow"):
            check_line(record.getMessage())
    check_log(capsys.readouterr().out)


@pytest.mark.parametrize("vendor", ["flowyble"])
def test_an_id_that_no_worker_has_checked_is_logged_in_a_line(
    conn_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sensor that started in the triggerer is resumed by Airflow only to fail."""
    sensor = AgentRunSensor(task_id="sensor", conn_id=conn_id, run_id=FORGED.replace("\ud800", ""))
    with pytest.raises(AirflowException):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, {})
    check_log(capsys.readouterr().out)
