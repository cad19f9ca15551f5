"""One connection to the ledger: addresses, proxy, TLS, and the time that each step may take.

Owns the descriptor, and its mistrust of it: a program that becomes a daemon closes every descriptor it finds, ours
too, and the number goes to the next file it opens. A descriptor that is no longer ours is neither written to nor
closed. Raises `OSError` for what a network does. If it is wrong, our bytes stand in somebody else's file.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from typing import Any, List, Optional

from aicostguard.clock import clock
from aicostguard.delivery import head
from aicostguard.delivery import request as requests
from aicostguard.delivery.seats import Identity, Taken, identity, raised
from aicostguard.delivery.threads import Flag, start_thread

#: bytes that are handed to the socket at once, each time with what is left of the time
PIECE = 1 << 16


class Late(OSError):
    """The deadline of an exchange has passed."""


class ProxyRefused(OSError):
    """The proxy did not open a tunnel."""


class ProxyWantsCredentials(ProxyRefused):
    """It answered 407: user and password belong into the proxy's URL."""


class _Reader(io.RawIOBase):
    """The receiving half of a socket, with the time that is left as its timeout."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.timed().recv_into(buffer)


class Connection:
    """One connection; `deadline` (monotonic seconds) is set for each exchange. `hurry`: somebody's request waits."""

    def __init__(
        self, address: requests.Target, context: Optional[ssl.SSLContext], deadline: float, hurry: bool = False
    ) -> None:
        self.deadline = min(deadline, clock.monotonic() + requests.CONNECT_SECONDS)
        self._socket: socket.socket
        self._identity: Optional[Identity] = None
        proxy = address.proxy
        self._connect(*self._resolve(proxy or address, hurry))
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                if proxy:
                    self._tunnel(address, proxy)
                # The handshake as a whole has the socket's timeout; the wrapped socket has the same descriptor.
                self._socket = context.wrap_socket(self.timed(), server_hostname=address.host)
        except BaseException:
            self.close()
            raise

    def timed(self) -> socket.socket:
        """The socket, its timeout set to what is left; raises `Taken` when it is no longer ours."""
        left = self.deadline - clock.monotonic()
        if left <= 0:
            raise Late()
        if self._identity is None or identity(self._socket.fileno()) != self._identity:
            raise Taken()
        self._socket.settimeout(left)
        return self._socket

    def _resolve(self, place: Any, hurry: bool) -> List[Any]:
        """The addresses. A resolver has limits of its own, 10 s and more: who is in a hurry does not wait for it."""
        found: List[Any] = []
        flag = Flag()

        def look() -> None:
            try:
                found.append(socket.getaddrinfo(place.host, place.port, 0, socket.SOCK_STREAM))
            except (OSError, ValueError) as error:
                found.append(error)
            finally:
                flag.set()

        try:
            if not hurry or _literal(place.host):
                raise RuntimeError("here")
            start_thread(look)
        except RuntimeError:  # or no thread can be had
            look()
        if not flag.wait(max(0.0, self.deadline - clock.monotonic())) or not found:
            raise Late()
        if isinstance(found[0], Exception):
            raise found[0]
        return list(found[0])

    def _connect(self, *addresses: Any) -> None:
        # `socket.create_connection` gives each address the whole timeout: two dead addresses would take twice.
        last: OSError = OSError("no address")
        for family, kind, protocol, _, place in addresses:
            self._socket = _seated(socket.socket(family, kind, protocol))
            self._identity = identity(self._socket.fileno())
            try:
                self.timed().connect(place)
                return
            except OSError as error:
                self.close()
                last = error
            except BaseException:
                self.close()
                raise
        raise last

    def _tunnel(self, address: requests.Target, proxy: requests.Proxy) -> None:
        host = "[%s]" % address.host if ":" in address.host else address.host
        lines = ["CONNECT %s:%d HTTP/1.1" % (host, address.port), "Host: " + address.authority]
        if proxy.authorization:
            lines.append("Proxy-Authorization: " + proxy.authorization)
        self._send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        status = self._answer("CONNECT").status
        if status != 200:
            raise ProxyWantsCredentials() if status == 407 else ProxyRefused()

    def _send(self, data: bytes) -> None:
        # Piece by piece: between two of them the time is looked at, and whose the descriptor is.
        view = memoryview(data)
        while view:
            view = view[self.timed().send(view[:PIECE]) :]

    def _answer(self, method: str) -> http.client.HTTPResponse:
        answer = head.read(io.BufferedReader(_Reader(self)), method)
        while answer.status < 200 and answer.status != 101:  # interim: passed over, until the time is up
            # What was read ahead of it is not lost; and the stream is not closed with the answer.
            stream, answer.fp = answer.fp, None  # type: ignore[assignment]
            answer = head.read(stream, method)
        return answer

    def exchange(self, start: bytes, body: bytes, deadline: float, method: str = "POST") -> http.client.HTTPResponse:
        """Send one request and read the head of its answer."""
        self.deadline = deadline
        self._send(start + body)
        return self._answer(method)

    def is_quiet(self) -> bool:
        """May an idle connection carry another request? Not when it has ended, or when bytes wait that nobody asked
        for: they would be taken for the next answer.
        """
        if identity(self._socket.fileno()) != self._identity:
            return False
        try:
            self._socket.settimeout(0.0)
            # The plain socket's own method, because that of a TLS socket takes no flags. A green socket has none.
            _peek(self._socket, 1, socket.MSG_PEEK)
        except (BlockingIOError, TypeError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close what is ours; of a number that somebody else has by now only let go."""
        _close(self._socket, self._identity)


def _seated(low: socket.socket) -> socket.socket:
    """A socket just made, on a high number. Raises `Taken` when its number has changed hands meanwhile."""
    try:
        number = raised(low.fileno())
        if number == low.fileno():
            return low
        known = identity(number)
        high = _fresh(low, number, known)
    except BaseException:
        low.detach()  # whose it is by now is not known
        raise
    _close(low, known)
    return high


def _fresh(low: socket.socket, number: int, known: Optional[Identity]) -> socket.socket:
    high = socket.socket(low.family, low.type, low.proto, fileno=number)
    try:
        name = high.getsockname()
    except OSError:  # what we have a copy of is no socket at all
        name = None
    if not isinstance(name, tuple) or name[1]:  # or one that leads somewhere already
        _close(high, known)
        raise Taken()
    return high


def _close(one: socket.socket, known: Optional[Identity]) -> None:
    if known is not None and identity(one.fileno()) == known:
        one.close()
    else:
        one.detach()


def _peek(plain: Any, size: int, flags: int) -> bytes:
    import _socket

    return _socket.socket.recv(plain, size, flags)


def _literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit() or host == "localhost"
