"""A connection from the UI's form: created, tested and used, in a real Airflow."""

from __future__ import annotations

import json

import pytest
import requests

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import StandaloneAirflow
from tests.features import FORMS

pytestmark = pytest.mark.e2e

START_AND_BRANCH = "example_agentruns_start_and_branch"


def _key(simulator: Simulator, vendor: str) -> str:
    return simulator.flowyble_key if vendor == "flowyble" else simulator.snorbe_key


@pytest.mark.parametrize("vendor", ["flowyble", "snorbe"])
def test_the_test_button_tells_what_to_mend(
    vendor: str, airflow: StandaloneAirflow, simulator: Simulator
) -> None:
    key = _key(simulator, vendor)
    is_fine, message = airflow.test_connection("tested", vendor, host=simulator.url, password=key)
    assert is_fine, message
    assert "accepts the API key" in message
    for password, host, said in (
        ("wrong_key_0001", simulator.url, "The API key is wrong"),
        (key, "http://127.0.0.1:9", "refuses connections"),
    ):
        is_fine, message = airflow.test_connection("tested", vendor, host=host, password=password)
        assert not is_fine
        assert said in message
        assert password not in message


def test_a_connection_of_the_form_is_used(airflow: StandaloneAirflow, simulator: Simulator) -> None:
    """It is in the metadata database, not in the environment, and has extras."""
    airflow.create_connection(
        "snorbe_of_the_form",
        "snorbe",
        host=f"{simulator.url}/api/v1",
        password=simulator.snorbe_key,
        extra=json.dumps({"timeout": 10, "polls_per_minute": 60, "verify": "", "proxy": None}),
    )
    conf = {"conn_id": "snorbe_of_the_form", "agent_id": "", "message": "[sim: duration=1, output=fine]"}
    run_id = airflow.trigger_dag(START_AND_BRANCH, conf)
    assert airflow.wait_for_dag_run(START_AND_BRANCH, run_id).state == "success"
    assert airflow.xcom(START_AND_BRANCH, run_id, "answer", "return_value") == "fine"


@FORMS.needed
def test_the_form_is_complete(airflow: StandaloneAirflow) -> None:
    """Labels, placeholders, hidden fields and extras come from the provider info alone."""
    token = requests.get(f"{airflow.base_url}/auth/token", timeout=30).json()["access_token"]
    forms = requests.get(
        f"{airflow.base_url}/ui/connections/hook_meta",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    ).json()
    for conn_type, name in (("flowyble", "Flowyble"), ("snorbe", "Snorbe")):
        [form] = [form for form in forms if form["connection_type"] == conn_type]
        assert form["hook_name"] == name
        fields = form["standard_fields"]
        assert fields["password"]["title"] == "API key"
        assert fields["host"]["placeholder"].startswith("https://")
        assert {field for field, behaviour in fields.items() if behaviour and behaviour["hidden"]} == {
            "login",
            "port",
            "url_schema",
        }
        of_vendor = {"bulk_polling"} if conn_type == "snorbe" else set()
        assert set(form["extra_fields"]) == {"timeout", "polls_per_minute", "verify", "proxy"} | of_vendor
