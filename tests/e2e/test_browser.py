"""A human reviews a draft in Airflow's UI, in a real browser; the documentation shows what they saw."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from airflow_provider_agentruns.simulator import Simulator
from demo.standalone import PROJECT, StandaloneAirflow
from tests.debian_packages import ProgramsMissingError, ensure_installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REVIEW = "example_agentruns_review"
MESSAGE = 'Compare steel suppliers. [sim: wait, human=report, duration=2, output="Steel is dear."]'
UPDATE_DOCS = "UPDATE_DOCS"
# Nobody is to be called from a test: Chromium's own services are not reached, and not tried.
_CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE = 30_000  # milliseconds


@pytest.fixture
def page() -> Iterator[Page]:
    try:
        ensure_installed({"chromium": "chromium"})
    except ProgramsMissingError as missing:
        pytest.skip(str(missing))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=_CHROMIUM, timeout=4 * _PATIENCE
        )
        page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme="light")
        page.set_default_timeout(_PATIENCE)
        expect.set_options(timeout=_PATIENCE)
        yield page
        browser.close()


def _show(page: Page, name: str) -> None:
    if os.environ.get(UPDATE_DOCS):
        page.screenshot(path=PROJECT / "docs" / f"{name}.png")


def test_a_human_reads_the_draft_and_approves_it_with_a_click(
    page: Page, airflow: StandaloneAirflow, simulator: Simulator
) -> None:
    run_id = airflow.trigger_dag(REVIEW, {"message": MESSAGE})
    airflow.wait_for_question(REVIEW, run_id, "write")

    page.goto(f"{airflow.base_url}/required_actions?response_received=false")
    page.get_by_role("link", name="An agent's run asks for a decision").first.click()
    expect(page.get_by_text("The agent's run of this task waits.")).to_be_visible()
    expect(page.get_by_test_id("hitl-option-Approve")).to_be_enabled()
    _show(page, "review_question")

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Read what it asks").click()
    expect(opened.value.get_by_text("1. Findings")).to_be_visible()
    _show(opened.value, "review_draft")
    opened.value.close()

    page.get_by_test_id("hitl-option-Approve").click()
    airflow.wait_for_dag_run(REVIEW, run_id)
    assert airflow.xcom(REVIEW, run_id, "publish", "return_value") == "Published: Steel is dear."
    [question] = airflow.questions(REVIEW, run_id)
    assert question.response == "Approve"
