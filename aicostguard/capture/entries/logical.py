"""What every entry hook does: stand outside an SDK's retries and mark the logical call.

Owns the two wrappers, sync and async, that set `context.logical` around an SDK's own request method. They never
look at arguments or results. The mark tells the transport that an AI SDK is at work (so that an unknown host can be
metered by its format), names the user's function that stands right above, and counts the attempts of one call. Here a
refusal, which has passed the SDK's retries, becomes the error that the user gets.
"""

from __future__ import annotations

from _thread import get_ident
from typing import Any, Callable, Optional

from aicostguard import context
from aicostguard.capture import caller, permit
from aicostguard.capture.gate import Refused
from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state
from aicostguard.health import health

Look = Callable[[Any], None]


def sync(original: Callable[..., Any], hook: Hook, look: Optional[Look] = None) -> Callable[..., Any]:
    """Mark a blocking method. `look` may inspect the client object before the call."""

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hook.on:
            return original(self, *args, **kwargs)
        previous = enter(hook, self, look)
        try:
            return original(self, *args, **kwargs)
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            context.logical.set(previous)

    return request


def coroutine(original: Callable[..., Any], hook: Hook, look: Optional[Look] = None) -> Callable[..., Any]:
    """Mark a coroutine method. `look` may inspect the client object before the call."""

    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hook.on:
            return await original(self, *args, **kwargs)
        previous = enter(hook, self, look)
        try:
            return await original(self, *args, **kwargs)
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            context.logical.set(previous)

    return request


def enter(hook: Hook, client: Any = None, look: Optional[Look] = None) -> Optional[context.Logical]:
    """Begin a logical call; returns what has to be set again when it ends. Call it from the wrapper itself."""
    previous = context.logical.get()
    try:
        # Here and not where the request is sent: the user's frame is near, and nothing of the SDK's is above it.
        feature = context.current().get("feature") or caller.infer(state.rule, 3)
        made = context.Logical(hook.name, feature)
        if state.gate is not None:
            made.thread = get_ident()
        context.logical.set(made)
        if look is not None:
            look(client)
    except Exception as error:
        hook.failed("enter", error)
    return previous


def replaced_send(name: str, transport: Any) -> None:
    """Warn when `send` was put onto a transport object itself: what it does is hidden from our hook on the class."""
    if "send" in getattr(transport, "__dict__", ()):
        health.warn(
            "wrapper-before-import:" + name,
            "aicostguard: the HTTP client inside %s has its own 'send' (put on the object, not on its class): "
            "calls that do not pass through %s.send are not counted. Wrap the class, or pass a transport instead."
            % (name, type(transport).__name__),
        )
