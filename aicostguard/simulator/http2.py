"""HTTP/2 in clear text by prior knowledge, on the same ports.

Owns the translation between the package `h2` (extra `demo`) and `App`. Only this file imports it; without it the
simulator speaks HTTP/1.1 alone. A reset is RST_STREAM here, a cut closes the connection under the stream.
"""

from __future__ import annotations

import asyncio
from typing import Any, Dict, List, Optional, Set, Tuple

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from aicostguard.simulator.app import App
from aicostguard.simulator.call import Reply, Request
from aicostguard.simulator.http1 import MAX_BODY, split_target
from aicostguard.simulator.wire import Wire


class _Incoming:
    """One request while it arrives."""

    def __init__(self, headers: List[Tuple[str, str]]) -> None:
        self.headers = headers
        self.parts: List[bytes] = []
        self.size = 0


class Http2(asyncio.Protocol):
    """One connection with any number of streams."""

    def __init__(self, app: App, provider: str, connections: Set[Any]) -> None:
        self.app = app
        self.provider = provider
        self.connections = connections
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.conn = h2.connection.H2Connection(config=config)
        self.incoming: Dict[int, _Incoming] = {}
        self.tasks: Dict[int, asyncio.Task[None]] = {}
        #: set whenever a window may have grown
        self.moved = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has sent the preface."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connections.add(self)
        self.conn.initiate_connection()
        self._flush()

    def connection_lost(self, error: Optional[Exception]) -> None:
        """The client is gone: what was still being sent stays incomplete in the count."""
        self.connections.discard(self)
        for task in list(self.tasks.values()):
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Frames, split anywhere."""
        try:
            events = self.conn.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            self.transport.close()
            return
        for event in events:
            self._event(event)
        self.moved.set()
        self._flush()

    def _event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            pairs = [(_text(name), _text(value)) for name, value in event.headers or ()]
            self.incoming[event.stream_id or 0] = _Incoming(pairs)
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id or 0
            incoming = self.incoming.get(stream)
            if incoming is not None:
                incoming.parts.append(event.data or b"")
                incoming.size += len(event.data or b"")
                if incoming.size > MAX_BODY:
                    self.incoming.pop(stream)
                    self.conn.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            self.conn.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, h2.events.StreamEnded):
            self._answer(event.stream_id or 0)
        elif isinstance(event, h2.events.StreamReset):
            self.incoming.pop(event.stream_id or 0, None)
            task = self.tasks.pop(event.stream_id or 0, None)
            if task is not None:
                task.cancel()
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.transport.close()

    def _answer(self, stream: int) -> None:
        incoming = self.incoming.pop(stream, None)
        if incoming is None:
            return
        pseudo = {name: value for name, value in incoming.headers if name.startswith(":")}
        raw = tuple(pair for pair in incoming.headers if not pair[0].startswith(":"))
        headers = {**dict(raw), "host": pseudo.get(":authority", "")}
        target = pseudo.get(":path", "/")
        path, query, provider = split_target(target, headers["host"], self.provider)
        method = pseudo.get(":method", "GET")
        body = b"".join(incoming.parts)
        request = Request(method, target, path, query, headers, raw, body, provider, "HTTP/2")
        reply = self.app.answer(request)
        wire = Wire(reply, headers.get("accept-encoding", ""))
        self.tasks[stream] = asyncio.get_running_loop().create_task(self._send(stream, reply, wire))

    async def _send(self, stream: int, reply: Reply, wire: Wire) -> None:
        try:
            await self._stream(stream, reply, wire)
        except (asyncio.CancelledError, h2.exceptions.ProtocolError):
            return  # the client gave up this stream, or the connection
        finally:
            self.tasks.pop(stream, None)

    async def _stream(self, stream: int, reply: Reply, wire: Wire) -> None:
        behaviour = reply.behaviour
        if behaviour.first_delay_ms:
            await asyncio.sleep(behaviour.first_delay_ms / 1000)
        if wire.limit is not None and wire.limit < 0:
            self._end(stream, wire)
            return
        book = self.app.count.bill(reply.bills)
        head = [(":status", str(reply.status)), ("content-type", reply.content_type)]
        if wire.encoding is not None:
            head.append(("content-encoding", wire.encoding))
        if reply.events is None:
            head.append(("content-length", str(len(wire.plain_body()))))
        head += [(name.lower(), value) for name, value in reply.headers]
        self.conn.send_headers(stream, head)
        self._flush()
        first = True
        for piece in wire.cut():
            if behaviour.delay_ms and not first:
                await asyncio.sleep(behaviour.delay_ms / 1000)
            first = False
            if piece.last and piece.whole:
                book.mark(not reply.broken)
            try:
                for part in wire.parts(piece.data):
                    await self._data(stream, part)
            except (asyncio.CancelledError, h2.exceptions.ProtocolError):
                book.mark(False)
                raise
            await asyncio.sleep(0)
        if wire.limit is not None:
            self._end(stream, wire)
        else:
            self.conn.end_stream(stream)
            self._flush()

    async def _data(self, stream: int, data: bytes) -> None:
        """Send within what the client's windows allow."""
        while data:
            room = min(self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
            if room <= 0:
                self.moved.clear()
                await self.moved.wait()
                continue
            self.conn.send_data(stream, data[:room])
            data = data[room:]
            self._flush()

    def _end(self, stream: int, wire: Wire) -> None:
        if wire.resets:
            self.conn.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
            self._flush()
        else:
            self.transport.close()

    def _flush(self) -> None:
        data = self.conn.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
