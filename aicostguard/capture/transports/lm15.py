"""lm15, which dspy carries inside itself: its own HTTP/1.1 over sockets, `StdlibTransport` and `StdlibAsyncTransport`.

Nothing else talks through it, so whatever does is an AI SDK. Its responses hold an iterator over the body, and a
function that is called once, when the connection is released; a tap is put around both, on the one response. lm15
decodes nothing and asks for nothing compressed.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from aicostguard import context
from aicostguard.capture import cutting, permit
from aicostguard.capture.call import Call, begin
from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.pieces import AsyncPieces, SyncPieces
from aicostguard.capture.state import state
from aicostguard.capture.tap import Tap


def install(module: ModuleType, hook: Hook) -> None:
    """Hook one of the two modules. Raises when its transport is not where it was."""
    if hasattr(module, "StdlibAsyncTransport"):
        owner = module.StdlibAsyncTransport
        replace(hook, owner, "_do_stream", lambda original: logical.coroutine(_do_stream(original, hook), hook))
    else:
        owner = module.StdlibTransport
        replace(hook, owner, "stream", lambda original: logical.sync(_stream(original, hook), hook))


def _stream(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def stream(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        call = None if context.inside.get() else _begin(hook, request, False)
        if call is None:
            return original(self, request, *args, **kwargs)
        if state.gate is not None:
            permit.ask(call)
        try:
            response = original(self, request, *args, **kwargs)
        except BaseException:
            call.interrupted()
            raise
        _response(call, response)
        return response

    return stream


def _do_stream(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def _do_stream(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        call = None if context.inside.get() else _begin(hook, request, True)
        if call is None:
            return await original(self, request, *args, **kwargs)
        if state.gate is not None:
            await permit.aask(call)
        try:
            response = await original(self, request, *args, **kwargs)
        except BaseException:
            call.interrupted()
            raise
        _response(call, response)
        return response

    return _do_stream


def _begin(hook: Hook, request: Any, asynchronous: bool) -> Optional[Call]:
    try:
        parts = urlsplit(request.url)
        return begin(
            hook,
            request.method.upper(),
            parts.hostname or "",
            parts.port,
            parts.path,
            lambda: request.body if isinstance(request.body, bytes) else None,
            asynchronous,
        )
    except Exception as error:
        hook.failed("begin", error)
        return None


def _response(call: Call, response: Any) -> None:
    try:
        headers = {name.lower(): value for name, value in response.headers}

        def header(name: str) -> Optional[str]:  # its own `header` would hold the response, which holds the tap
            return headers.get(name.lower())

        if not call.open(response.status, header("content-type") or "", header):
            return
        tap = Tap(call, header("content-encoding"))
        tap.decoding = False
        chunks, release = response._chunks, response._release
        if call.asynchronous:
            released = _areleased(release, tap)
            response._chunks, response._release = AsyncPieces(chunks, tap), released
            if cutting.may_be_cut(call):
                response._chunks = cutting.AsyncCut(response._chunks, call, partial(released, False))
        else:
            done = _released(release, tap)
            response._chunks, response._release = SyncPieces(chunks, tap), done
            if cutting.may_be_cut(call):
                response._chunks = cutting.SyncCut(response._chunks, call, partial(done, False))
    except Exception as error:
        call.hook.failed("response", error)


def _released(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    def release(consumed: bool) -> None:
        try:
            original(consumed)
        finally:
            tap.end(consumed)

    return release


def _areleased(original: Callable[..., Any], tap: Tap) -> Callable[..., Any]:
    async def release(consumed: bool) -> None:
        try:
            await original(consumed)
        finally:
            tap.end(consumed)
        if tap.call.outbox:
            await tap.call.drain()

    return release
