"""Asking for usage cannot break a call: whatever of it fails, the caller has its stream.

The same injection as in `test_safety_cannot_break_calls.py`, with `AICG_STREAM_USAGE=request`. One difference is
allowed: where the fault keeps us from hiding what we asked for, the caller finds it; no other byte may differ.
"""

from __future__ import annotations

import asyncio
import json
import re
from types import CodeType
from typing import Any, Callable, Dict, Iterator, List, Set

import pytest

from aicostguard.capture import asking, hooks
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.safety import inject
from tests.safety.inject import Planted
from tests.safety.test_safety_cannot_break_calls import has_turn

BODY: Dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
OURS = re.compile(r"asking\.py|metering/ask\.py|:_(question|shown|given|shown_whole)\Z")


def by_httpx(url: str) -> bytes:
    with pytest.importorskip("httpx").stream("POST", url, json=BODY) as response:
        return b"".join(response.iter_bytes())


def by_httpx_at_once(url: str) -> bytes:
    return bytes(pytest.importorskip("httpx").post(url, json=BODY).content)


def by_async_httpx(url: str) -> bytes:
    httpx = pytest.importorskip("httpx")

    async def run() -> bytes:
        async with httpx.AsyncClient() as client, client.stream("POST", url, json=BODY) as response:
            return b"".join([piece async for piece in response.aiter_raw()])

    return asyncio.run(run())


def by_requests(url: str) -> bytes:
    with pytest.importorskip("requests").post(url, json=BODY, stream=True) as response:
        return b"".join(response.iter_content(50))


def by_requests_raw(url: str) -> bytes:
    with pytest.importorskip("requests").post(url, json=BODY, stream=True) as response:
        return b"".join(iter(lambda: response.raw.read(40), b""))


def by_aiohttp(url: str) -> bytes:
    aiohttp = pytest.importorskip("aiohttp")

    async def run() -> bytes:
        async with aiohttp.ClientSession() as session, session.post(url, json=BODY) as response:
            return bytes(await response.read())

    return asyncio.run(run())


WAYS: List[Callable[[str], bytes]] = [
    by_httpx, by_httpx_at_once, by_async_httpx, by_requests, by_requests_raw, by_aiohttp,
]  # fmt: skip


def texts(stream: bytes) -> List[Any]:
    """What the caller reads of a stream: the chunks that have choices, without ids, times and usage."""
    assert stream.endswith(b"data: [DONE]\n\n"), stream[-80:]
    chunks = [json.loads(block[6:]) for block in stream.split(b"\n\n") if block and block != b"data: [DONE]"]
    return [chunk["choices"] for chunk in chunks if chunk["choices"]]


@pytest.fixture
def asks(simulator: Simulator, as_in_production: None) -> Iterator[Agent]:
    health.reset()
    made = Agent(simulator)
    made.on()
    state.ask = True
    yield made
    made.off()
    health.reset()


def forget() -> None:
    asking._hosts.clear()
    for hook in hooks._hooks.values():
        hook.on, hook.failures = True, 0
    health.reset()
    Planted.raised = 0


@pytest.mark.ids("A8", "A15", "A22")
@pytest.mark.parametrize("way", WAYS)
def test_a_fault_in_any_function_leaves_the_stream_whole(asks: Agent, way: Callable[[str], bytes]) -> None:
    url = asks.url("openai") + "/v1/chat/completions"
    forget()
    way(url)
    forget()
    whole, reached = inject.reached(lambda: way(url))
    wanted = texts(whole)
    codes: Set[CodeType] = {code for code in reached if OURS.search(inject.name_of(code)) and has_turn(code)}
    assert len(codes) >= 8
    functions, broken = inject.functions(), []
    for code in sorted(codes, key=inject.name_of):
        forget()
        with inject.planted(code, functions):
            try:
                got: Any = texts(way(url))
            except Exception as error:
                got = repr(error)
        if got != wanted:
            broken.append("%s: %s" % (inject.name_of(code), str(got)[:200]))
        elif Planted.raised and not (health.counters["faults"] or health.counters["unmetered"]):
            broken.append("%s: not counted" % inject.name_of(code))
    assert broken == []
