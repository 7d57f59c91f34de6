"""Send the calls of one key, and take note of what each answer tells about the key and the vendor."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from airflow_provider_agentruns.client.calls import Call
from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    RateLimitError,
    ServerError,
)
from airflow_provider_agentruns.client.retry import rate_limit_pause
from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.budget import PollBudget
from airflow_provider_agentruns.polling.circuit import Circuit
from airflow_provider_agentruns.polling.clients import Clients
from airflow_provider_agentruns.polling.metrics import PollMetrics, PollResult

log = logging.getLogger(__name__)

# Under a budget as vendors give it, four polls at a time are plenty; without one, the vendor's latency
# counts.
_LARGE_BUDGET = 600
_CONNECTIONS = 4
_MANY_CONNECTIONS = 32

T = TypeVar("T")


def key_name(settings: ClientSettings) -> str:
    """Return a key's name, which does not show it, of characters that all metrics backends take in a tag."""
    base_url, digest = settings.credential
    return f"{urlsplit(base_url).hostname}-{digest[:8]}"


class Sender:
    """
    Send one key's calls, each once.

    :param budget: is told of refusals.
    :param metrics: counts what came of each call.
    :param clock: monotonic seconds.
    :param on_recovery: is called with the time since when polls failed, once the vendor answers again.
    :ivar clients: the sockets.
    :ivar circuit: tells when the vendor is away.
    """

    def __init__(
        self,
        budget: PollBudget,
        metrics: PollMetrics,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        on_recovery: Callable[[float], None],
    ) -> None:
        self._budget = budget
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._on_recovery = on_recovery
        self.clients = Clients()
        self.circuit = Circuit(rng)

    @property
    def connections(self) -> int:
        """Return how many calls may be on their way at once."""
        return _MANY_CONNECTIONS if self._budget.polls_per_minute > _LARGE_BUDGET else _CONNECTIONS

    async def send(self, call: Call[T], settings: ClientSettings) -> T:
        """
        Send a call and return what the answer means.

        :raises APIError: it went wrong.
        """
        try:
            client = await self.clients.get(settings, connections=self.connections)
            answer = await client.send(call)
        except APIError as error:
            self._note_error(error)
            raise
        self._metrics.polled(PollResult.ANSWERED)
        self._note_answer()
        return answer

    def _note_error(self, error: APIError) -> None:
        now = self._clock()
        if isinstance(error, RateLimitError):
            self._metrics.polled(PollResult.REFUSED)
            self._budget.refuse(now, rate_limit_pause(error, self._rng))
        else:
            self._metrics.polled(PollResult.FAILED)
        if not isinstance(error, APIConnectionError | ServerError):
            # Whatever it said, the vendor is there.
            self._note_answer()
        elif self.circuit.failed(now):
            log.warning("%s: no poll is answered, only single probes go: %s", self._metrics.key, error)

    def _note_answer(self) -> None:
        outage = self.circuit.succeeded()
        if outage is not None:
            self._on_recovery(outage.began)
            if outage.was_told:
                log.info("%s: the vendor answers again, all runs are polled as before", self._metrics.key)
