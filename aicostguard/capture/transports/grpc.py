"""gRPC: the callable objects of a channel, threaded and asyncio, for the methods of AI services.

Owns the tap on a call's own deserializer. A callable keeps the functions that turn messages into bytes and back; an AI
call is made by a copy of the callable whose functions also tell the tap, so that what the user gets is gRPC's own
object, with all it can do, and messages are seen as they are on the wire, whoever takes them and how. A method of
another service costs one look into a dict. A unary answer is counted when it is here; a stream when gRPC says that the
call is over, or when the call is collected.
"""

from __future__ import annotations

import weakref
from functools import partial
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering.rpc import Found, Rpc, find

#: methods seen so far; a program has few
MOST_METHODS = 4096
_UNSEEN = object()
_methods: Dict[Any, Any] = {}
_names: Dict[type, Tuple[str, ...]] = {}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `grpc._channel` or `grpc.aio._channel`. Raises when its classes are not what they were."""
    if module.__name__ == "grpc._channel":
        unary, streams = module._UnaryUnaryMultiCallable, [module._UnaryStreamMultiCallable]
        streams.append(module._SingleThreadedUnaryStreamMultiCallable)
        for kind in (unary, *streams):
            _check(kind)
        for name in ("__call__", "with_call"):
            replace(hook, unary, name, lambda original: _blocking(original, hook))
        replace(hook, unary, "future", lambda original: _started(original, hook, False))
        for kind in streams:
            replace(hook, kind, "__call__", lambda original: _started(original, hook, True))
        return
    replace(hook, module.UnaryUnaryMultiCallable, "__call__", lambda original: _astarted(original, hook, False))
    replace(hook, module.UnaryStreamMultiCallable, "__call__", lambda original: _astarted(original, hook, True))
    for name, make in (("_read", _read), ("cancel", _cancel)):
        replace(hook, _owner(module.UnaryStreamCall, name), name, make)
    if state.inline:  # only there do receipts wait to be awaited
        replace(hook, _owner(module.UnaryUnaryCall, "__await__"), "__await__", _awaited)


def _owner(kind: type, name: str) -> type:
    return next(each for each in kind.__mro__ if name in each.__dict__)


def _check(kind: type) -> None:
    if not {"_method", "_request_serializer", "_response_deserializer"} <= set(_attributes(kind)):
        raise RuntimeError("%s has changed" % kind.__name__)


def _attributes(kind: type) -> Tuple[str, ...]:
    names = _names.get(kind)
    if names is None:
        slots: List[str] = []
        for each in kind.__mro__:
            own = each.__dict__.get("__slots__", ())
            slots += [own] if isinstance(own, str) else own
        names = _names[kind] = tuple(name for name in slots if name not in ("__dict__", "__weakref__"))
    return names


class Tap:
    """One AI call over gRPC: the call and what its messages say. `streamed`: more than one message answers."""

    def __init__(self, call: Call, rpc: Rpc, streamed: bool) -> None:
        self.call = call
        self.streamed = streamed
        #: a message was deserialized since the last reading
        self.last: Optional[bool] = None
        #: taking the reader out of the list is the one step that makes it one receipt, on whatever thread
        self._rpc = [rpc]

    def asked(self, data: Any) -> None:
        """The request, serialized."""
        try:
            for rpc in self._rpc:
                if isinstance(data, bytes):
                    rpc.asked(data)
        except Exception as error:
            self._lost("asked", error)

    def told(self, data: Any) -> None:
        """A message of the answer, as it came."""
        try:
            rpc = self._rpc[0]
        except IndexError:  # the call has ended, perhaps just now, on another thread
            return
        try:
            if isinstance(data, bytes):
                rpc.told(data)
                if not self.streamed:
                    self.end(True)
        except Exception as error:
            self._lost("told", error)

    def end(self, complete: bool) -> None:
        """No more messages will come. The first end counts."""
        try:
            rpc = self._rpc.pop()
        except IndexError:
            return
        try:
            if self.call.hold is not permit.REFUSED:
                self.call.take(rpc.readings(not complete))
        except Exception as error:
            self._lost("end", error)

    def __del__(self) -> None:
        if hasattr(self, "_rpc"):
            self.end(False)

    def _lost(self, where: str, error: Exception) -> None:
        self._rpc.clear()
        self.call.lost(where, error)


class _Serializer:
    """The callable's own serializer, telling the tap."""

    __slots__ = ("_inner", "tap")

    def __init__(self, inner: Optional[Callable[[Any], Any]], tap: Tap) -> None:
        self._inner = inner
        self.tap = tap

    def __call__(self, message: Any) -> Any:
        data = message if self._inner is None else self._inner(message)
        self.tap.asked(data)
        return data


class _Deserializer:
    """The callable's own deserializer, telling the tap."""

    __slots__ = ("_inner", "tap")

    def __init__(self, inner: Optional[Callable[[Any], Any]], tap: Tap) -> None:
        self._inner = inner
        self.tap = tap

    def __call__(self, data: Any) -> Any:
        message = data if self._inner is None else self._inner(data)
        self.tap.last = True
        self.tap.told(data)
        return message


