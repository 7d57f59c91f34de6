"""Which Airflow is tested with which dependencies, on which Python."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matrix.uv import uv

PYTHONS = ("3.11", "3.12", "3.13")
NEWEST = "newest"


class Stack(NamedTuple):
    """
    An Airflow and what is installed with it, resolved into a lock file.

    :param name: of the lock file, and for the command line.
    :param airflow: the version, None for the newest, which the project's own lock file has.
    :param released: the day of that release. Its dependencies are as they were then, as in the constraints
        that Airflow publishes: what came later broke some of them.
    :param has_lowest: whether the package's own dependencies are the oldest that it allows.
    :param pythons: the versions of Python to test on.
    """

    name: str
    airflow: str | None = None
    released: str | None = None
    has_lowest: bool = False
    pythons: Sequence[str] = PYTHONS

    @property
    def dependencies(self) -> str:
        """Say which dependencies it has."""
        if self.has_lowest:
            return "lowest allowed"
        return "as of its release" if self.released else NEWEST


STACKS = (
    Stack("3.0-lowest", "3.0.4", "2025-08-08", has_lowest=True, pythons=PYTHONS[:1]),
    Stack("3.0", "3.0.4", "2025-08-08"),
    Stack("3.1", "3.1.0", "2025-09-25"),
    Stack("3.2", "3.2.0", "2026-04-07"),
    Stack("3.3"),
)


class Combination(NamedTuple):
    """
    A stack on a Python.

    :param interpreter: the Python's executable.
    """

    stack: Stack
    python: str
    interpreter: Path

    @property
    def name(self) -> str:
        """Return its name for the command line, and of its environment's folder."""
        return f"{self.stack.name}-py{self.python}"


def select(wanted: Sequence[str]) -> list[Combination]:
    """
    Return the combinations that this machine can run.

    :param wanted: names or their beginnings: ``3.0``, ``3.0-lowest``, ``3.1-py3.12``; all if there is none.
    :raises SystemExit: a name means none.
    """
    found: list[Combination] = []
    used: set[str] = set()
    interpreters = {python: find_interpreter(python) for python in PYTHONS}
    for stack in STACKS:
        for python in stack.pythons:
            interpreter = interpreters[python]
            combination = Combination(stack, python, interpreter or Path())
            names = [name for name in wanted if f"{combination.name}-".startswith(f"{name}-")]
            used.update(names)
            if interpreter and (names or not wanted):
                found.append(combination)
    if unknown := set(wanted) - used:
        raise SystemExit(f"No combination begins with {', '.join(sorted(unknown))}")
    return found


def find_interpreter(python: str) -> Path | None:
    """
    Find a Python on this machine; none is downloaded.

    :param python: its minor version.
    """
    # Where pyenv keeps them; on the PATH it has a stand-in that works for one version only.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [str(folder) for folder in sorted(pyenv.glob(f"versions/{python}.*/bin"))]
    path = os.pathsep.join([*folders, os.environ.get("PATH", "")])
    try:
        found = uv("python", "find", "--system", "--no-python-downloads", python, PATH=path)
    except subprocess.CalledProcessError:
        return None
    return Path(found.strip())
