"""httpx and httpx2: `Client.send` and `AsyncClient.send`.

Owns the hook of both libraries, which share their shape. A response that was read inside `send` is metered from
its decoded content. A streamed one is tapped in two places: its decoder, where compressed bytes become plain ones,
and the byte stream inside it, for its end and for callers who read undecoded bytes. Both are private attributes,
so they are tried out on a response of the library when the hook is set; should they have changed, the public
`response.stream` is wrapped instead and the bytes are decoded by us. Types the user sees stay what they are.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, Callable, Dict, Optional, Tuple

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.call import Call, begin, remember
from aicostguard.capture.forms import form
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.pieces import AsyncPieces, SyncPieces
from aicostguard.capture.state import state
from aicostguard.capture.tap import Tap
from aicostguard.capture.transports.httpx_around import Stand, wires
from aicostguard.capture.transports.httpx_decoding import BytesDecoder, PiecesDecoder
from aicostguard.health import debug
from aicostguard.metering import Glance


def install(module: ModuleType, hook: Hook) -> None:
    """Hook one of the two libraries. Raises when its classes are not where they were."""
    tapper = _Tapper(module)
    if not tapper.inner:
        hook.state = "patched (public stream)"
    replace(hook, module.Client, "send", lambda original: _sync_send(original, hook, tapper))
    replace(hook, module.AsyncClient, "send", lambda original: _async_send(original, hook, tapper))


def _sync_send(original: Callable[..., Any], hook: Hook, tapper: _Tapper) -> Callable[..., Any]:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer and hook.on:
                context.ask(outer)
            return original(self, request, *args, **kwargs)
        call = tapper.begin(hook, self, request, kwargs, False)
        if call is None:
            return original(self, request, *args, **kwargs)
        if state.gate is not None:
            permit.ask(call)
        asked = _question(hook, tapper, call, request) if state.ask else None
        before = call.place.get()
        call.place.set(call)
        try:
            if asked is None:
                response = original(self, request, *args, **kwargs)
            else:
                response = asked.send(original, self, request, args, kwargs)
        except BaseException:
            call.interrupted(sent=request, before=_before_sending)
            raise
        finally:
            call.place.set(before)
            if call.around is not None:
                call.around.land()
        tapper.response(call, response)
        return response

    return send


def _async_send(original: Callable[..., Any], hook: Hook, tapper: _Tapper) -> Callable[..., Any]:
    async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        outer = context.inside.get()
        if outer or not hook.on:
            if outer and hook.on:
                context.ask(outer)
            return await original(self, request, *args, **kwargs)
        call = tapper.begin(hook, self, request, kwargs, True)
        if call is None:
            return await original(self, request, *args, **kwargs)
        if state.gate is not None:
            await permit.aask(call)
        asked = _question(hook, tapper, call, request) if state.ask else None
        before = call.place.get()
        call.place.set(call)
        try:
            if asked is None:
                response = await original(self, request, *args, **kwargs)
            else:
                response = await asked.asend(original, self, request, args, kwargs)
        except BaseException:
            call.interrupted(sent=request, before=_before_sending)
            raise
        finally:
            call.place.set(before)
            if call.around is not None:
                call.around.land()
        tapper.response(call, response)
        if call.outbox:
            await call.drain()
        return response

    return send


def _question(hook: Hook, tapper: _Tapper, call: Call, request: Any) -> Any:
    """`AICG_STREAM_USAGE=request`: what is put into the request while it is sent; None when it stays as it is."""
    try:
        from aicostguard.capture.transports import httpx_asking

        return httpx_asking.question(hook, tapper.module, call, request)
    except Exception as error:
        hook.failed("question", error)
        return None


def _body(request: Any, hook: Hook) -> Optional[bytes]:
    # `_content` is there when the body was given as bytes, text, JSON or a form; a stream is never consumed.
    content = getattr(request, "_content", None)
    if isinstance(content, bytes):
        return content
    fields = getattr(request.stream, "fields", None)  # of a form with files
    return form(((field.name, getattr(field, "value", None)) for field in fields), hook) if fields else None


def _before_sending(error: Optional[BaseException]) -> bool:
    """Was this raised before anything went out: by the user's own request hook, or by his way of signing in?

    Both libraries send in one function, inside those that call hooks and keep the answers under one name. Where they
    do not look so, nobody knows.
    """
    trace = None if error is None else error.__traceback__
    known = False
    while trace is not None:
        code, values = trace.tb_frame.f_code, trace.tb_frame.f_locals
        if code.co_name == "_send_single_request":
            return False
        if code.co_name in ("_send_handling_auth", "_send_handling_redirects"):
            known = True
            if "response" in values:  # an answer has come: of this request, or of one before it
                return False
        trace = trace.tb_next
    return known


def _shown_whole(hide: Any, response: Any) -> None:
    """A response that was read inside `send`: the caller finds it without the chunk that we asked for."""
    content = response._content
    shown = hide.show(content) + hide.rest()
    if shown != content:
        response._content = shown
        response.__dict__.pop("_text", None)
        if "content-length" in response.headers:
            response.headers["content-length"] = str(len(shown))


class _Tapper:
    """Knows one library's requests and responses: which call this is, and where to put the tap."""

    def __init__(self, module: ModuleType) -> None:
        #: does `decode` of a content decoder give pieces (httpx2) or bytes (httpx)?
        self._pieces = False
        self.module = module
        #: what a request that signs nothing has for `auth`; of a client that is sent through one of these wires, has no
        #: hooks and signs nothing there is nothing to know
        self._stand, self._wires, self._auth = Stand(module), wires(module), module.USE_CLIENT_DEFAULT
        self._no_hooks: Dict[str, Any] = {"request": (), "response": ()}
        self._sync_stream, self._async_stream = _streams(module)
        self.inner = self._works(module)
        #: a URL's parts are one tuple, which tells it from others
        self._parts = _have_parts(module)

    def begin(self, hook: Hook, client: Any, request: Any, kwargs: Any, asynchronous: bool) -> Optional[Call]:
        """The call that this request makes, or None when it is no business of ours. Never raises."""
        try:
            # As the library keeps it, for one look-up: each of its public parts is a function of the library's.
            whole = request.url._uri_reference if self._parts else None
            logical = context.logical.get()
            met = state.endpoints.get((request.method, whole, logical and logical.family))
            if met is None or state.watchdog is not None:
                call = self._begin(hook, request, asynchronous, whole)
            else:
                call = Call(hook, met[0], logical, partial(_body, request, hook), asynchronous, met[1])
            if call is not None:
                auth, hooks = kwargs.get("auth"), client.__dict__.get("_event_hooks", self._no_hooks)
                if (
                    hooks["request"]
                    or hooks["response"]
                    or not (auth is None or auth is self._auth)
                    or client.__dict__.get("_auth") is not None
                    or client.__dict__.get("_mounts")
                    or type(client.__dict__.get("_transport")) not in self._wires
                ):
                    self._stand(call, client, request)
            return call
        except Exception as error:
            hook.failed("begin", error)
            return None

    def _begin(self, hook: Hook, request: Any, asynchronous: bool, whole: Any) -> Optional[Call]:
        url = request.url
        path = url.raw_path.partition(b"?")[0].decode("ascii")
        call = begin(hook, request.method, url.host, url.port, path, partial(_body, request, hook), asynchronous)
        # Nothing of what a query may hold is kept: keys stand there, too.
        if call is not None and call.endpoint.bills and whole is not None and not (whole.query or whole.userinfo):
            family = call.logical and call.logical.family
            remember((request.method, whole, family), (call.endpoint, call.known))
        return call

    def response(self, call: Call, response: Any) -> None:
        """Meter a response that was read, tap one that was not. Never raises."""
        try:
            if call.around is not None:
                call.around.judge(response)
            header = response.headers.get
            content = response.__dict__.get("_content")
            if content is not None:
                # A JSON object is one, whatever the header says; looking the header up costs more than a glance.
                content_type = "" if content[:1] == b"{" else header("content-type") or ""
                call.read(response.status_code, content_type, header, content)
                if call.hide is not None:
                    _shown_whole(call.hide, response)
            elif call.open(response.status_code, header("content-type") or "", header):
                self.tap(response, Tap(call, header("content-encoding")))
        except Exception as error:
            call.hook.failed("response", error)

    def tap(self, response: Any, tap: Tap) -> None:
        """Put the tap into an unread response."""
        if self.inner and hasattr(response.stream, "_stream"):
            self._tap_inside(response, tap)
        else:
            tap.decoding = False
            response.stream = self._wrap(response.stream, tap)

    def _tap_inside(self, response: Any, tap: Tap) -> None:
        # Bytes that are not encoded need no decoder: what passes through the stream is what the user reads.
        if not tap.identity:
            decoder = response._get_content_decoder()
            response._decoder = (PiecesDecoder if self._pieces else BytesDecoder)(decoder, tap)
        bound = response.stream
        bound._stream = self._wrap(bound._stream, tap)

    def _wrap(self, stream: Any, tap: Tap) -> Any:
        # By the kind of client: a `ByteStream` is both, and either client may be given one.
        return (self._async_stream if tap.call.asynchronous else self._sync_stream)(stream, tap)

    def _works(self, module: ModuleType) -> bool:
        """Try the private attributes on a response made here; what comes out must be what went in.

        Made by hand, not through a client: a client would log a request, and other tools would trace it.
        """
        try:
            response = module.Response(200, stream=module.ByteStream(b"seen"))
            bound = module._client.BoundSyncStream
            try:
                response.stream = bound(response.stream, response, 0.0)  # httpx
            except TypeError:
                response.stream = bound(response.stream, 0.0)  # httpx2
            self._pieces = not isinstance(response._get_content_decoder().decode(b""), bytes)
            probe = _Probe()
            self._tap_inside(response, probe)  # type: ignore[arg-type]
            return bool(response.read() == b"seen") and probe.seen == [b"seen", True]
        except Exception as error:
            debug("httpx self-check: %s", type(error).__name__)
            return False


