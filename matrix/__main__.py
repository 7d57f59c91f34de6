"""Run the tests on each Airflow and Python that is supported.

`python -m matrix 3.0 3.1-py3.12` runs some, `--lock` resolves the versions anew and runs none. With
`UPDATE_DOCS=1` what came out is written into the documentation; without, the features there must be those
that are found.
Exit status: 0 when everything is as expected, 1 when not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from matrix import table
from matrix.combinations import STACKS, Combination, select
from matrix.environments import install, lock, supports_its_python
from matrix.uv import PROJECT

UPDATE_DOCS = "UPDATE_DOCS"
FAILURES = 1  # pytest's exit status if tests failed
# What needs Airflow's processes, or measures, has its own targets; the matrix itself is not what it tests.
LEFT_OUT = (
    "tests/benchmarks",
    "tests/deployment",
    "tests/docs/test_versions.py",
    "tests/e2e",
    # They hold what no process can hand over to another, such as half a surrogate pair.
    "tests/hostile",
    "tests/matrix",
)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m matrix")
    parser.add_argument("names", nargs="*", help="3.0, 3.0-lowest, 3.1-py3.12 and the like; default: all")
    parser.add_argument("--lock", action="store_true", help="resolve the versions anew, and run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.lock:
        for stack in STACKS:
            lock(stack)
        return 0
    rows, problems = [], []
    for combination in select(chosen.names):
        try:
            row = run(combination)
        except subprocess.CalledProcessError as error:
            problems.append(f"{combination.name}: {error}")
            continue
        if row is not None:
            rows.append(row)
            problems += take_down(row)
    if rows:
        print(table.make(rows))  # noqa: T201 - the command's result
    elif not problems:
        problems.append("Nothing was run: this machine has no Python for it")
    for problem in problems:
        say(problem)
    return 1 if problems else 0


def take_down(row: table.Row) -> list[str]:
    """Compare a row with the documentation, or write it there, and return what is wrong."""
    name = " / ".join(row.key)
    problems = [f"{row.failed} tests failed with {name}"] if row.failed else []
    if os.environ.get(UPDATE_DOCS):
        table.write(table.merge(table.read(), [row]))
    elif row.features not in [other.features for other in table.read() if other.key == row.key]:
        problems.append(f"docs/versions.md is not right about {name}: {UPDATE_DOCS}=1 writes it anew")
    return problems


def run(combination: Combination) -> table.Row | None:
    """
    Run the tests of one combination, and return what came out; None if its Airflow is not for its Python.

    :raises subprocess.CalledProcessError: the environment could not be made, or the tests not be run.
    """
    began = time.monotonic()
    python = install(combination)
    if not supports_its_python(combination):
        say(f"{combination.name}: this Airflow is not for this Python")
        return None
    with tempfile.TemporaryDirectory(prefix="agentruns-matrix-") as home:
        # Whatever the caller's own Airflow is told must not reach this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
        environment |= {"AIRFLOW_HOME": home, "PATH": path}
        environment.pop(UPDATE_DOCS, None)
        # Airflow 3.0 prints its log lines before.
        found = json.loads(_run(python, environment, "-W", "ignore", "-m", "tests.features").splitlines()[-1])
        say(f"{combination.name}: testing Airflow {found['airflow']}")
        report = Path(home) / "report.xml"
        left_out = [f"--ignore={path}" for path in LEFT_OUT]
        # The tests wait more than they compute, but some have deadlines: no more than there are cores.
        parallel = ["--numprocesses=auto", "--dist=worksteal"]
        options = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *parallel, *left_out, "tests"]
        done = subprocess.run(  # noqa: S603 - our own arguments
            [python, "-m", "pytest", *options], cwd=PROJECT, env=environment, check=False
        )
        if done.returncode not in {0, FAILURES}:
            done.check_returncode()
        counts = count(report)
    row = table.Row(
        found["airflow"], combination.stack.dependencies, found["python"], found["features"], *counts
    )
    say(f"{combination.name}: {row.passed} passed, {row.failed} failed, {time.monotonic() - began:.0f} s")
    return row


def count(report: Path) -> tuple[int, int, int]:
    """
    Return how many tests passed, were skipped and failed.

    :param report: JUnit's XML.
    """
    totals = dict.fromkeys(("tests", "skipped", "failures", "errors"), 0)
    for suite in ET.parse(report).iter("testsuite"):  # noqa: S314 - our own file
        for name in totals:
            totals[name] += int(suite.get(name, 0))
    failed = totals["failures"] + totals["errors"]
    return totals["tests"] - totals["skipped"] - failed, totals["skipped"], failed


def say(text: str) -> None:
    """Tell on the terminal how it goes."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command talks


def _run(python: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own arguments
        [python, *arguments], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
