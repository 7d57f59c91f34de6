"""Tell an Airflow by environment variables how to run: small, quick, on loopback, talking to nobody."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Ask the kernel for a loopback port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def connection(conn_type: str, *, host: str, password: str, **extra: object) -> str:
    """Write a connection as Airflow reads it from `AIRFLOW_CONN_*`."""
    return json.dumps({"conn_type": conn_type, "host": host, "password": password, "extra": extra})


def airflow_environment(
    home: Path,
    dags_folder: Path,
    *,
    api_url: str,
    execution_api_url: str,
    connections: Mapping[str, str],
    parallelism: int,
) -> dict[str, str]:
    """Build the whole environment of the Airflow processes."""
    # Whatever the caller's own Airflow is told must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    # Without byte code on disk every process compiles Airflow anew: 10 s instead of 4 s, each.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # A proxy of the machine must not get the traffic between Airflow's own components.
    environment["NO_PROXY"] = environment["no_proxy"] = f"{LOOPBACK},localhost"
    environment["PYTHONUNBUFFERED"] = "1"
    environment["AIRFLOW_HOME"] = str(home)
    for section, options in _settings(home, dags_folder, api_url, execution_api_url, parallelism).items():
        for name, value in options.items():
            environment[f"AIRFLOW__{section}__{name}".upper()] = str(value)
    for conn_id, uri_or_json in connections.items():
        environment[f"AIRFLOW_CONN_{conn_id.upper()}"] = uri_or_json
    return environment


def _settings(
    home: Path, dags_folder: Path, api_url: str, execution_api_url: str, parallelism: int
) -> dict[str, dict[str, object]]:
    return {
        "core": {
            "dags_folder": dags_folder,
            "plugins_folder": home / "plugins",
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "executor": "LocalExecutor",
            "parallelism": parallelism,
            "simple_auth_manager_all_admins": True,
            "execution_api_server_url": execution_api_url,
            "fernet_key": Fernet.generate_key().decode(),
            "test_connection": "Enabled",
        },
        "api": {
            "host": LOOPBACK,
            "port": urlsplit(api_url).port,
            "base_url": api_url,
            "workers": 1,
            "secret_key": secrets.token_urlsafe(32),
        },
        "api_auth": {"jwt_secret": secrets.token_urlsafe(64)},
        "database": {
            "sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}",
            # The launcher migrates, at the same time as the components start.
            "check_migrations": False,
        },
        "dag_processor": {
            "refresh_interval": 10,
            "bundle_refresh_check_interval": 1,
            "min_file_process_interval": 120,
            "parsing_processes": 2,
        },
        "logging": {
            "base_log_folder": home / "logs",
            # Nobody serves logs here, all are on this disk. The default ports could be another Airflow's.
            "worker_log_server_port": free_port(),
            "trigger_log_server_port": free_port(),
            "colored_console_log": False,
            "namespace_levels": "http.access=warning",
        },
        "scheduler": {
            "scheduler_idle_sleep_time": 0.3,
            "parsing_cleanup_interval": 600,
            "enable_health_check": False,
        },
        "workers": {
            # On a small busy machine an answer may take long without anybody being ill.
            "execution_api_timeout": 30,
            # The supervisor of a task often notices its end only after this interval. With the default of
            # 5 s a task whose trigger fires at once is queued again before the scheduler learns that its
            # first part is over, and is then failed with "state changed externally".
            "min_heartbeat_interval": 1,
            "max_failed_heartbeats": 30,
        },
        "usage_data_collection": {"enabled": False},
    }
