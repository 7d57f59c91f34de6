"""What the matrix does around the tests that it runs: which it takes, how it counts, what it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from matrix import combinations, table
from matrix.__main__ import count, take_down
from matrix.combinations import NEWEST, PYTHONS, STACKS, find_interpreter, select
from matrix.environments import lock_file
from matrix.table import Row
from matrix.uv import PROJECT


def _row(airflow: str, python: str, *, has_it: bool = True, passed: int = 1, released: bool = True) -> Row:
    dependencies = "as of its release" if released else NEWEST
    return Row(airflow, dependencies, python, {"waits": True, "retry policy": has_it}, passed, 0, 0)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    page = tmp_path / "versions.md"
    page.write_text("Before\n<!-- table:begin -->\n| a |\n<!-- table:end -->\nAfter\n")
    monkeypatch.setattr(table, "PAGE", page)
    return page


def test_what_is_written_is_read_again(page: Path) -> None:
    rows = [_row("3.0.4", "3.11", has_it=False), _row("3.3.2", "3.12", passed=1700)]
    table.write(rows)
    assert table.read() == rows
    assert page.read_text().startswith("Before\n")
    assert page.read_text().endswith("\nAfter\n")


def test_a_run_of_some_keeps_the_rows_of_others_in_order() -> None:
    older = [_row("3.0.4", "3.11"), _row("3.10.0", "3.11"), _row("3.2.0", "3.9"), _row("3.2.0", "3.11")]
    merged = table.merge(older, [_row("3.2.0", "3.11", passed=9)])
    assert [(row.airflow, row.python, row.passed) for row in merged] == [
        ("3.0.4", "3.11", 1),
        ("3.2.0", "3.9", 1),
        ("3.2.0", "3.11", 9),
        ("3.10.0", "3.11", 1),
    ]


def test_rows_that_know_nothing_of_a_new_feature_are_left_out() -> None:
    newer = Row("3.3.2", "newest", "3.11", {"waits": True, "new": True}, 1, 0, 0)
    assert table.merge([_row("3.0.4", "3.11")], [newer]) == [newer]


def test_a_patch_release_and_a_newest_release_take_the_place_of_the_one_before() -> None:
    older = [_row("3.0.4", "3.11"), _row("3.3.2", "3.11", released=False)]
    newer = [_row("3.0.6", "3.11"), _row("3.4.0", "3.11", released=False)]
    assert table.merge(older, newer) == newer


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["3.0"], ["3.0-lowest-py3.11", "3.0-py3.11", "3.0-py3.12", "3.0-py3.13"]),
        (["3.0-lowest"], ["3.0-lowest-py3.11"]),
        (["3.1-py3.12", "3.3-py3.11"], ["3.1-py3.12", "3.3-py3.11"]),
    ],
)
def test_combinations_are_picked_by_how_their_names_begin(
    wanted: list[str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combinations, "find_interpreter", lambda _: Path(sys.executable))
    assert [combination.name for combination in select(wanted)] == names


def test_a_python_that_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(python: str) -> Path | None:
        return Path(sys.executable) if python == "3.12" else None

    monkeypatch.setattr(combinations, "find_interpreter", find)
    assert [c.name for c in select(["3.1"])] == ["3.1-py3.12"]


def test_a_name_that_means_none_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"No combination begins with 3$"):
        select(["3.0", "3"])


def test_the_interpreter_is_one_of_the_machine_and_of_that_version(monkeypatch: pytest.MonkeyPatch) -> None:
    python = ".".join(map(str, sys.version_info[:2]))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    found = find_interpreter(python)
    assert found is not None
    code = "import sys; print(*sys.version_info[:2], sep='.')"
    done = subprocess.run([found, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == python
    assert find_interpreter("3.3") is None


def test_each_pythons_classifier_is_tested() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    for python in PYTHONS:
        assert f"Programming Language :: Python :: {python}" in text


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_each_stack_has_its_airflow_locked(stack: combinations.Stack) -> None:
    newest = (PROJECT / "requirements-dev.lock").read_text()
    [version] = [line for line in newest.splitlines() if line.startswith("apache-airflow==")]
    wanted = f"apache-airflow=={stack.airflow}" if stack.airflow else version
    locked = [line.partition(" ;")[0] for line in lock_file(stack).read_text().splitlines()]
    assert wanted in locked
    assert not [line for line in locked if "://" in line]


def test_a_report_of_tests_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    suite = '<testsuite tests="10" skipped="2" failures="1" errors="3"/>'
    report.write_text(f"<testsuites>{suite}</testsuites>")
    assert count(report) == (4, 2, 4)


def test_features_that_the_documentation_has_wrong_are_told_or_written(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPDATE_DOCS", raising=False)
    table.write([_row("3.0.4", "3.11"), _row("3.1.0", "3.11")])
    assert take_down(_row("3.0.4", "3.11", passed=2)) == []
    found = _row("3.0.4", "3.11", has_it=False)
    [problem] = take_down(found)
    assert "not right about 3.0.4 / as of its release / 3.11" in problem
    monkeypatch.setenv("UPDATE_DOCS", "1")
    assert take_down(found) == []
    assert table.read() == [found, _row("3.1.0", "3.11")]


def test_failed_tests_are_a_problem_whatever_is_written(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDATE_DOCS", "1")
    table.write([_row("3.0.4", "3.11")])
    failed = _row("3.0.4", "3.11")._replace(failed=2)
    assert take_down(failed) == ["2 tests failed with 3.0.4 / as of its release / 3.11"]
    assert table.read() == [failed]
