"""What Airflow's XComs can hold of a vendor's output."""

from __future__ import annotations

import json

from pydantic import JsonValue

# A dict with these Airflow refuses to store, or makes an object of the class that it names when it is pulled.
_RESERVED = frozenset({"__classname__", "__id__", "__type"})
# Airflow hands XComs over in MessagePack, which has no larger integers.
_INTEGERS = range(-(2**63), 2**64)
# Airflow takes about 250.
_DEEPEST = 200


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
