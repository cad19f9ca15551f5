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
    """Mark a blocking method. `look` inspects the client object after a call of which no transport knew."""

    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hook.on:
            return original(self, *args, **kwargs)
        previous = enter(hook)
        try:
            return original(self, *args, **kwargs)
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            if look is not None:
                mine = context.logical.get()
                if mine is None or not mine.attempts:
                    _unseen(hook, look, self)
            context.logical.set(previous)

    return request


def coroutine(original: Callable[..., Any], hook: Hook, look: Optional[Look] = None) -> Callable[..., Any]:
    """Mark a coroutine method. `look` inspects the client object after a call of which no transport knew."""

    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hook.on:
            return await original(self, *args, **kwargs)
        previous = enter(hook)
        try:
            return await original(self, *args, **kwargs)
        except Refused as refused:
            raise permit.outward(refused, previous, context.exit.get()) from None
        finally:
            if state.gate is not None:
                permit.left(previous)
            if look is not None:
                mine = context.logical.get()
                if mine is None or not mine.attempts:
                    _unseen(hook, look, self)
            context.logical.set(previous)

    return request


def enter(hook: Hook) -> Optional[context.Logical]:
    """Begin a logical call; returns what has to be set again when it ends. Call it from the wrapper itself."""
    previous = context.logical.get()
    try:
        labels = context.labelled.get()
        # Here and not where the request is sent: the user's frame is near, and nothing of the SDK's is above it.
        feature = None if labels is None else labels.values.get("feature")
        made = context.Logical(hook.name, feature or caller.infer(state.rule, 3))
        if state.gate is not None:
            made.thread = get_ident()
        context.logical.set(made)
    except Exception as error:
        hook.failed("enter", error)
    return previous


def _unseen(hook: Hook, look: Look, client: Any) -> None:
    """The call has ended, and nothing was sent by a method that we know."""
    try:
        look(client)
    except Exception as error:
        hook.failed("look", error)


def replaced_send(name: str, transport: Any) -> None:
    """Warn when a transport has a `send` of its own, put onto the object or written in its class.

    What it does is hidden from our hook on the library's class, unless it calls that.
    """
    kind = type(transport)
    onto = "send" in getattr(transport, "__dict__", ())
    written = _hooked(kind) is None and any(map(_hooked, kind.__mro__))
    if onto or written:
        health.warn(
            "wrapper-before-import:" + name,
            "aicostguard: the HTTP client inside %s has its own 'send' (%s): calls that do not pass through the "
            "library's own %s.send are not counted. Have it call that one, or pass a transport instead."
            % (name, "put on the object, not on its class" if onto else "written in its class", kind.__name__),
        )


def _hooked(kind: type) -> Any:
    """The `send` of a class when it is ours."""
    send = getattr(kind, "send", None)
    return send if hasattr(send, "__aicostguard__") else None
