"""The current SDKs, sync, async and streamed: one receipt per billed response, with its exact tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.agent import Agent

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")

HI = [{"role": "user", "content": "hi"}]
CLAUDE = "claude-opus-4-8"


def ask_openai(agent: Agent) -> Any:
    with openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
        client.chat.completions.create(model="gpt-4o", messages=HI)
        for _ in client.chat.completions.create(
            model="gpt-4o", messages=HI, stream=True, stream_options={"include_usage": True}
        ):
            pass
        client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi")
        client.embeddings.create(model="text-embedding-3-small", input="hi " * 50)
        if hasattr(client, "responses"):
            client.responses.create(model="gpt-5", input="hi")
            for _ in client.responses.create(model="gpt-5", input="hi", stream=True):
                pass


@pytest.mark.ids("G01", "G08", "G09", "B5", "B8")
def test_openai(agent: Agent) -> None:
    ask_openai(agent)
    agent.balance()
    assert {receipt["feature"] for receipt in agent.receipts} == {"ask_openai"}


@pytest.mark.ids("G09")
def test_openai_async(agent: Agent) -> None:
    async def ask_async() -> None:
        async with openai.AsyncOpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
            await client.chat.completions.create(model="gpt-4o", messages=HI)
            async for _ in await client.chat.completions.create(
                model="gpt-4o", messages=HI, stream=True, stream_options={"include_usage": True}
            ):
                pass
            await client.embeddings.create(model="text-embedding-3-small", input="hi")
            if hasattr(client, "responses"):
                await client.responses.create(model="gpt-5", input="hi")

    asyncio.run(ask_async())
    agent.balance()
    assert {receipt["feature"] for receipt in agent.receipts} == {"ask_async"}


@pytest.mark.ids("G09", "B6")
def test_anthropic(agent: Agent) -> None:
    with anthropic.Anthropic(base_url=agent.url("anthropic"), api_key="x") as client:
        client.messages.create(model=CLAUDE, max_tokens=50, messages=HI)
        with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
            stream.get_final_message()
        for _ in client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True):
            pass
    agent.balance()


@pytest.mark.ids("G09")
def test_anthropic_async(agent: Agent) -> None:
    async def ask() -> None:
        async with anthropic.AsyncAnthropic(base_url=agent.url("anthropic"), api_key="x") as client:
            await client.messages.create(model=CLAUDE, max_tokens=50, messages=HI)
            async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
                await stream.get_final_message()

    asyncio.run(ask())
    agent.balance()


@pytest.mark.ids("G09", "B7")
def test_google(agent: Agent) -> None:
    client = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
    client.models.generate_content(model="gemini-2.5-flash", contents="hi")
    for _ in client.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"):
        pass
    client.models.embed_content(model="gemini-embedding-001", contents="hi")
    agent.balance()


@pytest.mark.ids("G09", "B7")
def test_google_async(agent: Agent) -> None:
    async def ask() -> None:
        client = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
        await client.aio.models.generate_content(model="gemini-2.5-flash", contents="hi")
        async for _ in await client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents="hi"):
            pass
        if hasattr(client.aio, "aclose"):
            await client.aio.aclose()

    asyncio.run(ask())
    agent.balance()
