"""Test doubles in a transport's place: cassettes, which a provider answered once, and mocks, which are taken for one.

Whatever the order in which a double and the agent come and go, the program sees what it sees without us.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import CHAT, HI, STREAM, WHOLE
from tests.guard.budgets import CENT, cap, gate, standing

# Before the agent is on: it keeps the methods that it replaces as they were then.
vcr = pytest.importorskip("vcr")

PATH = "/v1/chat/completions"
REAL = "http://api.openai.com" + PATH


def with_httpx(module: Any) -> Callable[[str], Any]:
    def use(url: str) -> Any:
        with module.Client() as client:
            with client.stream("POST", url, json=STREAM) as response:
                streamed = response.read()
            return streamed, client.post(url, json=CHAT).content

    return use


def with_async_httpx(module: Any) -> Callable[[str], Any]:
    async def use(url: str) -> Any:
        async with module.AsyncClient() as client:
            async with client.stream("POST", url, json=STREAM) as response:
                streamed = await response.aread()
            return streamed, (await client.post(url, json=CHAT)).content

    return lambda url: asyncio.run(use(url))


def with_requests(module: Any) -> Callable[[str], Any]:
    def use(url: str) -> Any:
        with module.post(url, json=STREAM, stream=True) as response:
            streamed = b"".join(response.iter_content(11))
        return streamed, module.post(url, json=CHAT).content

    return use


def with_urllib3(module: Any) -> Callable[[str], Any]:
    def use(url: str) -> Any:
        with module.PoolManager() as pool:
            streamed = pool.request("POST", url, json=STREAM, preload_content=False)
            return b"".join(streamed.stream(64)), pool.request("POST", url, json=CHAT).data

    return use


def with_aiohttp(module: Any) -> Callable[[str], Any]:
    async def use(url: str) -> Any:
        async with module.ClientSession() as session:
            async with session.post(url, json=STREAM) as response:
                streamed = await response.read()
            async with session.post(url, json=CHAT) as response:
                return streamed, await response.read()

    return lambda url: asyncio.run(use(url))


def with_openai(module: Any) -> Callable[[str], Any]:
    def use(url: str) -> Any:
        with module.OpenAI(base_url=url[: -len("/chat/completions")], api_key="x") as client:
            pieces = [piece.model_dump() for piece in client.chat.completions.create(**STREAM)]
            return pieces, client.chat.completions.create(model="gpt-4o", messages=HI).model_dump()

    return use


WAYS = {
    "httpx": with_httpx,
    "httpx2": with_httpx,
    "httpx async": with_async_httpx,
    "httpx2 async": with_async_httpx,
    "requests": with_requests,
    "urllib3": with_urllib3,
    "aiohttp": with_aiohttp,
    "openai": with_openai,
}


def way(name: str) -> Callable[[str], Any]:
    return WAYS[name](pytest.importorskip(name.split()[0]))


@pytest.mark.ids("B2", "A17")
@pytest.mark.parametrize("name", list(WAYS))
def test_a_cassette(agent: Agent, tmp_path: Path, name: str) -> None:
    """Recorded: billed, and counted. Played: neither, and the program gets the same."""
    use, url = way(name), agent.url("openai") + PATH
    with vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode="once"):
        recorded = use(url)
    assert len(agent.simulator.billed()) == 2
    agent.balance()
    for _ in range(2):
        with vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode="none"):
            assert use(url) == recorded
    agent.balance()
    assert health.counters["unmetered"] == 0
    # Above aiohttp it plays before a call begins.
    assert health.notes == ({} if name == "aiohttp" else {"replayed": 4})


@pytest.mark.ids("A17")
@pytest.mark.parametrize("name", list(WAYS))
def test_a_cassette_that_was_there_first(agent: Agent, tmp_path: Path, name: str) -> None:
    """The agent comes and goes while a cassette is in force: the program is left as it was, and the next is counted."""
    use, url = way(name), agent.url("openai") + PATH
    agent.off()
    with vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode="once"):
        recorded = use(url)
    with vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode="none"):
        agent.on()
        assert use(url) == recorded
        agent.off()
    agent.simulator.reset_count()
    agent.receipts.clear()
    agent.on()
    use(url)
    assert len(agent.settled(2)) == 2
    agent.balance()


@pytest.mark.ids("B2")
def test_what_is_played_keeps_no_budget(agent: Agent, tmp_path: Path) -> None:
    use, url = way("openai"), agent.url("openai") + PATH
    gate(cap(100 * CENT))
    with vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode="once"):
        use(url)
    spent = standing().spent
    with vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode="none"):
        use(url)
    assert standing().spent == spent > 0


@contextmanager
def mock_responses() -> Iterator[None]:
    module = pytest.importorskip("responses")
    with module.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.add(module.POST, REAL, body=WHOLE, content_type="application/json")
        yield


@contextmanager
def mock_requests() -> Iterator[None]:
    with pytest.importorskip("requests_mock").Mocker(real_http=True) as mock:
        mock.post(REAL, content=WHOLE, headers={"content-type": "application/json"})
        yield


@contextmanager
def mock_respx() -> Iterator[None]:
    with pytest.importorskip("respx").mock(assert_all_called=False) as mock:
        mock.post(REAL).respond(json=json.loads(WHOLE))
        yield


#: the mock, the library in whose place it stands, and how many of its two answers are counted when it comes after us:
#: requests_mock stands above us then
MOCKS = {
    "responses": (mock_responses, "requests", 2),
    "requests_mock": (mock_requests, "requests", 0),
    "respx": (mock_respx, "httpx", 2),
}


@pytest.mark.ids("A17")
@pytest.mark.parametrize("first", ["agent", "mock", "mock, which goes last"])
@pytest.mark.parametrize("name", list(MOCKS))
def test_mocks_in_any_order(agent: Agent, name: str, first: str) -> None:
    """A mock's answers are what they were. They are counted where we stand above it: nothing tells them apart."""
    make, library, above = MOCKS[name]
    use = way(library)
    agent.off()
    with make():
        expected = use(REAL)
    with ExitStack() as stack:
        if first == "agent":
            agent.on()
            stack.enter_context(make())
        else:
            stack.enter_context(make())
            agent.on()
        seen = use(REAL)
        counted = len(agent.receipts)
        if first != "mock":
            agent.off()
    assert seen == expected
    assert counted == (above if first == "agent" else 2)
    agent.off()
    agent.receipts.clear()
    agent.on()
    use(agent.url("openai") + PATH)
    assert len(agent.settled(2)) == 2
    agent.balance()
