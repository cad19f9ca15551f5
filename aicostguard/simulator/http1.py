"""HTTP/1.1 by hand, on an asyncio protocol: small and fast, and able to misbehave on purpose.

Owns reading requests (content-length, chunked, keep-alive, pipelining, absolute form of a proxy) and writing replies
(chunked, cut, reset). Knows nothing of providers. A client that sends nonsense gets 400 and is hung up on.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from http import HTTPStatus
from typing import Any, Callable, Dict, List, Optional, Tuple

from aicostguard.simulator import routes
from aicostguard.simulator.app import App
from aicostguard.simulator.call import Reply, Request
from aicostguard.simulator.count import Exchange
from aicostguard.simulator.formats import live
from aicostguard.simulator.socket import Socket, accept
from aicostguard.simulator.wire import Wire

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_SIZE = re.compile(rb"[0-9A-Fa-f]+(?=[ \t]*(;|\Z))")
_reasons = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(ValueError):
    """What came in is not HTTP/1.1 as we read it."""


def split_target(target: str, host: str, port_provider: str) -> Tuple[str, str, str]:
    """Path, query and provider of a request target. A real host name, in the target or in `Host`, beats the port."""
    absolute = "://" in target.split("?", 1)[0]
    if absolute:
        rest = target.split("://", 1)[1]
        host, slash, path = rest.partition("/")
        target = slash + path or "/"
    path, _, query = target.partition("?")
    name = host.rsplit(":", 1)[0].lower()
    if name in _LOOPBACK:
        return path, query, port_provider
    return path, query, routes.provider_of(name) or ("custom" if absolute else port_provider)


def reset(transport: asyncio.Transport) -> None:
    """Close so that the other side sees a connection reset: linger 0 makes close() send RST."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Http1(asyncio.Protocol):
    """One connection. `upgrade` takes over when the client speaks HTTP/2 by prior knowledge."""

    def __init__(
        self, app: App, provider: str, connections: set[Any], upgrade: Optional[Callable[..., asyncio.Protocol]]
    ) -> None:
        self.app = app
        self.provider = provider
        self.connections = connections
        self.upgrade = upgrade
        self.buffer = bytearray()
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.task: Optional[asyncio.Task[None]] = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = False
        #: who sends the present request was told to go on
        self.told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connections.add(self)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Optional[Exception]) -> None:
        """The client is gone: what was still being sent stays incomplete in the count."""
        self.gone = True
        self.connections.discard(self)
        self.writable.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests, split anywhere."""
        self.buffer += data
        if self.upgrade is not None and self.buffer[:3] == b"PRI":
            if len(self.buffer) < len(PREFACE):
                return
            protocol = self.upgrade(self.app, self.provider, self.connections)
            self.connections.discard(self)
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            protocol.data_received(bytes(self.buffer))
            return
        self._advance()

    def _advance(self) -> None:
        """Answer every whole request in the buffer, one after the other."""
        while self.task is None and self.buffer and not self.transport.is_closing():
            try:
                request = self._request()
            except BadRequest as error:
                self._simple(Reply(400, "text/plain", str(error).encode()), None, close=True)
                return
            if request is None:
                return
            if self._switch(request):
                return
            reply = self.app.answer(request)
            close = request.headers.get("connection", "").lower() == "close"
            wire = Wire(reply, request.headers.get("accept-encoding", ""))
            head_only = request.method == "HEAD"
            if head_only or wire.simple:
                self._simple(reply, wire, close, head_only)
            else:
                self.task = asyncio.get_running_loop().create_task(self._send(reply, wire, close))

    def _switch(self, request: Request) -> bool:
        """Go on as a WebSocket, when that is asked for and there is one here."""
        head = accept(request)
        spoken = None if head is None else live.talk(self.app, request)
        if head is None or spoken is None:
            return False
        seen = Exchange(request.provider, request.method, request.target, request.raw_headers, b"", 101)
        self.app.count.saw(seen)
        self.transport.write(head)
        self.connections.discard(self)
        protocol = Socket(self.app, request, spoken, self.connections)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(bytes(self.buffer))
        return True

    def _request(self) -> Optional[Request]:
        """The first request of the buffer, taken out of it; None when it is not whole yet."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                raise BadRequest("the head is too long")
            return None
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest("no request line of HTTP/1.1")
        raw: List[Tuple[str, str]] = []
        headers: Dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequest("a header without a colon")
            value = value.strip(" \t")
            raw.append((name, value))
            headers[name.lower()] = value
        body = self._body(headers, end + 4)
        if body is None:
            return None
        path, query, provider = split_target(words[1], headers.get("host", ""), self.provider)
        return Request(words[0], words[1], path, query, headers, tuple(raw), body, provider)

    def _body(self, headers: Dict[str, str], start: int) -> Optional[bytes]:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            found = _unchunk(self.buffer, start)
            if found is None:
                self._continue(headers)
                return None
            body, end = found
        else:
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY:
                raise BadRequest("content-length out of range")
            end = start + int(length)
            if len(self.buffer) < end:
                self._continue(headers)
                return None
            body = bytes(self.buffer[start:end])
        del self.buffer[:end]
        self.told = False
        return body

    def _continue(self, headers: Dict[str, str]) -> None:
        wanted = headers.get("expect", "").lower() == "100-continue" and not self.told
        if wanted and not self.transport.is_closing():
            self.told = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _head(self, reply: Reply, wire: Optional[Wire], length: Optional[int], close: bool) -> bytes:
        lines = ["HTTP/1.1 %d %s" % (reply.status, _reasons.get(reply.status, "Simulated"))]
        lines.append("content-type: " + reply.content_type)
        if wire is not None and wire.encoding is not None:
            lines.append("content-encoding: " + wire.encoding)
        lines.append("transfer-encoding: chunked" if length is None else "content-length: %d" % length)
        if close:
            lines.append("connection: close")
        lines.extend("%s: %s" % pair for pair in reply.headers)
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _simple(self, reply: Reply, wire: Optional[Wire], close: bool, head_only: bool = False) -> None:
        body = reply.body if wire is None else wire.plain_body()
        book = self.app.count.bill(reply.bills)
        book.mark(True)
        self.transport.write(self._head(reply, wire, len(body), close) + (b"" if head_only else body))
        if self.transport.is_closing():
            book.mark(False)
        if close:
            self.transport.close()

    async def _send(self, reply: Reply, wire: Wire, close: bool) -> None:
        try:
            await self._stream(reply, wire, close)
        except asyncio.CancelledError:
            return  # the client is gone, or the simulator stops
        except Exception:
            self.transport.abort()  # a mistake of ours is loud: a broken connection, and a traceback from asyncio
            raise
        self.task = None
        if close and not self.transport.is_closing():
            self.transport.close()
        self._advance()

    async def _stream(self, reply: Reply, wire: Wire, close: bool) -> None:
        behaviour = reply.behaviour
        if behaviour.first_delay_ms:
            await asyncio.sleep(behaviour.first_delay_ms / 1000)
        if wire.limit is not None and wire.limit < 0:
            self._end(wire)
            return
        # a plain body states its length, so that a client notices a cut; what is split or streamed is chunked
        length = len(wire.plain_body()) if reply.events is None and not wire.split else None
        book = self.app.count.bill(reply.bills)
        head = self._head(reply, wire, length, close)
        first = True
        for piece in wire.cut():
            if behaviour.delay_ms and not first:
                await asyncio.sleep(behaviour.delay_ms / 1000)
            if piece.last and piece.whole:
                book.mark(not reply.broken)
            data = _chunks(wire, piece.data) if length is None else piece.data
            if piece.last and length is None and wire.limit is None:
                data += b"0\r\n\r\n"
            if self.gone or self.transport.is_closing():
                book.mark(False)
                return
            self.transport.write(head + data if first else data)
            first = False
            if not self.writable.is_set():
                await self.writable.wait()
            elif not piece.last:
                await asyncio.sleep(0)  # other connections have their turn
        if self.gone:
            book.mark(False)
        elif wire.limit is not None:
            self.transport.set_write_buffer_limits(0)  # from here on, writable means that everything is with the kernel
            await self.writable.wait()
            self._end(wire)

    def _end(self, wire: Wire) -> None:
        if wire.resets:
            reset(self.transport)
        else:
            self.transport.close()


def _chunks(wire: Wire, data: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in wire.parts(data) if part)


def _unchunk(buffer: bytearray, at: int) -> Optional[Tuple[bytes, int]]:
    """The chunked body that begins at `at`, and where it ends; None when it is not whole."""
    parts: List[bytes] = []
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        found = _SIZE.match(buffer, at, line)
        if found is None:
            raise BadRequest("a chunk without a size")
        size = int(found[0], 16)
        at = line + 2
        if size == 0:
            end = buffer.find(b"\r\n", at)
            while end > at:  # trailers
                at = end + 2
                end = buffer.find(b"\r\n", at)
            return None if end < 0 else (b"".join(parts), end + 2)
        if len(buffer) < at + size + 2:
            return None
        parts.append(bytes(buffer[at : at + size]))
        at += size + 2
