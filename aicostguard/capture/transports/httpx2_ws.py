"""httpx2's WebSockets: `WebSocketSession` and `AsyncWebSocketSession`, through whose `send` and `receive` all comes.

Owns the session that hangs on such an object, whose address is that of its handshake. One built from a bare stream has
none, and is not seen. What is received are whole messages: httpx2 joins the fragments.

A thread or task of httpx2 reads ahead, and closes by itself when the connection breaks: what it has read is still there
for the user, so that the session is not over before the user has taken it, or closes, or lets go.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Optional

from aicostguard.capture import permit
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.session import Address, Session, aclosing, closing, session_of
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `httpx2.websockets._api`. Raises when its methods are not where they were."""
    blocking, awaited = module.WebSocketSession, module.AsyncWebSocketSession
    gone = (module.WebSocketDisconnect, module.WebSocketNetworkError)
    for name, make in (("send", _send(hook)), ("receive", _receive(hook, gone)), ("close", _close)):
        replace(hook, blocking, name, make)
    for name, make in (("send", _asend(hook)), ("receive", _areceive(hook, gone)), ("close", _aclose)):
        replace(hook, awaited, name, make)


#: the codes with which httpx2 closes by itself: something broke, a message was too big (RFC 6455, 7.4.1)
_BY_ITSELF = (1011, 1009)


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    over = closing(original)

    def close(self: Any, code: int = 1000, *args: Any, **kwargs: Any) -> Any:
        return (original if code in _BY_ITSELF else over)(self, code, *args, **kwargs)

    return close


def _aclose(original: Callable[..., Any]) -> Callable[..., Any]:
    over = aclosing(original)

    async def close(self: Any, code: int = 1000, *args: Any, **kwargs: Any) -> Any:
        return await (original if code in _BY_ITSELF else over)(self, code, *args, **kwargs)

    return close


def _address(socket: Any) -> Optional[Address]:
    response = socket.response
    if response is None:
        return None
    url = response.request.url
    return url.host, url.port, url.raw_path.decode("ascii")


def _send(hook: Hook) -> Callable[..., Any]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Any, event: Any) -> Any:
            session = session_of(self, hook, False, _address) if hook.on else None
            if session is not None:
                asked = session.sent(getattr(event, "data", None))  # pings and the closing of a session have none
                if asked is not None and state.gate is not None:
                    permit.ask(asked)
            return original(self, event)

        return send

    return make


def _asend(hook: Hook) -> Callable[..., Any]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def send(self: Any, event: Any) -> Any:
            session = session_of(self, hook, True, _address) if hook.on else None
            if session is not None:
                asked = session.sent(getattr(event, "data", None))
                if asked is not None and state.gate is not None:
                    await permit.aask(asked)
            return await original(self, event)

        return send

    return make


def _received(session: Session, event: Any) -> None:
    try:
        session.received(getattr(event, "data", None))
    except Exception as error:
        session.hook.failed("received", error)


def _receive(hook: Hook, gone: Any) -> Callable[..., Any]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def receive(self: Any, timeout: Optional[float] = None) -> Any:
            session = session_of(self, hook, False, _address) if hook.on else None
            if session is None:
                return original(self, timeout)
            try:
                event = original(self, timeout)
            except gone:
                session.end()
                raise
            _received(session, event)
            return event

        return receive

    return make


def _areceive(hook: Hook, gone: Any) -> Callable[..., Any]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def receive(self: Any, timeout: Optional[float] = None) -> Any:
            session = session_of(self, hook, True, _address) if hook.on else None
            if session is None:
                return await original(self, timeout)
            if session.waiting:
                await session.drain()
            try:
                event = await original(self, timeout)
            except gone:
                session.end()
                raise
            _received(session, event)
            return event

        return receive

    return make