def _tapped(hook: Hook, callable_: Any, streamed: bool, asynchronous: bool = False) -> Any:
    """A copy of the callable for this one call, and its tap; None for a method that is no business of ours."""
    try:
        name = callable_._method
        found = _methods.get(name, _UNSEEN)
        if found is _UNSEEN:
            found = _found(name)
        if found is None:
            return None
        if not isinstance(found, Found):
            health.count("unrecognised")
            health.note("unrecognised:%s" % _text(name)[:64])
            return None
        logical = context.logical.get()
        call = Call(hook, found.endpoint, logical, _no_body, asynchronous)
        tap = Tap(call, Rpc(found.endpoint, found.method, streamed), streamed)
        kind = type(callable_)
        copy = object.__new__(kind)
        for attribute in _attributes(kind):
            if hasattr(callable_, attribute):
                setattr(copy, attribute, getattr(callable_, attribute))
        getattr(copy, "__dict__", {}).update(getattr(callable_, "__dict__", {}))
        copy._request_serializer = _Serializer(callable_._request_serializer, tap)
        copy._response_deserializer = _Deserializer(callable_._response_deserializer, tap)
        return copy, tap
    except Exception as error:
        hook.failed("tapped", error)
        return None


def _found(name: Any) -> Any:
    found = find(_text(name))
    if len(_methods) >= MOST_METHODS:
        _methods.clear()
    _methods[name] = found
    return found


def _text(name: Any) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)


def _no_body() -> Optional[bytes]:
    return None


def _blocking(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = _tapped(hook, self, False) if hook.on and not context.inside.get() else None
        if found is None:
            return original(self, *args, **kwargs)
        copy, tap = found
        if state.gate is not None:
            permit.ask(tap.call)
        try:
            return original(copy, *args, **kwargs)
        except BaseException as error:
            _interrupted(tap, error)
            raise

    return call


def _interrupted(tap: Tap, error: BaseException) -> None:
    """No answer: worth a note when the server may have worked all the same."""
    try:
        code = getattr(error, "code", None)
        name = getattr(code() if callable(code) else None, "name", "")
        if name in ("", "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE"):
            tap.call.interrupted(error)
        else:
            permit.nothing(tap.call)
    except Exception as fault:
        tap.call.lost("interrupted", fault)


def _started(original: Callable[..., Any], hook: Hook, streamed: bool) -> Callable[..., Any]:
    """A call that goes on after it was made."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = _tapped(hook, self, streamed) if hook.on and not context.inside.get() else None
        if found is None:
            return original(self, *args, **kwargs)
        copy, tap = found
        if state.gate is not None:
            permit.ask(tap.call)
        result = original(copy, *args, **kwargs)
        if streamed:
            _watch(tap, result)
        return result

    return call


def _watch(tap: Tap, rendezvous: Any) -> None:
    """End with the call. The reference back is weak: a call that is dropped has to be collected, and so cancelled."""
    try:
        # Nothing of ours stands between gRPC and what cannot raise: an exception would end the channel's own thread.
        over = partial(_over, tap, weakref.ref(rendezvous))
        if not rendezvous.add_callback(over):
            over()
    except Exception as error:
        tap.call.lost("watch", error)


def _over(tap: Tap, seen: Any) -> None:
    try:
        rendezvous = seen()
        # Over already, so asking for the code does not wait.
        tap.end(rendezvous is not None and rendezvous.code().name == "OK")
    except Exception as error:
        tap.call.lost("over", error)


def _astarted(original: Callable[..., Any], hook: Hook, streamed: bool) -> Callable[..., Any]:
    """Under asyncio: the end of a stream shows where it is read."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = _tapped(hook, self, streamed, True) if hook.on and not context.inside.get() else None
        if found is None:
            return original(self, *args, **kwargs)
        if state.gate is not None:
            permit.ask(found[1].call)  # not awaited: what makes the call is no coroutine
        return original(found[0], *args, **kwargs)

    return call


def _tap_of(call: Any) -> Optional[Tap]:
    try:
        deserializer = getattr(call, "_response_deserializer", None)
        return deserializer.tap if isinstance(deserializer, _Deserializer) else None
    except Exception as error:
        health.fault("grpc.tap_of", error)
        return None


def _read(original: Callable[..., Any]) -> Callable[..., Any]:
    async def _read(self: Any) -> Any:
        tap = _tap_of(self)
        if tap is None:
            return await original(self)
        try:
            message = await original(self)
        except BaseException:
            tap.end(False)
            raise
        if tap.last is None:  # nothing was deserialized: this is the end
            await _ended(tap, self)
        tap.last = None
        return message

    return _read


async def _ended(tap: Tap, call: Any) -> None:
    try:
        tap.end((await call.code()).name == "OK")
        if tap.call.outbox:
            await tap.call.drain()
    except Exception as error:
        tap.call.lost("ended", error)


def _cancel(original: Callable[..., Any]) -> Callable[..., Any]:
    def cancel(self: Any) -> Any:
        try:
            return original(self)
        finally:
            tap = _tap_of(self)
            if tap is not None:
                tap.end(False)

    return cancel


def _awaited(original: Callable[..., Any]) -> Callable[..., Any]:
    """Inline mode: the receipt is on the wire before the answer is given."""

    def __await__(self: Any) -> Any:  # noqa: N807
        message = yield from original(self)
        tap = _tap_of(self)
        if tap is not None and tap.call.outbox:
            yield from tap.call.drain().__await__()
        return message

    return __await__
