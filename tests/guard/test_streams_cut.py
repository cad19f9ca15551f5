"""A stream whose most nobody knows is cut when it has cost what there is room for; one whose most is known never is."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from aicostguard.capture.state import state
from aicostguard.config import load
from aicostguard.guard import enforcing
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Policy
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.guard.budgets import CENT, GPT, HI, cap, gate, standing
from tests.safety.calls import Clients

#: what one event of these streams says: 100 bytes, about 25 tokens of gpt-4o at 10,000 nano-dollars each
TEXT = "lorem ipsum " * 2000
CHUNKS = 200


@pytest.fixture(autouse=True)
def no_gate() -> Any:
    """No gate after a test."""
    from aicostguard.guard import enforcing

    yield
    enforcing.stop()


def request(simulator: Simulator) -> Tuple[str, bytes, Dict[str, str]]:
    body = {"model": GPT, "messages": HI, "stream": True}
    return (
        simulator.base_url("openai") + "/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer x"},
    )


def by_openai(clients: Clients, got: List[Any]) -> None:
    for event in clients["openai"].chat.completions.create(model=GPT, messages=HI, stream=True):
        got.append(event)


def by_openai_async(clients: Clients, got: List[Any]) -> None:
    async def ask() -> None:
        async for event in await clients["openai async"].chat.completions.create(model=GPT, messages=HI, stream=True):
            got.append(event)

    clients.run(ask())


def by_httpx(clients: Clients, got: List[Any]) -> None:
    url, body, headers = request(clients.simulator)
    with clients["httpx"].stream("POST", url, content=body, headers=headers) as response:
        got.extend(response.iter_lines())


def by_httpx_raw(clients: Clients, got: List[Any]) -> None:
    url, body, headers = request(clients.simulator)
    with clients["httpx"].stream("POST", url, content=body, headers=headers) as response:
        for piece in response.iter_raw():
            got.append(piece)


def by_requests(clients: Clients, got: List[Any]) -> None:
    url, body, headers = request(clients.simulator)
    with clients["requests"].post(url, data=body, headers=headers, stream=True) as response:
        for line in response.iter_lines():
            got.append(line)


def by_urllib3(clients: Clients, got: List[Any]) -> None:
    url, body, headers = request(clients.simulator)
    response = clients["urllib3"].request("POST", url, body=body, headers=headers, preload_content=False)
    try:
        for piece in response.stream(200):
            got.append(piece)
    finally:
        response.close()


def by_aiohttp(clients: Clients, got: List[Any]) -> None:
    url, body, headers = request(clients.simulator)

    async def ask() -> None:
        async with clients["aiohttp"].post(url, data=body, headers=headers) as response:
            async for line in response.content:
                got.append(line)

    clients.run(ask())


def by_urllib(clients: Clients, got: List[Any]) -> None:
    import urllib.request

    url, body, headers = request(clients.simulator)
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as response:
        for line in response:
            got.append(line)


def by_curl_cffi(clients: Clients, got: List[Any]) -> None:
    url, body, headers = request(clients.simulator)
    response = clients["curl_cffi"].post(url, data=body, headers=headers, stream=True)
    try:
        for piece in response.iter_content():
            got.append(piece)
    finally:
        response.close()


def by_curl_cffi_async(clients: Clients, got: List[Any]) -> None:
    from curl_cffi import requests

    url, body, headers = request(clients.simulator)

    async def ask() -> None:
        async with requests.AsyncSession() as session:
            response = await session.post(url, data=body, headers=headers, stream=True)
            try:
                async for piece in response.aiter_content():
                    got.append(piece)
            finally:
                await response.aclose()

    clients.run(ask())


def _lm15(clients: Clients) -> Any:
    from lm15.transports import TransportRequest

    url, body, headers = request(clients.simulator)
    return TransportRequest("POST", url, list(headers.items()), body)


def by_lm15(clients: Clients, got: List[Any]) -> None:
    with clients["lm15"].stream(_lm15(clients)) as response:
        for line in response.iter_lines():
            got.append(line)


def by_lm15_async(clients: Clients, got: List[Any]) -> None:
    async def ask() -> None:
        async with clients["lm15 async"].stream(_lm15(clients)) as response:
            async for line in response.aiter_lines():
                got.append(line)

    clients.run(ask())


WAYS: Dict[str, Callable[[Clients, List[Any]], None]] = {
    name[3:]: way for name, way in globals().items() if name.startswith("by_")
}
#: not everywhere: on some interpreters there is none of it
EXTRAS = ("curl_cffi", "lm15")
#: take the bytes as they come
UNDECODED = ("httpx_raw", "urllib", "lm15", "lm15_async")
WAYS = {
    name: way
    for name, way in WAYS.items()
    if all(not name.startswith(extra) or importlib.util.find_spec(extra) is not None for extra in EXTRAS)
}


@pytest.mark.ids("ACC:Z3")
@pytest.mark.parametrize(
    "way, encoding",
    [(way, encoding) for way in WAYS for encoding in ("identity", "gzip")
     if encoding == "identity" or way not in UNDECODED],
)  # fmt: skip
def test_a_stream_without_a_bound_is_cut_at_the_socket(
    way: str, encoding: str, agent: Agent, clients: Clients, simulator: Simulator
) -> None:
    made = gate(cap(CENT))  # room for about 1,000 tokens; what is to come are 6,000
    simulator.set_default(text=TEXT, chunks=CHUNKS, delay_ms=2, encoding=encoding, include_usage=True)
    made.guard.ask(made._facts(_known(agent, simulator))[0])  # most of it is held by another call
    got: List[Any] = []
    with pytest.raises(BudgetExceeded, match="Stream cut") as caught:
        WAYS[way](clients, got)
    assert type(caught.value) is BudgetExceeded and caught.value.dimension == "stream"
    assert len(got) > 0
    assert caught.value.limit is not None and (caught.value.estimate or 0) > caught.value.limit
    del caught
    gc.collect()
    receipt = agent.settled(1)[0]
    assert receipt["partial"] is True and receipt["estimated"] is True
    assert [row.complete for row in simulator.billed()] == [False], "the rest was never sent"
    simulator.set_default()


@pytest.mark.ids("ACC:Z3", "ACC:B41")
def test_the_audit_trail_says_that_a_stream_was_cut(
    agent: Agent, clients: Clients, simulator: Simulator, tmp_path: Path
) -> None:
    trail = tmp_path / "trail.jsonl"
    made = gate(cap(CENT), audit=str(trail))
    simulator.set_default(text=TEXT, chunks=CHUNKS, delay_ms=2)
    made.guard.ask(made._facts(_known(agent, simulator))[0])
    with pytest.raises(BudgetExceeded, match="Stream cut"):
        by_httpx(clients, [])
    simulator.set_default()
    agent.settled(1)
    entries = [json.loads(line) for line in trail.read_text(encoding="utf-8").splitlines()]
    (cut,) = [entry for entry in entries if entry["event"] == "cut"]
    (allowed,) = [entry for entry in entries if entry["event"] != "cut" and entry.get("id") == cut["id"]][:1]
    assert allowed["event"] == "allowed" and cut["reasons"][0].startswith("Stream cut: what has come of it is about $")
    assert (cut["dimension"], cut["unit"]) == ("stream", "nanousd") and cut["estimate"] > cut["limit"]


def _known(agent: Agent, simulator: Simulator) -> Any:
    """A call that holds most of a cent: 700 tokens of output and what they are asked with."""
    from aicostguard.metering import Endpoint

    class Call:
        endpoint = Endpoint("openai", "chat")
        labels: Any = {}
        feature = None

        @staticmethod
        def body() -> bytes:
            return json.dumps({"model": GPT, "messages": HI, "max_tokens": 700}).encode()

    return Call


@pytest.mark.ids("ACC:Z3")
@pytest.mark.parametrize("way", ["openai", "openai async", "aiohttp"])
def test_a_stream_that_has_room_goes_on_and_holds_more(
    way: str, agent: Agent, clients: Clients, simulator: Simulator
) -> None:
    gate(cap(100 * CENT))
    simulator.set_default(text=TEXT, chunks=CHUNKS, include_usage=True)
    got: List[Any] = []
    WAYS[way.replace(" ", "_")](clients, got)
    assert len(got) > CHUNKS
    assert standing().reserved == 0


@pytest.mark.ids("ACC:Z3")
@pytest.mark.parametrize("mode", ["known", "warn"])
def test_what_is_never_cut(mode: str, agent: Agent, clients: Clients, simulator: Simulator) -> None:
    """A call whose most is known, though it gives more than it was asked for; and a budget that does not block."""
    gate(cap(CENT if mode == "known" else 1000, on_exceed="block" if mode == "known" else "warn"))
    simulator.set_default(text=TEXT, chunks=CHUNKS, include_usage=True)
    more: Any = {"max_tokens": 500} if mode == "known" else {}
    events = list(clients["openai"].chat.completions.create(model=GPT, messages=HI, stream=True, **more))
    assert len(events) > CHUNKS
    assert state.gate is not None
    asyncio.run(asyncio.sleep(0))


class Slow(MemoryStore):
    """A store that waits, and notes who waits for what."""

    waits = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: List[Tuple[str, int, bool]] = []

    def reserve(self, *args: Any, wait: bool = True) -> Any:
        self.seen.append(("reserve", threading.get_ident(), wait))
        return super().reserve(*args)

    def grow(self, *args: Any, wait: bool = True) -> bool:
        self.seen.append(("grow", threading.get_ident(), wait))
        return super().grow(*args)


@pytest.mark.ids("ACC:Z3", "A6")
@pytest.mark.parametrize("room", ["enough", "too little"])
@pytest.mark.parametrize("way", ["openai_async", "aiohttp"])
def test_a_loop_never_waits_for_the_store_while_a_stream_grows(
    way: str, room: str, agent: Agent, clients: Clients, simulator: Simulator
) -> None:
    store = Slow()
    enforcing.start(Policy(budgets=(cap(100 * CENT if room == "enough" else CENT),)), load({}), store)
    simulator.set_default(text=TEXT, chunks=CHUNKS, delay_ms=2, include_usage=True)
    got: List[Any] = []
    if room == "enough":
        WAYS[way](clients, got)
        assert len(got) > CHUNKS
    else:
        with pytest.raises(BudgetExceeded, match="Stream cut"):
            WAYS[way](clients, got)
        agent.settled(1)
    assert standing().reserved == 0
    assert {what for what, _, _ in store.seen} == {"reserve", "grow"}
    assert all(not wait or thread != threading.get_ident() for _, thread, wait in store.seen), store.seen
    simulator.set_default()


@pytest.mark.ids("ACC:Z3")
def test_a_thread_waits_for_its_answer(agent: Agent, clients: Clients, simulator: Simulator) -> None:
    """Where no loop runs nobody else is held up, and no event more than there is room for is let through."""
    store = Slow()
    enforcing.start(Policy(budgets=(cap(CENT),)), load({}), store)
    simulator.set_default(text=TEXT, chunks=CHUNKS, delay_ms=2)
    with pytest.raises(BudgetExceeded, match="Stream cut"):
        by_httpx(clients, [])
    assert {thread for what, thread, _ in store.seen if what == "grow"} == {threading.get_ident()}
    simulator.set_default()
