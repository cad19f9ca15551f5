"""websocket-client: `WebSocket.connect`, `send`, `recv_data_frame`, `close`, which all its other methods go through.

Owns the session that hangs on a `WebSocket` from its connection on; the address is not kept by the library, so a
connection that is older than the agent is not seen. Messages that the user takes fragment by fragment
(`fire_cont_frame`) are not read.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from aicostguard.capture import permit
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.session import KEPT, Session, closing, session_of
from aicostguard.capture.state import state

# https://www.rfc-editor.org/rfc/rfc6455#section-5.2
_TEXT, _BINARY, _CLOSE = 1, 2, 8


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `websocket._core`. Raises when its methods are not where they were."""
    kind = module.WebSocket
    replace(hook, kind, "connect", lambda original: _connect(original, hook))
    replace(hook, kind, "send", _send)
    replace(hook, kind, "recv_data_frame", _recv_data_frame)
    replace(hook, kind, "close", closing)


def _begin(hook: Hook, socket: Any, url: Any) -> None:
    try:
        parts = urlsplit(url)
        target = parts.path + ("?" + parts.query if parts.query else "")
        socket.__dict__.pop(KEPT, None)  # a socket may be connected again
        session_of(socket, hook, False, lambda _: (parts.hostname or "", parts.port, target))
    except Exception as error:
        hook.failed("begin", error)


def _received(session: Session, opcode: Any, frame: Any) -> None:
    try:
        if opcode in (_TEXT, _BINARY):
            session.received(frame.data)
        elif opcode == _CLOSE:
            session.end()
    except Exception as error:
        session.hook.failed("received", error)


def _connect(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def connect(self: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, url, *args, **kwargs)
        if hook.on:
            _begin(hook, self, url)
        return result

    return connect


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    def send(self: Any, payload: Any, opcode: int = _TEXT) -> Any:
        session: Optional[Session] = self.__dict__.get(KEPT)
        if session is not None and opcode in (_TEXT, _BINARY):
            asked = session.sent(payload)
            if asked is not None and state.gate is not None:
                permit.ask(asked)
        return original(self, payload, opcode)

    return send


def _recv_data_frame(original: Callable[..., Any]) -> Callable[..., Any]:
    def recv_data_frame(self: Any, *args: Any, **kwargs: Any) -> Any:
        session: Optional[Session] = self.__dict__.get(KEPT)
        if session is None:
            return original(self, *args, **kwargs)
        try:
            found = original(self, *args, **kwargs)
        except BaseException as error:
            if type(error).__name__ == "WebSocketConnectionClosedException":
                session.end()
            raise
        _received(session, *found)
        return found

    return recv_data_frame
