"""Resolve a stack into its lock file, and install that."""

from __future__ import annotations

import tempfile
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

from matrix.combinations import Combination, Stack
from matrix.uv import PROJECT, uv

ENVIRONMENTS = PROJECT / ".matrix"
NEWEST_VERSIONS = PROJECT / "requirements-dev.lock"
# Newer than the Airflow it is installed with, as the package needs it.
_AS_NEW_AS_POSSIBLE = "apache-airflow-providers-common-compat"


def lock_file(stack: Stack) -> Path:
    """Return where the versions of a stack are."""
    return PROJECT / "matrix" / f"airflow-{stack.name}.lock"


def lock(stack: Stack) -> None:
    """
    Resolve a stack's versions for all its Pythons into its lock file.

    :raises subprocess.CalledProcessError: there is no such set of versions.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        if stack.airflow is None:
            constraints = NEWEST_VERSIONS
        else:
            constraints.write_text(f"apache-airflow=={stack.airflow}\n")
        if stack.has_lowest:
            # In two steps: the lowest version of a tool for tests, which names none, is of no use.
            lowest = Path(folder) / "lowest.txt"
            _compile(stack, constraints, lowest, "--resolution", "lowest-direct")
            constraints = lowest
        _compile(stack, constraints, lock_file(stack), "--group", "matrix")


def _compile(stack: Stack, constraints: Path, output: Path, *options: str) -> None:
    if stack.released:
        options = (
            *options,
            f"--exclude-newer={stack.released}",
            f"--exclude-newer-package={_AS_NEW_AS_POSSIBLE}=false",
        )
    uv(
        *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--upgrade"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", *options),
        *("--constraint", constraints, "--output-file", output, "pyproject.toml"),
    )


def install(combination: Combination) -> Path:
    """
    Make the environment of a combination, or bring it up to its lock file.

    :return: its Python.
    :raises subprocess.CalledProcessError: that failed.
    """
    folder = ENVIRONMENTS / combination.name
    python = folder / "bin" / "python"
    if not python.exists():
        uv("venv", "--quiet", "--clear", "--python", combination.interpreter, folder)
    uv("pip", "sync", "--quiet", "--python", python, lock_file(combination.stack))
    uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ".")
    return python


def supports_its_python(combination: Combination) -> bool:
    """Tell whether the Airflow that was installed is for the Python of its environment."""
    packages = ENVIRONMENTS / combination.name / "lib" / f"python{combination.python}" / "site-packages"
    [airflow] = distributions(name="apache-airflow-core", path=[str(packages)])
    return f"{combination.python}.0" in SpecifierSet(airflow.metadata["Requires-Python"])
