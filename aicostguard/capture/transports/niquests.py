"""niquests: `Session.send` and `AsyncSession.send`.

A response that was read inside `send` is metered from its content; a streamed one is tapped in its raw body, which is
urllib3-future's. One that is not there yet, because its session sends several at once (`multiplexed=True`), cannot be
seen here: such calls are counted as unmetered.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture import early, permit
from aicostguard.capture.address import address
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.capture.tap import Tap
from aicostguard.capture.transports import urllib3_future


def install(module: ModuleType, hook: Hook) -> None:
    """Hook niquests. Raises when `send` is not where it was."""
    replace(hook, module.Session, "send", lambda original: _send(original, hook))
    replace(hook, module.AsyncSession, "send", lambda original: _asend(original, hook))


def _send(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer and hook.on:
                context.ask(outer)
            return original(self, request, **kwargs)
        call = _begin(hook, request, False)
        if call is None:
            return original(self, request, **kwargs)
        if state.gate is not None:
            permit.ask(call)
        context.inside.set(True)
        try:
            response = original(self, request, **kwargs)
        except BaseException:
            call.interrupted(sent=request, before=early.hooked)
            raise
        finally:
            context.inside.set(False)
        _response(call, response)
        return response

    return send


def _asend(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def send(self: Any, request: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer and hook.on:
                context.ask(outer)
            return await original(self, request, **kwargs)
        call = _begin(hook, request, True)
        if call is None:
            return await original(self, request, **kwargs)
        if state.gate is not None:
            await permit.aask(call)
        context.inside.set(True)
        try:
            response = await original(self, request, **kwargs)
        except BaseException:
            call.interrupted(sent=request, before=early.hooked)
            raise
        finally:
            context.inside.set(False)
        _response(call, response)
        if call.outbox:
            await call.drain()
        return response

    return send


def _begin(hook: Hook, request: Any, asynchronous: bool) -> Optional[Call]:
    try:
        where = address(request.url)
        return None if where is None else begin(hook, request.method, *where, lambda: _body(request), asynchronous)
    except Exception as error:
        hook.failed("begin", error)
        return None


def _body(request: Any) -> Optional[bytes]:
    body = request.body
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray)) else None


def _response(call: Call, response: Any) -> None:
    try:
        if response.lazy:  # to ask it for anything else would wait for it
            call.unreadable("a multiplexed session")
            return
        header = response.headers.get
        status, content_type, content = response.status_code, header("content-type") or "", response._content
        if content is not False:
            call.read(status, content_type, header, content or b"")
        elif call.open(status, content_type, header) and not urllib3_future.tap(
            response.raw, Tap(call, header("content-encoding"))
        ):
            call.unreadable("a body that is not urllib3-future's")
    except Exception as error:
        call.hook.failed("response", error)
