"""Field types for vendors' answers: what we do not need must never make an answer unreadable."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from airflow_provider_agentruns.client.text import one_line, parse_json

_LONGEST_LABEL = 200
_LONGEST_MESSAGE = 64 * 1024


class Answer(BaseModel):
    """Base of vendors' answers: camel-case names on the wire, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


def _none_if_unreadable(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError:
        return None


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def shortened(text: str) -> str:
    """Return a text for people, cut off where it is longer than anybody would read."""
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


T = TypeVar("T")
Lenient = Annotated[T | None, WrapValidator(_none_if_unreadable)]
"""Read as None when it is of another type than documented."""

Text = Annotated[str | None, BeforeValidator(_as_text)]
"""Anything but a text is kept as JSON text, so that no message is lost."""
Label = Annotated[Text, AfterValidator(lambda value: value and one_line(value, _LONGEST_LABEL))]
"""An id or a name, which is shown and stored beside a run."""
Message = Annotated[Text, AfterValidator(lambda value: value and shortened(value))]
"""A text for people, which is stored with a run while it is waited for."""
Timestamp = Lenient[Annotated[datetime, AfterValidator(_in_utc)]]
Count = Lenient[Annotated[int, Field(ge=0, lt=2**63)]]
Number = Lenient[Annotated[float, Field(allow_inf_nan=False)]]


_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def json_text(value: JsonValue) -> JsonValue:
    """Return what a JSON text holds, or the value itself if it is no JSON text."""
    if not isinstance(value, str):
        return value
    try:
        # Validated too: pydantic takes less deep a nesting than the parser does.
        return _JSON.validate_python(parse_json(value))
    except ValueError:
        return value
