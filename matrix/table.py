"""The table of versions and features in the documentation: its rows, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matrix.combinations import NEWEST
from matrix.uv import PROJECT

PAGE = PROJECT / "docs" / "versions.md"
_TABLE = re.compile(r"(?<=<!-- table:begin -->\n).*(?=\n<!-- table:end -->)", re.DOTALL)
_MARKS = {True: "yes", False: "no"}
_KEYS = ("Airflow", "dependencies", "Python")
_COUNTS = ("passed", "skipped", "failed")


class Row(NamedTuple):
    """
    What one combination has, and how its tests went.

    :param features: by their titles, whether they are there.
    """

    airflow: str
    dependencies: str
    python: str
    features: Mapping[str, bool]
    passed: int
    skipped: int
    failed: int

    @property
    def key(self) -> tuple[str, ...]:
        """Return what tells it from other rows, in the order of the table."""
        return self.airflow, self.dependencies, self.python

    @property
    def place(self) -> tuple[str, ...]:
        """Return what it shares with the row of a patch release that takes its place."""
        line = NEWEST if self.dependencies == NEWEST else self.airflow.rpartition(".")[0]
        return line, self.dependencies, self.python

    @property
    def order(self) -> tuple[object, ...]:
        """Return by what the table is sorted."""
        numbers = [[int(part) for part in version.split(".")] for version in (self.airflow, self.python)]
        return numbers[0], self.dependencies, numbers[1]


def read() -> list[Row]:
    """Return the rows of the documentation's table."""
    [table] = _TABLE.findall(PAGE.read_text())
    head, _, *lines = [_cells(line) for line in table.splitlines()]
    titles = head[len(_KEYS) : -len(_COUNTS)]
    return [_row(titles, line) for line in lines]


def _row(titles: list[str], cells: list[str]) -> Row:
    airflow, dependencies, python, *marks = cells[: -len(_COUNTS)]
    passed, skipped, failed = map(int, cells[-len(_COUNTS) :])
    features = {title: mark == _MARKS[True] for title, mark in zip(titles, marks, strict=True)}
    return Row(airflow, dependencies, python, features, passed, skipped, failed)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def merge(rows: Iterable[Row], newer: Sequence[Row]) -> list[Row]:
    """
    Return all rows in their order, the newer in place of the older.

    :param newer: of one run.
    """
    titles = set(newer[0].features)
    # A row that knows nothing of a feature cannot tell about it.
    by_place = {row.place: row for row in rows if set(row.features) == titles}
    by_place |= {row.place: row for row in newer}
    return sorted(by_place.values(), key=lambda row: row.order)


def make(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    head = [*_KEYS, *rows[0].features, *_COUNTS]
    lines = [
        [*row.key, *(_MARKS[there] for there in row.features.values())]
        + [str(count) for count in (row.passed, row.skipped, row.failed)]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def write(rows: Sequence[Row]) -> None:
    """Put a table of the rows into the documentation."""
    PAGE.write_text(_TABLE.sub(lambda _: make(rows), PAGE.read_text()))
