from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_agentruns.client.exceptions import InvalidInputError
from airflow_provider_agentruns.client.models import Run, RunRef, RunStatus, Usage, check_run_id
from airflow_provider_agentruns.vendors.base import path_segment


def test_only_an_ended_run_is_terminal() -> None:
    terminal = {status for status in RunStatus if status.is_terminal}
    assert terminal == {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}


@given(st.text(max_size=300))
def test_a_run_id_is_refused_or_stays_one_segment_of_the_path(text: str) -> None:
    try:
        run_id = check_run_id(text)
    except InvalidInputError:
        return
    url = urlsplit(f"https://api.example.com/v1/run/{path_segment(run_id)}/status")
    assert url.netloc == "api.example.com"
    assert url.query == ""
    assert url.fragment == ""
    segments = url.path.split("/")
    assert segments[:3] == ["", "v1", "run"]
    assert [unquote(segments[3]), *segments[4:]] == [run_id, "status"]
    assert segments[3].strip(".")


@pytest.mark.parametrize("value", [None, "", "None", "null"])
def test_a_run_id_that_a_template_did_not_find_says_so(value: str | None) -> None:
    with pytest.raises(InvalidInputError, match="gave nothing"):
        check_run_id(value)


@pytest.mark.parametrize(
    "value",
    ["..", "../../admin", "http://169.254.169.254/", "a\r\nX-Key: b", "run id", "x" * 10_000, "ran\u202e", 5],
)
def test_a_hostile_run_id_is_refused_in_one_short_line(value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_run_id(value)
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


def test_a_summary_is_json_data_without_the_output() -> None:
    run = Run(
        vendor="flowyble",
        run_id="r1",
        status=RunStatus.SUCCEEDED,
        raw_status="Completed",
        output={"large": "x" * 1000},
        usage=Usage(steps=3, tokens=120, actions=2, credits=0.5),
    )
    summary = run.summary()
    assert summary["run_id"] == "r1"
    assert summary["status"] == "succeeded"
    assert summary["raw_status"] == "Completed"
    assert summary["usage"] == {"steps": 3, "tokens": 120, "actions": 2, "credits": 0.5}
    assert "output" not in summary
    assert run.ref == RunRef(run_id="r1", kind="agent")
