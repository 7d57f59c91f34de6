"""Why a wait for a run is over."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """
    Why a wait is over.

    The run ended, the vendor refused to tell, time was over, nothing moved, or we broke: an error that nobody
    foresaw, and how the run stands is then not known. Or it is about a human: the run asks something, what a
    human was asked was answered elsewhere, or nobody answered in time.
    """

    ENDED = "ended"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    BROKEN = "broken"
    ASKS = "asks"
    ANSWERED = "answered"
    UNANSWERED = "unanswered"
