"""What a call inherits: the labels set around it, the logical call it belongs to, the send it runs inside.

Owns eight context variables and keeps them apart.

* `labelled`: feature and labels. Inherited by everything below, tasks included; it never suppresses a receipt.
* `logical`: one call as the SDK's user sees it, set by an entry hook outside the SDK's retries. It counts
  attempts and says that an AI SDK is at work.
* `inside`: the nesting guard, true only while a metering transport's own send runs, so that the transports
  beneath it stay silent. It holds the call, which may learn from them; True where there is nothing to learn. Our own
  sender sets it too: our traffic is never metered.
* `aside`: an object with the call whose client runs code of the user's own around its send (hooks, signing in): what
  that code asks is its own. Where the send itself begins, the call moves to `inside`.
* `origin`: the function that handed work to another task, for where no frame of the user's own is left to be seen.
* `place`: the route or task under which code runs, the feature where there is no other.
* `exit`: the outermost method of a library that wraps or retries what comes out of the SDKs beneath it; only looked at
  when a call is refused.
* `held`: the invocation (`flush_on_return`) that keeps receipts together until its handler returns.

Nothing here uses `ContextVar.reset`: a generator may be closed in another task or context than the one it was
started in, where a token is refused. The previous value is put back instead.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, TypeVar

from aicostguard.health import fault

F = TypeVar("F", bound=Callable[..., Any])

# Flags of code objects (documented in `inspect`, which is too slow to import here).
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200
#: decorators on top of each other that are looked through
_DEPTH = 16

inside: ContextVar[Any] = ContextVar("aicostguard_inside", default=False)
aside: ContextVar[Any] = ContextVar("aicostguard_aside", default=None)
logical: ContextVar[Optional[Logical]] = ContextVar("aicostguard_logical", default=None)
origin: ContextVar[Optional[str]] = ContextVar("aicostguard_origin", default=None)
place: ContextVar[Optional[str]] = ContextVar("aicostguard_place", default=None)
held: ContextVar[Any] = ContextVar("aicostguard_held", default=None)
exit: ContextVar[Optional[Logical]] = ContextVar("aicostguard_exit", default=None)  # noqa: A001
labelled: ContextVar[Optional[_Frame]] = ContextVar("aicostguard_scope", default=None)

#: values of `labelled`, `logical`, `inside`, `origin`, `held`
Marks = Tuple["Optional[_Frame]", "Optional[Logical]", bool, Optional[str], Any]
NO_MARKS: Marks = (None, None, False, None, None)


def ask(outer: Any) -> None:
    """A transport beneath the one whose value of `inside` this is was asked: what comes may be billed. Never raises."""
    try:
        if outer is not True:
            outer.asked = True
    except Exception as error:
        fault("context.ask", error)


class Logical:
    """One logical call: which SDK family makes it, whose function it stands in, and how often it was sent.

    `feature` is the nearest function of the user's own code above the SDK, None where there is none. `thread` is the
    one it was begun on, set while there is a gate. `hold` is what an attempt that billed nothing has left of a budget
    to the next one; `OVER` when there will be none.
    """

    __slots__ = ("family", "feature", "attempts", "thread", "hold")

    def __init__(self, family: str, feature: Optional[str] = None) -> None:
        self.family = family
        self.feature = feature
        self.attempts = 0
        self.thread: Optional[int] = None
        self.hold: Any = None


OVER = object()


class _Frame:
    """One entered scope: the merged labels down to here. Immutable but for `closed`."""

    __slots__ = ("values", "parent", "owner", "closed")

    def __init__(self, values: Dict[str, Any], parent: Optional[_Frame], owner: Scope) -> None:
        self.values = values
        self.parent = parent
        self.owner = owner
        self.closed = False


#: no labels
NOTHING: Mapping[str, Any] = {}


def current() -> Mapping[str, Any]:
    """The labels in force here: `feature`, `user`, `session`, … Do not change the mapping."""
    frame = labelled.get()
    return NOTHING if frame is None else frame.values


def marks() -> Marks:
    """All that is in force here, to be `put` around a piece of work elsewhere."""
    return labelled.get(), logical.get(), inside.get(), origin.get(), held.get()


def lasting_marks() -> Marks:
    """What may stay in force in a thread that outlives this call: what belongs to the call itself may not."""
    return labelled.get(), None, False, origin.get(), held.get()


def put(values: Marks) -> None:
    """Put values of `marks` in force."""
    labelled.set(values[0])
    logical.set(values[1])
    inside.set(values[2])
    origin.set(values[3])
    held.set(values[4])


class Scope:
    """Labels for a stretch of code: a context manager, or a decorator for functions, coroutines and generators.

    One object may be entered many times, by several threads and tasks at once. On a generator the labels are
    set on each resume and taken back on each yield, so that they never leak into the consumer.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __enter__(self) -> Scope:
        try:
            outer = labelled.get()
            labelled.set(_Frame(_merged(outer, self._values), outer, self))
        except Exception as error:
            fault("context.enter", error)
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            _leave(self)
        except Exception as error:
            fault("context.exit", error)

    def __call__(self, function: F) -> F:
        decorated: Any = function
        if isinstance(decorated, (staticmethod, classmethod)):
            return type(decorated)(self(decorated.__func__))  # type: ignore[return-value]
        if isinstance(decorated, type) or not callable(decorated):
            raise TypeError(
                "what is decorated with labels must be a function or another object that is called, not %s; of a class "
                "decorate its methods" % ("a class" if isinstance(decorated, type) else type(decorated).__name__)
            )
        flags = _flags(function)
        make = next((made for flag, _, made in _KINDS if flags & flag), _plain)
        # What an object holds is its own: a function's attributes are not.
        updated = ("__dict__",) if isinstance(function, FunctionType) else ()
        return functools.wraps(function, updated=updated)(make(self, function))  # type: ignore[return-value]


