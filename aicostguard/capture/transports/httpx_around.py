"""httpx and httpx2: what stands around and beneath a client's send, where that is more than the library's own.

Owns two things. A transport around others (a cache, retries, a log) may answer without asking any of them; what it
answers so was billed before. So those beneath tell when they are asked, and what came. And a client with hooks or a way
of signing in runs code of its user's around the send; what that code asks an AI provider is a call of its own. A client
that has neither never comes here. If this is wrong, a cached answer is billed again, or a provider's is not billed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from aicostguard import context
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Rows, watch
from aicostguard.health import health

#: a server's word that what was kept still holds: no other answer comes, and none is billed
NOT_MODIFIED = 304
#: how deep transports are looked for in each other
_DEPTH = 5

#: the sends that are under way around a transport, by its id: whoever is asked in another thread knows no call
_under_way: Dict[int, List[Call]] = {}


class Around:
    """One send through a transport that stands around others."""

    __slots__ = ("_call", "_beneath", "_told")

    def __init__(self, call: Call, beneath: List[Tuple[Any, type]]) -> None:
        self._call = call
        self._beneath = beneath
        rows = _AWAITED if call.asynchronous else _ROWS
        for _, kind in beneath:
            watch(call.hook, kind, rows)
        # Where somebody has put a function of his own there since (a mock), nothing is told.
        self._told = all(_ours(kind, rows) for _, kind in beneath)
        for each, _ in beneath:
            _under_way.setdefault(id(each), []).append(call)

    def land(self) -> None:
        """The send is over. Never raises."""
        for each, _ in self._beneath:
            try:
                calls = _under_way[id(each)]
                calls.remove(self._call)
                if not calls:
                    del _under_way[id(each)]
            except (KeyError, ValueError):  # another thread was quicker: there is nothing left to take away
                continue

    def judge(self, response: Any) -> None:
        """Is this a provider's answer? Not where nobody was asked, it says so, or it is the same as before."""
        try:
            call = self._call
            silent = self._told and (call.asked is False or call.asked == NOT_MODIFIED)
            call.replayed = call.replayed or silent or _marked(response.extensions)
        except Exception as error:
            self._call.hook.failed("judge", error)


def _marked(extensions: Any) -> bool:
    """Does the answer say that it came out of a cache? So hishel marks it, by release 2, 1 and 0."""
    said = extensions.get("caching")
    if isinstance(said, dict) and said.get("from_cache") is True:
        return True
    return extensions.get("hishel_from_cache") is True or extensions.get("from_cache") is True


class Stand:
    """How a send of one of the two libraries stands, where it is not plain."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __call__(self, call: Call, client: Any, request: Any) -> None:
        """Set where the call is kept, and what its transport stands around. Never raises."""
        if "_transport" not in client.__dict__:  # made without its class's `__init__`: it cannot send
            return
        try:
            call.place = _place(call, client)
            transport = client._transport_for_url(request.url)
            beneath = list(_innermost(self._module, transport, _DEPTH))
            if beneath:
                call.around = Around(call, beneath)
        except Exception as error:
            call.hook.failed("stand", error)


def wires(module: ModuleType) -> Tuple[type, ...]:
    """Transports that stand around no other."""
    return module.HTTPTransport, module.AsyncHTTPTransport, module.MockTransport


def _innermost(module: ModuleType, transport: Any, depth: int) -> Iterator[Tuple[Any, type]]:
    """The transports in which this one's requests may end, and the class of each that is to tell. None of its own."""
    kind = type(transport)
    for own in (module.HTTPTransport, module.AsyncHTTPTransport):
        if kind is own:
            return
        if issubclass(kind, own):  # what it does not answer itself it has its base class send
            yield transport, own
            return
    for held in _held(transport) if depth else ():
        if isinstance(held, (module.BaseTransport, module.AsyncBaseTransport)):
            deeper = list(_innermost(module, held, depth - 1))
            yield from deeper or [(held, type(held))]


