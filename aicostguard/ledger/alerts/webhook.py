"""Our own webhook: one signed POST, and no other step.

Owns the signature and the exchange. The signature is HMAC-SHA256 over `timestamp + "." + body`, so that a receiver
knows who sends and refuses what is old. The connection goes to the very address that was judged; redirects are not
followed; all of it ends by a deadline, however slowly the other side speaks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import threading
import time
from typing import Mapping, NamedTuple, Sequence
from urllib.parse import urlsplit

from aicostguard.ledger.alerts import target
from aicostguard.ledger.apart import Cuts

DEADLINE_S = 10.0
#: bytes of an answer that are read, of which nothing is kept
_MOST = 64 * 1024
#: seconds that a timestamp may lie apart from the receiver's clock
REPLAY_WINDOW_S = 300
#: statuses after which it makes sense to try again, besides 500 and above
_AGAIN = (408, 425, 429)


class Outcome(NamedTuple):
    """What became of one attempt. `again` says whether another one makes sense, `after_s` how soon at least."""

    ok: bool
    said: str
    again: bool = True
    after_s: int = 0


def make_secret() -> str:
    return "whsec_" + secrets.token_urlsafe(32)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `AICG-Signature`."""
    mac = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return "v1=" + mac.hexdigest()


def post(
    url: str, secret: str, key: str, body: bytes, now_s: float, allowed: Sequence[target.Network], cuts: Cuts
) -> Outcome:
    """Send it once. Never raises."""
    # Here, because whoever looks at alerts, or at budgets, loads this module and sends nothing.
    import http.client
    import ssl

    try:
        return _post(url, secret, key, body, now_s, allowed, cuts)
    except _Refused as error:
        return Outcome(False, str(error), again=False)
    except socket.gaierror as error:
        return Outcome(False, f"its name is not known ({error.strerror})")
    except ssl.SSLCertVerificationError as error:
        return Outcome(False, f"its certificate is not valid: {error.verify_message}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        # The text of these may quote the address, which may be a secret.
        return Outcome(False, f"no answer within {DEADLINE_S:g} s, or none that is HTTP ({type(error).__name__})")


class _Refused(Exception):
    """Nothing was sent, and nothing will be."""


def _post(
    url: str, secret: str, key: str, body: bytes, now_s: float, allowed: Sequence[target.Network], cuts: Cuts
) -> Outcome:
    import http.client
    import ssl

    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    until = time.monotonic() + DEADLINE_S
    held: socket.socket = _connect(host, port, allowed, until)
    over = threading.Event()

    def cut() -> None:
        over.set()
        try:
            # Not that of TLS, which would say goodbye first.
            socket.socket.shutdown(held, socket.SHUT_RDWR)
        except OSError:
            held.close()

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    cuts.add(cut)
    timer.start()
    connection = http.client.HTTPConnection(host, port)
    try:
        if context:
            # It takes the socket over: what was held before is nothing to cut any more.
            held = wrapped = context.wrap_socket(held, server_hostname=host, do_handshake_on_connect=False)
            if over.is_set():
                raise TimeoutError("cut off")
            wrapped.do_handshake()
        connection.sock = held
        timestamp = str(int(now_s))
        headers: Mapping[str, str] = {
            "Content-Type": "application/json",
            "User-Agent": "aicostguard-ledger",
            "Idempotency-Key": key,
            "AICG-Timestamp": timestamp,
            "AICG-Signature": sign(secret, timestamp, body),
        }
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        reply = connection.getresponse()
        reply.read(_MOST)
        return _judge(reply.status, reply.getheader("Retry-After"))
    finally:
        timer.cancel()
        cuts.discard(cut)
        connection.close()
        held.close()


def _connect(host: str, port: int, allowed: Sequence[target.Network], until: float) -> socket.socket:
    """A connection to the first address that may be reached and answers. Every address of the name must be allowed."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        why = target.why_not(address[0], allowed)
        if why:
            raise _Refused(why)
    error: OSError | None = None
    for family, kind, protocol, _, address in found:
        made = socket.socket(family, kind, protocol)
        made.settimeout(max(0.1, until - time.monotonic()))
        try:
            made.connect(address)
            return made
        except OSError as problem:
            made.close()
            error = problem
    raise error or OSError("no address")


def _judge(status: int, after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome(True, f"HTTP {status}")
    if 300 <= status < 400:
        return Outcome(False, f"HTTP {status}: redirects are not followed; name the address it leads to", again=False)
    seconds = int(after) if after and after.isascii() and after.isdigit() and len(after) < 6 else 0
    return Outcome(False, f"HTTP {status}", status >= 500 or status in _AGAIN, seconds)
