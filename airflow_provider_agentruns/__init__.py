"""Airflow provider for AI-agent runs on hosted platforms."""

__version__ = "0.1.0"
