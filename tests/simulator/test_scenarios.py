from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airflow_provider_agentruns.simulator.scenarios import (
    SCENARIOS,
    Scenario,
    ScenarioError,
    ScenarioOptions,
    find_scenario,
    make_scenario,
    parse_scenario,
    without_directive,
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_parses_by_its_name_alone(name: str) -> None:
    assert parse_scenario(name, "snorbe").name == name


def test_options_are_the_fields_of_a_scenario() -> None:
    fields = {field.name for field in dataclasses.fields(Scenario)} - {"name"}
    assert ScenarioOptions.__optional_keys__ == fields


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"name": "succeed"}),
        ("duration=2", {"name": "succeed", "duration": 2.0}),
        ('fail, duration = 2.5 ,error="a, b ] \\"c\\"\\n"', {"duration": 2.5, "error": 'a, b ] "c"\n'}),
        ("succeed, output=", {"output": ""}),
        ("wait", {"human": ("plan",)}),
        ("wait, human=plan+report", {"human": ("plan", "report")}),
        ("wait, human=secret, secrets=A+B", {"secrets": ("A", "B")}),
        ("unknown, unknown_seconds=3, then=cancel", {"unknown_seconds": 3.0, "then": "cancel"}),
    ],
)
def test_options_are_read(text: str, expected: dict[str, object]) -> None:
    scenario = parse_scenario(text, "snorbe")
    assert {name: getattr(scenario, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("explode", "Unknown scenario 'explode': expected one of succeed, fail"),
        ("fail, speed=2", "Unknown scenario option 'speed': expected one of duration, output"),
        ("fail, succeed", "Two scenario names"),
        ("fail, error=a, error=b", "given twice"),
        ("fail, duration=-1", "duration='-1': must be a number of seconds"),
        ("fail, duration=inf", "must be a number of seconds"),
        ("fail, duration=nan", "must be a number of seconds"),
        ("wait, human=plan+boss", "must be one of plan, report"),
        ("wait, human=plan+", "joined with"),
        ("fail, human=plan", "belongs to the scenario 'wait'"),
        ("succeed, output_in=email", "must be one of complete, report"),
        ('fail, error="open', "Cannot read"),
        ('fail, error="bad \\q"', "Cannot read the quoted text"),
        ("fail; duration=2", "Cannot read"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "snorbe")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("value", [[1], True, None, {}])
def test_options_of_the_wrong_type_are_refused(value: Any) -> None:
    with pytest.raises(ScenarioError, match="duration"):
        make_scenario("succeed", {"duration": value}, "snorbe")


@pytest.mark.parametrize(
    "value",
    [
        "do it [sim: fail] please",
        {"a": [1, {"b": "x [sim: fail]"}]},
        {"[sim: fail]": None},
        ["first", "[sim: fail] [sim: cancel]"],
    ],
)
def test_directive_is_found_in_any_text_of_the_input(value: object) -> None:
    found = find_scenario(value, "flowyble")
    assert found is not None
    assert found.name == "fail"


@pytest.mark.parametrize("value", ["", "a simulation [similar: fail]", {"a": 1}, None, 5])
def test_no_directive_is_no_scenario(value: object) -> None:
    assert find_scenario(value, "flowyble") is None


def test_answer_does_not_repeat_the_directive() -> None:
    assert without_directive('ask [sim: fail, error="a ]"] this') == "ask  this"
