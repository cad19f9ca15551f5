"""What a client runs of its user's own around its send (hooks, signing in, traces): what that asks is its own call."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, List

import pytest

from tests.agent import Agent
from tests.capture.tools import CHAT, STREAM
from tests.guard.budgets import CENT, cap, gate, standing

LIBRARIES = ("httpx", "httpx2")
KINDS = ("request", "response")
PATH = "/v1/chat/completions"


def library(name: str) -> Any:
    return pytest.importorskip(name)


def billed(agent: Agent, times: int) -> None:
    """One receipt for each of so many answers, and no call is thought to be inside another afterwards."""
    from aicostguard import context

    assert len(agent.simulator.billed()) == times
    agent.balance()
    assert not context.inside.get() and context.aside.get() is None


@pytest.mark.ids("A17", "B1")
@pytest.mark.parametrize("name", LIBRARIES)
def test_hooks_and_signing_in(agent: Agent, name: str) -> None:
    """Also with a client above another, whose own call stays silent, and with hooks on the one beneath."""
    module, url = library(name), agent.url("openai") + PATH

    with module.Client() as other:

        def asks(_: Any) -> None:
            other.post(url, json=CHAT)

        class Signs(module.Auth):  # type: ignore[name-defined, misc]
            def auth_flow(self, request: Any) -> Any:
                asks(request)
                yield request

        class Relay(module.BaseTransport):  # type: ignore[name-defined, misc]
            def handle_request(self, request: Any) -> Any:
                with module.Client(event_hooks={"request": [lambda request: None]}) as inner:
                    answer = inner.request(request.method, request.url, content=request.read())
                return module.Response(answer.status_code, headers=answer.headers, content=answer.content)

        for more in (*({"event_hooks": {kind: [asks]}} for kind in KINDS), {"auth": Signs()}):
            with module.Client(**more) as client:
                client.post(url, json=CHAT)
            with module.Client(transport=Relay(), **more) as client:
                client.post(url, json=CHAT)
        with module.Client() as client:
            client.post(url, json=CHAT, auth=Signs())
    billed(agent, 14)


async def hooked(module: Any, url: str, asks: Any) -> None:
    for kind in KINDS:
        async with module.AsyncClient(event_hooks={kind: [asks]}) as client:
            await client.post(url, json=CHAT)
            async with client.stream("POST", url, json=STREAM) as response:
                await response.aread()


@pytest.mark.ids("A17", "B1", "B17")
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("while_sending", [False, True])
def test_a_task_that_a_hook_begins(agent: Agent, name: str, while_sending: bool) -> None:
    """What it asks is counted, whether the client that ran the hook has its answer by then or not."""
    module, url = library(name), agent.url("openai") + PATH
    tasks: List[Any] = []

    async def use() -> None:
        async with module.AsyncClient() as other:

            async def work() -> None:
                await other.post(url, json=CHAT)

            async def asks(_: Any) -> None:
                tasks.append(asyncio.ensure_future(work()))
                if while_sending:
                    await tasks[-1]

            await hooked(module, url, asks)
            await asyncio.gather(*tasks)

    asyncio.run(use())
    billed(agent, 8)


@pytest.mark.ids("A12", "B10")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_task_that_lasts_keeps_no_call(agent: Agent, name: str) -> None:
    """A hook has begun it: its context must not hold the call, nor with it the request, when its stream is left."""
    from aicostguard import context

    module, url = library(name), agent.url("openai") + PATH

    async def use() -> None:
        calls: List[Any] = []
        tasks: List[Any] = []

        async def begins(_: Any) -> None:
            calls.append(weakref.ref(context.aside.get().call))
            tasks.append(asyncio.ensure_future(asyncio.sleep(60)))

        async with module.AsyncClient(event_hooks={"request": [begins]}) as client:
            async with client.stream("POST", url, json=STREAM):
                pass
            gc.collect()
            assert [call() for call in calls] == [None] and not tasks[0].done()
        tasks[0].cancel()

    asyncio.run(use())
    assert len(agent.receipts) == 1


def traced(aiohttp: Any, signal: str, hook: Any) -> Any:
    """A session that calls `hook` then."""
    trace = aiohttp.TraceConfig()
    getattr(trace, signal).append(hook)
    return aiohttp.ClientSession(trace_configs=[trace])


@pytest.mark.ids("A17", "B1", "B17")
def test_traces_of_aiohttp(agent: Agent) -> None:
    """They ask at once, and in a task."""
    aiohttp, url = library("aiohttp"), agent.url("openai") + PATH

    async def use() -> None:
        tasks: List[Any] = []
        async with aiohttp.ClientSession() as other:

            async def work() -> None:
                async with other.post(url, json=CHAT) as response:
                    await response.read()

            async def asks(*_: Any) -> None:
                await work()
                tasks.append(asyncio.ensure_future(work()))

            for signal in ("on_request_start", "on_connection_create_end", "on_request_end"):
                async with traced(aiohttp, signal, asks) as session, session.post(url, json=CHAT) as response:
                    await response.read()
            await asyncio.gather(*tasks)

    asyncio.run(use())
    billed(agent, 9)


@pytest.mark.ids("A17")
@pytest.mark.parametrize("signal", ["on_request_start", "on_connection_create_start"])
def test_a_trace_that_raises_before_anything_is_sent_holds_nothing(agent: Agent, signal: str) -> None:
    aiohttp, url = library("aiohttp"), agent.url("openai") + PATH

    async def raises(*_: Any) -> None:
        raise LookupError("the trace's own")

    async def use() -> None:
        async with traced(aiohttp, signal, raises) as session:
            with pytest.raises(LookupError):
                await session.post(url, json=CHAT)

    gate(cap(100 * CENT))
    asyncio.run(use())
    found = standing()
    assert (found.spent, found.reserved, agent.receipts) == (0, 0, [])


@pytest.mark.ids("A17")
def test_a_trace_that_raises_later_books_what_was_held(agent: Agent) -> None:
    """The provider has the request by then."""
    aiohttp, url = library("aiohttp"), agent.url("openai") + PATH

    async def raises(*_: Any) -> None:
        raise LookupError("the trace's own")

    async def use() -> None:
        async with traced(aiohttp, "on_request_end", raises) as session:
            with pytest.raises(LookupError):
                await session.post(url, json=CHAT)

    gate(cap(100 * CENT))
    asyncio.run(use())
    assert standing().spent > 0
