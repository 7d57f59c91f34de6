"""Find the adapter for a connection type. Built-in vendors come in by the door that is open to all."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.vendors.base import VendorAdapter

ENTRY_POINT_GROUP = "airflow_provider_agentruns.vendors"


def vendor_types() -> list[str]:
    """Return the connection types that have an adapter, sorted."""
    return sorted(entry_points(group=ENTRY_POINT_GROUP).names)


@cache
def get_adapter(conn_type: str) -> VendorAdapter:
    """
    Return the adapter for a connection type.

    Adapters are entry points of the group ``airflow_provider_agentruns.vendors``, named by their
    connection type. Only the one asked for is imported.

    :raises InvalidInputError: no installed package has an adapter for it.
    """
    found = list(entry_points(group=ENTRY_POINT_GROUP, name=conn_type))
    if not found:
        raise InvalidInputError(
            f"connection type {conn_type!r} is no vendor of agent runs; known: {', '.join(vendor_types())}"
        )
    adapter: VendorAdapter = found[0].load()()
    return adapter
