"""The word each vendor has for where a run is."""

from __future__ import annotations

from airflow_provider_agentruns.simulator.runs import Phase, Run

_FLOWYBLE_ENDINGS = {"succeed": "Completed", "fail": "Failed", "cancel": "Cancelled"}
_SNORBE_ENDINGS = {"succeed": "completed", "cancel": "cancelled"}
# Only the first four are documented; the last two stand for "a number you do not know".
_FLOWYBLE_NUMBERS = {"Pending": 0, "Running": 1, "Completed": 2, "Failed": 3, "Cancelled": 4}
_UNDOCUMENTED_NUMBER = 99


def flowyble_status(run: Run, now: float) -> str:
    """Return Flowyble's word for a settled run."""
    if run.shows_unknown_status(now):
        return run.scenario.status
    phase = run.phase(now)
    if phase is Phase.ENDED:
        return _FLOWYBLE_ENDINGS[run.scenario.ending or "succeed"]
    return "Pending" if phase is Phase.QUEUED else "Running"


def flowyble_status_number(run: Run, now: float) -> int:
    """Return Flowyble's number for a settled tool run."""
    return _FLOWYBLE_NUMBERS.get(flowyble_status(run, now), _UNDOCUMENTED_NUMBER)


def snorbe_status(run: Run, now: float) -> str:
    """Return Snorbe's word for a settled run; it has none for a queue, and none of its own for waiting."""
    if run.shows_unknown_status(now):
        return run.scenario.status
    if run.phase(now) is Phase.ENDED:
        ending = run.scenario.ending or "succeed"
        return _SNORBE_ENDINGS.get(ending, run.scenario.failed_status)
    return run.scenario.waiting_status if run.pending_draft else "running"


def vendor_status(run: Run, now: float) -> str:
    """Return the word of the run's own vendor."""
    return flowyble_status(run, now) if run.vendor == "flowyble" else snorbe_status(run, now)
