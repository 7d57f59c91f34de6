"""
What Airflow reads about this package: connection types and their forms, and the modules.

The vendors' forms are alike but written out: Airflow and its tools take one literal.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider info, one literal: Airflow reads it without importing anything else of ours."""
    return {
        "package-name": "airflow-provider-agentruns",
        "name": "Agent runs",
        "description": "Start AI-agent runs on hosted platforms, or wait on them, without holding a worker.",
        "integrations": [
            {
                "integration-name": "Flowyble",
                "external-doc-url": "https://docs.flowyble.com",
                "tags": ["service"],
            },
            {
                "integration-name": "Snorbe",
                "external-doc-url": "https://docs.snorbe.deskrex.ai",
                "tags": ["service"],
            },
        ],
        "hooks": [
            {"integration-name": "Flowyble", "python-modules": ["airflow_provider_agentruns.hooks"]},
            {"integration-name": "Snorbe", "python-modules": ["airflow_provider_agentruns.hooks"]},
        ],
        "operators": [
            {"integration-name": "Flowyble", "python-modules": ["airflow_provider_agentruns.operators"]},
            {"integration-name": "Snorbe", "python-modules": ["airflow_provider_agentruns.operators"]},
        ],
        "sensors": [
            {"integration-name": "Flowyble", "python-modules": ["airflow_provider_agentruns.sensors"]},
            {"integration-name": "Snorbe", "python-modules": ["airflow_provider_agentruns.sensors"]},
        ],
        "triggers": [
            {
                "integration-name": "Flowyble",
                "python-modules": [
                    "airflow_provider_agentruns.triggers",
                    "airflow_provider_agentruns.runs_trigger",
                ],
            },
            {
                "integration-name": "Snorbe",
                "python-modules": [
                    "airflow_provider_agentruns.triggers",
                    "airflow_provider_agentruns.runs_trigger",
                ],
            },
        ],
        "connection-types": [
            {
                "connection-type": "flowyble",
                "hook-name": "Flowyble",
                "hook-class-name": "airflow_provider_agentruns.hooks.FlowybleHook",
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "How long to wait for a connection and for an answer. Default: 30.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
                    },
                    "polls_per_minute": {
                        "label": "Polls per minute",
                        "description": "Polls that one triggerer may send in any 60 seconds. Default: 80.",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of trusted certificates. Default: true.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL of an HTTP proxy, for example http://proxy.example.com:3128.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "port", "schema", "extra"],
                    "relabeling": {"password": "API key", "host": "Host (optional)"},
                    "placeholders": {
                        "password": "flw_key_…",
                        "host": "https://api.flowyble.com",
                    },
                },
            },
            {
                "connection-type": "snorbe",
                "hook-name": "Snorbe",
                "hook-class-name": "airflow_provider_agentruns.hooks.SnorbeHook",
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "How long to wait for a connection and for an answer. Default: 30.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
                    },
                    "polls_per_minute": {
                        "label": "Polls per minute",
                        "description": "Polls that one triggerer may send in any 60 seconds. Default: 80.",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of trusted certificates. Default: true.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL of an HTTP proxy, for example http://proxy.example.com:3128.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "bulk_polling": {
                        "label": "Bulk polling",
                        "description": "While polls are scarce, list the newest turns first: ends are seen "
                        "sooner, but each list carries the runs' events. Default: false.",
                        "schema": {"type": ["boolean", "null"]},
                    },
                },
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "port", "schema", "extra"],
                    "relabeling": {"password": "API key", "host": "Host (optional)"},
                    "placeholders": {
                        "password": "snorbe_…",
                        "host": "https://app.snorbe.deskrex.ai",
                    },
                },
            },
        ],
    }
