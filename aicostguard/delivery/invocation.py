"""`flush_on_return`: the receipts of one invocation leave in one POST, before its handler returns.

Owns `Held`, which keeps the receipts made below a handler, and the decorator for every kind of handler: functions,
coroutines, generators, and what returns one of these. The handler's result and its exceptions come out as they
were; waiting is bounded. Takes no lock. Where nothing is delivered (no `AICG_URL`) it does nothing. If it fails,
receipts of a platform that freezes between calls are late by an invocation.
"""

from __future__ import annotations

import functools
from collections import deque
from os import getpid
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any, Callable, Deque, Optional, Sequence, TypeVar, overload

from aicostguard import context
from aicostguard.delivery.queue import BATCH, Entry

if TYPE_CHECKING:
    from aicostguard.delivery.delivery import Delivery

F = TypeVar("F", bound=Callable[..., Any])

#: seconds that a handler waits for the ledger at most, and the most that may be asked for
TIMEOUT, LONGEST = 5.0, 60.0

# Flags of code objects (documented in `inspect`, which is too slow to import here).
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


class Held:
    """What one invocation has made and not yet delivered. Any thread may add to it; receipts leave it once."""

    __slots__ = ("open", "_entries", "_delivery", "_pid")

    def __init__(self) -> None:
        self.open = True
        self._entries: Deque[Entry] = deque()
        self._delivery: Optional[Delivery] = None
        self._pid = getpid()

    def take(self, delivery: Delivery, entry: Entry) -> Sequence[Entry]:
        """Keep a receipt. Gives those that the caller has to deliver now: none in the usual case."""
        if not self.open or self._pid != getpid() or self._delivery not in (None, delivery):
            return (entry,)  # work that outlives its invocation, or a child of it
        self._delivery = delivery
        delivery.holding.add(self)
        self._entries.append(entry)
        if not self._full():
            return ()
        delivery.holding.discard(self)
        return self.drain()

    def _full(self) -> bool:
        # Closed meanwhile: whoever finds the entry delivers it. And a handler that never returns must not fill the
        # memory: a whole batch goes at once.
        return not self.open or len(self._entries) >= BATCH

    def drain(self) -> Sequence[Entry]:
        """Everything that is here, taken out: each entry goes to one caller."""
        out = []
        try:
            while self._pid == getpid():
                out.append(self._entries.popleft())
        except IndexError:
            pass  # empty: not a fault
        return out

    def close(self) -> Sequence[Entry]:
        """The invocation is over: what it has made."""
        self.open = False
        if self._delivery is not None:
            self._delivery.holding.discard(self)
        return self.drain()

    def flush(self, seconds: float) -> None:
        """Deliver on this thread."""
        entries = self.close()
        if entries and self._delivery is not None:
            self._delivery.deliver(entries, seconds)

    async def aflush(self, seconds: float) -> None:
        """Deliver without blocking the loop."""
        entries = self.close()
        if entries and self._delivery is not None:
            await self._delivery.adeliver(entries, seconds)

    def hand_over(self) -> None:
        """Who waits has been cancelled: the worker delivers, or the next invocation."""
        entries = self.close()
        if entries and self._delivery is not None:
            self._delivery.hand_over(entries)


class _Keeping:
    """`with` it, receipts are held. Entered for each step of a generator, so that nothing leaks into its consumer."""

    __slots__ = ("held", "_before")

    def __init__(self, held: Held) -> None:
        self.held = held
        self._before: Any = None

    def __enter__(self) -> _Keeping:
        self._before = context.held.get()
        context.held.set(self.held)
        return self

    def __exit__(self, *exc: object) -> None:
        context.held.set(self._before)
        self._before = None


