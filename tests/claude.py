"""A stand-in for claude-agent-sdk, whose package holds a program of several hundred megabytes.

Owns `stand_in`: the two classes that the entry hooks, shaped as in version 0.2, and in place of the program a list of
the messages it sends. The package itself, with the program, is run by `scripts/matrix claude`.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, AsyncIterator, Dict, List, Optional

NAMES = ("claude_agent_sdk", "claude_agent_sdk._version", "claude_agent_sdk._internal",
         "claude_agent_sdk._internal.query", "claude_agent_sdk.client")  # fmt: skip


class Query:
    """The messages of one process. `transport` holds the options it was started with."""

    def __init__(self, messages: List[Dict[str, Any]], resume: Optional[str] = None, goes_on: bool = False) -> None:
        self.transport = SimpleNamespace(_options=SimpleNamespace(resume=resume, continue_conversation=goes_on))
        self._messages = list(messages)

    async def start(self) -> None:
        """Start the process."""

    async def receive_messages(self) -> AsyncIterator[Dict[str, Any]]:
        """What the process sends."""
        while self._messages:
            yield self._messages.pop(0)

    async def close(self) -> None:
        """End the process."""


class ClaudeSDKClient:
    """A client of several turns."""

    def __init__(self, query: Query) -> None:
        self._query = query

    async def query(self, prompt: str) -> None:
        """Send a prompt."""

    async def receive_response(self) -> AsyncIterator[Dict[str, Any]]:
        """What comes up to and with the next result."""
        async for message in self._query.receive_messages():
            yield message
            if message.get("type") == "result":
                return


def stand_in() -> None:
    """Put the stand-in where the package would be, unless it is installed."""
    if NAMES[0] in sys.modules or importlib.util.find_spec(NAMES[0]) is not None:
        return
    for name in NAMES:
        sys.modules[name] = ModuleType(name)
    sys.modules[NAMES[1]].__dict__["__version__"] = "0.2.187"
    sys.modules[NAMES[3]].__dict__["Query"] = Query
    sys.modules[NAMES[4]].__dict__["ClaudeSDKClient"] = ClaudeSDKClient


def assistant(model: str = "claude-sonnet-4-6") -> Dict[str, Any]:
    """An answer; its usage is that of its start."""
    return {"type": "assistant", "message": {"model": model, "usage": {"input_tokens": 5, "output_tokens": 1}}}


def result(session: str = "s", **models: Any) -> Dict[str, Any]:
    """A result, with the sums of each model and the usage of the turn."""
    turn = models.pop("turn", None)
    rows = {name.replace("_", "-"): row for name, row in models.items()}
    return {"type": "result", "session_id": session, "duration_ms": 120, "usage": turn, "modelUsage": rows or None}


def sums(given: int, output: int, read: int = 0, written: int = 0, cost: Any = None, **more: Any) -> Dict[str, Any]:
    """One model's sums."""
    row = {"inputTokens": given, "outputTokens": output, "cacheReadInputTokens": read}
    return {**row, "cacheCreationInputTokens": written, "costUSD": cost, "provider": "firstParty", **more}
