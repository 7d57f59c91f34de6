"""The dbt Cloud provider's trigger, pointed at a look-alike that speaks plain HTTP."""

from __future__ import annotations

from typing import Any

from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook
from airflow.providers.dbt.cloud.triggers import dbt
from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

__all__ = ["DbtCloudRunJobTrigger"]


class _PlainHttpHook(DbtCloudHook):
    """Leave TLS out, as all contenders do."""

    @staticmethod
    def get_request_url_params(
        tenant: str, endpoint: str, include_related: list[str] | None = None, *, api_version: str = "v2"
    ) -> tuple[str, dict[str, Any]]:
        url, params = DbtCloudHook.get_request_url_params(
            tenant, endpoint, include_related, api_version=api_version
        )
        return url.replace("https://", "http://", 1), params


dbt.DbtCloudHook = _PlainHttpHook  # type: ignore[attr-defined]  # it is imported there
