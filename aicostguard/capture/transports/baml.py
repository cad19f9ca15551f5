"""BAML: `BamlRuntime`, whose requests are sent from Rust, where no transport of Python's sees them.

BAML itself tells of each request that a function made, retries and fallbacks included: address, status, body or events
(https://docs.boundaryml.com/ref/baml_client/collector). A collector of ours goes with each function, besides those of
its user, and what it holds when the function has ended is metered like any other answer. Nothing of it is kept.

An answer is seen when it has ended, so that a budget cannot cut a stream. Before a function begins it is not known what
it will send, so that a budget takes it for a call of unknown bound.
"""

from __future__ import annotations

import re
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.address import address
from aicostguard.capture.call import Call, begin
from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.health import health, oldest
from aicostguard.metering.bedrock import usage_of
from aicostguard.metering.endpoints import Endpoint
from aicostguard.usage import Reading

#: of the call that asks a budget, before anything is known of what will be sent
_ENDPOINT = Endpoint("baml", "baml")
#: what BAML puts in an answer's place where there is none: its own words in the body, and no header
_NO_ANSWER, _NOT_CONNECTED = b"No response", b"(Connect, "
_EVENTS = "text/event-stream"
#: what AWS's own SDK for Rust prints of the message that ends a stream: names as in `TokenUsage`, in Rust's case
_TOLD = re.compile(r"TokenUsage \{([^}]*)\}")
_COUNT = re.compile(r"(\w+): (?:Some\()?(\d+)")
_AWS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "total_tokens": "totalTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "cache_write_input_tokens": "cacheWriteInputTokens",
}
#: streams that nobody has begun to read
MOST_WAITING = 1024
_waiting: Dict[int, Function] = {}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook BAML's runtime and its streams. Raises where they take no collector, as early versions do."""
    runtime, native = module.BamlRuntime, module.baml_py
    places = {name: _collectors(getattr(runtime, name)) for name in _BEGIN}
    for name, make in _BEGIN.items():
        replace(hook, runtime, name, partial(make, hook, places[name], module.Collector))
    replace(hook, native.SyncFunctionResultStream, "done", _done)
    replace(hook, native.FunctionResultStream, "done", _adone)


def _collectors(method: Any) -> int:
    """Where the collectors stand among a method's arguments, `self` left out."""
    names = [name.partition("=")[0].strip() for name in method.__text_signature__[1:-1].split(",")]
    if "collectors" not in names:
        raise LookupError("takes no collectors")
    return names.index("collectors") - 1


class Function:
    """One call of a BAML function: who asked, and the collector that is told what it sent."""

    def __init__(self, hook: Hook, collector: Any) -> None:
        self.hook = hook
        self.collector = collector
        #: holds what it may use of a budget
        self.asked: Optional[Call] = None
        #: its receipts may have to be awaited
        self.asynchronous = False
        #: labels and function of whoever asked
        self.within: Context = copy_context()

    def over(self, future: Any = None) -> List[Call]:
        """It has ended, however it has. Gives the calls whose receipts wait to be awaited."""
        calls: List[Call] = []
        try:
            collector, self.collector = self.collector, None
            log = None if collector is None else collector.last
            for sent in () if log is None else sorted(log.calls, key=_when):
                call = self.within.run(self._meter, sent)
                if call is not None and call.outbox:
                    calls.append(call)
        except Exception as error:
            health.count("unmetered")
            self.hook.failed("over", error)
        finally:
            if self.asked is not None:
                permit.nothing(self.asked)
        return calls

    def _meter(self, sent: Any) -> Optional[Call]:
        """One request that was sent, and its answer."""
        request, answer = sent.http_request, sent.http_response
        where = None if request is None else address(request.url)
        if where is None:
            return None
        call = begin(
            self.hook, request.method.upper(), *where, lambda: bytes(request.body.raw()), asynchronous=self.asynchronous
        )
        if call is None:
            return None
        call.started = perf_counter() - (sent.timing.duration_ms or 0) / 1000
        events = [event.text for event in getattr(sent, "sse_responses", list)() or ()]
        body = b"" if answer is None else bytes(answer.body.raw())
        unanswered = answer is None or (not answer.headers and body.startswith(_NO_ANSWER))
        if events or (_NOT_CONNECTED not in body if unanswered else 200 <= answer.status < 300):
            self._hand_over(call)
        if events:
            _stream(call, events, sent.selected)
        elif unanswered:
            call.interrupted(before=lambda error: _NOT_CONNECTED in body)
        else:
            call.read(answer.status, answer.headers.get("content-type") or "", answer.headers.get, body)
        return call

    def _hand_over(self, call: Call) -> None:
        """What the function holds of a budget is for the first of its calls that may have been billed."""
        if self.asked is not None and self.asked.hold is not None:
            call.hold, self.asked.hold = self.asked.hold, None
            call.hold.watch = False  # there is nothing left to cut


def _when(sent: Any) -> Tuple[int, bool]:
    return sent.timing.start_time_utc_ms, sent.selected


