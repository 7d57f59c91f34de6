"""Programs that tests need and that are no Python packages: installed from Debian's packages when missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

_INSTALL_SECONDS = 600


class ProgramsMissingError(RuntimeError):
    """A program is not there and could not be installed."""


def ensure_installed(
    packages: Mapping[str, str], find_program: Callable[[str], str | None] = shutil.which
) -> None:
    """
    Install the packages of the programs that are missing, which takes root.

    :param packages: the Debian package of each program.
    :param find_program: tells where a program is, None if it is not there.
    :raises ProgramsMissingError: that takes root, or apt-get failed.
    """
    missing = sorted({package for name, package in packages.items() if find_program(name) is None})
    if not missing:
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ProgramsMissingError(f"{' and '.join(missing)} must be installed; as root: {command}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["apt-get", "--quiet", "update"], [*command.split(), "--quiet", "--yes"]):
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
        )
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ProgramsMissingError(
                f"could not install {' and '.join(missing)}: {' '.join(arguments)}: {' '.join(reason)}"
            )
