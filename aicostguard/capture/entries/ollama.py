"""ollama: `Client._request` and its asynchronous twin.

A stream is a generator that sends its request when it is first resumed: that step is marked, and no other.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, AsyncIterator, Callable, Iterator

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.entries import logical
from aicostguard.capture.gate import Refused
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Hook both clients. Raises when their methods are not where they were."""
    replace(hook, module.Client, "_request", lambda original: _request(original, hook))
    replace(hook, module.AsyncClient, "_request", lambda original: _async_request(original, hook))


def _request(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    marked = logical.sync(original, hook)

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if hook.on and kwargs.get("stream"):
            return _stream(original(self, *args, **kwargs), hook)
        return marked(self, *args, **kwargs)

    return request


def _async_request(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    marked = logical.coroutine(original, hook)

    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if hook.on and kwargs.get("stream"):
            return _async_stream(await original(self, *args, **kwargs), hook)
        return await marked(self, *args, **kwargs)

    return request


def _stream(events: Any, hook: Hook) -> Iterator[Any]:
    try:
        previous = logical.enter(hook)
        try:
            first = next(events)
        except StopIteration:
            return
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            context.logical.set(previous)
        yield first
        yield from events
    finally:
        events.close()


async def _async_stream(events: Any, hook: Hook) -> AsyncIterator[Any]:
    try:
        previous = logical.enter(hook)
        try:
            first = await events.__anext__()
        except StopAsyncIteration:
            return
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            context.logical.set(previous)
        yield first
        async for event in events:
            yield event
    finally:
        await events.aclose()
