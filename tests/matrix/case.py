"""What a row of the matrix is made of, and the two tables that `families/` fills.

A case is a function that makes one logical call and gives back what its user sees; its modes are `sync`, `async`,
`stream` and `astream`. Imports stand inside the functions, because each case runs in an environment that has its own
library and little else. A new family is a file in `families/`, found by itself.
"""

from __future__ import annotations

import asyncio
import atexit
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

HI: Any = [{"role": "user", "content": "hi"}]
CLAUDE = "claude-sonnet-4-6"
USAGE = {"stream": True, "stream_options": {"include_usage": True}}

#: One event loop for all cases of a process: many libraries keep their connections as long as the process lives, or
#: have no way to close what they opened. It is closed with the process.
LOOP = asyncio.new_event_loop()
atexit.register(LOOP.close)

Url = Callable[[str], str]


class Case(NamedTuple):
    """One function and the modes it serves. `build` makes the client, so that the agent may come after it.

    `imports` is the module that the case's user imports first. `agents` are (agent, parent) as its receipts name them.
    A `silent` one is told no usage by its provider, and its receipt has to say so.
    """

    build: Callable[[Url, str], Any]
    call: Callable[[Any, str], Any]
    modes: Tuple[str, ...]
    imports: str
    agents: Tuple[Tuple[str, str], ...] = ()
    silent: bool = False


class Environment(NamedTuple):
    """One version that is run: `install` are requirements, `cases` names of `CASES`.

    `representative` ones run with every test run: every transport, the oldest and the newest SDKs.
    """

    install: Tuple[str, ...]
    cases: Tuple[str, ...]
    representative: bool


#: what is used, but cannot be measured from inside Python: name → why
UNSEEN = {"raw.pycurl": "its methods belong to a C type and cannot be hooked; what is sent through it is not seen"}

CASES: Dict[str, Case] = {}
ENVIRONMENTS: Dict[str, Environment] = {}
ALL_MODES = ("sync", "async", "stream", "astream")


def case(
    name: str,
    build: Callable[[Url, str], Any],
    modes: Tuple[str, ...] = ALL_MODES,
    imports: str = "",
    agents: Tuple[Tuple[str, str], ...] = (),
    silent: bool = False,
) -> Callable[..., Any]:
    """Register a case; its module is the first part of its name unless `imports` says otherwise."""

    def register(call: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        CASES[name] = Case(build, call, modes, imports or name.split(".")[0], agents, silent)
        return call

    return register


def environment(name: str, install: Tuple[str, ...], cases: Tuple[str, ...], representative: bool = False) -> None:
    """Register an environment."""
    ENVIRONMENTS[name] = Environment(install, cases, representative)


def is_async(mode: str) -> bool:
    return mode.startswith("a")


def drain(stream: Any) -> List[Any]:
    """Every event of a stream, as its user would take it."""
    with stream as events:
        return list(events)


async def adrain(stream: Any) -> List[Any]:
    return [event async for event in stream]


def both(client: Any, mode: str, method: Callable[..., Any], streamed: Dict[str, Any], **given: Any) -> Any:
    """Call a method in one of the four ways and take everything it gives."""
    if mode == "sync":
        return method(**given)
    if mode == "stream":
        return list(method(**given, **streamed))

    async def run() -> Any:
        try:
            result = await method(**given, **(streamed if mode == "astream" else {}))
            return [event async for event in result] if mode == "astream" else result
        finally:
            close = getattr(client, "close", None)
            if close is not None:
                await close()

    return asyncio.run(run())
