"""Where libraries that wrap or retry what comes out of the SDKs beneath them hand it to their user.

Owns one row for each: the outermost methods through which a refused call comes out. A refusal passes the library's own
`except Exception` as `Refused`; what it was put into on its way, and what a thread of the library's has made of it, is
opened again. So the user gets the error as it was raised, once. Without a gate each of these costs one look at it. If a
row is missing, its users get the library's own error, with ours as its cause.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from types import CoroutineType, ModuleType
from typing import Any, AsyncIterator, Callable, Dict, NamedTuple, Optional, Tuple

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.gate import Refused
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.health import health

#: how far an exception is followed to the refusal inside it
_DEPTH = 12


class Exit(NamedTuple):
    """Methods of one class, or functions of the module ("" for `owner`). `kind` is a key of `_KINDS`.

    `module:Class` is a class of another module that has been imported by then.
    """

    owner: str
    names: Tuple[str, ...]
    kind: str = "sync"


#: module → what is hooked in it. What a version does not have is left out
EXITS: Dict[str, Tuple[Exit, ...]] = {
    "litellm.main": (
        Exit("", ("completion", "text_completion", "embedding", "moderation", "transcription", "speech")),
        Exit("", ("acompletion", "atext_completion", "aembedding", "amoderation", "atranscription"), "coroutine"),
    ),
    "litellm.responses.main": (Exit("", ("responses",)), Exit("", ("aresponses",), "coroutine")),
    "litellm.rerank_api.main": (Exit("", ("rerank",)), Exit("", ("arerank",), "coroutine")),
    "litellm.litellm_core_utils.streaming_handler": (
        Exit("CustomStreamWrapper", ("__next__",)),
        Exit("CustomStreamWrapper", ("__anext__",), "coroutine"),
    ),
    "haystack.core.pipeline.pipeline": (
        Exit("Pipeline", ("run",)),
        Exit("Pipeline", ("run_async",), "coroutine"),
        Exit("Pipeline", ("run_async_generator",), "async generator"),
    ),
    "haystack.core.pipeline.async_pipeline": (
        Exit("AsyncPipeline", ("run",)),
        Exit("AsyncPipeline", ("run_async",), "coroutine"),
        Exit("AsyncPipeline", ("run_async_generator",), "async generator"),
    ),
    "semantic_kernel.connectors.ai.chat_completion_client_base": (
        Exit("ChatCompletionClientBase", ("get_chat_message_contents",), "coroutine"),
        Exit("ChatCompletionClientBase", ("get_streaming_chat_message_contents",), "async generator"),
    ),
    "crewai.crew": (
        Exit("Crew", ("kickoff",)),
        Exit("Crew", ("kickoff_async", "akickoff"), "coroutine"),
        # What decides whether a task is tried again, on whatever thread.
        Exit("crewai.agent.core:Agent", ("_check_execution_error",), "judge"),
    ),
    "aisuite.client": (Exit("Completions", ("create",)), Exit("Completions", ("acreate",), "coroutine")),
    "dspy.clients.base_lm": (Exit("BaseLM", ("__call__",)), Exit("BaseLM", ("acall",), "coroutine")),
    # Its streams ask when they are read; `get_response` gives one, or a coroutine.
    "agent_framework._clients": (Exit("BaseChatClient", ("get_response",), "coroutine given"),),
    "agent_framework._types": (Exit("ResponseStream", ("__anext__",), "coroutine"),),
    "smolagents": tuple(
        Exit("smolagents.agents:" + kind, ("_step_stream",), "generator") for kind in ("CodeAgent", "ToolCallingAgent")
    ),
    "crewai.llm": (Exit("LLM", ("call",)), Exit("LLM", ("acall",), "coroutine")),
}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the methods of the module's rows. It is known by the hook's name: CrewAI gives its modules others."""
    for row in EXITS[hook.name]:
        owner = _owner(module, row.owner)
        for name in row.names:
            original = None if owner is None else owner.__dict__.get(name)
            if original is None:
                continue
            make = _KINDS[row.kind]
            replace(hook, owner, name, lambda original, make=make: make(original, hook))  # type: ignore[misc]
            package = sys.modules.get(hook.name.partition(".")[0])
            if package is not None and package.__dict__.get(name) is original:  # imported there before us
                replace(hook, package, name, lambda original, make=make: make(original, hook))  # type: ignore[misc]


