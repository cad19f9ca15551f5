"""curl_cffi: `Session.request` and `AsyncSession.request`.

curl decodes, and a response that was read has its content. A streamed one hands pieces out of a queue that another
thread, or the loop, fills: they are seen where its user takes them, in `iter_content` and `aiter_content`, hooked on
the class when the first streamed AI response is seen. What a `content_callback` takes is not seen: usage is missing.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, AsyncIterator, Callable, Iterator, Optional
from urllib.parse import urljoin

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.address import address
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, Rows, replace, watch
from aicostguard.capture.state import state
from aicostguard.capture.tap import TAP, Tap

#: there while a response is asked for its next piece: when there is none it closes itself, which is no break
_READING = "_aicostguard_reading"


def install(module: ModuleType, hook: Hook) -> None:
    """Hook curl_cffi. Raises when `request` is not where it was."""
    replace(hook, module.Session, "request", lambda original: _request(original, hook))
    replace(hook, module.AsyncSession, "request", lambda original: _arequest(original, hook))
    for owner in (module.Session, module.AsyncSession):
        for shortcut in vars(owner).values():
            # `get`, `post` and their like hold `request` itself in early versions. Ours stays there when it is taken
            # off the class, and only passes on.
            if isinstance(shortcut, functools.partialmethod) and shortcut.func.__name__ == "request":
                shortcut.func = owner.__dict__["request"]


def _request(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def request(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        if context.inside.get() or not hook.on:
            return original(self, method, url, *args, **kwargs)
        call = _begin(hook, self, method, url, kwargs, False)
        if call is None:
            return original(self, method, url, *args, **kwargs)
        if state.gate is not None:
            permit.ask(call)
        try:
            response = original(self, method, url, *args, **kwargs)
        except BaseException:
            call.interrupted()
            raise
        _response(call, response)
        return response

    return request


def _arequest(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def request(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        if context.inside.get() or not hook.on:
            return await original(self, method, url, *args, **kwargs)
        call = _begin(hook, self, method, url, kwargs, True)
        if call is None:
            return await original(self, method, url, *args, **kwargs)
        if state.gate is not None:
            await permit.aask(call)
        try:
            response = await original(self, method, url, *args, **kwargs)
        except BaseException:
            call.interrupted()
            raise
        _response(call, response)
        if call.outbox:
            await call.drain()
        return response

    return request


def _begin(hook: Hook, session: Any, method: str, url: str, kwargs: Any, asynchronous: bool) -> Optional[Call]:
    try:
        base = getattr(session, "base_url", None)
        where = address(urljoin(base, url) if base else url)
        return None if where is None else begin(hook, method.upper(), *where, lambda: _body(kwargs), asynchronous)
    except Exception as error:
        hook.failed("begin", error)
        return None


def _body(kwargs: Any) -> Optional[bytes]:
    body = kwargs.get("content") or kwargs.get("data")
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    if kwargs.get("json") is not None:
        import json

        return json.dumps(kwargs["json"], default=str).encode()
    return None


def _response(call: Call, response: Any) -> None:
    try:
        header = response.headers.get
        content_type = header("content-type") or ""
        if response.queue is None:
            call.read(response.status_code, content_type, header, response.content or b"")
        elif call.open(response.status_code, content_type, header):
            tap = Tap(call, None)
            tap.decoding = True
            watch(call.hook, type(response), _STREAMED)
            response.__dict__[TAP] = tap
    except Exception as error:
        call.hook.failed("response", error)


def _iter_content(original: Callable[..., Any]) -> Callable[..., Any]:
    def iter_content(self: Any, *args: Any, **kwargs: Any) -> Any:
        pieces = original(self, *args, **kwargs)
        tap: Optional[Tap] = self.__dict__.get(TAP)
        return pieces if tap is None else _told(self, pieces, tap)

    return iter_content


def _told(response: Any, pieces: Iterator[bytes], tap: Tap) -> Iterator[bytes]:
    marks = response.__dict__
    while True:
        marks[_READING] = True
        try:
            piece = next(pieces)
        except StopIteration:
            tap.end(True)
            return
        except BaseException:
            tap.end(False)
            raise
        finally:
            marks.pop(_READING, None)
        tap.plain(piece)
        yield piece
        if tap.call.cut is not None:
            response.close()
            raise tap.call.cut


def _aiter_content(original: Callable[..., Any]) -> Callable[..., Any]:
    def aiter_content(self: Any, *args: Any, **kwargs: Any) -> Any:
        pieces = original(self, *args, **kwargs)
        tap: Optional[Tap] = self.__dict__.get(TAP)
        return pieces if tap is None else _atold(self, pieces, tap)

    return aiter_content


async def _atold(response: Any, pieces: AsyncIterator[bytes], tap: Tap) -> AsyncIterator[bytes]:
    marks = response.__dict__
    while True:
        marks[_READING] = True
        try:
            piece = await pieces.__anext__()
        except StopAsyncIteration:
            tap.end(True)
            if tap.call.outbox:
                await tap.call.drain()
            return
        except BaseException:
            tap.end(False)
            raise
        finally:
            marks.pop(_READING, None)
        tap.plain(piece)
        yield piece
        if tap.call.cut is not None:
            if response.quit_now is not None:  # its `aclose` alone would wait for the rest of the answer
                response.quit_now.set()
            await response.aclose()
            raise tap.call.cut


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any) -> Any:
        try:
            return original(self)
        finally:
            tap: Optional[Tap] = self.__dict__.get(TAP)
            if tap is not None and _READING not in self.__dict__:
                tap.end(False)

    return close


def _aclose(original: Callable[..., Any]) -> Callable[..., Any]:
    async def aclose(self: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(TAP)
        try:
            return await original(self)
        finally:
            if tap is not None and _READING not in self.__dict__:
                tap.end(False)

    return aclose


_STREAMED: Rows = (
    ("iter_content", _iter_content),
    ("aiter_content", _aiter_content),
    ("close", _close),
    ("aclose", _aclose),
)
