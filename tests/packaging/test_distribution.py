"""What users install: the wheel's content, its metadata, the public names, what Airflow sees of it."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import BaseHook
from airflow.providers_manager import ProvidersManager

import airflow_provider_agentruns
from airflow_provider_agentruns.get_provider_info import get_provider_info
from airflow_provider_agentruns.hooks import AgentRunHook
from tests.features import FORMS

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "sensors": ["AgentRunSensor"],
    "operators": ["AgentRunOperator", "AgentRunResultOperator"],
    "triggers": ["AgentRunTrigger"],
    "hooks": ["AgentRunHook", "FlowybleHook", "SnorbeHook"],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel with the build backend that is installed, without a network."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = directory.glob("*.whl")
    return zipfile.ZipFile(path)


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    [path] = [found for found in wheel.namelist() if found.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"airflow_provider_agentruns"}
    assert "airflow_provider_agentruns/py.typed" in names
    assert "airflow_provider_agentruns/simulator/__main__.py" in names
    assert not [name for name in names if "test" in Path(name).parts[0] or name.endswith(".pyc")]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_wheel_announces_its_entry_points_and_dependencies(wheel: zipfile.ZipFile) -> None:
    announced = _metadata(wheel, "entry_points.txt")
    assert "[apache_airflow_provider]" in announced
    assert "airflow_provider_agentruns.get_provider_info:get_provider_info" in announced
    metadata = HeaderParser().parsestr(_metadata(wheel, "METADATA"))
    assert metadata["Version"] == airflow_provider_agentruns.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    needed = {value.split(">")[0] for value in metadata.get_all("Requires-Dist") or []}
    assert needed == {
        "aiohttp",
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "certifi",
        "pydantic",
        "requests",
        "urllib3",
    }


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names_are_where_dags_import_them(module: str) -> None:
    imported = importlib.import_module(f"airflow_provider_agentruns.{module}")
    for name in PUBLIC[module]:
        assert inspect.isclass(getattr(imported, name))
        assert inspect.getdoc(getattr(imported, name))


def test_provider_info_passes_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_provider_info_is_one_literal() -> None:
    """Airflow's tools read it without running it."""
    tree = ast.parse((ROOT / "airflow_provider_agentruns" / "get_provider_info.py").read_text())
    [function] = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    [returned] = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
    assert returned.value is not None
    assert ast.literal_eval(returned.value) == get_provider_info()


def test_provider_info_names_modules_and_hooks_that_exist() -> None:
    info = get_provider_info()
    for section in ("hooks", "operators", "sensors", "triggers"):
        for item in info[section]:
            for module in item["python-modules"]:
                importlib.import_module(module)
    adapters = entry_points(group="airflow_provider_agentruns.vendors").names
    assert {item["connection-type"] for item in info["connection-types"]} == adapters
    for item in info["connection-types"]:
        module, _, name = item["hook-class-name"].rpartition(".")
        hook = getattr(importlib.import_module(module), name)
        assert hook.conn_type == item["connection-type"]
        assert hook.hook_name == item["hook-name"]


@pytest.mark.parametrize("conn_type", ["flowyble", "snorbe"])
def test_airflow_makes_the_hook_of_a_connection(conn_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ANY", json.dumps({"conn_type": conn_type, "password": "key"}))
    hook = BaseHook.get_hook("any")
    assert isinstance(hook, AgentRunHook)
    assert (hook.conn_type, hook.conn_id) == (conn_type, "any")


@FORMS.needed
def test_airflow_takes_the_connection_forms() -> None:
    manager = ProvidersManager()
    for conn_type in ("flowyble", "snorbe"):
        behaviour = manager.field_behaviours[conn_type]
        assert behaviour["relabeling"]["password"] == "API key"
        assert set(behaviour["hidden_fields"]) == {"login", "port", "schema", "extra"}
        widgets = {
            name for name in manager.connection_form_widgets if name.startswith(f"extra__{conn_type}__")
        }
        assert len(widgets) == (5 if conn_type == "snorbe" else 4)


def _airflow(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("airflow"), *arguments],
        env={**os.environ, **environment, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},  # 3.0 logs to stdout
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_airflows_command_line_knows_the_provider() -> None:
    [provider] = json.loads(_airflow("providers", "get", "airflow-provider-agentruns", "--output", "json"))
    assert provider["Provider"] == "airflow-provider-agentruns"
    assert provider["Version"] == airflow_provider_agentruns.__version__
    hooks = json.loads(_airflow("providers", "hooks", "--output", "json"))
    assert {"flowyble", "snorbe"} <= {hook["connection_type"] for hook in hooks}


@pytest.mark.dag_test
@pytest.mark.usefixtures("metadata_database")
def test_airflows_command_line_keeps_a_connection() -> None:
    uri = "snorbe://http://:snorbe_0123456789@127.0.0.1:8900/prefix?polls_per_minute=40"
    _airflow("connections", "add", "kept", "--conn-uri", uri)
    [connection] = json.loads(_airflow("connections", "get", "kept", "--output", "json"))
    assert connection["conn_type"] == "snorbe"
    assert connection["host"] == "http://127.0.0.1"
    _airflow("connections", "delete", "kept")