def _owner(module: ModuleType, name: str) -> Any:
    where, _, kind = name.rpartition(":")
    home = sys.modules.get(where) if where else module
    return getattr(home, kind, None) if kind else home


def _sync(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        if state.gate is None or not hook.on:
            return original(*args, **kwargs)
        outer = _enter()
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            out = _opened(error, outer)
            if out is None:
                raise
            raise out from None
        finally:
            _leave(outer)

    return method


def _coroutine(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def method(*args: Any, **kwargs: Any) -> Any:
        if state.gate is None or not hook.on:
            return await original(*args, **kwargs)
        outer = _enter()
        try:
            return await original(*args, **kwargs)
        except BaseException as error:
            out = _opened(error, outer)
            if out is None:
                raise
            raise out from None
        finally:
            _leave(outer)

    return method


def _coroutine_given(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Of a plain function that gives a coroutine, or something else, which is left as it is."""
    awaited = _coroutine(lambda work: work, hook)

    def method(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        return awaited(made) if state.gate is not None and type(made) is CoroutineType else made

    return method


def _generator(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Opened only, as an async generator is."""

    def method(*args: Any, **kwargs: Any) -> Any:
        try:
            return (yield from original(*args, **kwargs))
        except Exception as error:
            out = None if state.gate is None else _opened(error, None)
            if out is None:
                raise
            raise out from None

    return method


def _async_generator(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Opened only: between two steps its consumer's own calls are none of this one's."""

    async def method(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        inner = original(*args, **kwargs)
        try:
            async for each in inner:
                yield each
        except Exception as error:
            out = None if state.gate is None else _opened(error, None)
            if out is None:
                raise
            raise out from None
        finally:
            await inner.aclose()

    return method


def _judge(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    """Of what is given an error and raises it when it is final: a refusal is."""

    def method(self: Any, error: Any, *args: Any, **kwargs: Any) -> Any:
        out = None if state.gate is None else _opened(error, None)
        if out is not None:
            raise out from None
        return original(self, error, *args, **kwargs)

    return method


_KINDS: Dict[str, Callable[..., Any]] = {
    "sync": _sync,
    "coroutine": _coroutine,
    "coroutine given": _coroutine_given,
    "generator": _generator,
    "async generator": _async_generator,
    "judge": _judge,
}


def _enter() -> Optional[context.Logical]:
    """Stand here for whoever is refused on this thread; returns what has to be set again."""
    outer = context.exit.get()
    try:
        mine = context.Logical("")
        mine.thread = get_ident()
        context.exit.set(mine)
    except Exception as error:
        health.fault("exits.enter", error)
    return outer


def _leave(outer: Optional[context.Logical]) -> None:
    try:
        mine = context.exit.get()
        if mine is not None and mine is not outer:
            mine.hold = context.OVER  # a task that was begun inside may go on
        context.exit.set(outer)
    except Exception as error:
        health.fault("exits.leave", error)


def _opened(error: BaseException, outer: Optional[context.Logical]) -> Optional[BaseException]:
    """What is raised instead of `error`: the refusal in it, for whoever stands above; None when there is none."""
    try:
        inner: Optional[BaseException] = error
        for _ in range(_DEPTH):
            if inner is None:
                return None
            if isinstance(inner, Exception) and permit.RAISED in inner.__dict__:
                return permit.outward(Refused(inner), context.logical.get(), outer)
            if isinstance(inner, Refused):
                return permit.outward(inner, context.logical.get(), outer)
            inner = inner.__cause__ or inner.__context__
        return None
    except Exception as fault:
        health.fault("exits.opened", fault)
        return None
