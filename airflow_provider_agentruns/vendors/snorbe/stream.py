"""Read the start of an event stream: the run id comes first, and nothing more is needed of it."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

from airflow_provider_agentruns.client.exceptions import BadRequestError, ResponseFormatError
from airflow_provider_agentruns.client.text import one_line, parse_json
from airflow_provider_agentruns.vendors.snorbe.process import events

_DATA = b"data:"


def has_run_id(body: bytes) -> bool:
    """Tell whether the stream read so far holds the run id, or an error in its place."""
    return any(
        _run_id(data) or name == "error" for message in _messages(body) for name, data in events([message])
    )


def run_id_of(body: bytes) -> str:
    """
    Return the run id that a stream begins with.

    :raises BadRequestError: the stream tells an error in its place.
    :raises ResponseFormatError: it ended without either.
    """
    # The stream is over, so an event is whole also without the blank line that should follow it.
    for name, data in events(list(_messages(body + b"\n\n"))):
        if run_id := _run_id(data):
            return run_id
        if name == "error":
            message = one_line(str(data.get("message") or "no reason given"))
            raise BadRequestError(f"the vendor says {message!r} instead of starting the run", status_code=200)
    raise ResponseFormatError(
        "the event stream ended before it named the run; it may have been started all the same: "
        "look at the vendor before starting it again"
    )


def _run_id(data: Any) -> str | None:
    run_id = data.get("runId")
    return run_id if isinstance(run_id, str) and run_id else None


def _messages(body: bytes) -> Iterator[Any]:
    """Yield the JSON data of every server-sent event that is complete."""
    text = body.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for block in text.split(b"\n\n")[:-1]:
        lines = block.split(b"\n")
        data = [line[len(_DATA) :].removeprefix(b" ") for line in lines if line.startswith(_DATA)]
        try:
            yield parse_json(b"\n".join(data).decode())
        except ValueError:
            continue
