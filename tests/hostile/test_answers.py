"""Whatever a vendor answers, to any call, is read safely or refused by a line that names the call."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, is_dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_agentruns.client.exceptions import APIError, ResponseFormatError
from airflow_provider_agentruns.client.models import Run, RunStatus
from airflow_provider_agentruns.testing import Send
from airflow_provider_agentruns.vendors.base import VendorAdapter
from tests.hostile.hostile_server import KEY, HostileServer
from tests.hostile.vendor_calls import (
    ALL_CALLS,
    FLOWYBLE,
    JSON_CALLS,
    SNORBE,
    SNORBE_ID,
    UUID,
    WEBHOOK_TOKEN,
    VendorCall,
)

each_call = pytest.mark.parametrize("vendor_call", ALL_CALLS, ids=lambda call: call.name)
each_json_call = pytest.mark.parametrize("vendor_call", JSON_CALLS, ids=lambda call: call.name)
# The fixtures are made once for the module on purpose: a server that has answered before is the usual case.
fuzz = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# Endings of texts, also those that no database or log takes: NUL, half a surrogate pair, escapes, huge ones.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "\udfff\ud800", "\x1b[31m", "a\r\nb", "\u2028", "\u202e", "x" * 9999]
    ),
    st.sampled_from(["completed", "COMPLETED", " Completed ", "Running", "failed", "null", "None", KEY]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just(10**30)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=6,
)


@st.composite
def mangled(draw: st.DrawFn, answer: Any) -> Any:
    """Draw a documented answer in which a few things are not as documented."""
    if isinstance(answer, dict):
        answer = {
            name: draw(mangled(value)) if draw(st.integers(0, 4)) == 0 else value
            for name, value in answer.items()
            if draw(st.integers(0, 9))
        }
        return {**answer, **draw(st.dictionaries(TEXTS, VALUES, max_size=1))}
    if isinstance(answer, list) and answer and draw(st.booleans()):
        return [draw(mangled(item)) for item in answer]
    return draw(VALUES)


def outcome(server: HostileServer, send: Send[Any], vendor_call: VendorCall) -> Any:
    """Return what a call comes to: a value, or an error of ours. Check what holds for all of them."""
    call = vendor_call.call()
    try:
        value = send(server.settings(vendor_call.adapter), call)
    except APIError as error:
        text = str(error)
        assert call.request.operation in text
        assert text.isprintable(), "a line of a log"
        assert len(text) < 2000
        assert KEY not in text
        return error
    check_stored(value)
    if vendor_call.tells_run:
        assert isinstance(value, Run)
        assert vendor_call.run_id in {None, value.run_id}, "never about another run"
        assert value.raw_status.isprintable()
        assert len(value.raw_status) <= 80
        assert len(json.dumps(value.summary())) < 200_000
    return value


def check_stored(value: Any) -> None:
    """Make sure that every database takes all that was read."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    plain = asdict(plain) if is_dataclass(plain) and not isinstance(plain, type) else plain
    text = json.dumps(plain, default=str, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()
    assert KEY not in text


@each_json_call
def test_the_documented_answer_is_read(
    vendor_call: VendorCall, server: HostileServer, send: Send[Any]
) -> None:
    server.answers(json.dumps(vendor_call.answer).encode())
    assert not isinstance(outcome(server, send, vendor_call), APIError)


@each_json_call
@fuzz
@given(data=st.data())
def test_an_answer_with_anything_in_its_fields(
    vendor_call: VendorCall, server: HostileServer, send: Send[Any], data: st.DataObject
) -> None:
    answer = data.draw(mangled(vendor_call.answer))
    text = json.dumps(answer, ensure_ascii=data.draw(st.booleans()))
    server.answers(text.encode("utf-8", "surrogatepass"), status=data.draw(st.sampled_from([200, 200, 404])))
    run = outcome(server, send, vendor_call)
    if (
        isinstance(run, Run)
        and run.status.is_terminal
        and vendor_call.run_id
        and not vendor_call.name.endswith("result")
    ):
        status = answer["status"].strip().lower()
        assert status in {"completed", "failed", "error", "cancelled"}, "ended only by a documented word"


@pytest.mark.parametrize("vendor_call", ALL_CALLS, ids=lambda call: call.name)
@fuzz
@given(body=st.binary(max_size=200), status=st.integers(200, 599))
def test_any_bytes(
    vendor_call: VendorCall, server: HostileServer, send: Send[Any], body: bytes, status: int
) -> None:
    server.answers(body, status=status)
    outcome(server, send, vendor_call)


NO_ANSWERS = {
    "nothing": b"",
    "null": b"null",
    "true": b"true",
    "number": b"17",
    "text": b'"Completed"',
    "list": b"[]",
    "object": b"{}",
    "nan": b'{"status": NaN, "success": NaN, "turns": NaN, "id": NaN}',
    "infinity": b'{"status": 1e999, "success": 1e999, "turns": 1e999, "id": 1e999}',
    "cut-off": b'{"id": "clxyz123", "status": "compl',
    "two-values": b'{"status": "completed"} {"status": "completed"}',
    "html": b"<!doctype html><h1>Sign in</h1>",
    "no-utf-8": b'{"status": "completed\xff", "id": "\xc3\x28"}',
    "utf-16": '{"status": "completed", "turns": []}'.encode("utf-16"),
    "surrogate-bytes": b'{"status": "\xed\xa0\x80", "turns": []}',
    "raw-nul": b'{"status": "comp\0leted"}',
    "deep-lists": b"[" * 100_000,
    "deep-object": b'{"status":' * 100_000,
    "huge-number": b'{"status": ' + b"9" * 10_000 + b"}",
}


@each_json_call
@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_refused(
    vendor_call: VendorCall, body: bytes, server: HostileServer, send: Send[Any]
) -> None:
    """The workspace's name may be missing, and a list of agents empty; nothing else here says anything."""
    server.answers(body)
    error = outcome(server, send, vendor_call)
    harmless = {"snorbe-probe": {"object", "nan"}, "snorbe-agents": {"list"}}
    if body not in [NO_ANSWERS[name] for name in harmless.get(vendor_call.name, ())]:
        assert isinstance(error, APIError)


@pytest.mark.parametrize(
    ("vendor_call", "missing"),
    [
        (call, name)
        for call in JSON_CALLS
        if call.run_id
        for name in (("process",) if call.name == "snorbe-result" else ("status",))
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@pytest.mark.parametrize("instead", [None, 17, True, [], {}, ["completed"]], ids=repr)
def test_a_needed_field_of_another_type_is_refused_by_name(
    vendor_call: VendorCall, missing: str, instead: Any, server: HostileServer, send: Send[Any]
) -> None:
    if missing == "process" and isinstance(instead, list | None):
        pytest.skip("events are listed, and a run may have none")
    server.answers(json.dumps({**vendor_call.answer, missing: instead}).encode())
    error = outcome(server, send, vendor_call)
    assert isinstance(error, ResponseFormatError)
    assert f"the answer is not as documented: {missing}: " in str(error)


@pytest.mark.parametrize(
    "vendor_call", [call for call in JSON_CALLS if call.run_id], ids=lambda call: call.name
)
@pytest.mark.parametrize("other", ["another", UUID.replace("5", "6"), "../" + SNORBE_ID, UUID + "\r\n"])
def test_an_answer_about_another_run_is_refused(
    vendor_call: VendorCall, other: str, server: HostileServer, send: Send[Any]
) -> None:
    server.answers(json.dumps({**vendor_call.answer, "id": other}).encode())
    error = outcome(server, send, vendor_call)
    assert isinstance(error, ResponseFormatError)
    assert "is about run" in str(error)


HOSTILE_IDS = [
    "../../admin",
    "a/b",
    "a?b=c",
    "a#b",
    "%2e%2e%2f",
    "a\r\nHost: x",
    "",
    ".",
    "..",
    "x" * 10_000,
    "é",
]


@pytest.mark.parametrize("run_id", HOSTILE_IDS, ids=ascii)
@pytest.mark.parametrize("name", ["flowyble-start", "flowyble-start-tool", "flowyble-webhook"])
def test_a_started_run_with_a_hostile_id_is_refused(
    name: str, run_id: str, server: HostileServer, send: Send[Any]
) -> None:
    [vendor_call] = [call for call in JSON_CALLS if call.name == name]
    server.answers(json.dumps({**vendor_call.answer, "id": run_id, "runId": run_id}).encode())
    error = outcome(server, send, vendor_call)
    assert isinstance(error, ResponseFormatError)
    assert "names no usable run id: run_id" in str(error)


def test_a_listed_start_with_a_hostile_id_is_the_answers_fault(
    server: HostileServer, send: Send[Any]
) -> None:
    """It must not read as if the task's own input had been wrong."""
    [vendor_call] = [call for call in JSON_CALLS if call.name == "snorbe-accepted-starts"]
    turn = {**vendor_call.answer["turns"][0], "agentRunId": "../../admin"}
    server.answers(json.dumps({"turns": [turn]}).encode())
    error = outcome(server, send, vendor_call)
    assert isinstance(error, ResponseFormatError)
    assert "run_id '../../admin'" in str(error)


STATUSES: list[tuple[VendorAdapter, str, RunStatus]] = [
    (adapter, word, status)
    for adapter, words in {
        FLOWYBLE: {
            "completed": RunStatus.SUCCEEDED,
            "failed": RunStatus.FAILED,
            "cancelled": RunStatus.CANCELLED,
        },
        SNORBE: {
            "completed": RunStatus.SUCCEEDED,
            "error": RunStatus.FAILED,
            "cancelled": RunStatus.CANCELLED,
        },
    }.items()
    for documented, status in words.items()
    for word in (documented, documented.upper(), documented.title(), f" {documented}\n")
] + [
    (adapter, word, RunStatus.UNKNOWN)
    for adapter in (FLOWYBLE, SNORBE)
    for word in (
        "",
        "done",
        "success",
        "complete",
        "completed!",
        "comp leted",
        "\ufeffcompleted",
        "\uff43ompleted",
    )
]


@pytest.mark.parametrize(
    ("adapter", "word", "status"),
    STATUSES,
    # An adapter's own repr would differ from one process to the next.
    ids=[f"{adapter.conn_type}-{word!a}" for adapter, word, _ in STATUSES],
)
def test_a_status_counts_in_any_case_and_an_unknown_one_never_as_an_end(
    adapter: VendorAdapter, word: str, status: RunStatus, server: HostileServer, send: Send[Any]
) -> None:
    name = f"{adapter.conn_type}-status"
    [vendor_call] = [call for call in JSON_CALLS if call.name == name]
    plain = {"id": vendor_call.run_id, "status": word}
    server.answers(json.dumps(plain).encode())
    assert outcome(server, send, vendor_call).status is status


def test_an_answer_of_nothing_but_lists_is_refused_unread(server: HostileServer, send: Send[Any]) -> None:
    """In memory they would take fifty times what they take on the wire."""
    [vendor_call] = [call for call in JSON_CALLS if call.name == "flowyble-status"]
    server.answers(b'{"status": "Completed", "finalOutput": [' + b"[]," * 2_000_000 + b"1]}")
    error = outcome(server, send, vendor_call)
    assert isinstance(error, ResponseFormatError)
    assert "more than 2,000,000 lists and objects" in str(error.__cause__)


def test_the_last_of_two_equal_keys_counts_in_both_clients(server: HostileServer, send: Send[Any]) -> None:
    """Any rule will do, as long as it is one rule."""
    [vendor_call] = [call for call in JSON_CALLS if call.name == "snorbe-status"]
    server.answers(b'{"id": "clxyz123", "status": "completed", "status": "running"}')
    assert outcome(server, send, vendor_call).status is RunStatus.RUNNING


def test_a_byte_order_mark_and_a_wrong_content_type_are_forgiven(
    server: HostileServer, send: Send[Any]
) -> None:
    [vendor_call] = [call for call in JSON_CALLS if call.name == "snorbe-status"]
    body = b"\xef\xbb\xbf" + json.dumps(vendor_call.answer).encode()
    server.answers(body, headers=b"Content-Type: image/png; charset=utf-16\r\n")
    assert outcome(server, send, vendor_call).status is RunStatus.SUCCEEDED


def test_what_no_database_stores_is_replaced(server: HostileServer, send: Send[Any]) -> None:
    [vendor_call] = [call for call in JSON_CALLS if call.name == "flowyble-result"]
    output = json.dumps({"a\0": ["\ud800", "\0"]})
    server.answers(json.dumps({**vendor_call.answer, "outputData": output}).encode())
    assert outcome(server, send, vendor_call).output == {"a\ufffd": ["?", "\ufffd"]}


def test_names_and_messages_that_never_end_are_cut(server: HostileServer, send: Send[Any]) -> None:
    """They are stored beside each run, and a name reaches triggers and XComs."""
    [vendor_call] = [call for call in JSON_CALLS if call.name == "flowyble-status"]
    changes = {
        "agentId": "a\n" * 10**6,
        "errorMessage": "e" * 10**6,
        "tokensUsed": 10**30,
        "creditsUsed": 1e308,
    }
    server.answers(json.dumps({**vendor_call.answer, **changes}).encode())
    run = outcome(server, send, vendor_call)
    assert len(run.agent_id) <= 200
    assert run.agent_id.isprintable()
    assert len(run.error_message) == 65_536
    assert run.usage.tokens is None
    assert math.isfinite(run.usage.credits)


def test_many_flags_and_questions_are_bounded(server: HostileServer, send: Send[Any]) -> None:
    [vendor_call] = [call for call in JSON_CALLS if call.name == "snorbe-status"]
    state = {"isRunningSkill": True, "skillName": "s" * 10_000, "pendingSecretKeys": ["k" * 1000] * 500}
    answer = {**vendor_call.answer, "status": "running", "skillState": state}
    answer["browseState"] = {"askHumanQuestion": "Who?\n::group::" + "x" * 10_000}
    server.answers(json.dumps(answer).encode())
    requests = outcome(server, send, vendor_call).human_requests
    assert len(requests) == 2
    assert all(len(request.prompt) < 3000 and request.prompt.isprintable() for request in requests)
    assert "::group::" not in requests[0].prompt


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "\\u0022{}", "a{}b"])
@pytest.mark.parametrize("name", ["message", "error", "detail"])
@each_call
def test_a_key_that_a_vendor_echoes_is_masked(
    vendor_call: VendorCall, name: str, form: str, server: HostileServer, send: Send[Any]
) -> None:
    body = f'{{"success": false, "{name}": "no such key: {form.format(KEY)}"}}'.encode()
    server.answers(body, status=403, headers=f"X-Key: {KEY}\r\n".encode())
    error = outcome(server, send, vendor_call)
    assert "no such key: " in str(error)
    assert "***" in str(error)


@pytest.mark.parametrize("form", ["{}", "/webhooks/{}"])
def test_a_webhooks_token_that_a_vendor_echoes_is_masked(
    form: str, server: HostileServer, send: Send[Any]
) -> None:
    [vendor_call] = [call for call in JSON_CALLS if call.name == "flowyble-webhook"]
    for token in (WEBHOOK_TOKEN, quote(WEBHOOK_TOKEN, safe="")):
        server.answers(json.dumps({"message": f"no such: {form.format(token)}"}).encode(), status=404)
        error = outcome(server, send, vendor_call)
        assert token not in str(error)
        assert f"no such: {form.format('***')}" in str(error)


@each_call
def test_a_key_that_a_vendor_echoes_in_a_header_is_masked(
    vendor_call: VendorCall, server: HostileServer, send: Send[Any]
) -> None:
    for headers in (f"Location: http://{KEY}.example.com/{KEY}\r\n", f"Content-Type: text/{KEY}\r\n"):
        server.answers(b"no", status=403, headers=headers.encode())
        assert isinstance(outcome(server, send, vendor_call), APIError)
