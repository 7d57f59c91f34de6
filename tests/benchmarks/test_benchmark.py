"""The short form of the benchmark, which needs real processes: counts, never seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders import OURS
from benchmarks.parts import PARTS, SHORT_PARTS
from benchmarks.report import BEGIN, END, write_into
from benchmarks.results import Lateness, Load, Results

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the short form, and return where it wrote."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, "-m", "benchmarks", "--short", "--out", str(folder)]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return Results.read(folder / "benchmark.json")


@pytest.fixture(scope="module")
def limited(results: Results) -> dict[str, Lateness]:
    return {each.contender: each for each in results.lateness["limit-100"]}


@pytest.fixture(scope="module")
def waiting(results: Results) -> Load:
    (load,) = results.loads["load-1000"]
    return load


def test_no_poll_of_ours_is_refused(limited: dict[str, Lateness]) -> None:
    assert limited["ours"].refused == 0


def test_no_task_of_ours_fails_and_every_end_is_seen(limited: dict[str, Lateness]) -> None:
    assert limited["ours"].failed == 0
    assert len(limited["ours"].lateness) == limited["ours"].count == 100


def test_ours_opens_four_sockets_under_a_budget(limited: dict[str, Lateness]) -> None:
    assert limited["ours"].sockets <= 4


@pytest.mark.parametrize("contender", ["c", "d", "e"])
def test_tasks_of_the_others_fail_under_the_limit(contender: str, limited: dict[str, Lateness]) -> None:
    assert limited[contender].refused > 0
    assert limited[contender].failed > 0


def test_the_others_look_the_connection_up_for_each_trigger(limited: dict[str, Lateness]) -> None:
    assert {each.look_ups for each in limited.values() if each.contender != OURS.letter} == {100}


def test_a_thousand_triggers_of_ours_look_the_connection_up_once(waiting: Load) -> None:
    assert waiting.count == 1000
    assert waiting.look_ups == 1


def test_a_thousand_triggers_of_ours_share_sockets_and_none_fails(waiting: Load) -> None:
    assert waiting.sockets_opened <= 32
    assert waiting.failed == 0
    assert waiting.polls > 0


def test_plots_are_written(folder: Path) -> None:
    assert (folder / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "benchmark.svg").read_text()


def test_the_measured_part_of_a_page_is_replaced_the_rest_kept(tmp_path: Path, results: Results) -> None:
    page = tmp_path / "benchmark.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, results)
    write_into(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert text.count("| ours: this provider |") == len(SHORT_PARTS)


def test_the_short_form_measures_parts_of_the_whole() -> None:
    assert SHORT_PARTS.keys() < PARTS.keys()
