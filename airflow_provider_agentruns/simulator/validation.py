"""Check a JSON body against a table of fields; used for the vendors' bodies and the control plane's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class InvalidBodyError(ValueError):
    """Tell the sender what is wrong with the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Describe one field of a body.

    :param kind: the JSON type as Python has it: `str`, `int`, `float` (takes whole numbers too), `bool`,
        `list`, `dict`.
    :param required: refuse a body without it, or with an empty text.
    :param choices: the only values allowed.
    :param low: smallest number, or fewest items.
    :param high: largest number, or most items.
    :param items: what each item of a list is; a mapping means objects with these fields.
    """

    kind: type
    required: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    items: Field | Mapping[str, Field] | None = None


def check_body(body: Mapping[str, object], fields: Mapping[str, Field], *, closed: bool = False) -> None:
    """Check a body.

    :param closed: also refuse fields that the table does not know.
    :raises InvalidBodyError: with a message for the sender, at the first field that is wrong.
    """
    if closed and (unknown := sorted(set(body) - set(fields))):
        raise InvalidBodyError(f"Unknown field {unknown[0]!r}: expected one of {', '.join(fields)}")
    for name, wanted in fields.items():
        value = body.get(name)
        if value is None or value == "":
            if not wanted.required:
                continue
            if value is None and not wanted.choices:
                raise InvalidBodyError(f"{name} is required")
        _check_value(name, value, wanted)


def _check_value(name: str, value: object, wanted: Field) -> None:
    if wanted.choices and value not in wanted.choices:
        raise InvalidBodyError(f"Invalid option: expected one of {'|'.join(wanted.choices)} ({name})")
    if not _is_of(wanted.kind, value):
        raise InvalidBodyError(f"{name} must be {_KINDS[wanted.kind]}")
    if isinstance(value, str) and wanted.required and not value.strip():
        raise InvalidBodyError(f"{name} must not be empty")
    if isinstance(value, int | float | list):
        size = len(value) if isinstance(value, list) else value
        too_small = wanted.low is not None and size < wanted.low
        if too_small or (wanted.high is not None and size > wanted.high):
            what = "number of items in " if isinstance(value, list) else ""
            raise InvalidBodyError(f"{what}{name} must be from {wanted.low or 0} to {wanted.high}")
    if isinstance(value, list) and wanted.items is not None:
        for index, item in enumerate(value):
            _check_item(f"{name}[{index}]", item, wanted.items)


def _check_item(name: str, item: object, wanted: Field | Mapping[str, Field]) -> None:
    if isinstance(wanted, Field):
        _check_value(name, item, wanted)
    elif isinstance(item, dict):
        try:
            check_body(item, wanted)
        except InvalidBodyError as error:
            raise InvalidBodyError(f"{name}: {error}") from error
    else:
        raise InvalidBodyError(f"{name} must be {_KINDS[dict]}")


_KINDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _is_of(kind: type, value: object) -> bool:
    if isinstance(value, bool):  # Python counts True as a whole number, JSON does not
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
