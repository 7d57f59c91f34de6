"""What tests need that is no Python package, and what they say where it is missing."""

from __future__ import annotations

import os

import pytest

from tests.debian_packages import ProgramsMissingError, ensure_installed


def test_nothing_is_installed_where_nothing_is_missing() -> None:
    ensure_installed({"sh": "dash"})


def test_without_root_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ProgramsMissingError) as caught:
        ensure_installed({"no-such-server": "no-such-package"})
    assert str(caught.value) == (
        "no-such-package must be installed; as root: apt-get install --no-install-recommends no-such-package"
    )
