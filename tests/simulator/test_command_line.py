from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from airflow_provider_agentruns.simulator.__main__ import main

_COMMAND = [sys.executable, "-m", "airflow_provider_agentruns.simulator"]


@contextmanager
def _running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(  # our own command
        [*_COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    banner = ""
    try:
        while "Ctrl+C" not in banner:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            banner += line
        yield process, banner
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_told_to_end_and_ends_cleanly(number: int) -> None:
    with _running() as (process, banner):
        (url,) = re.findall(r"listens on (http://127\.0\.0\.1:\d+)$", banner, re.MULTILINE)
        assert requests.get(url + "/simulator/health", timeout=5).ok
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_prints_keys_and_connections_ready_to_paste() -> None:
    with _running("--flowyble-key", "flw_key_mine") as (_, banner):
        connections = {}
        for line in banner.splitlines():
            if line.startswith("export "):
                name, _, value = shlex.split(line)[1].partition("=")
                connections[name] = json.loads(value)
        flowyble = connections["AIRFLOW_CONN_FLOWYBLE_DEFAULT"]
        assert (flowyble["conn_type"], flowyble["password"]) == ("flowyble", "flw_key_mine")
        snorbe = connections["AIRFLOW_CONN_SNORBE_DEFAULT"]
        assert (snorbe["conn_type"], snorbe["password"]) == ("snorbe", "snorbe_simulator")
        headers = {"x-api-key": snorbe["password"]}
        assert requests.get(snorbe["host"] + "/api/v1/workspace", headers=headers, timeout=5).ok


def test_port_in_use_is_a_message_and_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


def test_scenario_that_makes_no_sense_is_a_message_and_exit_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--scenario", "explode"]) == 1
    assert capsys.readouterr().err.startswith("Unknown scenario 'explode'")


def test_help_names_every_option_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for option, default in (("port", "8900"), ("median-seconds", "20.0"), ("requests-per-minute", "100")):
        assert re.search(rf"--{option} [A-Z_]+\s+\S.*\(default: {default}\)", text)
    assert "--resume-needs-listener" in text
