from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_agentruns.client.exceptions import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    RateLimitError,
    ResponseFormatError,
    ServerError,
)
from airflow_provider_agentruns.client.retry import (
    JITTER,
    MAX_RETRY_AFTER,
    ON_WORKER,
    ONCE,
    backoff,
    parse_retry_after,
    rate_limit_pause,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
RNG = random.Random(1)
READ, START = True, False


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("0", 0.0),
        ("17", 17.0),
        (" 2.5 ", 2.5),
        ("-5", None),
        ("1e9", None),
        ("99999999", MAX_RETRY_AFTER),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2099 11:00:00 GMT", MAX_RETRY_AFTER),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_gives_a_bounded_wait_or_none(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.integers(min_value=0, max_value=3000))
def test_a_date_means_the_seconds_until_then(seconds: int) -> None:
    date = datetime.fromtimestamp(NOW, tz=UTC) + timedelta(seconds=seconds)
    assert parse_retry_after(format_datetime(date, usegmt=True), NOW) == seconds


@given(st.integers(min_value=1, max_value=10_000), st.integers())
def test_backoff_is_jittered_below_an_exponential_cap(attempt: int, seed: int) -> None:
    wait = backoff(attempt, base=1.0, cap=30.0, rng=random.Random(seed))
    assert 0 <= wait <= min(30.0, 2.0 ** min(attempt - 1, 10))


def _rate_limit(retry_after: float | None) -> RateLimitError:
    return RateLimitError("429", status_code=429, retry_after=retry_after)


@pytest.mark.parametrize(
    ("is_idempotent", "error", "is_sent_again"),
    [
        (READ, ServerError("503", status_code=503), True),
        (READ, APIConnectionError("reset"), True),
        (READ, ResponseFormatError("cut short"), True),
        (READ, AuthenticationError("401", status_code=401), False),
        (START, ServerError("503", status_code=503), False),
        (START, APIConnectionError("reset"), False),
        (START, ResponseFormatError("cut short"), False),
        (START, APIConnectionError("no address", may_have_been_sent=False), True),
        (START, _rate_limit(None), True),
        (START, _rate_limit(5.0), True),
        (START, _rate_limit(3000.0), False),
    ],
)
def test_a_start_is_sent_again_only_if_it_was_not_accepted(
    is_idempotent: bool, error: APIError, is_sent_again: bool
) -> None:
    assert (ON_WORKER.wait(error, 1, RNG, is_idempotent=is_idempotent) is not None) is is_sent_again


def test_a_worker_gives_up_after_its_attempts() -> None:
    error = ServerError("503", status_code=503)
    assert ON_WORKER.wait(error, ON_WORKER.attempts - 1, RNG, is_idempotent=READ) is not None
    assert ON_WORKER.wait(error, ON_WORKER.attempts, RNG, is_idempotent=READ) is None


def test_a_poll_is_sent_once() -> None:
    assert ONCE.wait(ServerError("503", status_code=503), 1, RNG, is_idempotent=READ) is None
    assert ONCE.wait(_rate_limit(1.0), 1, RNG, is_idempotent=READ) is None


def test_after_a_429_the_key_rests_as_asked_or_until_the_window_is_over() -> None:
    assert 12.0 <= rate_limit_pause(_rate_limit(12.0), RNG) <= 13.2
    assert 60.0 <= rate_limit_pause(_rate_limit(None), RNG) <= 66.0


def test_a_retry_after_of_nothing_makes_no_storm() -> None:
    assert rate_limit_pause(_rate_limit(0.0), RNG) >= 1.0


def test_forks_of_a_process_do_not_wait_alike() -> None:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, str(JITTER.random()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert float(os.read(read_end, 100)) != JITTER.random()
    os.close(read_end)
    os.close(write_end)
