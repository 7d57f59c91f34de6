"""Show what the demo is doing: a live display in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
import types
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from demo.airflow_resources import TaskInstance

_WIDTH_WITHOUT_TERMINAL = 150
# The states in between last for less than a second and would only make a log of lines longer.
_WORTH_A_LINE = frozenset({"deferred", "success", "failed", "skipped", "up_for_retry", "upstream_failed"})
_STYLES = {
    "running": "cyan",
    "deferred": "magenta",
    "success": "green",
    "failed": "bold red",
    "upstream_failed": "red",
    "up_for_retry": "yellow",
    "skipped": "bright_black",
}


def make_console() -> Console:
    """Make the console that everything is written to."""
    console = Console(highlight=False, emoji=False, markup=False)
    return (
        console
        if console.is_terminal
        else Console(highlight=False, emoji=False, markup=False, width=_WIDTH_WITHOUT_TERMINAL)
    )


class Progress:
    """The phases of the demo, one after the other, and the tasks of the DAG runs while they run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots")
        self._demo_began = self._phase_began = time.monotonic()
        self._title = ""
        self._detail = ""
        self._tasks: dict[str, Sequence[TaskInstance]] = {}
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            # It draws once already when it is made, so this comes last.
            self._live = Live(console=console, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if error is None:
            self._end_phase()
        if self._live:
            self._live.stop()

    def begin(self, title: str) -> None:
        """Begin a phase; the one before is done."""
        self._end_phase()
        self._title, self._detail, self._phase_began = title, "", time.monotonic()
        if not self._live:
            self._line(f"{title} ...")

    def detail(self, text: str) -> None:
        """Tell what the phase is waiting for at the moment."""
        if text != self._detail:
            self._detail = text
            if not self._live:
                self._line(f"  {text}")

    def tasks(self, label: str, tasks: Sequence[TaskInstance]) -> None:
        """Show the states of a DAG run's tasks."""
        before = {task.name: task.state for task in self._tasks.get(label, ())}
        self._tasks[label] = tasks
        if self._live:
            self._live.refresh()
        else:
            changed = [task for task in tasks if task.state != before.get(task.name)]
            worth_it = [f"{task.name} {task.state}" for task in changed if task.state in _WORTH_A_LINE]
            if worth_it:
                self._line(f"  {label}: {', '.join(worth_it)}")

    def _end_phase(self) -> None:
        if self._title:
            took = time.monotonic() - self._phase_began
            self._line(f"{self._title}: done in {took:.0f} s")
        self._title = ""
        self._tasks = {}

    def _line(self, text: str) -> None:
        since_start = time.monotonic() - self._demo_began
        self._console.print(Text(f"[{since_start:4.0f} s] {text}"), soft_wrap=True)

    def _render(self) -> RenderableType:
        took = time.monotonic() - self._phase_began
        self._spinner.update(text=Text.assemble(f" {self._title} ", (f"{took:.0f} s  {self._detail}", "dim")))
        if not self._tasks:
            return self._spinner
        table = Table.grid(padding=(0, 2))
        # A copy: Live draws in a thread of its own while tasks are added.
        for label, tasks in list(self._tasks.items()):
            table.add_row(Text(f"   {label}"), Text("  ").join(_task_text(task) for task in tasks))
        return Group(self._spinner, table)


def _task_text(task: TaskInstance) -> Text:
    state = task.state or "not yet"
    return Text.assemble(f"{task.name} ", (state, _STYLES.get(state, "dim")))
