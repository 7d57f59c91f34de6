"""What a deployment test measured, as tables for the documentation and the terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from demo.standalone import PROJECT
from tests.deployment.blocked_loops import BlockedLoop
from tests.deployment.faults import Fault
from tests.deployment.load import LoadResult

PAGE = PROJECT / "docs" / "deployment.md"


def load_table(result: LoadResult) -> str:
    """Return the figures of the load, as a Markdown table."""
    requests, refused = sum(result.requests.values()), sum(result.refused.values())
    rows: list[tuple[str, str]] = [
        ("runs that waited at once", str(result.most_waiting)),
        ("seconds until all of them were deferred", f"{result.seconds_to_defer:.0f}"),
        ("runs ended within, seconds", f"{result.seconds_ending:.0f}"),
        ("seconds from the last end to the last task's end", f"{result.seconds_to_finish:.0f}"),
        *(
            (
                f"requests to the vendor, {conn_id}",
                f"{count}, of them {result.refused[conn_id]} refused (429)",
            )
            for conn_id, count in result.requests.items()
        ),
        ("share of requests refused", f"{refused / requests:.1%}"),
        ("most requests taken in 60 seconds", _listed(result.most_in_a_minute.values())),
        ("a triggerer's loop was blocked while it took the triggers", _blocked(result.blocked_at_start)),
        ("and afterwards", _blocked(result.blocked)),
        (
            "memory of both triggerers while all waited, MB",
            _range(sample.megabytes for sample in result.held),
        ),
        ("and when all had ended", f"{result.megabytes_in_the_end:.0f}"),
        ("connections to the vendors while all waited", _range(sample.connections for sample in result.held)),
        ("tasks that did not end as they must", str(len(result.problems))),
        ("ends told twice", str(len(result.duplicates))),
    ]
    return _table(("", "measured"), rows)


def fault_table(faults: Sequence[Fault]) -> str:
    """Return how long each recovery took, as a Markdown table."""
    rows = [
        (
            fault.name,
            str(fault.waiting),
            "never" if fault.recovered_after is None else f"{fault.recovered_after:.0f}",
            f"{fault.allowed:.0f}",
            fault.why,
        )
        for fault in faults
    ]
    return _table(("what happens", "tasks wait", "recovered, s", "allowed, s", "which is"), rows)


def publish(table: str, name: str = "") -> None:
    """Show a table; with UPDATE_DOCS=1, write one that has a name into the documentation."""
    sys.stdout.write(f"\n{table}\n")
    if name and os.environ.get("UPDATE_DOCS"):
        _write_into(PAGE, name, table)


def _write_into(page: Path, name: str, table: str) -> None:
    marks = rf"(?<=<!-- {name}:begin -->\n).*(?=\n<!-- {name}:end -->)"
    page.write_text(re.sub(marks, lambda _: table, page.read_text(), flags=re.DOTALL))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _blocked(times: Sequence[BlockedLoop]) -> str:
    if not times:
        return "never"
    longest, worked = max(each.seconds for each in times), max(each.worked for each in times)
    return f"{len(times)} times, at most {longest:.1f} s, without waits for a core {max(0.0, worked):.1f} s"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _range(numbers: Iterable[float]) -> str:
    known = list(numbers)
    return f"{min(known):.0f} to {max(known):.0f}" if known else "not measured"
