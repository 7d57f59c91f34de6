"""What the HTTP provider's event trigger calls on each answer. It loads this module anew each time."""

from __future__ import annotations

from requests import Response


async def is_over(response: Response) -> bool:
    """Tell whether the run has ended."""
    return response.json()["status"] in {"Completed", "Failed", "Cancelled"}
