"""niquests: ways to read a body and early ends, without and with the agent.

Not collected with the rest: where niquests is installed urllib3-future takes the place of urllib3. `tests/matrix`
runs this file in an environment of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict

import niquests
import pytest

from aicostguard.guard import enforcing
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import CHAT, STREAM, both, both_async, fixed, kind, only, shown
from tests.guard.budgets import CENT, GPT, HI, cap, gate, standing

PATH = "/v1/chat/completions"
#: a stream that is still under way when its first piece has been read
LONG = {"chunks": 400, "delay_ms": 5}
GZIP = pytest.mark.parametrize("encoding", ["identity", "gzip"])


NIQUESTS: Dict[str, Callable[[Any], Any]] = {
    "content": lambda r: [r.content, r.text[:2]],
    "iter_content": lambda r: b"".join(r.iter_content(11)),
    "iter_raw": lambda r: len(b"".join(r.iter_raw(11))) > 100,
    "iter_lines": lambda r: list(r.iter_lines()),
    "raw": lambda r: r.raw.read(decode_content=True),
    "json": lambda r: r.raw.data,
}


@pytest.mark.ids("A1", "A5", "G09")
@GZIP
@pytest.mark.parametrize("way", list(NIQUESTS))
def test_niquests(agent: Agent, way: str, encoding: str) -> None:
    for body in (STREAM, CHAT):
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=11 if body is STREAM else 0))

        def use(body: Any = body) -> Any:
            with niquests.Session() as session:
                response = session.post(agent.url("openai") + PATH, json=body, stream=True)
                return [kind(response), kind(response.raw), shown(NIQUESTS[way](response)), response.status_code]

        both(agent, use)
        agent.balance()
        assert "partial" not in only(agent)


async def n_content(r: Any) -> Any:
    return await r.content


async def n_pieces(r: Any) -> Any:
    return b"".join([piece async for piece in await r.iter_content(11)])


async def n_raw(r: Any) -> Any:
    return len(b"".join([piece async for piece in await r.iter_raw(11)])) > 100


ANIQUESTS: Dict[str, Callable[[Any], Any]] = {"content": n_content, "iter_content": n_pieces, "iter_raw": n_raw}


@pytest.mark.ids("A1", "A5", "G09")
@GZIP
@pytest.mark.parametrize("way", list(ANIQUESTS))
def test_niquests_async(agent: Agent, way: str, encoding: str) -> None:
    agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=11))

    async def use() -> Any:
        async with niquests.AsyncSession() as session:
            response = await session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
            return [kind(response), kind(response.raw), shown(await ANIQUESTS[way](response))]

    both_async(agent, use)
    agent.balance()
    assert "partial" not in only(agent)


@pytest.mark.ids("B10", "A4")
@pytest.mark.parametrize("how", ["close", "cut", "async close"])
def test_niquests_left(agent: Agent, how: str) -> None:
    agent.simulator.set_default(**(fixed(True, cut_after=400) if how == "cut" else LONG))
    if how == "async close":

        async def use() -> None:
            async with niquests.AsyncSession() as session:
                response = await session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
                await (await response.iter_content(5)).__anext__()
                await response.close()
                assert len(agent.receipts) == 1

        asyncio.run(use())
    else:
        with niquests.Session() as session:
            response = session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
            if how == "cut":
                with pytest.raises(niquests.exceptions.RequestException):
                    list(response.iter_content(5))
            else:
                next(response.iter_content(5))
                response.close()
            assert len(agent.receipts) == 1
    assert only(agent)["partial"] is True


@pytest.mark.ids("B1", "G11")
def test_niquests_multiplexed_is_counted_as_unmetered(agent: Agent) -> None:
    with niquests.Session(multiplexed=True, disable_http1=True) as session:  # HTTP/2, to be sent before it is answered
        response = session.post(agent.url("openai") + PATH, json=CHAT)
        assert response.lazy, "looking at it would have waited for its answer"
        session.gather()
        assert response.json()["usage"]
    assert agent.receipts == []
    assert health.counters["unmetered"] == 1


def _cut(agent: Agent) -> Any:
    """A budget that has room for a part of a stream, and the stream's request."""
    gate(cap(CENT))
    agent.simulator.set_default(text="lorem ipsum " * 2000, chunks=200, delay_ms=2, include_usage=True)
    return {"model": GPT, "messages": HI, "stream": True}


def _was_cut(agent: Agent, got: Any) -> None:
    assert len(got) > 0
    receipt = agent.settled(1)[0]
    assert receipt["partial"] is True and receipt["estimated"] is True
    assert [row.complete for row in agent.simulator.billed()] == [False], "the rest was never sent"
    agent.simulator.set_default()


@pytest.mark.ids("ACC:Z3")
@pytest.mark.parametrize("way", ["iter_content", "iter_lines"])
def test_a_stream_without_a_bound_is_cut(agent: Agent, way: str) -> None:
    body = _cut(agent)
    got = []
    try:
        with niquests.Session() as session:
            with pytest.raises(BudgetExceeded, match="Stream cut"):
                response = session.post(agent.url("openai") + PATH, json=body, stream=True)
                for piece in getattr(response, way)():
                    got.append(piece)
        _was_cut(agent, got)
    finally:
        enforcing.stop()


@pytest.mark.ids("ACC:Z3")
def test_an_async_stream_without_a_bound_is_cut(agent: Agent) -> None:
    body = _cut(agent)
    got = []

    async def ask() -> None:
        async with niquests.AsyncSession() as session:
            response = await session.post(agent.url("openai") + PATH, json=body, stream=True)
            async for piece in await response.iter_content(200):
                got.append(piece)

    try:
        with pytest.raises(BudgetExceeded, match="Stream cut"):
            asyncio.run(ask())
        _was_cut(agent, got)
    finally:
        enforcing.stop()


@pytest.mark.ids("A17")
@pytest.mark.parametrize(
    ("event", "way"),
    # An async session leaves its connection open when a hook of its answer raises.
    [*((event, way) for event in ("pre_request", "pre_send") for way in ("sync", "async")), ("response", "sync")],
)
def test_a_hook_that_raises_before_anything_is_sent_holds_nothing(agent: Agent, event: str, way: str) -> None:
    def raises(*_: Any, **__: Any) -> None:
        raise LookupError("the hook's own")

    async def araises(*_: Any, **__: Any) -> None:
        raises()

    def ask() -> None:
        with niquests.Session() as session:
            session.post(agent.url("openai") + PATH, json=CHAT, hooks={event: [raises]})

    async def aask() -> None:
        async with niquests.AsyncSession() as session:
            await session.post(agent.url("openai") + PATH, json=CHAT, hooks={event: [araises]})

    gate(cap(100 * CENT))
    try:
        with pytest.raises(LookupError):
            asyncio.run(aask()) if way == "async" else ask()
        found = standing()
        sent = len(agent.simulator.billed())
        assert sent == (event == "response")
        assert found.reserved == 0
        assert (found.spent > 0) == (event == "response"), "what went out is booked"
    finally:
        enforcing.stop()
