"""What the tasks say in XComs, and what these can hold of a vendor's output."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from airflow.providers.common.compat.sdk import Context
from airflow.sdk.exceptions import AirflowRuntimeError
from pydantic import JsonValue

from airflow_provider_agentruns.client.text import one_line

RUN_ID_KEY = "run_id"
RUN_KEY = "agent_run"
RUNS_KEY = "agent_runs"
ERROR_KEY = "error_message"

# A dict with these Airflow refuses to store, or makes an object of the class that it names when it is pulled.
_RESERVED = frozenset({"__classname__", "__id__", "__type"})
# Airflow hands XComs over in MessagePack, which has no larger integers.
_INTEGERS = range(-(2**63), 2**64)
# Airflow takes about 250.
_DEEPEST = 200
# Seconds between attempts to push. To fail costs a try, when the run has been paid for.
_PAUSES = (0.5, 2.0)

log = logging.getLogger(__name__)


def push(context: Context, key: str, value: Any) -> None:
    """
    Push an XCom of the running task, once more if Airflow does not take it at first.

    It may not because its database is busy, or because a process of an earlier try, which is on its way out,
    has pushed the same at the same moment.

    :raises AirflowRuntimeError: it does not take it in the end.
    """
    for pause in _PAUSES:
        try:
            context["ti"].xcom_push(key=key, value=value)
        except AirflowRuntimeError as error:
            log.warning("Airflow did not take the XCom %r (%s); trying again", key, one_line(str(error), 300))
            time.sleep(pause)
        else:
            return
    context["ti"].xcom_push(key=key, value=value)


def xcom_value(output: JsonValue) -> JsonValue:
    """Return an output, or its JSON text where an XCom could not give it back as it is."""
    return output if _comes_back(output, _DEEPEST) else json.dumps(output, ensure_ascii=False)


def _comes_back(value: JsonValue, levels: int) -> bool:
    if isinstance(value, dict):
        return (
            levels > 0
            and _RESERVED.isdisjoint(value)
            and all(_comes_back(item, levels - 1) for item in value.values())
        )
    if isinstance(value, list):
        return levels > 0 and all(_comes_back(item, levels - 1) for item in value)
    return not isinstance(value, int) or value in _INTEGERS
