"""Measure and show: ``python -m benchmarks [--short] [--only PART] [--out FOLDER] [--strict]``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.parts import PARTS, SHORT_PARTS, versions
from benchmarks.plot import draw
from benchmarks.report import show, write_into
from benchmarks.results import Results
from benchmarks.targets import targets

_PAGE = 150


def main() -> int:
    """Run the benchmark, and return whether a target was missed that must not be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="leave out what takes long")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this part; may be given again"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="write JSON and plots here, into what is there already, and the tables of benchmark.md",
    )
    parser.add_argument("--strict", action="store_true", help="fail if a target is missed")
    arguments = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console.width = _PAGE
    parts = SHORT_PARTS if arguments.short else PARTS
    written: Path | None = arguments.out and arguments.out / "benchmark.json"
    results = Results.read(written) if arguments.only and written and written.exists() else Results()
    results.versions = versions()
    for name in arguments.only or parts:
        for step in parts[name](results):
            console.print(f"{time.strftime('%X')} {name}: {step}", style="dim")
    show(results, console)
    if written:
        written.parent.mkdir(parents=True, exist_ok=True)
        results.write(written)
        draw(results, written.parent)
        if (page := written.with_suffix(".md")).exists():
            write_into(page, results)
    return 1 if arguments.strict and not all(each.is_reached for each in targets(results)) else 0


if __name__ == "__main__":
    sys.exit(main())
