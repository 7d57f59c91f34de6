from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_agentruns.simulator import Simulator
from tests.simulator.clients import RESUME_BODY, START_BODY, Client, HandClock, events_of, wait_until

_FLAGS = {
    "plan": "pendingPlanDraft",
    "report": "pendingReportDraft",
    "matrix": "pendingMatrixDraft",
    "visual-map": "pendingVisualMapDraft",
}


def _pending(snorbe: Client, run_id: str) -> list[str]:
    status = snorbe.read(f"/agent/run/{run_id}/status")
    return [draft for draft, flag in _FLAGS.items() if status[flag]]


def _confirm(snorbe: Client, run_id: str, draft: str) -> None:
    response = snorbe.post(f"/agent/run/{run_id}/{draft}/confirm", {"runId": run_id})
    assert (response.status_code, response.json()["status"]) == (200, "confirmed")


def _drafts(snorbe: Client, run_id: str, name: str) -> list[dict[str, Any]]:
    process = snorbe.read(f"/agent/run/{run_id}")["process"]
    return [event for event in process if event["type"] == name]


def _waiting(sim: Simulator, clock: HandClock, human: str, **options: Any) -> str:
    run_id = sim.create_run("snorbe", scenario="wait", human=human, **options)
    clock.advance(10)
    return run_id


@pytest.mark.parametrize("draft", _FLAGS)
def test_draft_holds_the_run_until_it_is_confirmed_and_resumed(
    snorbe: Client, sim: Simulator, clock: HandClock, draft: str
) -> None:
    run_id = _waiting(sim, clock, draft, output="the end")
    assert _pending(snorbe, run_id) == [draft]
    clock.advance(1000)
    assert _pending(snorbe, run_id) == [draft]
    _confirm(snorbe, run_id, draft)
    assert _pending(snorbe, run_id) == []
    clock.advance(1000)
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "running"
    with snorbe.post(f"/agent/run/stream/{run_id}", RESUME_BODY, stream=True) as response:
        clock.advance(10)
        assert b"config" in next(response.iter_lines())
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "completed"
    assert snorbe.read("/turn/list")["turns"][0]["content"] == "the end"
    assert sim.run(run_id).resumes == (RESUME_BODY,)


def test_reviews_chain(snorbe: Client, sim: Simulator) -> None:
    body = {**START_BODY, "inputText": "[sim: wait, human=plan+report, duration=0, output=# Text]"}
    first = events_of(snorbe.post("/agent/run/stream", body))
    run_id = sim.starts()[0].run_id
    assert "plan-draft-complete" in [event["type"] for event in first]
    assert first[-1]["payload"]["text"] == ""
    assert _pending(snorbe, run_id) == ["plan"]
    _confirm(snorbe, run_id, "plan")
    second = events_of(snorbe.post(f"/agent/run/stream/{run_id}", RESUME_BODY))
    names = [event["type"] for event in second]
    assert names[0] == "config"
    assert "first_report_structure" in names
    assert "plan-draft-complete" not in names
    assert _pending(snorbe, run_id) == ["report"]
    _confirm(snorbe, run_id, "report")
    result = snorbe.post(f"/agent/run/{run_id}/resume", RESUME_BODY).json()
    assert (result["status"], result["runId"], result["text"]) == ("completed", run_id, "")
    process = snorbe.read(f"/agent/run/{run_id}")["process"]
    assert [event["markdown"] for event in process if event["type"] == "report_complete"] == ["# Text"]


@pytest.mark.parametrize("waiting_status", ["completed", "pending", "running"])
def test_status_word_at_a_draft_is_any_of_those_seen(
    snorbe: Client, sim: Simulator, clock: HandClock, waiting_status: str
) -> None:
    run_id = _waiting(sim, clock, "plan", waiting_status=waiting_status)
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == waiting_status


def test_answer_brings_a_new_revision_that_waits_again(
    snorbe: Client, sim: Simulator, clock: HandClock
) -> None:
    run_id = _waiting(sim, clock, "plan")
    body = {"runId": run_id, "answer": "add solid-state cells", "modelName": "snorbe-fast"}
    reply = snorbe.post(f"/agent/run/{run_id}/plan/answer", body).json()
    assert (reply["status"], reply["nextAction"], reply["regenerationCount"]) == (
        "drafting",
        "call_answer_again",
        1,
    )
    assert _pending(snorbe, run_id) == ["plan"]
    first, revised = _drafts(snorbe, run_id, "plan-draft-complete")
    assert first["plan"]["questions"]
    assert "add solid-state cells" in revised["plan"]["goal"]
    assert "add solid-state cells" in [step["objective"] for step in revised["plan"]["steps"]]
    assert sim.run(run_id).answers == ("add solid-state cells",)


