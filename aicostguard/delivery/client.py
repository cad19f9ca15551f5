"""The blocking HTTP sender: `http.client` on sockets of its own, which no hook of ours watches.

Owns connections, TLS and deadlines. Every exchange ends by its deadline, however slowly the other side
answers; redirects are not followed, because the key must not travel to another address. Never raises for
what a network or a server does: the answer is a `Reply`. The modules it imports load in the worker only.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections import deque
from typing import Any, Deque, List, Optional

from aicostguard.delivery import reply as replies
from aicostguard.delivery import request as requests
from aicostguard.delivery.reply import Reply

#: idle connections kept (one is enough for the worker; inline mode sends from several threads)
KEEP = 4


class Late(OSError):
    """The deadline of an exchange has passed."""


class _Reader(io.RawIOBase):
    """The receiving half of a socket, with the time that is left as its timeout."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.timed().recv_into(buffer)


class Connection:
    """One connection; `deadline` (monotonic seconds) is set for each exchange."""

    def __init__(self, address: requests.Target, context: Optional[ssl.SSLContext], deadline: float) -> None:
        self.deadline = min(deadline, time.monotonic() + requests.CONNECT_SECONDS)
        proxy = address.proxy
        self._socket = self._connect(proxy.host if proxy else address.host, proxy.port if proxy else address.port)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                if proxy:
                    self._tunnel(address, proxy)
                self._socket = context.wrap_socket(self.timed(), server_hostname=address.host)
        except BaseException:
            self._socket.close()
            raise

    def timed(self) -> socket.socket:
        """The socket, its timeout set to what is left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Late()
        self._socket.settimeout(left)
        return self._socket

    def _connect(self, host: str, port: int) -> socket.socket:
        # `socket.create_connection` gives each address the whole timeout: two dead addresses would take twice.
        last: OSError = OSError("no address")
        for family, kind, protocol, _, place in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
            self._socket = socket.socket(family, kind, protocol)
            try:
                self.timed().connect(place)
                return self._socket
            except OSError as error:
                self._socket.close()
                last = error
        raise last

    def _tunnel(self, address: requests.Target, proxy: requests.Proxy) -> None:
        host = "[%s]" % address.host if ":" in address.host else address.host
        lines = ["CONNECT %s:%d HTTP/1.1" % (host, address.port), "Host: " + address.authority]
        if proxy.authorization:
            lines.append("Proxy-Authorization: " + proxy.authorization)
        self.timed().sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        answer = http.client.HTTPResponse(self, method="CONNECT")  # type: ignore[arg-type]  # makefile is all it uses
        answer.begin()
        if answer.status != 200:
            raise OSError("the proxy refused the tunnel")

    def makefile(self, mode: str) -> io.BufferedReader:
        """What `http.client.HTTPResponse` reads from."""
        return io.BufferedReader(_Reader(self))

    def exchange(self, head: bytes, body: bytes, deadline: float) -> http.client.HTTPResponse:
        """Send one request and read the head of its answer."""
        self.deadline = deadline
        self.timed().sendall(head + body)
        answer = http.client.HTTPResponse(self, method="POST")  # type: ignore[arg-type]  # makefile is all it uses
        answer.begin()
        return answer

    def close(self) -> None:
        self._socket.close()


class Client:
    """Posts envelopes to one ledger. Safe from several threads: each takes a connection of its own."""

    def __init__(self, url: str, key: Optional[str], agent: str) -> None:
        self._address = requests.target(url)
        self._key = key
        self._agent = agent
        self._idle: Deque[Connection] = deque()
        self._context: Optional[ssl.SSLContext] = None

    def post(self, body: bytes, deadline: float) -> Reply:
        """Send one envelope; `deadline` in monotonic seconds."""
        try:
            head, body = requests.encode(self._address, self._key, body, self._agent)
        except ValueError:
            return Reply(replies.DENIED, detail="the key cannot be sent in a header")
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._attempt(None, head, body, deadline)
        # A kept connection that the server closed meanwhile says nothing about the ledger: once more on a new one.
        # Twice does no harm, the ledger knows a receipt by its identity.
        answer = self._attempt(connection, head, body, deadline)
        if answer.kind == replies.LOST and answer.status is None and time.monotonic() < deadline:
            return self._attempt(None, head, body, deadline)
        return answer

    def _attempt(self, connection: Optional[Connection], head: bytes, body: bytes, deadline: float) -> Reply:
        try:
            connection = connection or Connection(self._address, self._tls(), deadline)
            answer = connection.exchange(head, body, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if connection is not None:
                connection.close()
            return Reply(replies.LOST, detail=type(error).__name__)
        data, whole = _read(answer)
        if whole and not answer.will_close and len(self._idle) < KEEP:
            self._idle.append(connection)
        else:
            connection.close()
        return replies.judge(answer.status, answer.getheader("Retry-After"), data)

    def _tls(self) -> Optional[ssl.SSLContext]:
        if self._address.tls and self._context is None:
            # The default context reads SSL_CERT_FILE and SSL_CERT_DIR.
            self._context = ssl.create_default_context()
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
