"""A server that behaves as the vendors document, with faults on demand; needs no Airflow.

Start it from a shell with `python -m airflow_provider_agentruns.simulator`, or from Python with `Simulator`.
"""

from airflow_provider_agentruns.simulator.faults import FAULT_KINDS, Fault, FaultError
from airflow_provider_agentruns.simulator.journal import CancelRecord, RequestRecord, StartRecord
from airflow_provider_agentruns.simulator.operations import OPERATIONS
from airflow_provider_agentruns.simulator.scenarios import SCENARIOS, ScenarioError
from airflow_provider_agentruns.simulator.server import create_app
from airflow_provider_agentruns.simulator.settings import Settings
from airflow_provider_agentruns.simulator.simulator import Simulator, SimulatorError
from airflow_provider_agentruns.simulator.state import ControlError, RunRecord, SimulatorState

__all__ = [
    "FAULT_KINDS",
    "OPERATIONS",
    "SCENARIOS",
    "CancelRecord",
    "ControlError",
    "Fault",
    "FaultError",
    "RequestRecord",
    "RunRecord",
    "ScenarioError",
    "Settings",
    "Simulator",
    "SimulatorError",
    "SimulatorState",
    "StartRecord",
    "create_app",
]
