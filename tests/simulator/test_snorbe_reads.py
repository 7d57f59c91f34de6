"""What is read from Snorbe once a run is there: its process, the turns, agents and workspace."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import START_BODY, Client, HandClock, events_of


def _texts(process: list[dict[str, Any]], name: str, field: str) -> list[str]:
    return [event[field] for event in process if event["type"] == name]


class TestProcess:
    def _process(
        self, snorbe: Client, sim: Simulator, clock: HandClock, **options: Any
    ) -> list[dict[str, Any]]:
        run_id = sim.create_run("snorbe", **options)
        clock.advance(100)
        process: list[dict[str, Any]] = snorbe.read(f"/agent/run/{run_id}")["process"]
        return process

    def test_plain_answer_is_in_the_last_complete(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        process = self._process(snorbe, sim, clock, output="42")
        assert process[0]["type"] == "config"
        assert process[-1]["type"] == "complete"
        assert process[-1]["text"] == "42"

    def test_report_is_in_report_complete_and_complete_is_empty(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        process = self._process(snorbe, sim, clock, output="# Report", output_in="report")
        assert _texts(process, "report_complete", "markdown") == ["# Report"]
        assert _texts(process, "report_section_complete", "content") == ["# Report"]
        assert _texts(process, "complete", "text") == [""]

    def test_answer_in_deltas_only(self, snorbe: Client, sim: Simulator, clock: HandClock) -> None:
        text = "a longer answer\nthat comes in pieces"
        process = self._process(snorbe, sim, clock, output=text, output_in="deltas")
        deltas = _texts(process, "delta", "deltaText")
        assert len(deltas) > 1
        assert "".join(deltas) == text
        assert _texts(process, "complete", "text") == [""]

    def test_answer_in_the_last_response_text_only(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        process = self._process(snorbe, sim, clock, output="spoken text", output_in="responseText")
        assert [event["responseText"] for event in process if "responseText" in event][-1] == "spoken text"
        assert {event["type"] for event in process}.isdisjoint({"complete", "delta"})

    @pytest.mark.parametrize(
        ("style", "expected"), [("hyphen", "report-complete"), ("underscore", "report_complete")]
    )
    def test_names_come_with_hyphens_or_underscores(
        self, snorbe: Client, sim: Simulator, clock: HandClock, style: str, expected: str
    ) -> None:
        process = self._process(snorbe, sim, clock, event_names=style, output_in="report")
        assert _texts(process, expected, "markdown")

    @pytest.mark.parametrize("events", ["documented", "flat", "wrapped"])
    def test_events_come_flat_or_wrapped(
        self, snorbe: Client, sim: Simulator, clock: HandClock, events: str
    ) -> None:
        process = self._process(snorbe, sim, clock, events=events, output="x")
        assert all(("payload" in event) == (events == "wrapped") for event in process)
        body = {**START_BODY, "inputText": f"[sim: succeed, duration=0, events={events}]"}
        stream = events_of(snorbe.post("/agent/run/stream", body))
        assert all(("payload" in event) == (events != "flat") for event in stream)

    def test_error_is_an_event(self, snorbe: Client, sim: Simulator, clock: HandClock) -> None:
        process = self._process(snorbe, sim, clock, scenario="fail", error="it broke")
        assert _texts(process, "error", "message") == ["it broke"]

    def test_failure_can_be_silent(self, snorbe: Client, sim: Simulator, clock: HandClock) -> None:
        process = self._process(snorbe, sim, clock, scenario="fail", error="")
        assert "error" not in {event["type"] for event in process}

    def test_screenshots_make_it_large(self, snorbe: Client, sim: Simulator, clock: HandClock) -> None:
        process = self._process(snorbe, sim, clock, process_bytes=200_000)
        assert len(_texts(process, "browse-step", "screenshot")[0]) == 200_000

    def test_only_grows_while_the_run_goes_on(self, snorbe: Client, sim: Simulator, clock: HandClock) -> None:
        run_id = sim.create_run("snorbe", output="a text of several words for the deltas")
        before: list[dict[str, Any]] = []
        lengths = set()
        for _ in range(22):
            process = snorbe.read(f"/agent/run/{run_id}")["process"]
            assert process[: len(before)] == before
            lengths.add(len(process))
            before = process
            clock.advance(0.5)
        assert len(lengths) > 4


def test_run_carries_the_documented_fields(snorbe: Client, sim: Simulator) -> None:
    run = snorbe.read(f"/agent/run/{sim.create_run('snorbe')}")
    assert set(run) == {
        "id", "status", "process", "createdAt", "updatedAt", "agentId", "agentName",
        "linkedSources", "linkedEntityIds", "linkedEntities", "images",
    }  # fmt: skip
    assert set(run["linkedSources"][0]) == {"id", "url", "title", "sourceType"}
    assert set(run["linkedEntities"][0]) == {"id", "label", "category", "kind"}
    assert set(run["images"][0]) == {"imageUrl", "thumbnailUrl", "title", "link"}


class TestTurns:
    def test_come_newest_first_with_the_run_on_the_answer(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        good = sim.create_run("snorbe", input_text="first", output="fine")
        clock.advance(20)
        bad = sim.create_run("snorbe", input_text="second", scenario="fail", error="bad luck")
        clock.advance(20)
        turns = snorbe.read("/turn/list")["turns"]
        assert [(turn["kind"], turn["content"], turn["agentRunId"]) for turn in turns] == [
            ("error", "bad luck", bad),
            ("user", "second", None),
            ("assistant", "fine", good),
            ("user", "first", None),
        ]
        run = turns[2]["agentRun"]
        assert (run["id"], run["status"]) == (good, "completed")
        assert run["process"] == snorbe.read(f"/agent/run/{good}")["process"]
        assert set(run["agent"]) == {"id", "name"}
        assert turns[1]["agentRun"] is None

    def test_cursor_leads_through_all_of_them_once(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        for number in range(7):
            sim.create_run("snorbe", input_text=str(number), scenario="never")
            clock.advance(1)
        seen, path = [], "/turn/list?limit=3"
        while True:
            page = snorbe.read(path)
            seen.append([turn["content"] for turn in page["turns"]])
            if page["nextCursor"] is None:
                break
            path = f"/turn/list?limit=3&cursor={page['nextCursor']}"
        assert seen == [["6", "5", "4"], ["3", "2", "1"], ["0"]]

    @pytest.mark.parametrize("query", ["limit=0", "limit=51", "limit=ten", "cursor=nobody"])
    def test_refuse_a_bad_page(self, snorbe: Client, query: str) -> None:
        assert snorbe.get(f"/turn/list?{query}").status_code == 400


def test_agents_workspace_and_models(snorbe: Client, sim: Simulator) -> None:
    sim.add_agent("snorbe", "cother", name="other agent")
    agents = snorbe.read("/agent/list")
    assert [agent["isDefault"] for agent in agents] == [True, False]
    assert agents[1]["name"] == "other agent"
    assert set(agents[0]) == {"id", "name", "isDefault", "createdAt", "updatedAt"}
    workspace = snorbe.read("/workspace")
    assert set(workspace) == {"workspaceId", "workspaceName"}
    assert workspace == snorbe.read("/workspace")
    assert snorbe.read("/agent/models")["defaultModel"] == "snorbe-fast"
