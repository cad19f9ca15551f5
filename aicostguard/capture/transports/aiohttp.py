"""aiohttp: `ClientSession._request`, through which every request of a session goes.

Owns the tap on the response's `StreamReader`. The reader keeps arrived bytes in a deque; a deque that also tells
the tap takes its place, so that the reader, its methods and what they give stay what they are, and the bytes are
seen in the moment they arrive, whoever reads them later and how. aiohttp has decoded them unless the session was
made with `auto_decompress=False`.
"""

from __future__ import annotations

import collections
import functools
from types import ModuleType
from typing import Any, Callable, Iterable, Optional, Tuple

from aicostguard import context
from aicostguard.capture import cutting, early, permit
from aicostguard.capture.address import address
from aicostguard.capture.call import Call, begin
from aicostguard.capture.forms import form
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.capture.tap import Tap
from aicostguard.capture.transports.aiohttp_between import between
from aicostguard.health import health


def install(module: ModuleType, hook: Hook) -> None:
    """Hook aiohttp. Raises when the reader's buffer is not what it was: then nothing is patched."""
    _check(module)
    replace(hook, module.ClientSession, "_request", lambda original: _request(original, hook))
    replace(hook, module.StreamReader, "set_exception", _set_exception)
    if state.inline:  # only there do receipts wait to be awaited; elsewhere reading costs nothing more
        for name in ("read", "readany", "readchunk", "readuntil"):
            replace(hook, module.StreamReader, name, _drained)
        replace(hook, module.ClientResponse, "__aexit__", _drained)


def _check(module: ModuleType) -> None:
    reader = module.StreamReader
    names = set(dir(reader))
    if not {"_buffer", "on_eof", "feed_data", "exception"} <= names and "__slots__" in reader.__dict__:
        raise RuntimeError("StreamReader has changed")


