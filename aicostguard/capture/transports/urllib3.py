"""urllib3: `HTTPConnectionPool.urlopen`, through which every request goes; and the tap on its responses.

A response that was read inside `urlopen` is metered from its content. Another is tapped: urllib3 takes bytes from the
wire in a few methods of `HTTPResponse` and decodes them in another, whoever asks and how; those are hooked on the
class, when the first AI response that is read later is seen. On the class and not on the object, because a function on
the object would have to hold it weakly, and a weak reference is gone when the garbage collector closes a response that
is part of a cycle. The same tap serves requests and botocore, whose bodies are urllib3's.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Optional, Tuple
from urllib.parse import urlsplit

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, Rows, replace, watch
from aicostguard.capture.state import state
from aicostguard.capture.tap import TAP, Tap, ends_tap
from aicostguard.capture.transports import urllib3_future


def install(module: ModuleType, hook: Hook) -> None:
    """Hook urllib3. Raises when `HTTPConnectionPool.urlopen` is not where it was."""
    replace(hook, module.HTTPConnectionPool, "urlopen", lambda original: _urlopen(original, hook))


def _urlopen(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def urlopen(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer:
                if hook.on:
                    context.ask(outer)
                tried = _again(outer, hook, args, kwargs)
                if tried is not None and outer.hold is not None:
                    permit.again(outer, *tried)  # raises when the budget has no room for another try
            return original(self, method, url, *args, **kwargs)
        call = _begin(hook, self, method, url, args, kwargs)
        if call is None:
            return original(self, method, url, *args, **kwargs)
        if state.gate is not None:
            permit.ask(call)
        context.inside.set(call)
        try:
            response = original(self, method, url, *args, **kwargs)
        except BaseException:
            call.interrupted()
            raise
        finally:
            context.inside.set(False)
        _response(call, response)
        return response

    return urlopen


def _again(outer: Any, hook: Hook, args: Any, kwargs: Any) -> Optional[Tuple[Optional[BaseException]]]:
    """What the try before ended in, when `urlopen` calls itself for another or for a redirect; else None.

    Only the last of them is what was waited for.
    """
    try:
        if not isinstance(outer, Call):
            return None
        # The third: after `body` and `headers`.
        history = getattr(args[2] if len(args) > 2 else kwargs.get("retries"), "history", None)
        if not history and outer.hook is not hook:
            return None  # the first try of what `requests` sends
        outer.again()
        return (history[-1].error if history else None,)
    except Exception as error:
        hook.failed("again", error)
        return None


def _begin(hook: Hook, pool: Any, method: str, url: str, args: Any, kwargs: Any) -> Optional[Call]:
    try:
        host, port, path = pool.host, pool.port, url
        if not url.startswith("/"):  # through a proxy, which is then what the pool is connected to
            parts = urlsplit(url)
            host, port, path = parts.hostname or host, parts.port, parts.path
        body = args[0] if args else kwargs.get("body")
        return begin(hook, method.upper(), host, port, path.partition("?")[0], lambda: _bytes(body))
    except Exception as error:
        hook.failed("begin", error)
        return None


def _bytes(body: Any) -> Optional[bytes]:
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray)) else None


def _response(call: Call, response: Any) -> None:
    try:
        header = response.headers.get
        content_type = header("content-type") or ""
        body = _recorded(response) or getattr(response, "_body", None)
        if isinstance(body, bytes):  # read inside `urlopen`
            _whole(call, response, content_type, body)
        elif call.open(response.status, content_type, header) and not tap(
            response, Tap(call, header("content-encoding"))
        ):
            call.unreadable("a response that is not urllib3's own")
    except Exception as error:
        call.hook.failed("response", error)


def _recorded(response: Any) -> Optional[bytes]:
    """The body of an answer that vcrpy hands out in place of urllib3's own; it was read when it was recorded."""
    recorded = getattr(response, "recorded_response", None)
    body = recorded["body"]["string"] if isinstance(recorded, dict) else None
    return body if isinstance(body, bytes) else None


def _whole(call: Call, response: Any, content_type: str, body: bytes) -> None:
    header = response.headers.get
    encoding = None if getattr(response, "decode_content", True) else header("content-encoding")
    if encoding is None:
        call.read(response.status, content_type, header, body)
    elif call.open(response.status, content_type, header):
        tapped = Tap(call, encoding)
        tapped.decoding = False
        tapped.raw(body)
        tapped.end(True)


def tap(raw: Any, tapped: Tap) -> bool:
    """Put the tap into an unread response of urllib3, or of what took its place. False when it is none."""
    if urllib3_future.tap(raw, tapped):
        return True
    if not all(hasattr(raw, name) for name in ("_decode", "_handle_chunk", "release_conn", "__dict__")):
        return False
    watch(tapped.call.hook, type(raw), _RAW if hasattr(raw, "_fp_read") else _BEFORE_FP_READ)
    if tapped.call.hide is not None and tapped.identity:
        tapped.decoding = False  # what comes is what is read: nothing has to wait for the decoder
    raw.__dict__[TAP] = tapped
    return True