@overload
def flush_on_return(handler: F) -> F: ...
@overload
def flush_on_return(*, timeout: float = TIMEOUT) -> Callable[[F], F]: ...
def flush_on_return(handler: Any = None, *, timeout: float = TIMEOUT) -> Any:
    """Decorate the handler of a serverless platform: its receipts are sent together, before it returns.

    For a function, a coroutine function, a generator function of either kind, or an object that is called (an ASGI or
    WSGI application). Name, signature and kind stay what they are. It sends when the handler raises, too, and waits
    `timeout` seconds at most; what the ledger does not take by then is kept as ever. Decorated functions that call
    each other send once, at the end of the outermost. Raises TypeError or ValueError for what cannot be decorated.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError("timeout must be a number of seconds, not %s" % type(timeout).__name__)
    if not 0 < timeout <= LONGEST:
        raise ValueError("timeout is %s; use seconds above 0, at most %d" % (timeout, LONGEST))
    if handler is None:
        return functools.partial(_decorated, seconds=float(timeout))
    return _decorated(handler, float(timeout))


def _decorated(handler: Any, seconds: float) -> Any:
    if isinstance(handler, (staticmethod, classmethod)):
        return type(handler)(_decorated(handler.__func__, seconds))
    if isinstance(handler, type) or not callable(handler):
        raise TypeError(
            "flush_on_return decorates what is called for each request, not %s; of a class decorate the method"
            % (handler.__name__ if isinstance(handler, type) else type(handler).__name__)
        )
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    flags = getattr(code, "co_flags", 0)
    make = next((made for flag, made in _KINDS if flags & flag), _plain)
    if isinstance(handler, FunctionType):
        return functools.wraps(handler)(make(handler, seconds))
    wrapper = functools.wraps(handler, updated=())(make(handler, seconds))
    wrapper.__name__ = getattr(handler, "__name__", type(handler).__name__)
    return wrapper


def _outermost() -> Optional[Held]:
    """A new invocation, None inside one: there the outer one delivers."""
    outer = context.held.get()
    return None if outer is not None and outer.open else Held()


def _plain(handler: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        held = _outermost()
        if held is None:
            return handler(*args, **kwargs)
        later = None
        try:
            with _Keeping(held):
                result = handler(*args, **kwargs)
            # The work itself is still to come: the invocation ends with it.
            later = _LATER.get(type(result))
            return result if later is None else later(result, held, seconds)
        finally:
            if later is None:
                held.flush(seconds)

    return run


def _coroutine(handler: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        held = _outermost()
        if held is None:
            return await handler(*args, **kwargs)
        return await _awaited(handler(*args, **kwargs), held, seconds)

    return run


def _generator(handler: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        held = _outermost()
        inner = handler(*args, **kwargs)
        return (yield from (inner if held is None else _iterated(inner, held, seconds)))

    return run


def _async_generator(handler: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        held = _outermost()
        inner = handler(*args, **kwargs)
        steps = inner if held is None else _aiterated(inner, held, seconds)
        step: Callable[[], Any] = functools.partial(steps.asend, None)
        while True:
            try:
                item = await step()
            except StopAsyncIteration:
                return
            try:
                step = functools.partial(steps.asend, (yield item))
            except GeneratorExit:
                await steps.aclose()
                raise
            except BaseException as error:
                step = functools.partial(steps.athrow, error)

    return run


async def _awaited(inner: Any, held: Held, seconds: float) -> Any:
    try:
        with _Keeping(held):
            result = await inner
    except Exception:
        await held.aflush(seconds)
        raise
    except BaseException:  # cancelled, or the program ends: nobody may be kept waiting
        held.hand_over()
        raise
    await held.aflush(seconds)
    return result


def _iterated(inner: Any, held: Held, seconds: float) -> Any:
    keeping = _Keeping(held)
    step: Callable[[], Any] = functools.partial(inner.send, None)
    try:
        while True:
            try:
                with keeping:
                    item = step()
            except StopIteration as stop:
                return stop.value
            try:
                step = functools.partial(inner.send, (yield item))
            except GeneratorExit:
                with keeping:
                    inner.close()
                raise
            except BaseException as error:
                step = functools.partial(inner.throw, error)
    finally:
        held.flush(seconds)


async def _aiterated(inner: Any, held: Held, seconds: float) -> Any:
    keeping = _Keeping(held)
    step: Callable[[], Any] = functools.partial(inner.asend, None)
    try:
        while True:
            try:
                with keeping:
                    item = await step()
            except StopAsyncIteration:
                break
            try:
                step = functools.partial(inner.asend, (yield item))
            except GeneratorExit:
                with keeping:
                    await inner.aclose()
                raise
            except BaseException as error:
                step = functools.partial(inner.athrow, error)
    except Exception:
        await held.aflush(seconds)
        raise
    except BaseException:
        held.hand_over()
        raise
    await held.aflush(seconds)


_KINDS = ((_ASYNC_GENERATOR, _async_generator), (_COROUTINE, _coroutine), (_GENERATOR, _generator))
#: what a plain function may return whose work is still to be done
_LATER: Any = {CoroutineType: _awaited, GeneratorType: _iterated, AsyncGeneratorType: _aiterated}
