"""The hook for what only Snorbe has."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from airflow_provider_agentruns.client.models import Agent
from airflow_provider_agentruns.hooks.agent_run import AgentRunHook
from airflow_provider_agentruns.vendors.snorbe import SnorbeAdapter


class SnorbeHook(AgentRunHook):
    """
    Talk to Snorbe: what every vendor can, and what only Snorbe has.

    :param conn_id: an Airflow connection of type Snorbe.
    """

    conn_type = "snorbe"
    hook_name = "Snorbe"
    default_conn_name: ClassVar[str] = "snorbe_default"

    def __init__(self, conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(conn_id, **kwargs)

    @property
    def adapter(self) -> SnorbeAdapter:
        """Return Snorbe's adapter."""
        return cast("SnorbeAdapter", self.vendor_connection.adapter)

    def list_agents(self) -> tuple[Agent, ...]:
        """
        List the agents of the key's workspace, docs.snorbe.deskrex.ai, en/api-reference/list-agents.

        :raises APIError: the vendor refused, or could not be reached.
        """
        return self._send(self.adapter.list_agents())
