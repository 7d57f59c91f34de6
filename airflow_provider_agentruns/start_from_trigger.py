"""Let a sensor's task go to the triggerer without a worker: Airflow's ``start_from_trigger``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import XComArg
from airflow.triggers.base import StartTriggerArgs
from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables
from packaging.version import Version

from airflow_provider_agentruns.deadline import BACKSTOP

# What a template may name. For other things, such as an XCom without its map index, Airflow 3.3 asks its
# supervisor, who does not answer a triggerer: the task would hang.
_RENDERED_IN_TRIGGERER = {"dag_run", "params", "run_id"}
# Older versions do not render templates in a triggerer.
_RENDERS_TEMPLATES = Version(airflow_version).release >= (3, 3)


def can_start_from_trigger(*templated: object) -> bool:
    """
    Tell whether a triggerer of this Airflow can render what it needs.

    :param templated: the values of the templated arguments.
    """
    return _RENDERS_TEMPLATES and all(
        _as_template(value) is not None for value in templated if value is not None
    )


def start_trigger_args(
    trigger: str, timeout: float, execution_timeout: timedelta | None, **trigger_kwargs: Any
) -> StartTriggerArgs:
    """
    Return what the scheduler needs to defer a task by itself.

    :param trigger: its class path; its ``timeout`` and ``execution_timeout`` are seconds, from which
        it tells its deadline.
    :param timeout: of the sensor, seconds.
    """
    bound = execution_timeout.total_seconds() if execution_timeout else None
    return StartTriggerArgs(
        trigger_cls=trigger,
        trigger_kwargs={
            **{
                name: _as_template(value) if isinstance(value, XComArg) else value
                for name, value in trigger_kwargs.items()
            },
            "timeout": timeout,
            "execution_timeout": bound,
        },
        next_method="execute_complete",
        timeout=timedelta(seconds=timeout) + BACKSTOP,
    )


def _as_template(value: object) -> str | None:
    """Return a value as the template that a triggerer is to render, None if it cannot."""
    if isinstance(value, XComArg):
        operator, key = getattr(value, "operator", None), getattr(value, "key", None)
        if operator is None or operator.is_mapped or operator.get_closest_mapped_task_group() is not None:
            return None
        # Without the map index Airflow asks its supervisor a question that a triggerer's does not understand.
        return f"{{{{ task_instance.xcom_pull({operator.task_id!r}, key={key!r}, map_indexes=-1) }}}}"
    if not isinstance(value, str):
        return None
    try:
        names = find_undeclared_variables(Environment().parse(value))  # noqa: S701 - it renders nothing
    except TemplateSyntaxError:
        return None
    return value if names <= _RENDERED_IN_TRIGGERER else None
