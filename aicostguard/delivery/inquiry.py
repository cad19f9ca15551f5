"""What has the ledger of these processes? Asked by diagnose, over HTTP, with the key of the agent.

Owns one GET, which says nothing but the processes' ids and changes nothing. Follows no redirect, so that the key
goes to AICG_URL and nowhere else. Never raises for what a network or a ledger does.
"""

from __future__ import annotations

import http.client
import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from aicostguard.clock import clock
from aicostguard.delivery import trust
from aicostguard.delivery.request import target
from aicostguard.delivery.sockets import Connection

#: seconds for all of it, bytes of the answer, and processes asked about at most
SECONDS, MOST_BYTES, MOST = 5.0, 8 << 20, 100

_WHY = {
    401: "it does not know the key",
    403: "it refuses the key",
    404: "it is of an earlier release",
    405: "it is of an earlier release",
}


class Told(NamedTuple):
    """The ledger's rows by process, or None and why it did not tell. A process it has never heard of has no row."""

    rows: Optional[Dict[str, Dict[str, Any]]]
    why: str = ""


def ask(url: str, key: str, epochs: Sequence[str]) -> Told:
    """The rows of `GET /v1/deliveries` for these processes."""
    names = "&".join("epoch=%s" % epoch for epoch in epochs[:MOST])
    address = target(url, "/v1/deliveries?group_by=process&limit=%d&%s" % (MOST, names))
    lines = ["GET %s HTTP/1.1" % address.line, "Host: " + address.authority, "User-Agent: aicg-diagnose"]
    lines += ["Accept: application/json", "Connection: close", "Authorization: Bearer " + key]
    if address.proxy and address.proxy.authorization and not address.tls:
        lines.append("Proxy-Authorization: " + address.proxy.authorization)
    if any("\r" in line or "\n" in line for line in lines):
        return Told(None, "the key cannot be sent in a header")
    try:
        deadline = clock.monotonic() + SECONDS
        connection = Connection(address, trust.context() if address.tls else None, deadline)
        try:
            answer = connection.exchange(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"), b"", deadline)
            body = answer.read(MOST_BYTES)
        finally:
            connection.close()
        if answer.status != 200:
            return Told(None, _WHY.get(answer.status, "HTTP %d" % answer.status))
        return told(json.loads(body)["rows"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError) as error:
        return Told(None, "no answer that could be read: %s" % type(error).__name__)


def told(rows: List[Dict[str, Any]]) -> Told:
    """The rows by process. Raises `KeyError`, `TypeError` or `ValueError` when they are none."""
    return Told({str(row["process"]): {name: _checked(name, row[name]) for name in _KEYS} for row in rows})


#: what is read of a row: numbers, but for the last two
_KEYS = ("expected", "received", "refused", "missing", "duplicates", "late", "state", "gaps")


def _checked(name: str, value: Any) -> Any:
    if name == "state":
        return str(value)[:16]
    if name == "gaps":
        return [[int(first), int(last)] for first, last in value]
    if type(value) is not int:
        raise ValueError(name)
    return value
