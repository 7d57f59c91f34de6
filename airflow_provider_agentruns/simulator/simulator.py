"""The simulator as an object: its own thread and event loop, to be driven from any other thread."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar, Unpack

from aiohttp import web

from airflow_provider_agentruns.simulator.accounts import DEFAULT_ACCOUNT, Key, Webhook
from airflow_provider_agentruns.simulator.faults import Fault
from airflow_provider_agentruns.simulator.journal import CancelRecord, RequestRecord, StartRecord
from airflow_provider_agentruns.simulator.scenarios import ScenarioOptions
from airflow_provider_agentruns.simulator.server import create_app
from airflow_provider_agentruns.simulator.settings import Settings
from airflow_provider_agentruns.simulator.state import RunRecord, SimulatorState

_CALL_SECONDS = 10.0
_SHUTDOWN_SECONDS = 0.5
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # names for "here", nothing is bound
_T = TypeVar("_T")


class SimulatorError(RuntimeError):
    """The simulator could not start, or does not run."""


@dataclass(kw_only=True, eq=False)
class Simulator(Settings):
    """A server that behaves as the vendors document; use it as a context manager, or `start` and `stop` it.

    The keyword arguments are the fields of `Settings`. Every method may be called from any thread, also
    before the start and after the stop; only `url` needs a running simulator.
    """

    _state: SimulatorState = field(init=False, repr=False)
    _thread: threading.Thread | None = field(init=False, repr=False, default=None)
    _loop: asyncio.AbstractEventLoop | None = field(init=False, repr=False, default=None)
    _bound_port: int | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._state = SimulatorState(self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL, such as `http://127.0.0.1:8900`.

        :raises SimulatorError: the simulator does not run.
        """
        if self._bound_port is None:
            raise SimulatorError(
                "The simulator does not run: call start() first, or use it in a with statement"
            )
        host = _ANY_ADDRESS.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._bound_port}"

    def start(self) -> Self:
        """Start the server and return when it listens.

        :raises SimulatorError: it runs already, or the address cannot be listened on.
        """
        if self._thread is not None:
            raise SimulatorError("The simulator runs already")
        ready: Future[int] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="agentruns-simulator", daemon=True
        )
        thread.start()
        try:
            self._bound_port = ready.result()
        except (OSError, OverflowError) as error:
            thread.join()
            reason = error.strerror if isinstance(error, OSError) else error
            raise SimulatorError(f"Cannot listen on {self.host} port {self.port}: {reason}") from error
        self._thread = thread
        return self

    def stop(self) -> None:
        """Stop the server; open streams and requests that hang are cut off. Logs stay readable."""
        thread, self._thread, self._bound_port = self._thread, None, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._state.closing.set)
            thread.join()

    async def _serve(self, ready: Future[int]) -> None:
        self._state.closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        runner = web.AppRunner(create_app(self._state), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            site = web.TCPSite(runner, self.host, self.port)
            await site.start()
        except Exception as error:  # noqa: BLE001  # the thread that waits in start() raises it
            await runner.cleanup()
            ready.set_exception(error)
            return
        ready.set_result(runner.addresses[0][1])
        await self._state.closing.wait()
        await runner.cleanup()

    def _call(self, action: Callable[[], _T]) -> _T:
        """Run an action where the state belongs: in the server's loop, or right here if there is none."""
        thread = self._thread
        if thread is None or self._loop is None or thread is threading.current_thread():
            return action()
        done: Future[_T] = Future()

        def run() -> None:
            try:
                done.set_result(action())
            except BaseException as error:  # noqa: BLE001  # the caller's thread raises it
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_CALL_SECONDS)

    def create_run(
        self,
        vendor: str,
        *,
        kind: str = "agent",
        agent_id: str | None = None,
        account: str = DEFAULT_ACCOUNT,
        input_text: str = "",
        scenario: str | None = None,
        **options: Unpack[ScenarioOptions],
    ) -> str:
        """Start a run that "somebody else" asked for, and return its id.

        :param vendor: `flowyble` or `snorbe`.
        :param kind: `agent`, or `tool` at Flowyble.
        :param agent_id: agent or tool the run belongs to; the default one otherwise.
        :param account: organization or workspace whose keys see the run.
        :param input_text: the run's input; its directive counts if neither scenario nor options are given.
        :param scenario: what the run does.
        :param options: details of the scenario, e.g. `duration` in seconds.
        :raises ValueError: a name or value the simulator does not know.
        """
        return self._call(
            lambda: self._state.create_run(
                vendor,
                kind=kind,
                agent_id=agent_id,
                account=account,
                input_text=input_text,
                scenario=scenario,
                **options,
            )
        )

    def finish_run(
        self, run_id: str, *, scenario: str = "succeed", output: str | None = None, error: str | None = None
    ) -> None:
        """End a run now: `succeed`, `fail` or `cancel`.

        :raises ValueError: no such run, or no such way to end.
        """
        self._call(lambda: self._state.finish_run(run_id, scenario=scenario, output=output, error=error))

    def runs(self) -> list[RunRecord]:
        """Return a record of every run, oldest first."""
        return self._call(self._state.list_runs)

    def run(self, run_id: str) -> RunRecord:
        """Return the record of one run.

        :raises ValueError: no such run.
        """
        return self._call(lambda: self._state.find_run(run_id))

    def requests(
        self, *, vendor: str | None = None, operation: str | None = None, run_id: str | None = None
    ) -> list[RequestRecord]:
        """Return the requests received that match all the filters given, oldest first."""
        return self._call(
            lambda: self._state.journal.read_requests(vendor=vendor, operation=operation, run_id=run_id)
        )

    def starts(self) -> list[StartRecord]:
        """Return the starts accepted, oldest first."""
        return self._call(lambda: list(self._state.journal.starts))

    def cancels(self) -> list[CancelRecord]:
        """Return the runs that clients cancelled, oldest first."""
        return self._call(lambda: list(self._state.journal.cancels))

    def add_fault(
        self,
        kind: str,
        *,
        vendor: str | None = None,
        operation: str | None = None,
        run_id: str | None = None,
        times: int | None = None,
        after_effect: bool | None = None,
        status: int | None = None,
        seconds: float = 1.0,
        retry_after: float | None = None,
        retry_after_as: str = "seconds",
        half: bool = False,
    ) -> int:
        """Set a fault and return its id; see `Fault` for the parameters.

        :raises ValueError: a name or value the simulator does not know.
        """
        fault = Fault(
            kind=kind,
            vendor=vendor,
            operation=operation,
            run_id=run_id,
            times=times,
            after_effect=after_effect,
            status=status,
            seconds=seconds,
            retry_after=retry_after,
            retry_after_as=retry_after_as,
            half=half,
        )
        return self._call(lambda: self._state.add_fault(fault))

    def faults(self) -> list[Fault]:
        """Return copies of the faults that are set, with how often each one struck."""
        return self._call(lambda: [copy.copy(fault) for fault in self._state.faults.faults])

    def clear_faults(self, fault_id: int | None = None) -> int:
        """Remove one fault, or all, and return how many that were."""
        return self._call(lambda: self._state.faults.remove(fault_id))

    def add_key(
        self,
        vendor: str,
        key: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        api_access: bool = True,
        has_credits: bool = True,
    ) -> None:
        """Add a key, or change what it may do.

        :raises ValueError: no such vendor.
        """
        made = Key(vendor, key, account, api_access, has_credits)
        self._call(lambda: self._state.add_key(made))

    def revoke_key(self, vendor: str, key: str) -> None:
        """Let the vendor refuse a key from now on."""
        self._call(lambda: self._state.revoke_key(vendor, key))

    def add_agent(
        self,
        vendor: str,
        agent_id: str,
        *,
        kind: str = "agent",
        name: str | None = None,
        status: str = "active",
    ) -> None:
        """Register an agent or tool as `active`, `inactive` (400 at a start) or `missing` (404).

        :raises ValueError: a name or value the simulator does not know.
        """
        self._call(
            lambda: self._state.add_agent(vendor, kind=kind, agent_id=agent_id, name=name, status=status)
        )

    def add_webhook(
        self,
        token: str,
        *,
        kind: str = "agent",
        agent_id: str | None = None,
        secret: str | None = None,
        misconfigured: bool = False,
        account: str = DEFAULT_ACCOUNT,
    ) -> None:
        """Add an incoming webhook of Flowyble; with a `secret` the sender has to sign.

        :raises ValueError: a name or value the simulator does not know.
        """

        def add() -> None:
            target = agent_id or self._state.webhook_target(kind)
            self._state.add_webhook(Webhook(token, kind, target, secret, misconfigured, account))

        self._call(add)

    def reset(self) -> None:
        """Forget runs, faults, logs and everything registered; the keys of the settings work again."""
        self._call(self._state.reset)
