"""The Claude Agent SDK's entry, against a stand-in for its program. The program itself: `scripts/matrix claude`."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, List

import pytest

import aicostguard
from aicostguard.capture.state import state
from tests import claude
from tests.agent import Agent
from tests.capture.tools import both, only
from tests.claude import Query, assistant, result, sums

#: whichever is installed: only the stand-in can be given its messages
claude.stand_in()
import claude_agent_sdk._internal.query as home  # noqa: E402

pytestmark = pytest.mark.skipif(home.Query is not Query, reason="claude-agent-sdk is installed; scripts/matrix runs it")

MESSAGES = [{"type": "system"}, assistant(), result(claude_sonnet_4_6=sums(10, 20, 5, cost=0.25))]


async def taken(query: Query) -> List[Any]:
    await query.start()
    try:
        return [message async for message in query.receive_messages()]
    finally:
        await query.close()


@pytest.mark.ids("B9", "A1")
def test_one_receipt_from_the_result(agent: Agent) -> None:
    def ask() -> Any:
        return asyncio.run(taken(Query(MESSAGES)))

    both(agent, ask)
    receipt = only(agent)
    assert receipt == {
        "provider": "anthropic",
        "model": "claude-sonnet-4-6",
        "input_tokens": 15,
        "output_tokens": 20,
        "cache_read_input_tokens": 5,
        "reported_cost_nanousd": 250_000_000,
        "latency_ms": receipt["latency_ms"],
        "feature": "taken",
    }
    assert 120 <= receipt["latency_ms"] < 1000


@pytest.mark.ids("B17")
def test_each_turn_belongs_to_whoever_sent_it(agent: Agent) -> None:
    query = Query([assistant(), result(a=sums(10, 20)), assistant(), result(a=sums(30, 60), b=sums(1, 1))])

    async def first(client: Any) -> None:
        await client.query("one")

    async def second(client: Any) -> None:
        with aicostguard.labels(user="ada"):
            await client.query("two")

    async def talk() -> None:
        await query.start()
        client = claude.ClaudeSDKClient(query)
        for turn in (first, second):
            await turn(client)
            assert [message["type"] async for message in client.receive_response()] == ["assistant", "result"]
        await query.close()

    asyncio.run(talk())
    rows = [(r["feature"], r.get("user"), r["model"], r["input_tokens"]) for r in agent.settled(3)]
    assert rows == [("first", None, "a", 10), ("second", "ada", "a", 20), ("second", "ada", "b", 1)]


@pytest.mark.ids("B10")
@pytest.mark.parametrize("how", ["close", "collect"])
def test_a_process_that_is_ended_in_a_turn(how: str, agent: Agent) -> None:
    async def talk() -> None:
        query = Query(MESSAGES)
        await query.start()
        messages = query.receive_messages()
        await messages.__anext__()
        await messages.__anext__()
        await messages.aclose()
        if how == "close":
            await query.close()

    asyncio.run(talk())
    gc.collect()
    receipt = only(agent)
    assert (receipt["partial"], receipt["usage_missing"], receipt["model"]) == (True, True, "claude-sonnet-4-6")


@pytest.mark.ids("B3")
def test_a_resumed_session_is_billed_once(agent: Agent) -> None:
    asyncio.run(taken(Query([result("again", a=sums(10, 20))])))
    asyncio.run(taken(Query([result("again", a=sums(15, 50))], resume="again")))
    asyncio.run(taken(Query([result("again", a=sums(16, 51))], goes_on=True)))
    assert [(r["input_tokens"], r["output_tokens"]) for r in agent.settled(3)] == [(10, 20), (5, 30), (1, 1)]


@pytest.mark.ids("A1")
def test_receipts_are_awaited(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: List[Any] = []

    async def adeliver(receipts: Any) -> None:
        await asyncio.sleep(0)
        awaited.extend(receipts)

    monkeypatch.setattr(state, "adeliver", adeliver)
    monkeypatch.setattr(state, "inline", True)
    asyncio.run(taken(Query(MESSAGES)))
    assert len(awaited) == 1
    assert agent.receipts == []
