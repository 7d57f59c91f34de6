"""API keys that runs wait under: a simulated vendor, a connection and a host name for each."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from airflow_provider_agentruns.simulator import Simulator
from airflow_provider_agentruns.simulator.settings import system_clock
from demo.airflow_api import AirflowApi
from demo.airflow_environment import free_port

_PREFIXES = {"flowyble": "flw_key_", "snorbe": "snorbe_"}
_STATUS = ".status"


class VendorKey:
    """
    One API key and its own simulator, so that each key can be broken by itself.

    :param name: of the connection, and with `.test` behind it of the host.
    :param names: the file of the host names that resolve.
    :param requests_per_minute: what the vendor allows.
    :param clock_ahead: how far the vendor's clock is ahead, seconds.
    :param extra: of the connection.
    """

    def __init__(
        self,
        vendor: str,
        name: str,
        *,
        names: Path,
        requests_per_minute: int,
        clock_ahead: float = 0.0,
        **extra: object,
    ) -> None:
        self.vendor = vendor
        self.conn_id = name
        self.port = free_port()
        self.values = [self._new_value()]
        self._names = names
        self._extra = extra
        self.simulator = Simulator(
            port=self.port,
            requests_per_minute=requests_per_minute,
            clock=lambda: system_clock() + clock_ahead,
            flowyble_key=self.values[0],
            snorbe_key=self.values[0],
        )

    def __enter__(self) -> Self:
        self.simulator.start()
        self.resolve()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.simulator.stop()

    @property
    def host(self) -> str:
        """Return the host name that the connection has."""
        return f"{self.conn_id.replace('_', '-')}.test"

    def now(self) -> float:
        """Return the vendor's time, seconds since the epoch."""
        return self.simulator.clock()

    def connect(self, airflow: AirflowApi) -> None:
        """Make the connection."""
        airflow.create_connection(
            self.conn_id,
            self.vendor,
            host=f"http://{self.host}:{self.port}",
            password=self.values[-1],
            extra=json.dumps(self._extra),
        )

    def replace_value(self, airflow: AirflowApi) -> None:
        """Let the vendor issue a new key, put it into the connection, and revoke the old one."""
        old, new = self.values[-1], self._new_value()
        self.values.append(new)
        self.simulator.add_key(self.vendor, new)
        airflow.update_connection(self.conn_id, self.vendor, password=new)
        self.simulator.revoke_key(self.vendor, old)

    def polled_since(self, moment: float) -> set[str]:
        """
        Return the runs whose status was told since then.

        :param moment: by the vendor's clock, seconds since the epoch.
        """
        return {
            request.run_id
            for request in self.simulator.requests()
            if request.time >= moment
            and (request.operation or "").endswith(_STATUS)
            and request.status == 200
            and not request.fault
            and request.run_id
        }

    def statuses(self) -> list[int | None]:
        """List what each request was answered, oldest first."""
        return [request.status for request in self.simulator.requests()]

    def resolve(self, *, does: bool = True) -> None:
        """Let the host name resolve, or no longer."""
        known = set(self._names.read_text().split()) if self._names.exists() else set()
        known = known | {self.host} if does else known - {self.host}
        # In one step: others read it at any moment.
        fresh = self._names.with_suffix(".new")
        fresh.write_text("\n".join(sorted(known)))
        fresh.replace(self._names)

    def cut_connections(self) -> None:
        """Reset the connections that are open, and listen again."""
        self.simulator.stop()
        self.simulator.start()

    def _new_value(self) -> str:
        return _PREFIXES[self.vendor] + secrets.token_hex(16)


def ports(keys: list[VendorKey]) -> set[int]:
    """Return the ports that vendors listen on."""
    return {urlsplit(key.simulator.url).port or 0 for key in keys}