def _fp_read(original: Callable[..., Any]) -> Callable[..., Any]:
    """Bytes of a body that http.client has freed of its chunks, or that came with their length."""

    def _fp_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(TAP)
        if tap is None:
            return original(self, *args, **kwargs)
        if tap.call.cut is not None:
            raise tap.call.cut  # urllib3 closes the connection on whatever is raised here
        amount, read1 = args[0] if args else kwargs.get("amt"), kwargs.get("read1")
        while True:
            hide = tap.call.hide
            if hide is not None and hide.left:
                return _given(self, tap, hide.left, 0, amount)
            try:
                data = original(self, *args, **kwargs)
            except BaseException:
                tap.end(False)
                raise
            _arrived(self, tap, data, amount, read1)
            if hide is None or not tap.identity:
                return data
            shown = _shown(self, tap, data, amount, amount is None and not read1)
            if shown or not data:  # nothing would be the end of the body
                return shown

    return _fp_read


def _shown(raw: Any, tap: Tap, data: bytes, amount: Optional[int], all_of_it: bool) -> bytes:
    """The bytes without the chunk that we asked for."""
    try:
        hide = tap.call.hide
        shown = hide.show(data) if data and hide is not None else b""
        if hide is not None and (all_of_it or not data):
            shown += hide.rest()
        return _given(raw, tap, shown, len(data), amount)
    except Exception as error:
        tap.call.lost("shown", error)
        return data


def _given(raw: Any, tap: Tap, shown: bytes, told: int, amount: Optional[int]) -> bytes:
    """No more than was asked for, while more can be read; what urllib3 still expects counts what it is given."""
    try:
        hide = tap.call.hide
        if hide is not None:
            hide.left = b""
            if amount and len(shown) > amount and not raw._fp.isclosed():
                shown, hide.left = shown[:amount], shown[amount:]
        if raw.length_remaining is not None:
            raw.length_remaining += len(shown) - told
    except Exception as error:
        tap.call.lost("given", error)
    return shown


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


def _read(original: Callable[..., Any]) -> Callable[..., Any]:
    """`read` of urllib3 before 1.26.10, which has no `_fp_read`: its bytes are seen in `_decode`, its end here."""

    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(TAP)
        if tap is None:
            return original(self, *args, **kwargs)
        try:
            data = original(self, *args, **kwargs)
        except BaseException:
            tap.end(False)
            raise
        _looked_for_more(self, tap)
        return data

    return read


def _looked_for_more(raw: Any, tap: Tap) -> None:
    try:
        if raw.closed:
            tap.end(not raw.length_remaining)
    except Exception as error:
        tap.call.lost("looked for more", error)


def _handle_chunk(original: Callable[..., Any]) -> Callable[..., Any]:
    """One HTTP chunk, or a part of it."""

    def _handle_chunk(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(TAP)
        if tap is None:
            return original(self, *args, **kwargs)
        if tap.call.cut is not None:
            raise tap.call.cut
        try:
            data = original(self, *args, **kwargs)
        except BaseException:
            tap.end(False)
            raise
        if hasattr(self, "_fp_read"):
            tap.raw(data)
        hide = tap.call.hide
        return data if hide is None or not tap.identity else hide.show(data)

    return _handle_chunk


def _update_chunk_length(original: Callable[..., Any]) -> Callable[..., Any]:
    """The line before each HTTP chunk: where a reset between two of them shows."""

    def _update_chunk_length(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except BaseException:
            tap: Optional[Tap] = self.__dict__.get(TAP)
            if tap is not None:
                tap.end(False)
            raise

    return _update_chunk_length


def _decode(original: Callable[..., Any]) -> Callable[..., Any]:
    def _decode(self: Any, data: Any, decode_content: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(TAP)
        if tap is None:
            return original(self, data, decode_content, *args, **kwargs)
        hide = tap.call.hide
        if hide is not None and tap.identity:  # seen, and shown, before
            return original(self, data, decode_content, *args, **kwargs)
        if decode_content:
            tap.decoding = True
        plain = original(self, data, decode_content, *args, **kwargs)
        _decoded(self, tap, plain, decode_content)
        return hide.show(plain) if hide is not None and decode_content else plain

    return _decode


def _decoded(raw: Any, tap: Tap, plain: bytes, decode_content: Any) -> None:
    try:
        if decode_content:
            tap.plain(plain)
        elif not hasattr(raw, "_fp_read"):  # before 1.26.10: nothing has looked at these bytes yet
            tap.raw(plain)
        if (tap.call.complete or raw.length_remaining == 0) and not _tail(raw):
            tap.end(True)
    except Exception as error:
        tap.call.lost("decoded", error)


def _release_conn(original: Callable[..., Any]) -> Callable[..., Any]:
    def release_conn(self: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.get(TAP)
        if tap is not None and getattr(self, "chunk_left", None) == 0:  # the chunk that ends a body
            tap.end(True)
        return original(self)

    return release_conn


_RAW: Rows = (
    ("_fp_read", _fp_read),
    ("_handle_chunk", _handle_chunk),
    ("_update_chunk_length", _update_chunk_length),
    ("_decode", _decode),
    ("release_conn", _release_conn),
    ("close", ends_tap),
)
_BEFORE_FP_READ: Rows = (("read", _read), *_RAW[1:])
