from __future__ import annotations

from airflow_provider_agentruns.client.settings import ClientSettings
from airflow_provider_agentruns.polling.metrics import PollMetrics, PollResult


def test_a_minute_is_told_in_one_line_and_in_metrics_and_then_forgotten() -> None:
    metrics = PollMetrics("https://api key 1234", 100.0)
    for result in [PollResult.ANSWERED] * 38 + [PollResult.REFUSED] + [PollResult.FAILED]:
        metrics.polled(result)
    metrics.saw_end(2.0)
    metrics.saw_end(4.0)
    metrics.saw_end(None)
    assert metrics.report(159.0, waiting=7, budget=80.0, next_poll=0.5) is None
    report = metrics.report(160.0, waiting=7, budget=80.0, next_poll=0.5)
    assert report
    assert report.line == (
        "https://api key 1234: 7 runs waiting, 40 polls in 60 s (1 refused, 1 failed), 3 ends seen, "
        "3.0 s late on average, next poll in 0.5 s"
    )
    tags = {"key": "https://api key 1234"}
    assert report.values == [
        ("waiting_runs", 7, tags),
        ("budget_use", 0.5, tags),
        ("polls", 38, {**tags, "result": "answered"}),
        ("polls", 1, {**tags, "result": "refused"}),
        ("polls", 1, {**tags, "result": "failed"}),
        ("lateness", 3.0, tags),
    ]
    quiet = metrics.report(220.0, waiting=0, budget=80.0, next_poll=None)
    assert quiet
    assert (
        quiet.line
        == "https://api key 1234: 0 runs waiting, 0 polls in 60 s (0 refused, 0 failed), 0 ends seen"
    )


def test_a_key_is_named_without_being_shown() -> None:
    settings = ClientSettings(base_url="https://api", api_key="flw_key_secret_123", auth_headers={})
    assert "secret" not in "".join(settings.credential)
