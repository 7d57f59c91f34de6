"""Let a file say which names of the reserved domain .test resolve, as a name server would.

Python imports this at its start when the folder is on its path. What comes of a name that does not resolve
is then all real but the name server.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

_ask_system = socket.getaddrinfo


def _getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name.endswith(".test"):
        known = Path(os.environ["AGENTRUNS_TEST_NAMES"]).read_text().split()
        if name not in known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "127.0.0.1"
    return _ask_system(host, *arguments, **options)


if "AGENTRUNS_TEST_NAMES" in os.environ:
    socket.getaddrinfo = _getaddrinfo
