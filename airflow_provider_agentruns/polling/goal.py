"""When a wait for many runs is decided: enough have succeeded, or not enough can any more."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from airflow_provider_agentruns.client.exceptions import InvalidInputError

Mode = Literal["all", "any", "quorum"]


class Verdict(StrEnum):
    """What is decided about a goal."""

    REACHED = "reached"
    OUT_OF_REACH = "out_of_reach"


def check_goal(mode: str, min_success: int | None) -> None:
    """
    Make sure that a goal makes sense.

    :raises InvalidInputError: the mode is not known, or ``min_success`` does not go with it.
    """
    if mode not in {"all", "any", "quorum"}:
        raise InvalidInputError(f"mode must be 'all', 'any' or 'quorum', not {mode!r}")
    if mode != "quorum":
        if min_success is not None:
            raise InvalidInputError(f"min_success belongs to mode 'quorum', not to {mode!r}")
        return
    if isinstance(min_success, bool) or not isinstance(min_success, int) or min_success < 1:
        raise InvalidInputError(
            f"mode 'quorum' needs min_success, a positive whole number, not {min_success!r}"
        )


def successes_needed(mode: Mode, min_success: int | None, runs: int) -> int:
    """
    Return how many runs have to succeed.

    :param runs: how many there are.
    """
    if mode == "quorum" and min_success is not None:
        return min_success
    return runs if mode == "all" else 1


def judge(*, needed: int, succeeded: int, can_succeed: int) -> Verdict | None:
    """
    Return what is decided, None while it is open.

    :param needed: successes needed.
    :param succeeded: runs that have.
    :param can_succeed: runs that have not ended.
    """
    if succeeded >= needed:
        return Verdict.REACHED
    if succeeded + can_succeed < needed:
        return Verdict.OUT_OF_REACH
    return None
