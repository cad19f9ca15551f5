"""claude-agent-sdk: `Query`, through which every message of the Claude Code process comes.

The HTTP happens in a child process that is no Python, so this entry meters, by the process's own results. A turn
belongs to whoever sent its prompt (`ClaudeSDKClient.query`), else to whoever started the process; its latency is the
duration that the result states.
"""

from __future__ import annotations

import collections
from contextvars import ContextVar
from time import perf_counter
from types import ModuleType
from typing import Any, AsyncIterator, Callable, Deque, Dict, List, Optional

from aicostguard import context
from aicostguard.capture import permit
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook, replace
from aicostguard.capture.state import state
from aicostguard.health import oldest
from aicostguard.metering.claude_code import Results, Sums
from aicostguard.metering.endpoints import Endpoint
from aicostguard.usage import Reading

#: a client connects without a prompt: nothing is asked of the process yet
_idle: ContextVar[bool] = ContextVar("aicostguard_claude_idle", default=False)
#: where a `Query` keeps its run
_RUN = "_aicostguard_run"
_ENDPOINT = Endpoint("anthropic", "claude_code")
MOST_ASKED = 64
#: sessions whose sums are remembered, for when another process goes on with one
MOST_SESSIONS = 1024
_sessions: Dict[str, Sums] = {}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `claude_agent_sdk._internal.query` or `claude_agent_sdk.client`. Raises when a method is not there."""
    if module.__name__.endswith("._internal.query"):
        replace(hook, module.Query, "start", lambda original: _start(original, hook))
        replace(hook, module.Query, "receive_messages", _receive_messages)
        replace(hook, module.Query, "close", _close)
    else:
        replace(hook, module.ClaudeSDKClient, "query", lambda original: _query(original, hook))
        if "connect" in module.ClaudeSDKClient.__dict__:
            replace(hook, module.ClaudeSDKClient, "connect", _connect)


class Run:
    """One process: its results, and who has asked."""

    def __init__(self, hook: Hook, opened: Call, results: Results) -> None:
        self.hook = hook
        self.waiting: List[Call] = []
        self._opened = opened
        self._asked: Deque[Call] = collections.deque(maxlen=MOST_ASKED)
        self._results = results  # the last one: see `__del__`

    def asked(self) -> Optional[Call]:
        """The user sends a prompt."""
        try:
            call = _call(self.hook)
            self._asked.append(call)
            return call
        except Exception as error:
            self.hook.failed("asked", error)
            return None

    def seen(self, message: Any) -> None:
        """A message of the process, before the user sees it."""
        try:
            if type(message) is dict:
                readings = self._results.seen(message)
                if message.get("type") == "result":
                    asked = self._asked.popleft() if self._asked else self._opened
                    self._take(asked, readings, message.get("duration_ms"))
        except Exception as error:
            self._opened.lost("seen", error)

    def left(self) -> None:
        """The process is over."""
        try:
            self._take(self._asked.popleft() if self._asked else self._opened, self._results.left(), None)
        except Exception as error:
            self._opened.lost("left", error)

    async def drain(self) -> None:
        """Deliver what waits, without blocking the loop."""
        calls, self.waiting = self.waiting, []
        try:
            for call in calls:
                await call.drain()
        except Exception as error:
            self._opened.lost("drain", error)

    def __del__(self) -> None:
        if hasattr(self, "_results"):
            self.left()

    def _take(self, call: Call, readings: List[Reading], duration: Any) -> None:
        if not readings:
            return
        if type(duration) is int:
            call.started = perf_counter() - duration / 1000
        call.take(readings)
        if call.outbox:
            self.waiting.append(call)


def _call(hook: Hook) -> Call:
    return Call(hook, _ENDPOINT, context.logical.get(), _no_body, True)


def _no_body() -> Optional[bytes]:
    return None


def _begin(hook: Hook, query: Any) -> Optional[Call]:
    try:
        while len(_sessions) > MOST_SESSIONS:
            _sessions.pop(oldest(_sessions) or "", None)
        options = getattr(query.transport, "_options", None)
        resume = getattr(options, "resume", None)
        resumed = bool(resume or getattr(options, "continue_conversation", False))
        results = Results(_sessions, resumed, resume if isinstance(resume, str) else None)
        call = _call(hook)
        query.__dict__[_RUN] = Run(hook, call, results)
        return call
    except Exception as error:
        hook.failed("begin", error)
        return None


def _ask(hook: Hook, client: Any) -> Optional[Call]:
    try:
        run: Optional[Run] = getattr(getattr(client, "_query", None), _RUN, None)
        return None if run is None else run.asked()
    except Exception as error:
        hook.failed("ask", error)
        return None


def _start(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _begin(hook, self) if hook.on else None
        if call is not None and state.gate is not None and not _idle.get():
            await permit.aask(call)
        return await original(self, *args, **kwargs)

    return start


def _connect(original: Callable[..., Any]) -> Callable[..., Any]:
    async def connect(self: Any, prompt: Any = None, *args: Any, **kwargs: Any) -> Any:
        before = _idle.get()
        _idle.set(prompt is None)
        try:
            return await original(self, prompt, *args, **kwargs)
        finally:
            _idle.set(before)

    return connect


def _query(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    async def query(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _ask(hook, self) if hook.on else None
        if call is not None and state.gate is not None:
            await permit.aask(call)
        return await original(self, *args, **kwargs)

    return query


def _receive_messages(original: Callable[..., Any]) -> Callable[..., Any]:
    async def receive_messages(self: Any) -> AsyncIterator[Any]:
        messages = original(self)
        run: Optional[Run] = self.__dict__.get(_RUN)
        try:
            async for message in messages:
                if run is not None:
                    run.seen(message)
                    if run.waiting:
                        await run.drain()
                yield message
        finally:
            await messages.aclose()

    return receive_messages


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        finally:
            run: Optional[Run] = self.__dict__.get(_RUN)
            if run is not None:
                run.left()
                if run.waiting:
                    await run.drain()

    return close
