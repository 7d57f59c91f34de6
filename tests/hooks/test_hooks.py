"""The hooks, against the simulator."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_agentruns.client._sync import Client
from airflow_provider_agentruns.client.calls import Call, Request
from airflow_provider_agentruns.client.exceptions import (
    AuthenticationError,
    BadRequestError,
    InvalidInputError,
    NotFoundError,
    ResponseFormatError,
)
from airflow_provider_agentruns.client.models import RunStatus
from airflow_provider_agentruns.hooks import AgentRunHook, FlowybleHook, SnorbeHook
from airflow_provider_agentruns.polling.outcome import Outcome
from airflow_provider_agentruns.polling.poller import RunPoller
from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.vendors.base import AcceptedStarts
from airflow_provider_agentruns.vendors.snorbe import SnorbeAdapter

AGENT_ID = "5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b"

vendors = pytest.mark.parametrize("vendor", ["flowyble", "snorbe"])


def _set(monkeypatch: pytest.MonkeyPatch, conn_type: str, **fields: Any) -> AgentRunHook:
    monkeypatch.setenv("AIRFLOW_CONN_TESTED", json.dumps({"conn_type": conn_type, **fields}))
    return AgentRunHook("tested")


@vendors
def test_testing_a_connection_that_works_says_so(
    vendor: str, connections: dict[str, str], simulator: Simulator
) -> None:
    is_fine, message = AgentRunHook(connections[vendor]).test_connection()
    assert is_fine
    assert "accepts the API key" in message
    assert len(simulator.requests()) == 1
    assert simulator.starts() == [], "it costs nothing"


@vendors
def test_testing_a_connection_tells_what_to_mend(
    vendor: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key, a plan without access, an unreachable host and a wrong host are told apart."""
    key = simulator.flowyble_key if vendor == "flowyble" else simulator.snorbe_key

    def said(**fields: Any) -> str:
        is_fine, message = _set(monkeypatch, vendor, **fields).test_connection()
        assert not is_fine
        assert key not in message
        assert "wrong_key_0001" not in message
        return message

    assert "The API key is wrong" in said(host=simulator.url, password="wrong_key_0001")
    simulator.add_key(vendor, "no_access_0001", api_access=False)
    assert "no API access" in said(host=simulator.url, password="no_access_0001")
    assert "refuses connections" in said(host="http://127.0.0.1:9", password=key)
    assert "has no address" in said(host="http://no-such-host.invalid", password=key)
    assert "the password is empty" in said(host=simulator.url)
    assert "HTTP 404" in said(host=f"{simulator.url}/elsewhere", password=key) or vendor == "flowyble"
    simulator.add_fault("html", status=200, times=1)
    assert "is no JSON" in said(host=simulator.url, password=key)


@pytest.mark.usefixtures("no_connections")
def test_testing_a_connection_that_is_not_there_says_so() -> None:
    is_fine, message = AgentRunHook("no_such_connection").test_connection()
    assert not is_fine
    assert "no_such_connection" in message


@vendors
def test_a_run_can_be_started_and_read(
    vendor: str, connections: dict[str, str], simulator: Simulator
) -> None:
    hook = AgentRunHook(connections[vendor])
    agent_id = AGENT_ID if vendor == "flowyble" else None
    run = hook.start(agent_id=agent_id, message="Say hello. [sim: never]")
    assert not run.status.is_terminal
    simulator.finish_run(run.run_id, output="the answer")
    result = hook.get_result(run.run_id)
    assert (result.status, result.output) == (RunStatus.SUCCEEDED, "the answer")


def test_all_polls_of_a_wait_on_a_worker_share_a_client(
    connections: dict[str, str], simulator: Simulator, mocker: MockerFixture
) -> None:
    run_id = simulator.create_run("flowyble", scenario="never")
    made = mocker.spy(Client, "__init__")
    hook = AgentRunHook(connections["flowyble"])

    def end_after_some_polls(_: float) -> None:
        if len(simulator.requests(run_id=run_id)) == 4:
            simulator.finish_run(run_id)

    poller = RunPoller(hook.ref(run_id), interval=0.02, end_time=time.time() + 30)
    decision = hook.wait(poller, sleep=end_after_some_polls)
    assert decision.outcome is Outcome.ENDED
    assert len(simulator.requests(run_id=run_id)) > 3
    assert made.call_count == 1


def test_flowyble_details_have_the_steps(connections: dict[str, str], simulator: Simulator) -> None:
    run_id = simulator.create_run("flowyble", duration=0)
    run = FlowybleHook(connections["flowyble"]).get_details(run_id)
    assert run.steps
    assert run.steps[0].tool_name
    assert run.steps[0].input_tokens


