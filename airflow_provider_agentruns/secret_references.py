"""Secrets by reference: where Airflow has the value, never the value itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    BaseHook,
    Variable,
    mask_secret,
)
from pydantic import SecretStr

from airflow_provider_agentruns.client.exceptions import InvalidInputError

_REFERENCE = re.compile(r"(?P<kind>conn|var):(?P<name>[^\s:=][^\s=]{0,249})")


def check_references(secrets: Mapping[str, str]) -> dict[str, str]:
    """
    Return a mapping of secret names to references.

    :raises ValueError: something in it is no reference; the error does not show it, it may be a secret.
    """
    for name, reference in secrets.items():
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise ValueError(f"secrets: {name!r} must name a connection or variable, conn:… or var:…")
    return dict(secrets)


def parse_references(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """
    Return the references that a human wrote.

    :param text: ``NAME=conn:…`` or ``NAME=var:…``, one a line; the name may be left out if there is one.
    :param names: what is asked for.
    :raises InvalidInputError: something else was written, which is not shown: it may be a secret.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: dict[str, str] = {}
    for line in lines:
        name, separator, reference = line.partition("=")
        if not separator and len(names) == 1:
            name, reference = names[0], line
        if name.strip() not in names or not _REFERENCE.fullmatch(reference.strip()):
            # Should it be the value after all.
            mask_secret(line)
            mask_secret(reference.strip() or line)
            raise InvalidInputError(
                "what was written does not name a connection or variable; write "
                f"{names[0] if names else 'NAME'}=conn:… or =var:…, one a line"
            )
        found[name.strip()] = reference.strip()
    return found


def resolve(secrets: Mapping[str, str]) -> dict[str, SecretStr]:
    """
    Look the values up in Airflow, and have them masked in logs.

    :param secrets: names and references.
    :raises InvalidInputError: one is not there, or empty; names the reference.
    """
    return {name: SecretStr(_value(name, reference)) for name, reference in secrets.items()}


def _value(name: str, reference: str) -> str:
    kind, _, key = reference.partition(":")
    try:
        value = BaseHook.get_connection(key).password if kind == "conn" else Variable.get(key, default=None)
    except AirflowNotFoundException:
        value = None
    if not value:
        missing = "is not there or has no password" if kind == "conn" else "is not there or is empty"
        raise InvalidInputError(f"the secret {name!r} is to come from {reference}, which {missing}")
    mask_secret(value)
    return str(value)