class Declared(Scope):
    """An agent that a framework declares. It gives way to one that is set in code: see `agent_in_code`."""

    __slots__ = ()


def agent_in_code() -> bool:
    """Whether the agent in force here was set by `agent` or `labels`, not declared to a framework."""
    frame = labelled.get()
    while frame is not None:
        if "agent" in frame.owner._values and not frame.closed and not isinstance(frame.owner, Declared):
            return True
        frame = frame.parent
    return False


def _merged(outer: Optional[_Frame], new: Mapping[str, Any]) -> Dict[str, Any]:
    values = dict(outer.values) if outer is not None else {}
    if "agent" in new and "parent_agent" not in new and values.get("agent") is not None:
        values["parent_agent"] = values["agent"]
    if "tags" in new and "tags" in values:
        new = dict(new, tags={**values["tags"], **new["tags"]})
    values.update(new)
    return values


def _leave(scope: Scope) -> None:
    top = frame = labelled.get()
    while frame is not None and (frame.owner is not scope or frame.closed):
        frame = frame.parent
    if frame is None:  # left in another context than the one it was entered in: nothing of ours is here
        return
    frame.closed = True
    while top is not None and top.closed:
        top = top.parent
    labelled.set(top)


def _flags(function: Any) -> int:
    """What kind of function this is, or the one that a partial or an object that is called stands for."""
    while isinstance(function, functools.partial):
        function = function.func
    for each in (function, getattr(type(function), "__call__", None)):  # noqa: B004
        code = getattr(each, "__code__", None)
        if isinstance(code, CodeType):
            return code.co_flags
    return 0


