"""aiohttp's WebSockets: `ClientWebSocketResponse`, through whose `receive` every message comes.

Owns the session that hangs on such a response, looked up at its first message. What has to be awaited is awaited before
the next message is taken, so that cancelling `receive` loses none.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Optional

from aicostguard.capture import permit
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.session import Address, Session, aclosing, session_of
from aicostguard.capture.state import state

#: values of `WSMsgType`: text and bytes; from CLOSE on, what says that no more will come
_MESSAGES = (1, 2)
_ENDS = (8, 256, 257, 258)


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `aiohttp.client_ws`. Raises when its methods are not where they were."""
    kind = module.ClientWebSocketResponse
    for name in ("send_str", "send_bytes"):
        replace(hook, kind, name, lambda original: _send(original, hook))
    replace(hook, kind, "receive", lambda original: _receive(original, hook))
    replace(hook, kind, "close", aclosing)


def _address(socket: Any) -> Optional[Address]:
    url = socket._response.url
    return url.raw_host or "", url.port, url.raw_path_qs


def _received(session: Session, message: Any) -> None:
    try:
        kind = int(message.type)
        if kind in _MESSAGES:
            session.received(message.data)
        elif kind in _ENDS:
            session.end()
    except Exception as error:
        session.hook.failed("received", error)


def _send(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def send(self: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(self, hook, True, _address) if hook.on else None
        if session is not None:
            asked = session.sent(data)
            if asked is not None and state.gate is not None:
                await permit.aask(asked)
        return await original(self, data, *args, **kwargs)

    return send


def _receive(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def receive(self: Any, *args: Any, **kwargs: Any) -> Any:
        session = session_of(self, hook, True, _address) if hook.on else None
        if session is None:
            return await original(self, *args, **kwargs)
        if session.waiting:
            await session.drain()
        message = await original(self, *args, **kwargs)
        _received(session, message)
        return message

    return receive
