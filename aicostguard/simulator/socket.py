"""WebSocket (RFC 6455) by hand, on the port and connection that spoke HTTP/1.1 until the upgrade.

Owns the handshake, frames, and the pace at which a conversation's messages go out. Knows nothing of providers: what is
said comes from `formats.live`. No extension is accepted, so nothing is compressed. `delay_ms` of a behaviour is the
pause between two messages; `reset_after` and `cut_after` count the messages of a turn, after which the connection
is reset, or closed without a word.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any, Iterator, List, NamedTuple, Optional, Protocol, Sequence, Set, Union

from aicostguard.simulator.app import App
from aicostguard.simulator.behaviour import Behaviour
from aicostguard.simulator.call import Request
from aicostguard.simulator.count import Billed, Exchange

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
Message = Union[str, bytes]


class Say(NamedTuple):
    """One message of the server. `bills`: what is billed just before it goes out; `last`: it ends what they billed."""

    message: Message
    bills: Sequence[Billed] = ()
    last: bool = False


class Turn(NamedTuple):
    """The messages that answer one message of the client."""

    says: Iterator[Say]
    behaviour: Behaviour = Behaviour()


class Talk(Protocol):
    """One conversation, from a provider's side."""

    def opened(self) -> List[Say]:
        """What is said first, unasked."""

    def heard(self, message: Message) -> Optional[Turn]:
        """The answer to a message of the client."""


def accept(request: Request) -> Optional[bytes]:
    """The head that accepts an upgrade; None when the request asks for none."""
    key = request.headers.get("sec-websocket-key")
    if key is None or request.headers.get("upgrade", "").lower() != "websocket":
        return None
    token = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines.append("Sec-WebSocket-Accept: " + token)
    offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
    if offered:
        lines.append("Sec-WebSocket-Protocol: " + offered[0])
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def frame(opcode: int, data: bytes) -> bytes:
    """One unmasked frame, as a server sends it."""
    size = len(data)
    if size < 126:
        head = bytes([0x80 | opcode, size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 127]) + size.to_bytes(8, "big")
    return head + data


class Socket(asyncio.Protocol):
    """One connection after its upgrade."""

    def __init__(self, app: App, request: Request, talk: Talk, connections: Set[Any]) -> None:
        self.app = app
        self.request = request
        self.talk = talk
        self.connections = connections
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self.buffer = bytearray()
        self.parts: List[bytes] = []
        self.kind = _TEXT
        self.turns: asyncio.Queue[Turn] = asyncio.Queue()
        self.task: Optional[asyncio.Task[None]] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The upgrade was accepted."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connections.add(self)
        self.turns.put_nowait(Turn(iter(self.talk.opened())))
        self.task = asyncio.get_running_loop().create_task(self._speak())

    def connection_lost(self, error: Optional[Exception]) -> None:
        """The client is gone."""
        self.connections.discard(self)
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames, split anywhere."""
        self.buffer += data
        while self._frame():
            pass

    def _frame(self) -> bool:
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        size, at = buffer[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(buffer) < at + wide:
                return False
            size, at = int.from_bytes(buffer[at : at + wide], "big"), at + wide
        masked = buffer[1] & 0x80
        if len(buffer) < at + (4 if masked else 0) + size:
            return False
        mask = bytes(buffer[at : at + 4]) if masked else b"\0\0\0\0"
        at += 4 if masked else 0
        data = bytes(buffer[at : at + size])
        whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        final, opcode = buffer[0] & 0x80, buffer[0] & 0x0F
        del buffer[: at + size]
        self._take(bool(final), opcode, whole.to_bytes(size, "big"))
        return True

    def _take(self, final: bool, opcode: int, data: bytes) -> None:
        if opcode == _PING:
            self.transport.write(frame(_PONG, data))
        elif opcode == _CLOSE:
            self.transport.write(frame(_CLOSE, data[:2]))
            self.transport.close()
        elif opcode != _PONG:
            if opcode:
                self.kind = opcode
            self.parts.append(data)
            if final:
                message, self.parts = b"".join(self.parts), []
                self._heard(message)

    def _heard(self, data: bytes) -> None:
        request = self.request
        seen = Exchange(request.provider, "WS", request.target, request.raw_headers, data, 101)
        self.app.count.saw(seen)
        turn = self.talk.heard(data if self.kind == _BINARY else data.decode("utf-8", "replace"))
        if turn is not None:
            self.turns.put_nowait(turn)

    async def _speak(self) -> None:
        try:
            while True:
                turn = await self.turns.get()
                await self._turn(turn)
        except Exception:
            self.transport.abort()  # a mistake of ours is loud: a broken connection, and a traceback from asyncio
            raise

    async def _turn(self, turn: Turn) -> None:
        behaviour = turn.behaviour
        limit = behaviour.cut_after if behaviour.reset_after is None else behaviour.reset_after
        books = []
        for number, say in enumerate(turn.says):
            if limit is not None and number >= max(0, limit):
                self._break_off(behaviour)
                return
            if behaviour.delay_ms and number:
                await asyncio.sleep(behaviour.delay_ms / 1000)
            if say.bills:
                books.append(self.app.count.bill(say.bills))
            if say.last and books:
                books.pop().mark(True)
            text = isinstance(say.message, str)
            data = say.message.encode() if isinstance(say.message, str) else say.message
            self.transport.write(frame(_TEXT if text else _BINARY, data))
            await asyncio.sleep(0)

    def _break_off(self, behaviour: Behaviour) -> None:
        from aicostguard.simulator.http1 import reset  # which imports this module

        if behaviour.reset_after is not None:
            reset(self.transport)
        else:
            self.transport.close()
