"""Make text that came from a vendor safe to print, to parse and to store."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# What log viewers fold or colour lines by: Airflow and GitHub `::group::`, Azure `##[group]`, `##[error]`.
_LOG_COMMAND = re.compile(r":(?=:(?:end)?group)|#(?=#\w*\[)", re.IGNORECASE)
_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


# Each takes up to a hundred times its bytes in memory: fewer than two bytes are enough for one.
_MOST_CONTAINERS = 2_000_000


def one_line(text: str, limit: int = 500) -> str:
    """
    Return text as one printable line, so that it can forge neither a line of a log nor a group of lines.

    :param limit: characters to keep; a longer text ends in an ellipsis.
    """
    # Far more than the limit need not be looked at: a vendor may send megabytes.
    spaced = " ".join(text[: 4 * limit].split())
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in spaced)
    printable = _LOG_COMMAND.sub(r"\g<0> ", printable)
    if len(printable) > limit or len(text) > 4 * limit:
        return printable[: limit - 1].rstrip() + "…"
    return printable


def bounded_text(text: str, limit: int) -> str:
    """
    Return text of several lines without control characters, cut at a limit.

    :param limit: characters to keep; a longer text says that it was cut.
    """
    lines = "\n".join(text[: limit + 1].splitlines())
    shown = "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in lines
    )
    is_cut = len(text) > limit
    return f"{shown[:limit].rstrip()}\n\n… (cut; the whole of it is at the vendor)" if is_cut else shown


def parse_json(text: str) -> Any:
    """
    Return what a JSON text holds, so that every database can store it.

    PostgreSQL takes neither NUL nor half a surrogate pair, which can stand in JSON as escapes; they are
    replaced. Nothing takes NaN or an infinity.

    :raises ValueError: it is no JSON, is nested too deeply, or holds too many lists and objects.
    """
    if text.count("[") + text.count("{") > _MOST_CONTAINERS:
        raise ValueError(f"more than {_MOST_CONTAINERS:,} lists and objects")
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        return _storable(value) if _UNSTORABLE.search(text) else value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is no JSON")
    return value


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value
