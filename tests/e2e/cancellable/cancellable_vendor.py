"""A third party's vendor whose runs can be cancelled, which neither Flowyble nor Snorbe documents."""

from __future__ import annotations

from typing import ClassVar

from airflow_provider_agentruns.client.calls import Call, Request
from airflow_provider_agentruns.client.models import RunRef
from airflow_provider_agentruns.vendors.base import path_segment
from airflow_provider_agentruns.vendors.flowyble import FlowybleAdapter

_HAS_ENDED = 409


class CancellableAdapter(FlowybleAdapter):
    """The simulated Flowyble, and the simulator's own way to cancel a run."""

    conn_type: ClassVar[str] = "cancellable"
    display_name: ClassVar[str] = "Cancellable"

    def cancel(self, ref: RunRef) -> Call[None]:
        request = Request(
            operation=f"cancel run {ref.run_id}",
            method="POST",
            path=f"/simulator/runs/{path_segment(ref.run_id)}/cancel",
            authenticated=False,
        )
        return Call(request, lambda _: None, expected=frozenset({_HAS_ENDED}))