def _plain(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    # A coroutine that comes out of a plain function is the work itself: somebody's decorator stands around an `async
    # def`. A generator may be one that others read on, unless it comes from a generator function that stands inside.
    innermost: Any = function
    for _ in range(_DEPTH):
        innermost = getattr(innermost, "__wrapped__", innermost)
    flags = _COROUTINE | _flags(innermost)
    later = {kind: make for flag, kind, make in _KINDS if flags & flag}

    def run(*args: Any, **kwargs: Any) -> Any:
        with scope:
            result = function(*args, **kwargs)
        make = later.get(type(result))
        if make is None:
            return result
        work = make(scope, lambda: result)()
        work.__name__, work.__qualname__ = result.__name__, result.__qualname__
        return work

    return run


def _coroutine(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return await function(*args, **kwargs)

    return run


def _generator(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with scope:
            inner = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(inner.send, None)
        while True:
            with scope:
                try:
                    item = step()
                except StopIteration as stop:
                    return stop.value
            try:
                step = functools.partial(inner.send, (yield item))
            except GeneratorExit:
                with scope:
                    inner.close()
                raise
            except BaseException as error:
                step = functools.partial(inner.throw, error)

    return run


def async_generator(choose: Callable[..., Scope], function: Callable[..., Any]) -> Callable[..., Any]:
    """An async generator function under the scope that `choose` gives for its arguments."""

    async def run(*args: Any, **kwargs: Any) -> Any:
        scope = choose(*args, **kwargs)
        with scope:
            inner = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(inner.asend, None)
        while True:
            with scope:
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
            try:
                step = functools.partial(inner.asend, (yield item))
            except GeneratorExit:
                with scope:
                    await inner.aclose()
                raise
            except BaseException as error:
                step = functools.partial(inner.athrow, error)

    return run


def _async_generator(scope: Scope, function: Callable[..., Any]) -> Callable[..., Any]:
    return async_generator(lambda *args, **kwargs: scope, function)


#: flag of the code, type of what it gives, what is made of it
_KINDS = (
    (_ASYNC_GENERATOR, AsyncGeneratorType, _async_generator),
    (_COROUTINE, CoroutineType, _coroutine),
    (_GENERATOR, GeneratorType, _generator),
)


def feature(name: str) -> Scope:
    """Attribute every AI call inside to `name`, instead of to the calling function.

    Raises TypeError when `name` is not a text: a mistake in the user's code, said where it is made.
    """
    return Scope({"feature": _text("feature", name)})


def session(name: str) -> Scope:
    """Mark every AI call inside as part of the session `name`."""
    return Scope({"session": _text("session", name)})


def agent(name: str, parent: Optional[str] = None) -> Scope:
    """Mark every AI call inside as made by the agent `name`.

    Inside another `agent` scope the outer agent is its parent, unless `parent` names one.
    """
    values = {"agent": _text("agent", name)}
    if parent is not None:
        values["parent_agent"] = _text("parent", parent)
    return Scope(values)


def labels(
    *,
    user: Optional[str] = None,
    session: Optional[str] = None,
    agent: Optional[str] = None,
    parent_agent: Optional[str] = None,
    team: Optional[str] = None,
    project: Optional[str] = None,
    request: Optional[str] = None,
    tags: Optional[Mapping[str, str]] = None,
) -> Scope:
    """Attach labels to every AI call inside. They are sent as they are: put no personal data in them.

    Each is a text of 1 to 128 letters, digits, spaces or `. : / @ _ -`; another text is replaced by a hash and
    counted. `tags` adds up to 16 of your own keys. Raises TypeError when a value is neither text nor a number.
    """
    given = {
        "user": user,
        "session": session,
        "agent": agent,
        "parent_agent": parent_agent,
        "team": team,
        "project": project,
        "request": request,
    }
    values: Dict[str, Any] = {key: _text(key, value) for key, value in given.items() if value is not None}
    if tags is not None:
        if not isinstance(tags, Mapping):
            raise TypeError("tags must be a mapping of text to text, not %s" % type(tags).__name__)
        values["tags"] = {str(key): _text("tags[%r]" % key, value) for key, value in tags.items()}
    return Scope(values)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        # Of a subclass the text itself: an enumeration's member would write its own name, on some versions.
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    raise TypeError("%s must be text, not %s" % (name, type(value).__name__))