@pytest.mark.parametrize("kind", ["agent", "tool"])
def test_a_webhook_starts_an_agent_or_a_tool(
    kind: str, connections: dict[str, str], simulator: Simulator
) -> None:
    simulator.add_webhook("hook-token-1", kind=kind, secret="webhook-secret")
    hook = FlowybleHook(connections["flowyble"])
    run = hook.start_by_webhook("hook-token-1", {"text": "grüezi"}, secret="webhook-secret")
    assert run.kind == kind
    assert hook.get_status(run.run_id, run.kind).run_id == run.run_id


def test_a_webhook_with_a_wrong_secret_or_token_is_refused(
    connections: dict[str, str], simulator: Simulator
) -> None:
    simulator.add_webhook("hook-token-1", secret="webhook-secret")
    hook = FlowybleHook(connections["flowyble"])
    with pytest.raises(AuthenticationError):
        hook.start_by_webhook("hook-token-1", {}, secret="wrong")
    with pytest.raises(NotFoundError) as caught:
        hook.start_by_webhook("no-such-token", {})
    assert "no-such-token" not in str(caught.value), "the token is a credential"
    assert simulator.starts() == []


def test_snorbe_agents_are_listed(connections: dict[str, str]) -> None:
    agents = SnorbeHook(connections["snorbe"]).list_agents()
    assert any(agent.is_default for agent in agents)


def test_snorbe_results_have_sources_and_images(connections: dict[str, str], simulator: Simulator) -> None:
    run = SnorbeHook(connections["snorbe"]).get_result(simulator.create_run("snorbe", duration=0))
    assert run.output
    assert run.sources
    assert run.images


@pytest.mark.parametrize("output_in", ["complete", "report", "deltas", "responseText"])
@pytest.mark.parametrize("event_names", ["hyphen", "underscore"])
@pytest.mark.parametrize("events", ["flat", "wrapped"])
def test_snorbe_output_is_found_wherever_it_stands(
    output_in: str, event_names: str, events: str, connections: dict[str, str], simulator: Simulator
) -> None:
    run_id = simulator.create_run(
        "snorbe", duration=0, output="the answer", output_in=output_in, event_names=event_names, events=events
    )
    assert SnorbeHook(connections["snorbe"]).get_result(run_id).output == "the answer"


def test_a_start_without_credits_is_a_refusal(connections: dict[str, str], simulator: Simulator) -> None:
    """Snorbe tells it in the event stream, after a 200."""
    simulator.revoke_key("snorbe", simulator.snorbe_key)
    simulator.add_key("snorbe", simulator.snorbe_key, has_credits=False)
    with pytest.raises(BadRequestError, match="instead of starting the run"):
        AgentRunHook(connections["snorbe"]).start(message="hello")


def test_a_run_whose_process_is_large_is_read_whole(
    connections: dict[str, str], simulator: Simulator
) -> None:
    run_id = simulator.create_run("snorbe", duration=0, output="the answer", process_bytes=5_000_000)
    assert AgentRunHook(connections["snorbe"]).get_result(run_id).output == "the answer"


def test_a_vendors_own_hook_refuses_another_vendors_connection(connections: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match="is of type 'snorbe', not 'flowyble'"):
        FlowybleHook(connections["snorbe"]).get_details(AGENT_ID)
    with pytest.raises(InvalidInputError, match="is of type 'flowyble', not 'snorbe'"):
        SnorbeHook(connections["flowyble"]).list_agents()


def test_accepted_starts_are_looked_for_on_all_pages(
    connections: dict[str, str], simulator: Simulator
) -> None:
    began = time.time()
    wanted = simulator.create_run("snorbe", input_text="Say hello.", duration=60)
    for number in range(25):
        simulator.create_run("snorbe", input_text=f"Say {number}.", duration=60)
    hook = AgentRunHook(connections["snorbe"])
    found = hook.accepted_starts(since=began - 1, message="Say hello.")
    assert found is not None
    assert [start.ref for start in found] == [None], f"run {wanted} is there, but not named"
    pages = [request for request in simulator.requests() if request.operation == "snorbe.turn.list"]
    assert len(pages) == 3


def test_a_list_of_starts_without_an_end_is_given_up(
    connections: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(operation="look", method="GET", path="/simulator/health")
    page = Call(request, lambda _: AcceptedStarts((), "next"))
    monkeypatch.setattr(SnorbeAdapter, "accepted_starts", lambda *_: page)
    with pytest.raises(ResponseFormatError, match="20 pages"):
        AgentRunHook(connections["snorbe"]).accepted_starts(since=0, message="Say hello.")


def test_where_the_vendor_lists_no_starts_none_are_looked_for(connections: dict[str, str]) -> None:
    hook = AgentRunHook(connections["flowyble"])
    assert hook.accepted_starts(since=0, agent_id="a", message="m") is None
    assert hook.cancel("5e1b6f0a-3c5d-4f6e-8a7b-0c1d2e3f4a5b") is False