def _stream(call: Call, events: List[str], whole: bool) -> None:
    """The events of an answer, as they came over the wire; AWS's are there as its SDK prints them."""
    if events[0].startswith('{"debug":'):
        told = _TOLD.search(events[-1])
        counts = {_AWS[name]: int(n) for name, n in _COUNT.findall(told[1]) if name in _AWS} if told else {}
        usage, mismatch = usage_of(counts)
        reading = Reading(call.endpoint.url_model, usage, streamed=True, partial=usage is None and not whole)
        call.take([reading._replace(mismatch=mismatch)])
        return
    data = "".join("data: %s\n\n" % event for event in events).encode()
    if whole:
        call.read(200, _EVENTS, _no_header, data)
    elif call.open(200, _EVENTS, _no_header):
        call.feed(data)
        call.end(False)


def _no_header(name: str) -> Optional[str]:
    return None


def _begin(
    hook: Hook, args: Tuple[Any, ...], kwargs: Any, at: int, collector: Any
) -> Tuple[Optional[Function], Any, Any]:
    """The function that begins, and its arguments with a collector of ours."""
    try:
        if not hook.on or context.inside.get():
            return None, args, kwargs
        made = Function(hook, collector("aicostguard"))
        if "collectors" in kwargs:
            kwargs = dict(kwargs, collectors=[*(kwargs["collectors"] or ()), made.collector])
        else:
            args = (*args[:at], [*(args[at] or ()), made.collector], *args[at + 1 :])
        if state.gate is not None:
            made.asked = Call(hook, _ENDPOINT, context.logical.get(), _no_body, False)
        return made, args, kwargs
    except Exception as error:
        hook.failed("begin", error)
        return None, args, kwargs


def _no_body() -> Optional[bytes]:
    return None


def _sync(hook: Hook, at: int, collector: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def call_function_sync(self: Any, *args: Any, **kwargs: Any) -> Any:
        function, args, kwargs = _begin(hook, args, kwargs, at, collector)
        if function is None:
            return original(self, *args, **kwargs)
        if function.asked is not None:
            permit.ask(function.asked)
        try:
            return original(self, *args, **kwargs)
        finally:
            function.over()

    return logical.sync(call_function_sync, hook)


def _async(hook: Hook, at: int, collector: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """It gives a future that is at work already, and so does ours; but for what only a coroutine can await."""

    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        function, args, kwargs = _begin(hook, args, kwargs, at, collector)
        if function is None:
            return await original(self, *args, **kwargs)
        function.asynchronous = True
        if function.asked is not None:
            await permit.aask(function.asked)
        try:
            return await original(self, *args, **kwargs)
        finally:
            for call in function.over():
                await call.drain()

    def at_work(self: Any, *args: Any, **kwargs: Any) -> Any:
        function, args, kwargs = _begin(hook, args, kwargs, at, collector)
        return _told(function, original(self, *args, **kwargs))

    waits, works = logical.coroutine(awaited, hook), logical.sync(at_work, hook)

    def call_function(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (works if state.gate is None and not state.inline else waits)(self, *args, **kwargs)

    return call_function


def _told(function: Optional[Function], future: Any) -> Any:
    """A future that tells the function when it is done."""
    try:
        if function is not None:
            future.add_done_callback(function.over)
    except Exception as error:
        health.fault("baml.told", error)
    return future


def _streams(hook: Hook, at: int, collector: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def stream_function(self: Any, *args: Any, **kwargs: Any) -> Any:
        function, args, kwargs = _begin(hook, args, kwargs, at, collector)
        if function is not None and function.asked is not None:
            permit.ask(function.asked)
        try:
            stream = original(self, *args, **kwargs)
        except BaseException:
            _let_go(function)  # nothing was sent
            raise
        _remember(hook, stream, function)
        return stream

    return logical.sync(stream_function, hook)


def _remember(hook: Hook, stream: Any, function: Optional[Function]) -> None:
    """Until the stream is read: the object itself takes neither attributes nor weak references."""
    try:
        _let_go(_waiting.pop(id(stream), None))  # of one that was let go of before anybody read it
        if function is not None:
            while len(_waiting) >= MOST_WAITING:
                _let_go(_waiting.pop(oldest(_waiting) or 0, None))
            _waiting[id(stream)] = function
    except Exception as error:
        hook.failed("remember", error)


def _let_go(function: Optional[Function]) -> None:
    if function is not None and function.asked is not None:
        permit.nothing(function.asked)


def _done(original: Callable[..., Any]) -> Callable[..., Any]:
    def done(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = _waiting.pop(id(self), None)
        try:
            return original(self, *args, **kwargs)
        finally:
            if function is not None:
                function.over()

    return done


def _adone(original: Callable[..., Any]) -> Callable[..., Any]:
    def done(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _told(_waiting.pop(id(self), None), original(self, *args, **kwargs))

    return done


_BEGIN: Dict[str, Callable[..., Callable[..., Any]]] = {
    "call_function_sync": _sync,
    "call_function": _async,
    "stream_function_sync": _streams,
    "stream_function": _streams,
}
