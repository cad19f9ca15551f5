"""Is there a ledger at this address? Asked by diagnose, without the key and without a trace.

Owns one GET of the receipts route: a ledger answers something other than 404 there. Sends no receipt.
"""

from __future__ import annotations

import http.client
import os
import ssl
from typing import NamedTuple, Optional

from aicostguard.clock import clock
from aicostguard.delivery import trust
from aicostguard.delivery.request import target
from aicostguard.delivery.sockets import Connection

#: seconds for the whole probe
SECONDS = 5.0


class Probe(NamedTuple):
    """`ok`, how long it took in ms, and what to tell a person: never text that the other side sent."""

    ok: bool
    text: str
    ms: Optional[int] = None
    status: Optional[int] = None


def probe_http(url: str) -> Probe:
    """Ask the ledger at a base URL."""
    started = clock.monotonic()
    address = target(url)
    head = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: aicg-diagnose\r\nConnection: close\r\n" % (
        address.line,
        address.authority,
    )
    if address.proxy and address.proxy.authorization and not address.tls:
        head += "Proxy-Authorization: %s\r\n" % address.proxy.authorization
    try:
        deadline = started + SECONDS
        connection = Connection(address, trust.context() if address.tls else None, deadline)
        try:
            status = connection.exchange((head + "\r\n").encode("utf-8"), b"", deadline).status
        finally:
            connection.close()
    except ssl.SSLCertVerificationError:
        return Probe(False, "not reachable: its certificate is not trusted here; SSL_CERT_FILE names another bundle")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Probe(False, "not reachable: %s" % _kind(error))
    ms = int((clock.monotonic() - started) * 1000)
    if status == 404:
        return Probe(False, "reachable, %d ms, but there is no ledger at this address (HTTP 404)" % ms, ms, status)
    if 300 <= status < 400:
        return Probe(False, "redirects (HTTP %d): set AICG_URL to the final address" % status, ms, status)
    if status >= 500:
        return Probe(False, "reachable, %d ms, but it fails (HTTP %d)" % (ms, status), ms, status)
    return Probe(True, "reachable, %d ms" % ms, ms, status)


def probe_file(path: str) -> Probe:
    """Look at a local ledger file, without changing it."""
    import sqlite3
    from urllib.parse import quote

    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.exists(path):
        if os.path.isdir(folder) and os.access(folder, os.W_OK):
            return Probe(True, "will be created by the first receipt")
        return Probe(False, "cannot be created: its folder is missing or not writable")
    started = clock.monotonic()
    try:
        connection = sqlite3.connect("file:%s?mode=ro" % quote(os.path.abspath(path)), uri=True, timeout=1.0)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Probe(False, "cannot be read as a ledger: %s" % type(error).__name__)
    if not (os.access(path, os.W_OK) and os.access(folder, os.W_OK)):
        return Probe(False, "not writable")
    ms = int((clock.monotonic() - started) * 1000)
    return Probe(True, "writable, %d ms" % ms, ms)


def _kind(error: BaseException) -> str:
    """A type that a person can act on."""
    import socket

    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, TimeoutError) or type(error).__name__ in ("Late", "timeout"):
        return "no answer within %d s" % SECONDS
    return type(error).__name__
