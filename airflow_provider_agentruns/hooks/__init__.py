"""Hooks: talk to a vendor from a worker, with the key kept in an Airflow connection."""

from airflow_provider_agentruns.hooks.agent_run import AgentRunHook
from airflow_provider_agentruns.hooks.flowyble import FlowybleHook
from airflow_provider_agentruns.hooks.snorbe import SnorbeHook

__all__ = ["AgentRunHook", "FlowybleHook", "SnorbeHook"]
