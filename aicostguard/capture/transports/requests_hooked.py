"""requests: code of the user's own that its hooks run inside `Session.send`. What that asks is a call of its own.

Owns the one function that calls hooks, and what an adapter sends meanwhile: a way of signing in (digest, Kerberos) is a
hook, too, and asks once more for the same call. A hook may also give the caller another answer in place of the one that
came; if it got that by a call of its own, the call around it is billed by what came. If this is wrong, what hooks ask
is not billed, or an answer is billed twice.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, List, Optional

from aicostguard import context
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook, Rows, replace, watch
from aicostguard.health import health


class Hooked:
    """One answer that hooks look at: `call` is whose it is while they run, `others` what came of calls of theirs."""

    __slots__ = ("call", "url", "others")

    def __init__(self, call: Call, url: str) -> None:
        self.call: Optional[Call] = call
        self.url = url
        self.others: List[Any] = []

    def given(self, call: Call, given: Any, came: Any) -> None:
        """The caller gets another answer than the one that came. Never raises."""
        try:
            for other in self.others:
                if other is given:
                    call.answer = came
        except Exception as error:
            call.hook.failed("given", error)


def install(module: ModuleType, hook: Hook) -> None:
    """Hook what calls hooks. Raises when it is not there."""
    replace(hook, module.sessions, "dispatch_hook", lambda original: _dispatch_hook(original, hook))


def got(response: Any) -> None:
    """A call has its answer: it may have been made by a hook. Never raises."""
    try:
        around = context.aside.get()
        if isinstance(around, Hooked):
            around.others.append(response)
    except Exception as error:
        health.fault("requests_hooked.got", error)


def _dispatch_hook(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def dispatch_hook(key: str, hooks: Any, hook_data: Any, **kwargs: Any) -> Any:
        call = context.inside.get()
        if not isinstance(call, Call) or not hook.on or not hooks or not hooks.get(key):
            return original(key, hooks, hook_data, **kwargs)
        around, before, logical = _around(hook, call, hook_data), context.aside.get(), context.logical.get()
        if around is None:
            return original(key, hooks, hook_data, **kwargs)
        context.inside.set(False)
        context.aside.set(around)
        context.logical.set(None)
        try:
            given = original(key, hooks, hook_data, **kwargs)
        finally:
            around.call = None  # a task or a thread that a hook has begun may go on for long
            context.logical.set(logical)
            context.aside.set(before)
            context.inside.set(call)
        if given is not hook_data:
            around.given(call, given, hook_data)
        return given

    return dispatch_hook


def _around(hook: Hook, call: Call, response: Any) -> Optional[Hooked]:
    try:
        watch(hook, type(response.connection), _SENDS)
        return Hooked(call, response.request.url)
    except Exception as error:
        hook.failed("around", error)
        return None


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of an adapter: what a hook has it send to the same place is another try of the call, unless it is one itself."""

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        around = context.aside.get()
        call = around.call if isinstance(around, Hooked) else None
        if call is None or context.inside.get() or request.url != around.url:
            return original(self, request, *args, **kwargs)
        context.inside.set(call)
        try:
            return original(self, request, *args, **kwargs)
        finally:
            context.inside.set(False)

    return send


_SENDS: Rows = (("send", _send),)
