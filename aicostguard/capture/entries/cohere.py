"""cohere, of the Fern generator: `HttpClient.request` and `stream`, and their asynchronous twins.

A retry is the method calling itself, with a number: only the first is an entry. A stream is a context manager, whose
request is sent when it is entered.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.entries import logical
from aicostguard.capture.gate import Refused
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Hook both clients. Raises when their methods are not where they were."""
    replace(hook, module.HttpClient, "request", lambda original: _request(original, hook))
    replace(hook, module.AsyncHttpClient, "request", lambda original: _request(original, hook, logical.coroutine))
    for owner in (module.HttpClient, module.AsyncHttpClient):
        replace(hook, owner, "stream", lambda original: _stream(original, hook))


def _request(original: Callable[..., Any], hook: Hook, wrap: Callable[..., Any] = logical.sync) -> Callable[..., Any]:
    marked = wrap(original, hook)

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (original if kwargs.get("retries") else marked)(self, *args, **kwargs)

    return request


def _stream(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        entered = original(self, *args, **kwargs)
        return Marked(entered, hook) if hook.on else entered

    return stream


class Marked:
    """The context manager of a stream, with its start marked. Only the SDK's own code ever holds one."""

    __slots__ = ("_inner", "_hook")

    def __init__(self, inner: Any, hook: Hook) -> None:
        self._inner = inner
        self._hook = hook

    def __enter__(self) -> Any:
        previous = logical.enter(self._hook)
        try:
            return self._inner.__enter__()
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            context.logical.set(previous)

    def __exit__(self, *exc: Any) -> Any:
        return self._inner.__exit__(*exc)

    async def __aenter__(self) -> Any:
        previous = logical.enter(self._hook)
        try:
            return await self._inner.__aenter__()
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            context.logical.set(previous)

    async def __aexit__(self, *exc: Any) -> Any:
        return await self._inner.__aexit__(*exc)