def _have_parts(module: ModuleType) -> bool:
    """Are the parts of a URL kept as one tuple, under the name we know?"""
    try:
        one, same, other = [module.URL(url)._uri_reference for url in ("https://a/b", "https://a/b", "https://a/c")]
        named = not (one.query or one.userinfo)
        return isinstance(one, tuple) and named and hash(one) == hash(same) and one == same != other
    except Exception as error:
        debug("httpx self-check of URLs: %s", type(error).__name__)
        return False


class _Probe:
    """Stands in for a tap when the hook tries itself out."""

    def __init__(self) -> None:
        self.decoding = False
        self.identity = False
        self.see = None
        self.glance = Glance()
        self.seen: Any = []
        self.call = self
        self.hide = self.hold = None
        self.asynchronous = False
        self.outbox: Tuple[()] = ()

    def plain(self, data: bytes) -> None:
        self.seen.append(data)

    def raw(self, data: bytes) -> None:
        pass

    def end(self, complete: bool) -> None:
        if True not in self.seen:
            self.seen.append(complete)


def _shown(pieces: Any, tap: Tap, close: Callable[[], Any]) -> Any:
    """The pieces, without the chunk that we asked for, as far as they may come. `close` closes the connection.

    Compressed ones are shown by the decoder.
    """
    try:
        if tap.call.hold is not None and tap.call.hold.watch:
            from aicostguard.capture import cutting

            pieces = (cutting.AsyncCut if tap.call.asynchronous else cutting.SyncCut)(pieces, tap.call, close)
        if tap.call.hide is None or not tap.identity:
            return pieces
        from aicostguard.capture.transports import httpx_asking

        return (httpx_asking.AsyncPieces if tap.call.asynchronous else httpx_asking.SyncPieces)(pieces, tap.call.hide)
    except Exception as error:
        tap.call.hook.failed("shown", error)
        return pieces


def _streams(module: ModuleType) -> Tuple[Any, Any]:
    """Byte streams of this library around its own, telling the tap what passes and when it ends."""

    class TappedStream(module.SyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, inner: Any, tap: Tap) -> None:
            self._inner = inner
            self._tap = tap

        def __iter__(self) -> Any:
            return _shown(SyncPieces(self._inner, self._tap), self._tap, self._inner.close)

        def close(self) -> None:
            try:
                self._inner.close()
            finally:
                self._tap.end(False)

        def __getattr__(self, name: str) -> Any:
            if name == "_inner":  # a copy that is being made
                raise AttributeError(name)
            return getattr(self._inner, name)

    class TappedAsyncStream(module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, inner: Any, tap: Tap) -> None:
            self._inner = inner
            self._tap = tap

        def __aiter__(self) -> Any:
            return _shown(AsyncPieces(self._inner, self._tap), self._tap, self._inner.aclose)

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._tap.end(False)
            if self._tap.call.outbox:
                await self._tap.call.drain()

        def __getattr__(self, name: str) -> Any:
            if name == "_inner":  # a copy that is being made
                raise AttributeError(name)
            return getattr(self._inner, name)

    return TappedStream, TappedAsyncStream
