"""The events of a Snorbe run: what its `process` holds and its stream carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from airflow_provider_agentruns.simulator.runs import Gate, Run
from airflow_provider_agentruns.simulator.statuses import snorbe_status

SKILL_NAME = "simulated-skill"
_DELTAS = 8
_STEP_SHARE = 0.5
_DRAFT_EVENTS = {
    "plan": ("first-plan", "plan-draft-complete", "plan"),
    "report": ("first_report_structure", "report-structure-draft-complete", "reportStructure"),
    "matrix": ("first_matrix_structure", "matrix-structure-draft-complete", "matrixStructure"),
    "visual-map": (
        "first_visual_map_structure",
        "visual_map_structure_draft_complete",
        "visualMapStructure",
    ),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    :param at: when it happened, seconds since the epoch.
    :param name: its type as the vendor's pages write it.
    """

    at: float
    name: str
    payload: Mapping[str, object]


def events_of(run: Run, now: float) -> list[Event]:
    """Return what happened in a settled run up to `now`, in order; later calls only append to it."""
    events = [event for event in _life(run, now) if event.at <= now]
    events.sort(key=lambda event: event.at)  # stable: at one moment the order of the life below holds
    return events


def in_process(run: Run, event: Event) -> dict[str, object]:
    """Write an event as `process` holds it: flat, unless the scenario wants it wrapped."""
    return _write(run, event, wrapped=run.scenario.events == "wrapped")


def on_stream(run: Run, event: Event) -> dict[str, object]:
    """Write an event as the stream carries it: wrapped, unless the scenario wants it flat."""
    return _write(run, event, wrapped=run.scenario.events != "flat")


def config_event(run: Run, at: float) -> Event:
    """Return the event that opens every stream and every `process`."""
    names = ("modelName", "locale", "promptKey")
    said = {name: run.body[name] for name in names if name in run.body}
    return Event(at, "config", {"runId": run.id, **said, "inputText": run.input_text})


def closing_event(run: Run, now: float) -> Event:
    """Return the event that ends a stream: of the run, or of what it can do before a human acts."""
    status = snorbe_status(run, now)
    ending = run.scenario.ending if run.ended_at is not None else None
    at = now if run.ended_at is None else run.ended_at
    if ending == "fail":
        return Event(at, "error", {"runId": run.id, "message": run.error})
    reason = "cancelled" if ending == "cancel" else "stop"
    return Event(at, "complete", _complete(run, complete_text(run), reason, status))


def complete_text(run: Run) -> str:
    """Return what `complete` carries: the output, unless the run failed or has put it elsewhere."""
    succeeded = run.ended_at is not None and run.scenario.ending == "succeed"
    return run.output if succeeded and output_place(run) == "complete" else ""


def output_place(run: Run) -> str:
    """Return where in `process` the output is; a reviewed report comes as a report."""
    if run.scenario.output_in is not None:
        return run.scenario.output_in
    return "report" if "report" in run.scenario.human else "complete"


def _complete(run: Run, text: str, reason: str, status: str) -> dict[str, object]:
    return {"runId": run.id, "text": text, "finishReason": reason, "status": status}


def _write(run: Run, event: Event, *, wrapped: bool) -> dict[str, object]:
    style = run.scenario.event_names
    name = event.name
    if style != "documented":
        name = name.replace("_", "-") if style == "hyphen" else name.replace("-", "_")
    return {"type": name, "payload": event.payload} if wrapped else {"type": name, **event.payload}


def _life(run: Run, now: float) -> Iterator[Event]:
    yield config_event(run, run.created_at)
    for index, start in enumerate(run.part_starts):
        gate = run.gates[index] if index < len(run.gates) else None
        yield from _work(run, index, start, gate)
        if gate is not None:
            yield from _stop_at(run, gate)
        else:
            yield from _answer(run, start)
    if run.ended_at is not None and not _ends_in_silence(run):
        yield closing_event(run, now)


def _ends_in_silence(run: Run) -> bool:
    """Say whether nothing in `process` tells how the run ended; both shapes are documented."""
    silent_failure = run.scenario.ending == "fail" and run.error == ""
    return silent_failure or output_place(run) == "responseText"


