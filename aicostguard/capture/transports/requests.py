"""requests: `Session.send`, through which every request of a session goes, redirects included.

Owns the tap on a streamed response. urllib3 takes bytes from the wire in a few methods of `HTTPResponse` and decodes
them in another, whoever asks and how; those are hooked on the class, when the first streamed AI response is seen.
On the class and not on the object, because a function on the object would have to hold it weakly, and a weak
reference is gone when the garbage collector closes a response that is part of a cycle. A raw body that is not
urllib3's (a mock, another adapter) is watched through `Response.iter_content`.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple
from urllib.parse import urlsplit

from aicostguard import context
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.tap import Tap

#: methods, and what is made of the original
Rows = Tuple[Tuple[str, Callable[[Callable[..., Any]], Callable[..., Any]]], ...]

#: where an object keeps its tap
_TAP = "_aicostguard_tap"

#: reentrant, because a garbage collection under it may run any finaliser
_lock = threading.RLock()


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
        except BaseException:
            call.interrupted()
            raise
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
            where, rows = (response.raw, _RAW) if _is_urllib3(response.raw) else (response, _CONTENT)
            _watch(call.hook, type(where), rows)
            where.__dict__[_TAP] = tap
    except Exception as error:
        call.hook.failed("response", error)


def _is_urllib3(raw: Any) -> bool:
    return all(hasattr(raw, name) for name in ("_decode", "_handle_chunk", "release_conn", "__dict__"))


def _watch(hook: Hook, kind: type, rows: Rows) -> None:
    """Hook this class of objects, unless it is. Each method where it is defined, which may be a class above."""
    with _lock:
        for name, make in rows:
            for owner in kind.__mro__:
                if name in owner.__dict__:
                    replace(hook, owner, name, make)
                    break


def _fp_read(original: Callable[..., Any]) -> Callable[..., Any]:
    """Bytes of a body that http.client has freed of its chunks, or that came with their length."""

    def _fp_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(_TAP)
        if tap is None:
            return original(self, *args, **kwargs)
        try:
            data = original(self, *args, **kwargs)
        except BaseException:
            tap.end(False)
            raise
        _arrived(self, tap, data, args[0] if args else kwargs.get("amt"), kwargs.get("read1"))
        return data

    return _fp_read


def _arrived(raw: Any, tap: Tap, data: bytes, amount: Optional[int], read1: Any) -> None:
    try:
        tap.raw(data)
        if (not data and amount != 0) or (data and amount is None and not read1):
            _ended(raw, tap, data)
        elif raw.length_remaining == len(data):
            tap.call.complete = True
    except Exception as error:
        tap.call.lost("arrived", error)


def _ended(raw: Any, tap: Tap, last: bytes) -> None:
    """No more bytes will come. The last ones have yet to be decoded, if the caller wants that."""
    if not last and raw.length_remaining:
        tap.end(False)  # urllib3 raises IncompleteRead now
        return
    tap.call.complete = True
    if not last and not _tail(raw):
        tap.end(True)


def _tail(raw: Any) -> bool:
    return bool(getattr(raw._decoder, "has_unconsumed_tail", False))


def _handle_chunk(original: Callable[..., Any]) -> Callable[..., Any]:
    """One HTTP chunk, or a part of it."""

    def _handle_chunk(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(_TAP)
        if tap is None:
            return original(self, *args, **kwargs)
        try:
            data = original(self, *args, **kwargs)
        except BaseException:
            tap.end(False)
            raise
        tap.raw(data)
        return data

    return _handle_chunk


def _update_chunk_length(original: Callable[..., Any]) -> Callable[..., Any]:
    """The line before each HTTP chunk: where a reset between two of them shows."""

    def _update_chunk_length(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except BaseException:
            tap: Optional[Tap] = self.__dict__.get(_TAP)
            if tap is not None:
                tap.end(False)
            raise

    return _update_chunk_length


def _decode(original: Callable[..., Any]) -> Callable[..., Any]:
    def _decode(self: Any, data: Any, decode_content: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(_TAP)
        if tap is None:
            return original(self, data, decode_content, *args, **kwargs)
        if decode_content:
            tap.decoding = True
        plain = original(self, data, decode_content, *args, **kwargs)
        _decoded(self, tap, plain, decode_content)
        return plain

    return _decode


def _decoded(raw: Any, tap: Tap, plain: bytes, decode_content: Any) -> None:
    try:
        if decode_content:
            tap.plain(plain)
        elif not hasattr(raw, "_fp_read"):  # urllib3 before 1.26.10: nothing has seen these bytes yet
            tap.raw(plain)
        if (tap.call.complete or raw.length_remaining == 0) and not _tail(raw):
            tap.end(True)
    except Exception as error:
        tap.call.lost("decoded", error)


def _release_conn(original: Callable[..., Any]) -> Callable[..., Any]:
    def release_conn(self: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(_TAP)
        if tap is not None and getattr(self, "chunk_left", None) == 0:  # the chunk that ends a body
            tap.end(True)
        return original(self)

    return release_conn


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of raw responses and of `Response`."""

    def close(self: Any) -> Any:
        try:
            return original(self)
        finally:
            tap: Optional[Tap] = self.__dict__.get(_TAP)
            if tap is not None:
                tap.end(False)

    return close


def _iter_content(original: Callable[..., Any]) -> Callable[..., Any]:
    def iter_content(self: Any, *args: Any, **kwargs: Any) -> Any:
        pieces = original(self, *args, **kwargs)
        tap: Optional[Tap] = self.__dict__.get(_TAP)
        return pieces if tap is None else _told(pieces, tap)

    return iter_content


def _told(pieces: Iterable[Any], tap: Tap) -> Iterator[Any]:
    try:
        for piece in pieces:
            tap.plain(piece if isinstance(piece, bytes) else str(piece).encode("utf-8", "replace"))
            yield piece
    except Exception:
        tap.end(False)
        raise
    tap.end(True)


_RAW: Rows = (
    ("_fp_read", _fp_read),
    ("_handle_chunk", _handle_chunk),
    ("_update_chunk_length", _update_chunk_length),
    ("_decode", _decode),
    ("release_conn", _release_conn),
    ("close", _close),
)
_CONTENT: Rows = (("iter_content", _iter_content), ("close", _close))
