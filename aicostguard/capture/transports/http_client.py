"""http.client: `HTTPConnection`, on which urllib.request, httplib2 and hand-written code stand.

Method and path are known when the request line is put, the response when it is got; both are hooked. The body is seen
where it is read: `read`, `readinto`, `read1` and `readline` of the response (iteration is `readline`, `peek` takes
nothing away), hooked on the class when the first AI response is seen. http.client decodes nothing, so what is
compressed is decoded here.

Nearly every program imports http.client, few talk to an AI provider through it. So this module loads next to nothing:
the rest comes with the first request. A request that is none of ours costs a look-up of its host.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Optional, Tuple

from aicostguard import context
from aicostguard.capture.patch import Hook, Rows, replace, watch

if TYPE_CHECKING:
    from aicostguard.capture.call import Call
    from aicostguard.capture.tap import Tap

#: where a connection keeps the call whose response has not been got yet
_PENDING = "_aicostguard_pending"
#: where a response keeps its tap, while none of its methods runs
_TAP = "_aicostguard_tap"


class _Pending(NamedTuple):
    call: Call
    #: the request's body, once it was sent, when it was bytes
    body: List[bytes]
    #: a budget is in force
    gated: bool


def install(module: ModuleType, hook: Hook) -> None:
    """Hook http.client. Raises when the methods of `HTTPConnection` are not where they were."""
    replace(hook, module.HTTPConnection, "putrequest", lambda original: _putrequest(original, hook))
    replace(hook, module.HTTPConnection, "endheaders", _endheaders)
    replace(hook, module.HTTPConnection, "getresponse", _getresponse)


def _putrequest(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def putrequest(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer and hook.on:
            context.ask(outer)
        elif hook.on:
            _begin(hook, self, method, url)
        return original(self, method, url, *args, **kwargs)

    return putrequest


def _begin(hook: Hook, connection: Any, method: str, url: str) -> None:
    try:
        connection.__dict__.pop(_PENDING, None)  # of a request that was given up
        from aicostguard.capture.call import begin
        from aicostguard.capture.state import state

        host, port, path = _target(connection, url)
        body: List[bytes] = []
        call = begin(hook, method.upper(), host, port, path, lambda: body[0] if body else None)
        if call is not None:
            connection.__dict__[_PENDING] = _Pending(call, body, state.gate is not None)
    except Exception as error:
        hook.failed("begin", error)


def _target(connection: Any, url: str) -> Tuple[str, Optional[int], str]:
    host, port = connection.host, connection.port
    if connection._tunnel_host:  # through a proxy, to which the connection is made
        host, port = connection._tunnel_host, connection._tunnel_port
    if url and not url.startswith("/"):  # likewise, unencrypted
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        host, port, url = parts.hostname or host, parts.port, parts.path
    return host.lower(), port, url.partition("?")[0]


def _endheaders(original: Callable[..., Any]) -> Callable[..., Any]:
    def endheaders(self: Any, message_body: Any = None, **kwargs: Any) -> Any:
        pending: Optional[_Pending] = self.__dict__.get(_PENDING)
        if pending is not None and isinstance(message_body, bytes):
            pending.body[:] = [message_body]
        if pending is None:
            return original(self, message_body, **kwargs)
        if not pending.gated:
            return original(self, message_body, **kwargs)
        from aicostguard.capture import permit

        try:
            permit.ask(pending.call)  # until here nothing was sent, only put together
        except BaseException:
            self.close()
            raise
        try:
            return original(self, message_body, **kwargs)
        except BaseException as error:
            permit.broken(pending.call, error)
            raise

    return endheaders


def _getresponse(original: Callable[..., Any]) -> Callable[..., Any]:
    def getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
        pending: Optional[_Pending] = self.__dict__.pop(_PENDING, None)
        if pending is None:
            return original(self, *args, **kwargs)
        try:
            response = original(self, *args, **kwargs)
        except BaseException:
            pending.call.interrupted()
            raise
        _response(pending.call, response)
        return response

    return getresponse


def _response(call: Call, response: Any) -> None:
    try:
        from aicostguard.capture.tap import Tap

        header = response.headers.get
        if call.open(response.status, header("content-type") or "", header):
            tap = Tap(call, header("content-encoding"))
            tap.decoding = False
            watch(call.hook, type(response), _READING)
            response.__dict__[_TAP] = tap
    except Exception as error:
        call.hook.failed("response", error)


def _reads(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of each method that takes bytes. They call each other: the outermost holds the tap meanwhile."""

    def reads(self: Any, *args: Any, **kwargs: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.pop(_TAP, None)
        if tap is None:
            return original(self, *args, **kwargs)
        if tap.call.cut is not None:
            self.close()
            raise tap.call.cut
        try:
            got = original(self, *args, **kwargs)
        except BaseException as error:
            _broken(tap, error)
            raise
        _arrived(self, tap, got, args)
        return got

    return reads


def _arrived(response: Any, tap: Tap, got: Any, args: Tuple[Any, ...]) -> None:
    try:
        # `readinto` gives a number, and cannot be given its buffer by name
        tap.raw(got if isinstance(got, bytes) else bytes(memoryview(args[0]).cast("B")[:got]))
        if response.fp is None or response.length == 0:
            tap.end(_whole(response))
        else:
            response.__dict__[_TAP] = tap
    except Exception as error:
        tap.call.lost("arrived", error)


def _whole(response: Any) -> bool:
    """Of a response that is closed: have all its bytes come?"""
    return response.chunk_left is None if response.chunked else not response.length


def _broken(tap: Tap, error: BaseException) -> None:
    try:
        partial = getattr(error, "partial", None)  # `IncompleteRead` hands out what had come
        if isinstance(partial, bytes):
            tap.raw(partial)
        tap.end(False)
    except Exception as fault:
        tap.call.lost("broken", fault)


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any) -> Any:
        tap: Optional[Tap] = self.__dict__.pop(_TAP, None)
        try:
            return original(self)
        finally:
            if tap is not None:
                tap.end(False)

    return close


_READING: Rows = (
    ("read", _reads),
    ("readinto", _reads),
    ("read1", _reads),
    ("readline", _reads),
    ("close", _close),
)