def test_skip_accepts_a_plan_and_nothing_else(snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    run_id = _waiting(sim, clock, "plan")
    assert snorbe.post(f"/agent/run/{run_id}/plan/skip", {"runId": run_id}).status_code == 200
    assert _pending(snorbe, run_id) == []
    assert snorbe.post(f"/agent/run/{run_id}/report/skip", {"runId": run_id}).status_code == 404


@pytest.mark.parametrize(
    ("action_and_change", "code"),
    [
        (("plan/answer", {"modelName": None}), 400),
        (("plan/answer", {"modelName": "gpt-0"}), 400),
        (("plan/answer", {"answer": ""}), 400),
        (("plan/answer", {"runId": "csomeoneelse"}), 400),
        (("plan/answer", {"fileUrls": ["x"] * 11}), 400),
        (("plan/confirm", {"runId": None}), 400),
        (("report/confirm", {}), 400),
        (("plan/confirm", {}), 200),
    ],
)
def test_review_bodies_are_checked(
    snorbe: Client,
    sim: Simulator,
    clock: HandClock,
    action_and_change: tuple[str, dict[str, object]],
    code: int,
) -> None:
    action, change = action_and_change
    run_id = _waiting(sim, clock, "plan")
    body = {"runId": run_id, "answer": "more", "modelName": "snorbe-fast", **change}
    body = {name: value for name, value in body.items() if value is not None}
    response = snorbe.post(f"/agent/run/{run_id}/{action}", body)
    assert response.status_code == code, response.text


def test_draft_is_confirmed_once(snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    run_id = _waiting(sim, clock, "plan")
    _confirm(snorbe, run_id, "plan")
    again = snorbe.post(f"/agent/run/{run_id}/plan/confirm", {"runId": run_id})
    assert again.json() == {"error": "No pending plan draft"}


class TestResume:
    @pytest.mark.parametrize(
        ("data", "complaint"),
        [
            (b"", "Invalid JSON body"),
            (b"{}", "Invalid option: expected one of snorbe-fast|"),
            (b'{"modelName": "snorbe-fast"}', "promptKey"),
            (b'{"modelName": "snorbe-fast", "promptKey": "chat-routing"}', "ja|en"),
        ],
    )
    def test_wants_the_documented_body(
        self, snorbe: Client, sim: Simulator, clock: HandClock, data: bytes, complaint: str
    ) -> None:
        run_id = _waiting(sim, clock, "plan")
        for form in (f"stream/{run_id}", f"{run_id}/resume"):
            response = snorbe.send("POST", f"/agent/run/{form}", data=data)
            assert response.status_code == 400
            assert complaint in response.json()["error"]

    @pytest.mark.parametrize("form", ["stream/{}", "{}/resume"])
    def test_of_an_unknown_run_is_404(self, snorbe: Client, form: str) -> None:
        assert snorbe.post("/agent/run/" + form.format("cnobody"), RESUME_BODY).status_code == 404

    @pytest.mark.parametrize("form", ["stream/{}", "{}/resume"])
    def test_before_the_confirmation_is_409_and_changes_nothing(
        self, snorbe: Client, sim: Simulator, clock: HandClock, form: str
    ) -> None:
        run_id = _waiting(sim, clock, "report")
        response = snorbe.post("/agent/run/" + form.format(run_id), RESUME_BODY)
        assert response.status_code == 409
        body = response.json()
        assert (body["error"], body["reason"]) == ("PRECONDITION_FAILED", "pending_report_draft")
        assert body["pendingReportDraft"] is True
        assert _pending(snorbe, run_id) == ["report"]

    def test_of_a_run_that_ended_tells_the_end_again(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        run_id = sim.create_run("snorbe", output="done")
        clock.advance(10)
        events = events_of(snorbe.post(f"/agent/run/stream/{run_id}", RESUME_BODY))
        assert [event["type"] for event in events] == ["config", "complete"]
        assert events[-1]["payload"]["text"] == "done"
        assert snorbe.post(f"/agent/run/{run_id}/resume", RESUME_BODY).json()["text"] == "done"

    def test_while_the_run_goes_on_does_not_disturb_it(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        run_id = sim.create_run("snorbe")
        clock.advance(5)
        with snorbe.post(f"/agent/run/stream/{run_id}", RESUME_BODY, stream=True) as response:
            assert response.status_code == 200
        clock.advance(5)
        assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "completed"

    @pytest.mark.parametrize("needs_listener", [False, True])
    def test_goes_on_without_its_client_unless_told_otherwise(
        self, clock: HandClock, needs_listener: bool
    ) -> None:
        with Simulator(median_seconds=10, sigma=0, clock=clock, resume_needs_listener=needs_listener) as sim:
            snorbe = Client(sim.url + "/api/v1", {"x-api-key": sim.snorbe_key})
            run_id = _waiting(sim, clock, "plan")
            _confirm(snorbe, run_id, "plan")
            with snorbe.post(f"/agent/run/stream/{run_id}", RESUME_BODY, stream=True) as response:
                next(response.iter_lines())
            if needs_listener:
                wait_until(lambda: sim.run(run_id).waiting_for == "plan")
            clock.advance(10)
            assert sim.run(run_id).phase == ("waiting" if needs_listener else "ended")


class TestSecrets:
    def test_hold_the_run_until_all_are_registered(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        run_id = sim.create_run("snorbe", scenario="wait", human="secret", secrets="KEY_A+KEY_B")
        before = snorbe.read(f"/agent/run/{run_id}/status")["skillState"]
        assert (before["isRunningSkill"], before["pendingSecretKeys"]) == (True, [])
        clock.advance(10)
        status = snorbe.read(f"/agent/run/{run_id}/status")
        assert status["status"] == "running"
        assert status["skillState"]["pendingSecretKeys"] == ["KEY_A", "KEY_B"]
        assert snorbe.post("/secret", {"key": "KEY_A", "value": "one"}).status_code == 200
        waiting = snorbe.read(f"/agent/run/{run_id}/status")["skillState"]
        assert waiting["pendingSecretKeys"] == ["KEY_B"]
        snorbe.post("/secret", {"key": "KEY_B", "value": "two"})
        going_on = snorbe.read(f"/agent/run/{run_id}/status")
        assert "skillState" not in going_on
        clock.advance(10)
        assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "completed"

    def test_that_are_known_already_hold_nothing(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        snorbe.post("/secret", {"key": "KEY_A", "value": "one"})
        run_id = _waiting(sim, clock, "secret", secrets="KEY_A")
        assert sim.run(run_id).phase == "ended"

    @pytest.mark.parametrize("body", [{}, {"key": "A"}, {"key": "A", "value": ""}, {"key": 1, "value": "x"}])
    def test_need_a_key_and_a_value(self, snorbe: Client, body: dict[str, object]) -> None:
        assert snorbe.post("/secret", body).status_code == 400


class TestBrowser:
    def _session_id(self, snorbe: Client, run_id: str) -> str:
        (start,) = _drafts(snorbe, run_id, "browse-start")
        return str(start["websocketInfo"]["session_id"])

    def test_question_holds_the_run_until_it_is_answered(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        run_id = sim.create_run("snorbe", scenario="wait", human="browser", question="Which code?")
        clock.advance(2)
        assert snorbe.read(f"/agent/run/{run_id}/status")["browseState"] == {"isBrowsing": True}
        clock.advance(8)
        state = snorbe.read(f"/agent/run/{run_id}/status")["browseState"]
        assert state == {"isBrowsing": True, "askHumanQuestion": "Which code?"}
        session_id = self._session_id(snorbe, run_id)
        assert run_id not in session_id
        body = {"sessionId": session_id, "whatever": {"text": "1234"}}
        assert snorbe.post("/browser/answer-question", body).status_code == 200
        assert "browseState" not in snorbe.read(f"/agent/run/{run_id}/status")
        assert sim.run(run_id).answers == ("1234",)
        clock.advance(10)
        assert sim.run(run_id).phase == "ended"

    def test_answer_needs_the_session_and_a_text(
        self, snorbe: Client, sim: Simulator, clock: HandClock
    ) -> None:
        run_id = _waiting(sim, clock, "browser")
        session_id = self._session_id(snorbe, run_id)
        for body in (
            {},
            [session_id],
            {"answer": "1234"},
            {"session_id": session_id},
            {"a": session_id, "b": " "},
        ):
            assert snorbe.post("/browser/answer-question", body).status_code == 400
        assert sim.run(run_id).waiting_for == "browser"


def test_wait_can_end_badly(snorbe: Client, sim: Simulator, clock: HandClock) -> None:
    run_id = _waiting(sim, clock, "plan", then="fail", error="the plan was bad")
    _confirm(snorbe, run_id, "plan")
    with snorbe.post(f"/agent/run/stream/{run_id}", RESUME_BODY, stream=True):
        clock.advance(10)
    assert snorbe.read(f"/agent/run/{run_id}/status")["status"] == "failed"
