"""Google's interactions over a WebSocket: one receipt for each, whoever began it and whichever connection ends it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, List

import pytest

import aicostguard
from tests.agent import Agent
from tests.capture.tools import GEMINI, both_async, only, shown

pytest.importorskip("google.genai")
interactions = pytest.importorskip("google.genai.interactions")
if not hasattr(interactions, "InteractionWebSocketConnection"):
    pytest.skip("this google-genai has no live interactions", allow_module_level=True)

pytestmark = [
    pytest.mark.ids("B16", "A1"),
    pytest.mark.filterwarnings("ignore:.*experimental:UserWarning"),
]


def client_of(agent: Agent) -> Any:
    from google import genai

    return genai.Client(api_key="x", http_options={"base_url": agent.url("google")})


async def until(connection: Any, kind: str) -> List[Any]:
    seen = []
    async for event in connection.receive():
        seen.append(shown(event))
        if event.event_type == kind:
            break
    return seen


def begun(client: Any) -> str:
    return str(client.interactions.create(model=GEMINI, input="hi", background=True).id)


async def joined(client: Any, identifier: str, complete: bool = True) -> List[Any]:
    async with client.aio.interactions.connect(identifier) as connection:
        await connection.send("hi")
        seen = await until(connection, "step.stop")
        if complete:
            await connection.complete()
            seen += await until(connection, "interaction.completed")
    return seen


def test_one_that_was_begun_here(agent: Agent) -> None:
    """Its messages name no model: the request that began it did. A poll afterwards bills nothing."""

    async def conversation() -> Any:
        client = client_of(agent)
        identifier = begun(client)
        with aicostguard.labels(user="ada"):
            seen = await joined(client, identifier)
        client.interactions.get(identifier)
        return seen

    both_async(agent, conversation)
    agent.balance()
    receipt = only(agent)
    told = [receipt.get(key) for key in ("model", "operation", "user", "streamed", "partial", "usage_missing")]
    assert told == [GEMINI, "realtime", "ada", True, None, None]
    assert receipt["feature"] == "joined"


def test_one_that_was_left_is_billed_by_the_connection_that_ends_it(agent: Agent) -> None:
    async def conversation() -> None:
        client = client_of(agent)
        identifier = begun(client)
        await joined(client, identifier, complete=False)
        assert agent.settled(0) == []
        await joined(client, identifier)

    asyncio.run(conversation())
    agent.balance()
    assert only(agent)["model"] == GEMINI


def test_one_that_was_left_is_billed_by_a_poll(agent: Agent) -> None:
    async def conversation() -> None:
        client = client_of(agent)
        identifier = begun(client)
        await joined(client, identifier, complete=False)
        for _ in range(3):
            client.interactions.get(identifier)

    asyncio.run(conversation())
    agent.balance()
    assert only(agent)["model"] == GEMINI


def test_one_that_the_socket_begins(agent: Agent) -> None:
    """Without an SDK, and with its events in batches."""
    from websockets.sync.client import connect

    def batch(*events: Any) -> str:
        return json.dumps({"events": list(events)})

    with connect(agent.url("google").replace("http", "ws", 1) + "/v1beta/interactions/live") as socket:
        start = {"event_type": "interaction.create", "model": GEMINI}
        socket.send(batch(start, {"event_type": "input", "content": [{"type": "text", "text": "hi"}]}))
        while json.loads(socket.recv())["event_type"] != "step.stop":
            pass
        socket.send(json.dumps({"event_type": "interaction.complete"}))
        assert json.loads(socket.recv())["event_type"] == "interaction.completed"
    agent.balance()
    assert only(agent)["feature"] == "test_one_that_the_socket_begins"
