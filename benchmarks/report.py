"""Show results as tables: in a terminal and in the docs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ALL, NO_OP
from benchmarks.results import Lateness, Load, Results, quantile
from benchmarks.targets import targets

BEGIN, END = "<!-- measured: `make bench` writes from here -->", "<!-- to here -->"
_TITLES = {each.letter: each.title for each in (*ALL, NO_OP)}


class Sheet(NamedTuple):
    """A table of figures, the first column text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(results: Results) -> Iterator[Sheet]:
    """Return all that was measured."""
    reached = [
        (
            each.name,
            each.unit.format(each.reached),
            f"≤ {each.unit.format(each.limit)}",
            "yes" if each.is_reached else "NO",
        )
        for each in targets(results)
    ]
    yield Sheet("Targets", ("what", "measured", "target", "reached"), reached)
    columns = ("", "requests", "refused", "most in 60 s", "tasks failed", "sockets", "look-ups", *_LATENESS)
    for part, measured in results.lateness.items():
        rows = [_lateness_row(each) for each in measured]
        rows += [("ideal round robin", *[""] * 6, *_quantiles(ideal)) for ideal in results.ideal[part]]
        yield Sheet(_PARTS[part], columns, rows)
    load_columns = (
        "",
        "polls/s",
        "CPU s per 1,000 polls",
        "kB per run",
        "sockets at once",
        "opened",
        "look-ups",
        "s until all are polled",
        "loop lag p99, ms",
        "max",
        "max at start",
        "garbage collector",
    )
    for part, loads in results.loads.items():
        yield Sheet(_PARTS[part], load_columns, [_load_row(each) for each in loads])


_LATENESS = ("lateness mean, s", "p50", "p95", "max")
_PARTS = {
    "limit-10": "10 runs on one key, 100 requests per 60 s",
    "limit-100": "100 runs on one key, 100 requests per 60 s",
    "limit-1000": "1,000 runs on one key, 100 requests per 60 s",
    "three-kinds": "99 runs of three kinds on one key: nothing known, then a second batch",
    "load-1000": "1,000 waiting, no limit, each asked every 2 s",
    "load-10000": "10,000 waiting, no limit, each asked every 20 s",
}


def _lateness_row(each: Lateness) -> tuple[str, ...]:
    failed = f"{each.failed} of {each.count}"
    counts = (each.requests, each.refused, each.most_in_a_minute, failed, each.sockets, each.look_ups)
    return (_name(each.contender), *map(str, counts), *_quantiles(each.lateness))


def _quantiles(lateness: Sequence[float]) -> tuple[str, ...]:
    if not lateness:
        return ("-",) * len(_LATENESS)
    figures = (
        fmean(lateness),
        quantile(lateness, 0.5),
        quantile(lateness, 0.95),
        max(lateness),
    )
    return tuple(f"{figure:.1f}" for figure in figures)


def _load_row(each: Load) -> tuple[str, ...]:
    return (
        _name(each.contender),
        f"{each.polls / each.seconds:.0f}",
        f"{each.cpu_per_poll * 1000:.2f}" if each.polls else "-",
        f"{each.memory / 1000:.1f}",
        str(each.sockets),
        str(each.sockets_opened),
        str(each.look_ups),
        f"{each.seconds_to_first_polls:.0f}" if each.polls else "-",
        *(
            f"{lag * 1000:.0f}"
            for lag in (each.lag_p99, each.lag_max, each.lag_max_start, each.collection_max)
        ),
    )


def _name(letter: str) -> str:
    return f"{letter}: {_TITLES[letter]}"


def show(results: Results, console: Console) -> None:
    """Print all tables."""
    for sheet in sheets(results):
        table = Table(title=sheet.title, title_justify="left")
        for number, column in enumerate(sheet.columns):
            if number:
                table.add_column(column, justify="right")
            else:
                table.add_column(column, no_wrap=True)
        for row in sheet.rows:
            table.add_row(*row, style="red" if row[-1] == "NO" else None)
        console.print(table)


def write_into(page: Path, results: Results) -> None:
    """Replace the measured part of a page of the docs."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = chain.from_iterable(_markdown(sheet) for sheet in sheets(results))
    tools = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    page.write_text("\n".join([before + BEGIN, f"Measured with {tools}.", "", *lines, END + after]))


def _markdown(sheet: Sheet) -> Iterator[str]:
    yield f"### {sheet.title}"
    yield ""
    yield f"| {' | '.join(sheet.columns)} |"
    yield f"| --- |{' ---: |' * (len(sheet.columns) - 1)}"
    for row in sheet.rows:
        yield f"| {' | '.join(row)} |"
    yield ""
