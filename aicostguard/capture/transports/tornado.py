"""tornado: `fetch_impl` of its two clients, through which every `AsyncHTTPClient.fetch` goes.

It is given a request object that tornado has made for this one fetch, and a function to call with the response. Both
are told apart from the user's own, so the user's request is not touched. The body of a response that was streamed to a
`streaming_callback` is nowhere but there: up to `MOST` bytes of it are kept until the response says what they were.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, List, Optional

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.address import address
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.capture.tap import Tap

#: bytes of a streamed body that are kept; a longer one is counted as unmetered
MOST = 16 * 1024 * 1024
#: where the function that is called with the response keeps its call
_CALL = "_aicostguard_call"


class _Pieces:
    """A streamed body, as long as it is not too long."""

    __slots__ = ("held", "size")

    def __init__(self) -> None:
        self.held: List[bytes] = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size <= MOST:
            self.held.append(chunk)
        else:
            self.held.clear()


def install(module: ModuleType, hook: Hook) -> None:
    """Hook one of the two clients. Raises when `fetch_impl` is not where it was."""
    curl = hasattr(module, "CurlAsyncHTTPClient")
    owner = module.CurlAsyncHTTPClient if curl else module.SimpleAsyncHTTPClient
    replace(hook, owner, "fetch_impl", lambda original: _fetch_impl(original, hook, curl))


def _fetch_impl(original: Callable[..., Any], hook: Hook, curl: bool) -> Callable[..., Any]:
    def fetch_impl(self: Any, request: Any, callback: Callable[[Any], None]) -> Any:
        if hook.on and not context.inside.get():
            callback = _watched(hook, request, callback, curl)
            if state.gate is not None and _CALL in getattr(callback, "__dict__", ()):
                # Not awaited: tornado's own `fetch` calls this, and is a plain function.
                permit.ask(callback.__dict__[_CALL])
        return original(self, request, callback)

    return fetch_impl


def _watched(hook: Hook, request: Any, callback: Callable[[Any], None], curl: bool) -> Callable[[Any], None]:
    """What to call with the response: the same, or a function that also tells us."""
    try:
        if getattr(request.request, "original_request", None) is not None:
            return callback  # a redirect is followed: the first request's function gets this response, too
        call = _begin(hook, request)
        if call is None:
            return callback
        pieces = _Pieces()
        streaming = request.streaming_callback
        if streaming is not None and not (curl and _is_coroutine_function(streaming)):  # curl's client refuses that
            request.streaming_callback = _told(streaming, pieces, hook)
        return _finished(callback, call, pieces, curl and bool(request.decompress_response))
    except Exception as error:
        hook.failed("begin", error)
        return callback


def _is_coroutine_function(function: Any) -> bool:
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & 0x80)


def _begin(hook: Hook, request: Any) -> Optional[Call]:
    where, body = address(request.url), request.body
    if where is None:
        return None
    return begin(hook, request.method.upper(), *where, lambda: body if isinstance(body, bytes) else None)


def _told(streaming: Callable[[bytes], Any], pieces: _Pieces, hook: Hook) -> Callable[[bytes], Any]:
    def streaming_callback(chunk: bytes) -> Any:
        try:
            pieces.add(chunk)
        except Exception as error:
            hook.failed("streamed", error)
        return streaming(chunk)

    return streaming_callback


def _finished(callback: Callable[[Any], None], call: Call, pieces: _Pieces, decoded: bool) -> Callable[[Any], None]:
    def finished(response: Any) -> None:
        _response(call, response, pieces, decoded)
        callback(response)

    finished.__dict__[_CALL] = call
    return finished


def _response(call: Call, response: Any, pieces: _Pieces, decoded: bool) -> None:
    try:
        header = response.headers.get
        code, content_type = response.code, header("Content-Type") or ""
        if code == 599:  # tornado's own: no answer, or not all of it
            if not pieces.size:
                call.interrupted(response.error)
                return
            code, content_type = 200, "text/event-stream"
        if pieces.size > MOST:
            if 200 <= code < 300:
                call.unreadable("more than %d MB to a streaming_callback" % (MOST >> 20))
            return
        if call.open(code, content_type, header):
            tap = Tap(call, None if decoded else header("Content-Encoding"))
            tap.decoding = False
            for piece in pieces.held or [response.body or b""]:
                tap.raw(piece)
            tap.end(response.code != 599)
    except Exception as error:
        call.hook.failed("response", error)
