"""The hook for what only Flowyble has."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_agentruns.client.models import Run
from airflow_provider_agentruns.hooks.agent_run import AgentRunHook
from airflow_provider_agentruns.vendors.flowyble import FlowybleAdapter


class FlowybleHook(AgentRunHook):
    """
    Talk to Flowyble: what every vendor can, and what only Flowyble has.

    :param conn_id: an Airflow connection of type Flowyble.
    """

    conn_type = "flowyble"
    hook_name = "Flowyble"
    default_conn_name: ClassVar[str] = "flowyble_default"

    def __init__(self, conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(conn_id, **kwargs)

    @property
    def adapter(self) -> FlowybleAdapter:
        """Return Flowyble's adapter."""
        return cast("FlowybleAdapter", self.vendor_connection.adapter)

    def get_details(self, run_id: str) -> Run:
        """
        Read an agent run with its steps, docs.flowyble.com, api-reference/agents/get-run-details.

        :raises InvalidInputError: no run can have this id.
        :raises APIError: the vendor refused, or could not be reached.
        """
        return self._send(self.adapter.details(self.ref(run_id)))

    def start_by_webhook(self, token: str, body: dict[str, Any], *, secret: str | None = None) -> Run:
        """
        Start a run through an incoming webhook, docs.flowyble.com, api-reference/webhooks/incoming.

        :param token: the token at the end of the webhook's URL. It is a credential: keep it in a
            connection or variable.
        :param body: JSON data, which becomes the run's input.
        :param secret: signs the body, where the webhook asks for it.
        :raises InvalidInputError: the body is no JSON data, or the token is empty; nothing was sent.
        :raises APIError: the vendor refused, or could not be reached.
        """
        for credential in (token, secret):
            if credential:
                mask_secret(credential)
        return self._send(self.adapter.start_by_webhook(token, body, secret))
