"""requests: `Session.send`, through which every request of a session goes, redirects included.

Owns the tap on a streamed response. urllib3 decodes each piece in `HTTPResponse._decode`, whoever asks for it and
how; a function of that name on the one response object sees what it returns. A raw body that is not urllib3's
(a mock, another adapter) is watched through `iter_content` instead.
"""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from aicostguard import context
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.tap import Tap


def install(module: ModuleType, hook: Hook) -> None:
    """Hook requests. Raises when `Session.send` is not where it was."""
    replace(hook, module.Session, "send", lambda original: _send(original, hook))


def _send(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        if context.inside.get() or not hook.on:
            return original(self, request, **kwargs)
        call = _begin(hook, request)
        if call is None:
            return original(self, request, **kwargs)
        context.inside.set(True)
        try:
            response = original(self, request, **kwargs)
        finally:
            context.inside.set(False)
        _response(call, response)
        return response

    return send


def _begin(hook: Hook, request: Any) -> Optional[Call]:
    try:
        parts = urlsplit(request.url)
        return begin(hook, request.method, parts.hostname or "", parts.port, parts.path, lambda: _body(request))
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
        header = response.headers.get
        content_type = header("content-type") or ""
        content = response._content
        if content is not False:  # read inside `send`; None stands for an empty body
            call.read(response.status_code, content_type, header, content or b"")
        elif call.open(response.status_code, content_type, header):
            tap = Tap(call, header("content-encoding"))
            if hasattr(response.raw, "_decode"):
                _tap_raw(response.raw, tap)
            else:
                _tap_content(response, tap)
    except Exception as error:
        call.hook.failed("response", error)


def _tap_raw(raw: Any, tap: Tap) -> None:
    # Weak, because a function on the object that held the object would keep an abandoned response, and with it
    # its connection, alive until the next garbage collection.
    this: Callable[[], Any] = weakref.ref(raw)
    kind = type(raw)
    raw._init_decoder()
    if raw._decoder is not None:
        raw._decoder = _TappedDecoder(raw._decoder, tap)

    def _decode(data: Any, decode_content: Any, *args: Any, **kwargs: Any) -> Any:
        self = this()
        plain = kind._decode(self, data, decode_content, *args, **kwargs)
        _decoded(tap, self, plain, decode_content)
        return plain

    def release_conn() -> Any:
        self = this()
        result = kind.release_conn(self)
        _released(tap, self)
        return result

    def close() -> Any:
        self = this()
        try:
            # Gone when the collector takes apart a cycle that the response was in: its parts are closed one by one.
            return None if self is None else kind.close(self)
        finally:
            tap.end(False)

    raw._decode, raw.release_conn, raw.close = _decode, release_conn, close


def _decoded(tap: Tap, raw: Any, plain: Any, decode_content: Any) -> None:
    try:
        if not decode_content:
            tap.raw(bytes(plain))
        elif raw._decoder is None:
            tap.decoding = True
            tap.plain(bytes(plain))
        if raw.length_remaining == 0 and not getattr(raw._decoder, "has_unconsumed_tail", False):
            tap.end(True)
    except Exception as error:
        tap.call.lost("decoded", error)


def _released(tap: Tap, raw: Any) -> None:
    # The connection is done with, for better or worse, and the last bytes are not decoded yet unless they came in
    # chunks.
    try:
        if raw.chunk_left == 0:
            tap.end(True)
        elif raw.length_remaining is None and not raw.chunked:
            tap.call.complete = True
    except Exception as error:
        tap.call.lost("released", error)


class _TappedDecoder:
    """Around urllib3's content decoder."""

    __slots__ = ("_inner", "_tap")

    def __init__(self, inner: Any, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def decompress(self, data: bytes, *args: Any, **kwargs: Any) -> bytes:
        self._tap.decoding = True
        plain: bytes = self._inner.decompress(data, *args, **kwargs)
        if plain:
            self._tap.plain(plain)
        return plain

    def flush(self) -> bytes:
        plain: bytes = self._inner.flush()
        if plain:
            self._tap.plain(plain)
        return plain


def _tap_content(response: Any, tap: Tap) -> None:
    this: Callable[[], Any] = weakref.ref(response)
    iterate, close = type(response).iter_content, type(response).close

    def iter_content(*args: Any, **kwargs: Any) -> Any:
        tap.decoding = True
        for piece in iterate(this(), *args, **kwargs):
            tap.plain(piece if isinstance(piece, bytes) else piece.encode())
            yield piece
        tap.end(True)

    def _close() -> None:
        try:
            close(this())
        finally:
            tap.end(False)

    response.iter_content, response.close = iter_content, _close