def _request(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def _request(self: Any, method: str, str_or_url: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer and hook.on:
                context.ask(outer)
            return await original(self, method, str_or_url, **kwargs)
        call = _begin(hook, self, method, str_or_url, kwargs)
        if call is None:
            return await original(self, method, str_or_url, **kwargs)
        stands = between(call, self, kwargs, lambda call, response: _tap(call, self, response, kwargs))
        if state.gate is not None:
            await permit.aask(call)
        asked = _question(hook, call, self, str_or_url, kwargs) if state.ask else None
        # Traces and middlewares are code of the user's own: what they ask is their own, and of no logical call of ours.
        # No transport of ours stands beneath this one.
        theirs = stands is not None or getattr(self, "_trace_configs", None)
        logical = context.logical.get()
        if theirs:
            context.logical.set(None)
        else:
            context.inside.set(True)
        try:
            if asked is None:
                response = await original(self, method, str_or_url, **kwargs)
            else:
                response = await asked.send(original, self, (method, str_or_url), kwargs)
        except BaseException:
            sent = _sent(self, method, str_or_url)
            if stands is not None:
                stands.interrupted(sent)
            else:
                call.interrupted(sent=sent, before=early.traced)
            raise
        finally:
            context.inside.set(False)
            context.logical.set(logical)
        if stands is not None:
            stands.judge(response)
        else:
            _tap(call, self, response, kwargs)
        return response

    return _request


def _set_exception(original: Callable[..., Any]) -> Callable[..., Any]:
    """The end of a reader that is not the end of the body: reset, timeout, `release` and `close` of the response."""

    def set_exception(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_cut(self, args):
            return None
        try:
            return original(self, *args, **kwargs)
        finally:
            tap: Optional[Tap] = getattr(getattr(self, "_buffer", None), "tap", None)
            if tap is not None:
                tap.end(False)

    return set_exception


def _is_cut(reader: Any, args: Any) -> bool:
    """What cut this stream is what its reader hears, not that the connection is gone."""
    try:
        tap: Optional[Tap] = getattr(getattr(reader, "_buffer", None), "tap", None)
        return tap is not None and tap.call.cut is not None and args[:1] != (tap.call.cut,)
    except Exception as error:
        health.fault("aiohttp.is_cut", error)
        return False


def _drained(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of readers and responses: after a piece was read or the response left, receipts that wait to be awaited."""

    async def drained(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, *args, **kwargs)
        reader = getattr(self, "content", self)
        tap: Optional[Tap] = getattr(getattr(reader, "_buffer", None), "tap", None)
        if tap is not None and tap.call.outbox:
            await tap.call.drain()
        return result

    return drained


def _begin(hook: Hook, session: Any, method: str, target: Any, kwargs: Any) -> Optional[Call]:
    try:
        where = _address(session, target)
        if where is None:
            return None
        fields = getattr(kwargs.get("data"), "_fields", None)
        # Of a form with files, which is emptied when it is sent.
        kept = list(fields) if isinstance(fields, list) else None
        return begin(hook, method.upper(), *where, lambda: _body(kwargs, kept, hook), True)
    except Exception as error:
        hook.failed("begin", error)
        return None


def _address(session: Any, target: Any) -> Optional[Tuple[str, Optional[int], str]]:
    base = getattr(session, "_base_url", None)
    if isinstance(target, str) and (base is None or "://" in target):
        return address(target)
    try:
        url = session._build_url(target)
    except (ValueError, TypeError):  # no URL: the caller gets to hear of it
        return None
    return url.raw_host or "", url.port, url.raw_path


def _sent(session: Any, method: str, target: Any) -> Any:
    """A request, as an exception of aiohttp's tells of it."""
    try:
        return method.upper(), str(session._build_url(target))
    except Exception:
        return None  # an address that is none: the caller gets to hear of it


def _question(hook: Hook, call: Call, session: Any, target: Any, kwargs: Any) -> Any:
    """`AICG_STREAM_USAGE=request`: how the request is sent so that it asks; None when it stays as it is."""
    try:
        from aicostguard.capture.transports import aiohttp_asking

        return aiohttp_asking.question(hook, call, session, target, kwargs)
    except Exception as error:
        hook.failed("question", error)
        return None


def _body(kwargs: Any, fields: Any, hook: Hook) -> Optional[bytes]:
    if fields is not None:
        return form(((options.get("name"), value) for options, _, value in fields), hook)
    data = kwargs.get("data")
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    if kwargs.get("json") is not None:
        import json

        return json.dumps(kwargs["json"], default=str).encode()
    return None


def _tap(call: Call, session: Any, response: Any, kwargs: Any) -> None:
    try:
        header = response.headers.get
        if not call.open(response.status, header("Content-Type") or "", header):
            return
        content = response.content
        encoding = None
        if not kwargs.get("auto_decompress", getattr(session, "_auto_decompress", True)):
            encoding = header("Content-Encoding")
        tap = Tap(call, encoding)
        tap.decoding = encoding is None
        if not hasattr(content, "_buffer"):  # a response without a body
            call.end(True)
            return
        if call.hide is not None:
            from aicostguard.capture.transports.aiohttp_asking import HidingDeque

            content._buffer = HidingDeque(tap, content, call.hide)
            content.on_eof(content._buffer.end)
        elif cutting.may_be_cut(call):
            content._buffer = CutDeque(tap, content._buffer, content)
        else:
            content._buffer = TappedDeque(tap, content._buffer)
        content.on_eof(functools.partial(tap.end, True))
    except Exception as error:
        call.hook.failed("tap", error)


class TappedDeque(collections.deque):  # type: ignore[type-arg]
    """The reader's buffer. Only what arrives is told; what is read, in whatever pieces, is not looked at."""

    __slots__ = ("tap",)

    def __init__(self, tap: Tap, arrived: Iterable[bytes]) -> None:
        super().__init__(arrived)
        self.tap = tap
        for data in self:
            self._tell(data)

    def append(self, data: bytes) -> None:
        super().append(data)
        self._tell(data)

    def _tell(self, data: bytes) -> None:
        try:
            tap = self.tap
            if tap.decoding:
                tap.plain(bytes(data))
            else:
                tap.raw(bytes(data))
        except Exception as error:
            self.tap.call.hook.failed("tell", error)


class CutDeque(TappedDeque):
    """The buffer of a stream that may be cut: then its connection is closed, and its reader hears why."""

    __slots__ = ("_reader",)

    def __init__(self, tap: Tap, arrived: Iterable[bytes], reader: Any) -> None:
        self._reader = reader  # a cycle: it takes no weak references
        super().__init__(tap, arrived)

    def _tell(self, data: bytes) -> None:
        super()._tell(data)
        if self.tap.call.cut is not None:
            _cut(self._reader, self.tap.call)


def _cut(reader: Any, call: Call) -> None:
    try:
        reader.set_exception(call.cut)
        transport = reader._protocol.transport
        if transport is not None:
            transport.close()
    except Exception as error:
        call.hook.failed("cut", error)
