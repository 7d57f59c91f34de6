"""What a wait does about what its run asks of a human: pure decisions, no I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.models import HumanRequest, HumanRequestKind, Run, RunStatus
from airflow_provider_agentruns.polling.outcome import Outcome

_ANY = "*"


class HumanPolicy(StrEnum):
    """What to do about a request."""

    WAIT = "wait"
    FAIL = "fail"
    APPROVE = "approve"
    ASK = "ask"
    PROVIDE = "provide"


class HumanPolicies:
    """
    What to do about each request of a run.

    :param by_name: a policy for each topic or kind of request, ``*`` for all others; what is not named waits.
    :raises ValueError: an unknown policy, or one that does not go with its topic.
    """

    def __init__(self, by_name: Mapping[str, str]) -> None:
        self._policies = {name: _parse(name, value) for name, value in by_name.items()}

    @classmethod
    def of(cls, policies: str | Mapping[str, str], *, has_secrets: bool = False) -> HumanPolicies:
        """
        Return what a user asked for.

        :param policies: one policy for all, or one for each topic or kind of request.
        :param has_secrets: whether secrets are there to be provided.
        :raises ValueError: an unknown policy, or one that does not go with its topic or the secrets.
        """
        given = {_ANY: policies} if isinstance(policies, str) else dict(policies)
        secret = str(HumanRequestKind.SECRET)
        for_secrets = given.get(secret, given.get(_ANY, HumanPolicy.WAIT))
        if has_secrets and for_secrets in {HumanPolicy.WAIT, HumanPolicy.APPROVE}:
            if secret in given:
                raise ValueError(f"secrets are given, but on_human_request for them is {for_secrets!r}")
            given[secret] = HumanPolicy.PROVIDE
        if for_secrets == HumanPolicy.PROVIDE and not has_secrets:
            raise ValueError("on_human_request='provide' needs secrets, such as {'API_KEY': 'conn:patents'}")
        return cls(given)

    @property
    def by_name(self) -> dict[str, str]:
        """Return the policies as JSON data, from which they can be made again."""
        return {name: str(policy) for name, policy in self._policies.items()}

    @property
    def asks_in_airflow(self) -> bool:
        """Tell whether Airflow's human in the loop is needed."""
        return HumanPolicy.ASK in self._policies.values()

    @property
    def do_more_than_wait(self) -> bool:
        """Tell whether anything that a run asks ends a wait."""
        return any(policy is not HumanPolicy.WAIT for policy in self._policies.values())

    def check_topics(self, topics: tuple[str, ...], vendor: str) -> None:
        """
        Make sure that all topics are the vendor's.

        :raises InvalidInputError: one is not; names those there are.
        """
        known = {*topics, *HumanRequestKind, _ANY}
        if unknown := sorted(self._policies.keys() - known):
            asked = ", ".join((*topics, *sorted({str(kind) for kind in HumanRequestKind} - set(topics))))
            raise InvalidInputError(
                f"on_human_request: {vendor} asks for no {', '.join(map(repr, unknown))}; known: {asked}"
            )

    def policy_for(self, request: HumanRequest) -> HumanPolicy:
        """Return the policy for a request: by its topic, else by its kind, else the one for all."""
        for name in (request.topic, str(request.kind), _ANY):
            if name in self._policies:
                policy = self._policies[name]
                # Only a draft can be accepted unseen.
                can_be = policy is not HumanPolicy.APPROVE or request.kind is HumanRequestKind.APPROVAL
                return policy if can_be else HumanPolicy.WAIT
        return HumanPolicy.WAIT


def _parse(name: str, value: str) -> HumanPolicy:
    try:
        policy = HumanPolicy(value)
    except ValueError:
        known = ", ".join(map(repr, map(str, HumanPolicy)))
        raise ValueError(f"on_human_request must be one of {known}, not {value!r}") from None
    if policy is HumanPolicy.PROVIDE and name != HumanRequestKind.SECRET:
        raise ValueError(f"on_human_request: {policy!s} is for 'secret', not for {name!r}")
    return policy


class HumanExchange(BaseModel):
    """
    How far the exchange with a run has got; small and without secrets, Airflow stores it.

    :param answers: given so far in this try.
    :param asked: id of the request that a human is being asked in Airflow.
    :param version: of the draft that was shown.
    :param answer_by: when to stop asking, seconds since the epoch; None for never.
    :param default: what counts when nobody has responded by then.
    :param answered_at: when a revision of that draft was asked for, seconds since the epoch.
    :param left: ids of requests that are left to the vendor.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    answers: int = 0
    asked: str | None = None
    version: str | None = None
    answer_by: float | None = None
    default: str | None = None
    answered_at: float = 0.0
    left: tuple[str, ...] = ()

    def over(self, *, answers: int = 0, left: str | None = None) -> HumanExchange:
        """
        Return the exchange when nobody is being asked any more.

        :param answers: how many were given.
        :param left: the request that is left to the vendor, if one is.
        """
        kept = self.left if left is None else (*self.left, left)
        return HumanExchange(answers=self.answers + answers, left=kept)


@dataclass(frozen=True, slots=True)
class HumanWatch:
    """What a poller does about what a run asks."""

    policies: HumanPolicies
    exchange: HumanExchange

    def look_at(self, run: Run, now: float) -> Outcome | None:
        """
        Return what ends the wait, if anything does.

        :param now: seconds since the epoch.
        """
        exchange = self.exchange
        if exchange.asked is not None:
            if run.status is RunStatus.UNKNOWN:
                return None
            if exchange.asked not in {request.id for request in run.human_requests}:
                return Outcome.ANSWERED
            is_late = exchange.answer_by is not None and now >= exchange.answer_by
            return Outcome.UNANSWERED if is_late else None
        return Outcome.ASKS if next_request(run, self.policies, exchange) else None


def human_watch(policies: Mapping[str, str] | None, exchange: HumanExchange) -> HumanWatch | None:
    """Return what a poller is to do about what a run asks; None where it only waits."""
    return HumanWatch(HumanPolicies(policies), exchange) if policies else None


def next_request(run: Run, policies: HumanPolicies, exchange: HumanExchange) -> HumanRequest | None:
    """Return the first request of a run that is not left to the vendor."""
    for request in run.human_requests:
        if request.id not in exchange.left and policies.policy_for(request) is not HumanPolicy.WAIT:
            return request
    return None
