"""What a run will do: named scenarios, their options, the directive that asks for one in an input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

SCENARIOS = ("succeed", "fail", "cancel", "unknown", "wait", "never")
ENDINGS = ("succeed", "fail", "cancel")
DRAFTS = ("plan", "report", "matrix", "visual-map")
HUMAN_PARTS = (*DRAFTS, "secret", "browser")

_DIRECTIVE = re.compile(r'\[sim:((?:[^\]"]|"(?:\\.|[^"\\])*")*)\]', re.DOTALL)
_ITEM = re.compile(r'\s*(\w+)\s*(?:=\s*("(?:\\.|[^"\\])*"|[^,"]*?))?\s*(?:,|$)', re.DOTALL)


class ScenarioError(ValueError):
    """Tell who asked for a scenario why there is no such one."""


class ScenarioOptions(TypedDict, total=False):
    """The options of a scenario, as `create_run`, the control plane and the directive take them.

    Durations are in seconds. See the simulator's documentation page for what each one does.
    """

    duration: float
    output: str
    error: str
    human: str
    then: str
    secrets: str
    question: str
    status: str
    unknown_seconds: float
    event_names: str
    events: str
    output_in: str
    failed_status: str
    waiting_status: str
    process_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What one run will do; `name` and the options, checked."""

    name: str = "succeed"
    duration: float | None = None
    output: str | None = None
    error: str | None = None
    human: tuple[str, ...] = ()
    then: str = "succeed"
    secrets: tuple[str, ...] = ("EXAMPLE_API_KEY",)
    question: str = "Which account should I use?"
    status: str = "Hibernating"
    unknown_seconds: float | None = None
    event_names: str = "documented"
    events: str = "documented"
    output_in: str | None = None
    failed_status: str = "failed"
    waiting_status: str = "completed"
    process_bytes: int = 0

    @property
    def ending(self) -> str | None:
        """How the run ends: one of `ENDINGS`, or None if it never does."""
        if self.name == "never" or (self.name == "unknown" and self.unknown_seconds is None):
            return None
        return self.name if self.name in ENDINGS else self.then


def make_scenario(name: str, options: Mapping[str, object], vendor: str) -> Scenario:
    """Check a scenario's name and options.

    :raises ScenarioError: unknown name, unknown option, or a value the option does not take.
    """
    if name not in SCENARIOS:
        raise ScenarioError(f"Unknown scenario {name!r}: expected one of {', '.join(SCENARIOS)}")
    if unknown := sorted(set(options) - set(_PARSERS)):
        raise ScenarioError(f"Unknown scenario option {unknown[0]!r}: expected one of {', '.join(_PARSERS)}")
    if name == "wait" and vendor == "flowyble":
        raise ScenarioError("Flowyble documents no human's part: the scenario 'wait' is Snorbe's only")
    values: dict[str, object] = {}
    for option, given in options.items():
        try:
            values[option] = _PARSERS[option](given)
        except (TypeError, ValueError) as error:
            raise ScenarioError(f"Scenario option {option}={given!r}: {error}") from error
    if name == "wait":
        values.setdefault("human", ("plan",))
    elif values.get("human"):
        raise ScenarioError(f"The option 'human' belongs to the scenario 'wait', not to {name!r}")
    return Scenario(name=name, **values)  # type: ignore[arg-type]  # each parser returns its field's type


def parse_scenario(text: str, vendor: str) -> Scenario:
    """Read `fail, duration=2, error="message"`.

    :raises ScenarioError: when the text does not parse or asks for something unknown.
    """
    name, options, end = "", {}, 0
    while end < len(text):
        item = _ITEM.match(text, end)
        if item is None:
            raise ScenarioError(f"Cannot read {text[end:]!r} in the scenario {text!r}")
        key, value, end = item[1], item[2], item.end()
        if value is None:
            if name:
                raise ScenarioError(f"Two scenario names, {name!r} and {key!r}, in {text!r}")
            name = key
        elif key in options:
            raise ScenarioError(f"The option {key!r} is given twice in {text!r}")
        else:
            options[key] = _unquote(value)
    return make_scenario(name or "succeed", options, vendor)


def find_scenario(value: object, vendor: str) -> Scenario | None:
    """Read the first directive, such as `[sim: fail]`, in any text within a JSON value; None without one.

    :raises ScenarioError: when there is one and it does not parse.
    """
    for text in _texts(value):
        if "[sim:" in text:
            if found := _DIRECTIVE.search(text):
                return parse_scenario(found[1].strip(), vendor)
            raise ScenarioError("The directive [sim: …] is not closed")
    return None


def without_directive(text: str) -> str:
    """Return the text without its directives, so that an answer that quotes it directs no further run."""
    return _DIRECTIVE.sub("", text).strip()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value, strict=False))
    except json.JSONDecodeError as error:
        raise ScenarioError(f"Cannot read the quoted text {value}: {error.msg}") from error


def _seconds(value: object) -> float:
    number = float(_plain(value))
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return number


def _count(value: object) -> int:
    number = int(_plain(value))
    if number < 0:
        raise ValueError("must be 0 or more")
    return number


def _plain(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("must be a text or a number")
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a text")
    return value


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return parse


def _names(value: object) -> tuple[str, ...]:
    names = tuple(part.strip() for part in re.split(r"[+,]", _text(value)))
    if not all(names):
        raise ValueError("must be names joined with '+'")
    return names


def _human(value: object) -> tuple[str, ...]:
    return tuple(_one_of(*HUMAN_PARTS)(name) for name in _names(value))


_PARSERS: dict[str, Callable[[object], object]] = {
    "duration": _seconds,
    "output": _text,
    "error": _text,
    "human": _human,
    "then": _one_of(*ENDINGS),
    "secrets": _names,
    "question": _text,
    "status": _text,
    "unknown_seconds": _seconds,
    "event_names": _one_of("documented", "hyphen", "underscore"),
    "events": _one_of("documented", "flat", "wrapped"),
    "output_in": _one_of("complete", "report", "deltas", "responseText"),
    "failed_status": _one_of("failed", "error"),
    "waiting_status": _one_of("completed", "pending", "running"),
    "process_bytes": _count,
}
