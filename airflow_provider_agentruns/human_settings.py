"""What an operator's user wants to happen when the run asks a human, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow.providers.common.compat.sdk import Context

from airflow_provider_agentruns import hitl
from airflow_provider_agentruns.polling.human_watch import HumanPolicies
from airflow_provider_agentruns.secret_references import check_references


@dataclass(frozen=True, slots=True)
class HumanSettings:
    """
    What an operator's user wants to happen when the run asks a human.

    :param secrets: references by the name of the secret.
    :param response_timeout: seconds to wait for a response in Airflow.
    :param default: the option that counts when nobody has responded by then; None to fail.
    :param max_answers: answers that one try gives at most.
    """

    policies: HumanPolicies
    secrets: Mapping[str, str]
    assigned_users: Sequence[Any] | None = None
    response_timeout: float | None = None
    default: str | None = None
    notifiers: Sequence[Callable[[Context], object]] = ()
    max_answers: int = 20

    @classmethod
    def of(
        cls,
        on_human_request: str | Mapping[str, str],
        *,
        secrets: Mapping[str, str],
        assigned_users: Any,
        response_timeout: float | None,
        defaults: str | None,
        notifiers: Any,
        max_answers: int,
    ) -> HumanSettings:
        """
        Check what a user gave an operator.

        :raises ValueError: something in it cannot be right, or needs a newer Airflow.
        """
        policies = HumanPolicies.of(on_human_request, has_secrets=bool(secrets))
        if policies.asks_in_airflow and not hitl.IS_AVAILABLE:
            raise ValueError("on_human_request='ask' needs Airflow 3.1 or newer, which can ask humans")
        if defaults not in {None, hitl.APPROVE, hitl.REJECT}:
            raise ValueError(f"defaults must be {hitl.APPROVE!r} or {hitl.REJECT!r}, not {defaults!r}")
        if isinstance(max_answers, bool) or not isinstance(max_answers, int) or max_answers < 1:
            raise ValueError(f"max_answers must be a positive number, not {max_answers!r}")
        return cls(
            policies=policies,
            secrets=check_references(secrets),
            assigned_users=[assigned_users] if isinstance(assigned_users, Mapping) else assigned_users,
            response_timeout=response_timeout,
            default=defaults,
            notifiers=[notifiers] if callable(notifiers) else notifiers or (),
            max_answers=max_answers,
        )
