"""requests: `Session.send`, through which every request of a session goes, redirects included.

A streamed response is tapped in its urllib3 object, as `transports.urllib3` does it. A raw body that is not urllib3's
(a mock, another adapter, which is why urllib3's own hook is not enough) is watched through `Response.iter_content`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Iterable, Iterator, Optional
from weakref import WeakSet

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.address import address
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook, Rows, replace, watch
from aicostguard.capture.state import state
from aicostguard.capture.tap import TAP, Tap, ends_tap
from aicostguard.capture.transports import requests_hooked, urllib3

#: kinds of adapters that have asked urllib3
_askers: WeakSet[type] = WeakSet()


def install(module: ModuleType, hook: Hook) -> None:
    """Hook requests. Raises when `Session.send` is not where it was."""
    replace(hook, module.Session, "send", lambda original: _send(original, hook))
    if hasattr(getattr(module, "sessions", None), "dispatch_hook"):
        requests_hooked.install(module, hook)
    else:
        hook.state = "patched (without what its hooks ask)"


def _send(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer and hook.on:
                context.ask(outer)
            return original(self, request, **kwargs)
        call = _begin(hook, request)
        if call is None:
            return original(self, request, **kwargs)
        if state.gate is not None:
            permit.ask(call)
        asked = _question(call, request) if state.ask else None
        context.inside.set(call)  # urllib3 beneath tells it of tries of its own
        try:
            if asked is None:
                response = original(self, request, **kwargs)
            else:
                response = asked.send(original, self, request, kwargs)
        except BaseException:
            call.interrupted(sent=request)
            raise
        finally:
            context.inside.set(False)
        _response(call, response if call.answer is None else call.answer)
        requests_hooked.got(response)
        return response

    return send


def _begin(hook: Hook, request: Any) -> Optional[Call]:
    try:
        where = address(request.url)
        return None if where is None else begin(hook, request.method, *where, lambda: _body(request))
    except Exception as error:
        hook.failed("begin", error)
        return None


def _question(call: Call, request: Any) -> Any:
    """`AICG_STREAM_USAGE=request`: what is put into the request while it is sent; None when it stays as it is."""
    try:
        from aicostguard.capture.transports import requests_asking

        return requests_asking.question(call, request, _body(request))
    except Exception as error:
        call.hook.failed("question", error)
        return None


def _body(request: Any) -> Optional[bytes]:
    body = request.body
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray)) else None


def _response(call: Call, response: Any) -> None:
    try:
        header = response.headers.get
        if _replayed(call, response):
            call.replayed = True
        content_type = header("content-type") or ""
        content = response._content
        if content is not False:  # read inside `send`; None stands for an empty body
            call.read(response.status_code, content_type, header, content or b"")
            if call.hide is not None and content:
                response._content = call.hide.show(content) + call.hide.rest()
        elif call.open(response.status_code, content_type, header):
            tap = Tap(call, header("content-encoding"))
            if not urllib3.tap(response.raw, tap):
                watch(call.hook, type(response), _CONTENT)
                response.__dict__[TAP] = tap
    except Exception as error:
        call.hook.failed("response", error)


def _replayed(call: Call, response: Any) -> bool:
    """Did this answer come out of a cache beneath the session?

    CacheControl and hishel say so on their answers. Another adapter is a cache when it has asked urllib3 before and not
    now. The plain one is none, but a mock may stand in for it.
    """
    adapter = getattr(response, "connection", None)
    kind = type(adapter)
    if kind.__module__ == "requests.adapters":
        return False
    if call.asked and adapter is not None:
        _askers.add(kind)
    elif kind in _askers:
        return True
    said = getattr(response, "from_cache", False)
    return said is True or response.headers.get("x-hishel-from-cache") == "true"


def _iter_content(original: Callable[..., Any]) -> Callable[..., Any]:
    def iter_content(self: Any, *args: Any, **kwargs: Any) -> Any:
        pieces = original(self, *args, **kwargs)
        tap: Optional[Tap] = self.__dict__.get(TAP)
        return pieces if tap is None else _told(pieces, tap)

    return iter_content


def _told(pieces: Iterable[Any], tap: Tap) -> Iterator[Any]:
    try:
        for piece in pieces:
            tap.plain(piece if isinstance(piece, bytes) else str(piece).encode("utf-8", "replace"))
            if tap.call.hide is not None and isinstance(piece, bytes):
                piece = tap.call.hide.show(piece)
            yield piece
            if tap.call.cut is not None:
                raise tap.call.cut
    except Exception:
        tap.end(False)
        raise
    tap.end(True)


_CONTENT: Rows = (("iter_content", _iter_content), ("close", ends_tap))
