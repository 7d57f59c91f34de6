"""Make text that came from a vendor safe to print and to store."""

from __future__ import annotations

from typing import Any


def one_line(text: str, limit: int = 500) -> str:
    """
    Return text as one printable line, so that it cannot forge a line of a log.

    :param limit: characters to keep; a longer text ends in an ellipsis.
    """
    # Far more than the limit need not be looked at: a vendor may send megabytes.
    spaced = " ".join(text[: 4 * limit].split())
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in spaced)
    if len(printable) > limit or len(text) > 4 * limit:
        return printable[: limit - 1].rstrip() + "…"
    return printable


def storable(value: Any) -> Any:
    """
    Return JSON data with the characters replaced that PostgreSQL cannot store in an XCom.

    These are NUL and halves of surrogate pairs; both can stand in JSON as escapes.
    """
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(name): storable(item) for name, item in value.items()}
    return value
