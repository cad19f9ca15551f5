"""Agents by the names that code declares for them, as the labels `agent` and `parent_agent`.

Owns the rule of what may be sent: a name that looks like an identifier as it is, any other as a salted hash, because
prompts hide in role texts. An agent that is set in code goes first; one inside another has it as its parent.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Mapping, Optional

from aicostguard import context
from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state
from aicostguard.health import fault
from aicostguard.receipt import replacement

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")

#: gives the declared name from the arguments of a hooked function, `self` included; or (name, name of the parent)
Find = Callable[..., Any]


def shown(name: object) -> Optional[str]:
    """A declared name as it may be sent; None for what is no name."""
    if not isinstance(name, str) or not name:
        return None
    return name if _NAME.match(name) else replacement(name, state.salt)


def scope(hook: Hook, find: Find, *args: Any, **kwargs: Any) -> Optional[context.Scope]:
    """The scope of the agent at work, None where there is nothing to add."""
    try:
        if not hook.on or context.agent_in_code():
            return None
        found = find(*args, **kwargs)
        name, parent = map(shown, found if isinstance(found, tuple) else (found, None))
        if name is None or context.current().get("agent") == name:
            return None
        return context.Declared({"agent": name} if parent is None else {"agent": name, "parent_agent": parent})
    except Exception as error:
        hook.failed("agent", error)
        return None


def plain(original: Callable[..., Any], hook: Hook, find: Find) -> Callable[..., Any]:
    """Put a function under the scope of its agent."""

    def run(*args: Any, **kwargs: Any) -> Any:
        within = scope(hook, find, *args, **kwargs)
        if within is None:
            return original(*args, **kwargs)
        with within:
            return original(*args, **kwargs)

    return run


def coroutine(original: Callable[..., Any], hook: Hook, find: Find) -> Callable[..., Any]:
    """Put a coroutine function under the scope of its agent."""

    async def run(*args: Any, **kwargs: Any) -> Any:
        within = scope(hook, find, *args, **kwargs)
        if within is None:
            return await original(*args, **kwargs)
        with within:
            return await original(*args, **kwargs)

    return run


def generator(original: Callable[..., Any], hook: Hook, find: Find) -> Callable[..., Any]:
    """Put a generator function under the scope of its agent, which never leaks into the consumer."""

    def run(*args: Any, **kwargs: Any) -> Any:
        within = scope(hook, find, *args, **kwargs)
        return original(*args, **kwargs) if within is None else within(original)(*args, **kwargs)

    return run


def async_generator(original: Callable[..., Any], hook: Hook, find: Find) -> Callable[..., Any]:
    """Put an async generator function under the scope of its agent, which never leaks into the consumer."""
    nothing = context.Scope({})

    def choose(*args: Any, **kwargs: Any) -> context.Scope:
        return scope(hook, find, *args, **kwargs) or nothing

    return context.async_generator(choose, original)


def read(labels: Mapping[str, Any]) -> Mapping[str, Any]:
    """The labels with the agent that a framework keeps in a variable of its own; that of the code goes first."""
    try:
        if "agent" in labels:
            return labels
        for reader in state.readers:
            found = reader()
            agent = None if found is None else shown(found[0])
            if found is not None and agent is not None:
                added: Dict[str, Any] = dict(labels, agent=agent)
                parent = shown(found[1])
                if parent is not None and parent != agent:
                    added["parent_agent"] = parent
                return added
    except Exception as error:
        fault("agents.read", error)
    return labels
