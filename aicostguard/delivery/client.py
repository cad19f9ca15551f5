"""The blocking HTTP sender: POSTs over connections of its own, which no hook of ours watches.

Owns the idle connections and the one retry. Every exchange ends by its deadline, however slowly the other side
answers; redirects are not followed, because the key must not travel to another address. Never raises for
what a network or a server does: the answer is a `Reply`. The modules it imports load in the worker only.
"""

from __future__ import annotations

import http.client
import ssl
from collections import deque
from typing import Deque, List, Optional

from aicostguard.clock import clock
from aicostguard.delivery import reply as replies
from aicostguard.delivery import request as requests
from aicostguard.delivery import trust
from aicostguard.delivery.reply import Reply
from aicostguard.delivery.says import warn
from aicostguard.delivery.sockets import Connection

#: idle connections kept (one is enough for the worker; inline mode sends from several threads)
KEEP = 4


class Client:
    """Posts envelopes to one ledger. Safe from several threads: each takes a connection of its own.

    `hurry`: a request of the user's waits for us, so that not even a name is looked up beyond the deadline.
    """

    def __init__(
        self, url: str, key: Optional[str], agent: str, hurry: bool = False, path: str = requests.PATH
    ) -> None:
        self._address = requests.target(url, path)
        self._key = key
        self._agent = agent
        self._hurry = hurry
        self._idle: Deque[Connection] = deque()
        self._context: Optional[ssl.SSLContext] = None
        if self._address.unusable:
            warn("proxy.unusable", self._address.unusable)

    def post(self, body: bytes, deadline: float) -> Reply:
        """Send one envelope; `deadline` in monotonic seconds."""
        try:
            head, body = requests.encode(self._address, self._key, body, self._agent)
        except ValueError:
            return Reply(replies.DENIED, detail="the key cannot be sent in a header")
        connection = self._kept()
        if connection is None:
            return self._attempt(None, head, body, deadline)
        # A kept connection that the server closed meanwhile says nothing about the ledger: once more on a new one.
        # Twice does no harm, the ledger knows a receipt by its identity.
        answer = self._attempt(connection, head, body, deadline)
        if answer.kind == replies.LOST and answer.status is None and clock.monotonic() < deadline:
            return self._attempt(None, head, body, deadline)
        return answer

    def _kept(self) -> Optional[Connection]:
        """An idle connection that can carry another request."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_quiet():
                return connection
            connection.close()

    def _attempt(self, connection: Optional[Connection], head: bytes, body: bytes, deadline: float) -> Reply:
        try:
            connection = connection or Connection(self._address, self._tls(), deadline, self._hurry)
            answer = connection.exchange(head, body, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if connection is not None:
                connection.close()
            return Reply(replies.LOST, detail=type(error).__name__)
        except BaseException:  # somebody's exit or time limit: what comes later on this connection is nobody's answer
            if connection is not None:
                connection.close()
            raise
        data, whole = _read(answer)
        if whole and not answer.will_close and len(self._idle) < KEEP:
            self._idle.append(connection)
        else:
            connection.close()
        return replies.judge(answer.status, answer.getheader("Retry-After"), data)

    def _tls(self) -> Optional[ssl.SSLContext]:
        if self._address.tls and self._context is None:
            self._context = trust.context()
        return self._context

    def close(self) -> None:
        """Close the idle connections. In a forked child this closes its copies and says nothing to the ledger."""
        connections: List[Connection] = []
        while self._idle:
            connections.append(self._idle.pop())
        for connection in connections:
            connection.close()


def _read(answer: http.client.HTTPResponse) -> tuple[bytes, bool]:
    """`(body, was it read to its end?)`: a 2xx whose body is cut is still a 2xx."""
    try:
        data = answer.read(replies.MAX_REPLY)
        return data, not answer.read(1)
    except (OSError, http.client.HTTPException, ValueError):
        return b"", False
