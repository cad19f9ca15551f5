"""The agent's questions to the ledger about budgets: the policy, and room to spend.

Owns one connection and its time limits. Never raises for what a network or a server does but `Unreachable`, and never
says a key. Our own traffic is never metered: it goes over sockets of our own.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

from aicostguard.delivery import request as requests
from aicostguard.delivery import trust
from aicostguard.delivery.sockets import Connection

#: bytes of an answer
MOST = 4 << 20


class Unreachable(Exception):
    """No answer that means anything. `status` is that of the answer, None without one."""

    def __init__(self, status: Optional[int] = None, detail: str = "") -> None:
        super().__init__(detail or "HTTP %s" % status)
        self.status = status


class Link:
    """Questions to one ledger, one at a time."""

    def __init__(self, url: str, key: Optional[str], agent: str) -> None:
        self._url = url
        self._key = key
        self._agent = agent
        self._lock = threading.Lock()
        self._kept: Optional[Connection] = None
        self._context: Any = None

    def policy(self, etag: Optional[str], seconds: float) -> Tuple[Optional[Dict[str, Any]], Optional[str]]:
        """`(the policy, its ETag)`; `(None, etag)` when it is the one that is known."""
        headers = {"If-None-Match": etag} if etag else {}
        status, found, body = self._exchange("GET", "/v1/policy", b"", headers, seconds)
        if status == 304:
            return None, etag
        return _object(status, body), found

    def lend(self, holder: str, leases: List[Dict[str, Any]], seconds: float) -> Dict[str, Any]:
        """The answer of `POST /v1/authorize` for a process that spends by itself."""
        body = json.dumps({"holder": holder, "leases": leases}, separators=(",", ":")).encode()
        status, _, answer = self._exchange("POST", "/v1/authorize", body, {}, seconds)
        return _object(status, answer)

    def close(self) -> None:
        """Let go of the connection; in a forked child, of the copy of it."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def forked(self) -> None:
        """In a child: its parent's lock may be held by a thread that is not here."""
        self._lock = threading.Lock()
        self.close()

    def _exchange(
        self, method: str, path: str, body: bytes, headers: Dict[str, str], seconds: float
    ) -> Tuple[int, Optional[str], bytes]:
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise Unreachable(detail="Late")
        try:
            kept, self._kept = self._kept, None
            if kept is not None and kept.is_quiet():
                try:
                    return self._attempt(kept, method, path, body, headers, deadline)
                except Unreachable:
                    if time.monotonic() >= deadline:
                        raise
            elif kept is not None:
                kept.close()
            return self._attempt(None, method, path, body, headers, deadline)
        finally:
            self._lock.release()

    def _attempt(
        self,
        connection: Optional[Connection],
        method: str,
        path: str,
        body: bytes,
        headers: Dict[str, str],
        deadline: float,
    ) -> Tuple[int, Optional[str], bytes]:
        import http.client

        try:
            address = requests.target(self._url, path)
            head, body = requests.encode(address, self._key, body, self._agent, method, headers)
            if connection is None:
                if address.tls and self._context is None:
                    self._context = trust.context()
                connection = Connection(address, self._context if address.tls else None, deadline, True)
            answer = connection.exchange(head, body, deadline, method)
            data = answer.read(MOST)
            whole = not answer.read(1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if connection is not None:
                connection.close()
            raise Unreachable(detail=type(error).__name__) from None
        except BaseException:  # somebody's exit: what comes later on this connection is nobody's answer
            if connection is not None:
                connection.close()
            raise
        if whole and not answer.will_close:
            self._kept = connection
        else:
            connection.close()
        return answer.status, answer.getheader("ETag"), data


def _object(status: int, body: bytes) -> Dict[str, Any]:
    if status != 200:
        raise Unreachable(status)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreachable(status, "no JSON") from None
    if not isinstance(found, dict):
        raise Unreachable(status, "no object")
    return found