def _work(run: Run, index: int, start: float, gate: Gate | None) -> Iterator[Event]:
    at = start + run.part_seconds * _STEP_SHARE
    if run.ended_at is not None and at > run.ended_at:
        return
    yield Event(at, "step", {"runId": run.id, "stepIndex": index, "status": "complete"})
    if gate and gate.kind == "browser":
        info = {"session_id": run.browser_session_id, "url": "wss://browser.example.com/session"}
        yield Event(start, "browse-start", {"runId": run.id, "websocketInfo": info})
    if index == 0 and run.scenario.process_bytes:
        screenshot = "A" * run.scenario.process_bytes
        yield Event(at, "browse-step", {"runId": run.id, "action": "click", "screenshot": screenshot})


def _stop_at(run: Run, gate: Gate) -> Iterator[Event]:
    if gate.opened_at is None:
        return
    if gate.is_draft:
        yield from _review(run, gate, gate.opened_at)
    elif gate.kind == "browser":
        yield Event(gate.opened_at, "browse-ask-human", {"runId": run.id, "question": run.scenario.question})
        if gate.passed_at is not None:
            yield Event(gate.passed_at, "browse-end", {"runId": run.id})


def _review(run: Run, gate: Gate, opened_at: float) -> Iterator[Event]:
    first, complete, _ = _DRAFT_EVENTS[gate.kind]
    yield Event(opened_at, first, _draft(run, gate, 0))
    yield Event(opened_at, complete, _draft(run, gate, 0))
    # What the vendor's own notes call the sign of a run that stopped at a review: a `complete` without text.
    yield Event(opened_at, "complete", _complete(run, "", "stop", run.scenario.waiting_status))
    for revision, (at, _answer_text) in enumerate(gate.answers, start=1):
        yield Event(at, complete, _draft(run, gate, revision))
    if gate.confirmed_at is not None:
        name = (
            "plan-confirmed" if gate.kind == "plan" else f"{gate.kind.replace('-', '_')}_structure_confirmed"
        )
        yield Event(gate.confirmed_at, name, {"runId": run.id})


def _draft(run: Run, gate: Gate, revision: int) -> dict[str, object]:
    changes = [text for _, text in gate.answers[:revision]]
    title = f"Simulated {gate.kind} for: {run.input_text[:80]}"
    if changes:
        title += f"\n\nRevision {revision}, as asked: {changes[-1]}"
    key = _DRAFT_EVENTS[gate.kind][2]
    if gate.kind == "plan":
        steps = [
            {"id": f"step-{number}", "objective": objective, "status": "pending"}
            for number, objective in enumerate(["Collect sources", "Compare them", *changes], start=1)
        ]
        questions = [] if changes else [run.scenario.question]
        return {"runId": run.id, key: {"goal": title, "steps": steps, "questions": questions}}
    sections = [
        {"id": f"part-{number}", "title": text} for number, text in enumerate(["Findings", *changes], 1)
    ]
    return {"runId": run.id, key: {"title": title, "sections": sections}}


def _answer(run: Run, start: float) -> Iterator[Event]:
    if run.scenario.ending not in (None, "succeed"):
        return
    if output_place(run) == "report":
        yield from _report(run, _no_later_than_end(run, start + run.part_seconds))
        return
    pieces = _pieces(run.output)
    said = ""
    for number, piece in enumerate(pieces, start=1):
        if number == len(pieces) and run.scenario.ending is None:
            return
        said += piece
        at = _no_later_than_end(run, start + run.part_seconds * number / len(pieces))
        if output_place(run) == "responseText":
            yield Event(at, "response", {"runId": run.id, "responseText": said})
        else:
            yield Event(at, "delta", {"runId": run.id, "deltaText": piece, "stepIndex": 0})


def _no_later_than_end(run: Run, at: float) -> float:
    return at if run.ended_at is None else min(at, run.ended_at)


def _pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // _DELTAS))
    return [text[at : at + size] for at in range(0, len(text), size)]


def _report(run: Run, at: float) -> Iterator[Event]:
    section = {"id": "part-1", "title": "Findings", "content": run.output}
    said = {"runId": run.id, "sectionId": "part-1", "sectionTitle": "Findings", "content": run.output}
    yield Event(at, "report_section_complete", said)
    whole = {"runId": run.id, "reportTitle": "Report", "markdown": run.output, "sections": [section]}
    yield Event(at, "report_complete", whole)