def _held(transport: Any) -> Iterator[Any]:
    for value in list(getattr(transport, "__dict__", {}).values()):
        if isinstance(value, dict):
            yield from list(value.values())
        elif isinstance(value, (list, tuple)):
            yield from value
        else:
            yield value


def _asked(transport: Any) -> List[Call]:
    """The calls for which this transport may be asked now. Never raises."""
    try:
        outer = context.inside.get()
        calls = [outer] if isinstance(outer, Call) else list(_under_way.get(id(transport), ()))
        for call in calls:
            call.asked = True
        return calls
    except Exception as error:
        health.fault("httpx_around.asked", error)
        return []


def _answered(calls: List[Call], response: Any) -> None:
    try:
        for call in calls:
            call.asked = response.status_code
    except Exception as error:
        health.fault("httpx_around.answered", error)


def _handle_request(original: Callable[..., Any]) -> Callable[..., Any]:
    def handle_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls = _asked(self)
        response = original(self, *args, **kwargs)
        _answered(calls, response)
        return response

    return handle_request


def _handle_async_request(original: Callable[..., Any]) -> Callable[..., Any]:
    async def handle_async_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls = _asked(self)
        response = await original(self, *args, **kwargs)
        _answered(calls, response)
        return response

    return handle_async_request


_ROWS: Rows = (("handle_request", _handle_request),)
_AWAITED: Rows = (("handle_async_request", _handle_async_request),)


class _Aside:
    """The place of a call while its client runs code of the user's own: aside, until the send itself begins.

    What that code asks belongs to no logical call of ours. Once the send is over nothing leads from here to the call: a
    task that the code has begun keeps this in its context.
    """

    __slots__ = ("call", "client")

    def __init__(self, call: Call, client: Any) -> None:
        self.call: Optional[Call] = call
        self.client = client

    def get(self) -> Any:
        return context.aside.get(), context.logical.get()

    def set(self, value: Any) -> None:
        if value is self.call:
            context.aside.set(self)
            context.logical.set(None)
        else:
            self.call = self.client = None
            aside, logical = value
            context.aside.set(aside)
            context.logical.set(logical)


def _place(call: Call, client: Any) -> Any:
    """Where a call is kept while its client runs its user's code."""
    watch(call.hook, type(client), _AWAITED_SENDS if call.asynchronous else _SENDS)
    return _Aside(call, client) if _ours(type(client), _SENDS) else context.inside


def _begins(client: Any) -> Optional[Call]:
    """The call whose send begins here."""
    aside = context.aside.get()
    if type(aside) is _Aside and aside.client is client and not context.inside.get():
        return aside.call
    return None


def _ours(kind: type, rows: Rows) -> bool:
    """Is the method there ours, and nobody's around it? (A mark on it would not tell: wrappers copy marks.)"""
    code = getattr(getattr(kind, rows[0][0], None), "__code__", None)
    return code is not None and code.co_filename == __file__


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    def _send_single_request(self: Any, request: Any) -> Any:
        call = _begins(self)
        if call is None:
            return original(self, request)
        aside = context.aside.get()
        context.aside.set(None)
        context.inside.set(call)
        try:
            return original(self, request)
        finally:
            context.inside.set(False)
            context.aside.set(aside)

    return _send_single_request


def _asend(original: Callable[..., Any]) -> Callable[..., Any]:
    async def _send_single_request(self: Any, request: Any) -> Any:
        call = _begins(self)
        if call is None:
            return await original(self, request)
        aside = context.aside.get()
        context.aside.set(None)
        context.inside.set(call)
        try:
            return await original(self, request)
        finally:
            context.inside.set(False)
            context.aside.set(aside)

    return _send_single_request


_SENDS: Rows = (("_send_single_request", _send),)
_AWAITED_SENDS: Rows = (("_send_single_request", _asend),)
