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
        if has_secrets and secret in given and for_secrets not in {HumanPolicy.ASK, HumanPolicy.PROVIDE}:
            raise ValueError(f"secrets are given, but on_human_request for them is {for_secrets!r}")
        if has_secrets and for_secrets != HumanPolicy.ASK:
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
    :param shown: the version of the draft that the human was shown.
    :param answer_by: when to stop asking, seconds since the epoch; None for never.
    :param default: what counts when nobody has responded by then.
    :param answered: id of the request that was answered last.
    :param answered_version: its version, if it was read.
    :param answered_at: when that was, seconds since the epoch.
    :param unfinished: a request that is, or may be, accepted, and whose run is not resumed yet.
    :param left: ids of requests that are left to the vendor.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    answers: int = 0
    asked: str | None = None
    shown: str | None = None
    answer_by: float | None = None
    default: str | None = None
    answered: str | None = None
    answered_version: str | None = None
    answered_at: float = 0.0
    unfinished: HumanRequest | None = None
    left: tuple[str, ...] = ()

    def asking(self, request: HumanRequest, *, answer_by: float | None, default: str | None) -> HumanExchange:
        """
        Return the exchange while a human is being asked.

        :param request: in full.
        :param answer_by: when to stop asking, seconds since the epoch.
        """
        return self.model_copy(
            update={
                "asked": request.id,
                "shown": request.version,
                "answer_by": answer_by,
                "default": default,
            }
        )

    def over(self, request_id: str | None) -> HumanExchange:
        """Return the exchange when a request needs no human any more; another may still be asked about."""
        if request_id != self.asked:
            return self
        return self.model_copy(update={"asked": None, "shown": None, "answer_by": None, "default": None})

    def answer(self, request: HumanRequest, now: float) -> HumanExchange:
        """
        Return the exchange when a request was answered.

        :param now: seconds since the epoch.
        """
        return self.over(request.id).model_copy(
            update={
                "answers": self.answers + 1,
                "answered": request.id,
                "answered_version": request.version,
                "answered_at": now,
            }
        )

    def leave(self, request: HumanRequest) -> HumanExchange:
        """Return the exchange when a request is left to the vendor."""
        return self.over(request.id).model_copy(update={"left": (*self.left, request.id)})


@dataclass(frozen=True, slots=True)
class HumanWatch:
    """What a poller does about what a run asks."""

    policies: HumanPolicies
    exchange: HumanExchange

    def look_at(self, run: Run, now: float) -> Outcome | None:
        """
        Return what ends the wait, if anything about a human does.

        :param now: seconds since the epoch.
        """
        exchange = self.exchange
        if exchange.unfinished is not None and run.status not in {RunStatus.FAILED, RunStatus.CANCELLED}:
            # Also when it seems to have succeeded: so looks a run that stopped for a review.
            return Outcome.ASKS
        if run.status.is_terminal or run.status is RunStatus.UNKNOWN:
            return None
        if exchange.asked is not None:
            if exchange.asked not in {request.id for request in run.human_requests}:
                return Outcome.ANSWERED
            if exchange.answer_by is not None and now >= exchange.answer_by:
                return Outcome.UNANSWERED
        return Outcome.ASKS if next_request(run, self.policies, exchange) else None


def human_watch(policies: Mapping[str, str] | None, exchange: HumanExchange) -> HumanWatch | None:
    """Return what a poller is to do about what a run asks; None where it only waits."""
    return HumanWatch(HumanPolicies(policies), exchange) if policies else None


def next_request(run: Run, policies: HumanPolicies, exchange: HumanExchange) -> HumanRequest | None:
    """Return the first request of a run to deal with; Airflow can ask about one at a time."""
    for request in run.human_requests:
        policy = policies.policy_for(request)
        is_asked = request.id == exchange.asked or (policy is HumanPolicy.ASK and exchange.asked is not None)
        if policy is not HumanPolicy.WAIT and request.id not in exchange.left and not is_asked:
            return request
    return None
