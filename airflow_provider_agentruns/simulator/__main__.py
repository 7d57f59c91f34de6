"""The command line: `python -m airflow_provider_agentruns.simulator`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence

from airflow_provider_agentruns.simulator.scenarios import ScenarioError
from airflow_provider_agentruns.simulator.settings import Settings
from airflow_provider_agentruns.simulator.simulator import Simulator, SimulatorError
from airflow_provider_agentruns.simulator.state import (
    AGENT_WEBHOOK,
    DEFAULT_AGENT_ID,
    DEFAULT_TOOL_ID,
    TOOL_WEBHOOK,
)

_DEFAULT_PORT = 8900
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_agentruns.simulator",
        description="Serve the APIs of Flowyble and Snorbe as their documentation describes them, "
        "without spending credits. POST to /simulator/... to create runs and set faults.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for setting in dataclasses.fields(Settings):
        if "help" not in setting.metadata:
            continue
        option = "--" + setting.name.replace("_", "-")
        default = _DEFAULT_PORT if setting.name == "port" else setting.default
        help_text = setting.metadata["help"]
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true", default=default, help=help_text)
        else:
            parser.add_argument(option, type=type(default), default=default, help=help_text)
    return parser


def _banner(simulator: Simulator) -> str:
    lines = [
        f"The simulator listens on {simulator.url}",
        "",
        f"  Flowyble key     {simulator.flowyble_key}",
        f"  Snorbe key       {simulator.snorbe_key}",
        f"  Flowyble agent   {DEFAULT_AGENT_ID}  (tool {DEFAULT_TOOL_ID})",
        f"  webhooks         {simulator.url}/webhooks/{AGENT_WEBHOOK}, …/{TOOL_WEBHOOK}",
        "",
        "Connections for Airflow:",
        "",
    ]
    for vendor, key in (("flowyble", simulator.flowyble_key), ("snorbe", simulator.snorbe_key)):
        connection = {"conn_type": vendor, "host": simulator.url, "password": key}
        lines.append(f"export AIRFLOW_CONN_{vendor.upper()}_DEFAULT={shlex.quote(json.dumps(connection))}")
    if simulator.host not in _LOOPBACK:
        lines += ["", f"Whoever reaches {simulator.host} controls the simulator: it asks for no key there."]
    return "\n".join([*lines, "", "Ctrl+C ends it.", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator until it is interrupted or terminated, and return the exit status.

    :param arguments: command-line arguments; those of the process otherwise.
    """
    options = vars(_build_parser().parse_args(arguments))
    try:
        simulator = Simulator(**options).start()
    except (ScenarioError, SimulatorError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    sys.stdout.write(_banner(simulator))
    sys.stdout.flush()
    ended.wait()
    simulator.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
