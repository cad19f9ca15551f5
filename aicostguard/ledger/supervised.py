"""What a supervisor wants to hear: that we listen, that we live, that we stop (systemd's `sd_notify` protocol).

Owns datagrams to `NOTIFY_SOCKET`. Without that variable nothing happens; a supervisor that has gone changes nothing.
The protocol: sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Mapping

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def tell(state: str, environ: Mapping[str, str] | None = None) -> bool:
    """Say `state`; True when somebody listens. `@…` names a socket in Linux' abstract namespace."""
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(1.0)
        out.sendto(state.encode(), address)
        return True
    return False
