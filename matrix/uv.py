"""Call uv, which makes the environments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def uv(*arguments: str | Path, **environment: str) -> str:
    """
    Run the uv of the project's environment in the project's folder, and return what it prints.

    :raises subprocess.CalledProcessError: it failed; its errors are on the terminal.
    """
    command = [Path(sys.executable).with_name("uv"), *arguments]
    done = subprocess.run(  # noqa: S603 - our own arguments
        command, cwd=PROJECT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout
