"""websockets: `send`, `recv` and `close` of a connection, in its asyncio and in its threaded half.

Owns the session that hangs on a connection. It is looked up once, at the end of the handshake, or at the first message
of a connection that is older than the agent; connections to other hosts, and those of a server, keep a None. A
connection that was closed may still give messages that had arrived, so a session is over when `recv` says so, when the
user closes it, or when the connection is collected. Cancelling `recv` loses no message, with us as without us: what
has to be awaited is awaited before the next message is taken, never after one was.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, AsyncIterator, Callable, Iterator, List, Optional

from aicostguard.capture import permit
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.session import Address, Session, aclosing, closing, session_of
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `websockets.asyncio.client` or `websockets.sync.client`. Raises when its methods are not where they were."""
    client = module.ClientConnection
    awaited = ".asyncio." in module.__name__
    for name, make in _ASYNCIO if awaited else _SYNC:
        replace(hook, _owner(client, name), name, lambda original, make=make: make(original, hook))  # type: ignore[misc]
    replace(hook, _owner(client, "close"), "close", aclosing if awaited else closing)


def _owner(client: type, name: str) -> type:
    return next(kind for kind in client.__mro__ if name in kind.__dict__)


def _address(connection: Any) -> Optional[Address]:
    protocol = connection.protocol
    uri = getattr(protocol, "uri", None) or getattr(protocol, "wsuri", None)  # the second: before websockets 15
    return None if uri is None else (uri.host, uri.port, uri.resource_name)  # none: a server's


def _closes(error: BaseException) -> bool:
    """Is this the exception that says that a connection is closed? Not a timeout, a cancellation, a misuse."""
    try:
        return any(kind.__name__ == "ConnectionClosed" for kind in type(error).__mro__)
    except Exception:  # the user is to have the exception in hand, not one of ours
        return False


def _ahandshake(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def handshake(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, *args, **kwargs)
        if hook.on:
            session_of(self, hook, True, _address)
        return result

    return handshake


def _handshake(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def handshake(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if hook.on:
            session_of(self, hook, False, _address)
        return result

    return handshake


def _asend(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(self, hook, True, _address) if hook.on else None
        if session is not None:
            asked = session.sent(message)
            if asked is not None and state.gate is not None:
                await permit.aask(asked)
        return await original(self, message, *args, **kwargs)

    return send


def _send(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(self, hook, False, _address) if hook.on else None
        if session is not None:
            asked = session.sent(message)
            if asked is not None and state.gate is not None:
                permit.ask(asked)
        return original(self, message, *args, **kwargs)

    return send


def _arecv(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(self, hook, True, _address) if hook.on else None
        if session is None:
            return await original(self, *args, **kwargs)
        if session.waiting:
            await session.drain()
        try:
            message = await original(self, *args, **kwargs)
        except BaseException as error:
            if _closes(error):
                session.end()
            raise
        session.received(message)
        return message

    return recv


def _recv(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(self, hook, False, _address) if hook.on else None
        if session is None:
            return original(self, *args, **kwargs)
        try:
            message = original(self, *args, **kwargs)
        except BaseException as error:
            if _closes(error):
                session.end()
            raise
        session.received(message)
        return message

    return recv


def _arecv_streaming(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """A message in fragments: what was billed is known when the last one is here."""

    def recv_streaming(self: Any, *args: Any, **kwargs: Any) -> Any:
        frames = original(self, *args, **kwargs)
        session = session_of(self, hook, True, _address) if hook.on else None
        return frames if session is None else _agathered(frames, session)

    return recv_streaming


def _recv_streaming(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def recv_streaming(self: Any, *args: Any, **kwargs: Any) -> Any:
        frames = original(self, *args, **kwargs)
        session = session_of(self, hook, False, _address) if hook.on else None
        return frames if session is None else _gathered(frames, session)

    return recv_streaming


async def _agathered(frames: Any, session: Session) -> AsyncIterator[Any]:
    held: List[Any] = []
    try:
        async for frame in frames:
            held.append(frame)
            yield frame
    except BaseException as error:
        if _closes(error):
            session.end()
        raise
    finally:
        await frames.aclose()
    session.received_parts(held)


def _gathered(frames: Any, session: Session) -> Iterator[Any]:
    held: List[Any] = []
    try:
        for frame in frames:
            held.append(frame)
            yield frame
    except BaseException as error:
        if _closes(error):
            session.end()
        raise
    finally:
        frames.close()
    session.received_parts(held)


_ASYNCIO = (
    ("send", _asend),
    ("recv", _arecv),
    ("recv_streaming", _arecv_streaming),
    ("handshake", _ahandshake),
)
_SYNC = (
    ("send", _send),
    ("recv", _recv),
    ("recv_streaming", _recv_streaming),
    ("handshake", _handshake),
)
