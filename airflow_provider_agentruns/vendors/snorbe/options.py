"""The parameters that a Snorbe run is started with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from airflow_provider_agentruns.client.calls import describe
from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.text import one_line

_HTTP_URL = TypeAdapter(HttpUrl)


def _check_url(value: str) -> str:
    # Checked but sent as it is: a normalized URL would break a signature in it.
    _HTTP_URL.validate_python(value)
    return value


Url = Annotated[str, AfterValidator(_check_url)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class _VendorNames(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class Mention(_VendorNames):
    """Another agent, skill or entity that the input mentions."""

    id: Name
    type: Name
    label: Name


class StartOptions(_VendorNames):
    """
    Start parameters, under the vendor's camel-case names, besides the input text and the agent.

    See the page en/api-reference/stream-agent-run of Snorbe's documentation.
    """

    model_name: Name = "snorbe-fast"
    prompt_key: Name = "chat-routing"
    locale: Literal["ja", "en"] = "en"
    file_urls: Annotated[list[Url], Field(max_length=10)] | None = None
    mentions: list[Mention] | None = None
    max_browsing_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    max_chain_steps: Annotated[int, Field(ge=1, le=50)] | None = None
    max_retries: Annotated[int, Field(ge=0, le=5)] | None = None
    retry_delay_ms: Annotated[int, Field(ge=0, le=10_000)] | None = None
    include_others_entities: bool | None = None
    extended_context_enabled: bool | None = None

    def body(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON data under the vendor's names."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def parse_options(options: dict[str, Any]) -> StartOptions:
    """
    Check the options that a user gave.

    :raises InvalidInputError: a name is unknown or a value out of range; names it, and the known ones.
    """
    known = {field.alias for field in StartOptions.model_fields.values() if field.alias}
    if unknown := sorted(options.keys() - known):
        raise InvalidInputError(
            f"Snorbe knows no option {one_line(', '.join(map(repr, unknown)))}; "
            f"it knows {', '.join(sorted(known))} (the input text is `message`, the agent `agent_id`)"
        )
    try:
        return StartOptions.model_validate(options)
    except ValidationError as error:
        raise InvalidInputError(f"Snorbe's options are wrong: {describe(error)}") from None
