"""Anthropic's SDK: at home, on Vertex, on Bedrock."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import CLAUDE, HI, Url, both, case, environment, is_async


def anthropic_client(url: Url, mode: str, **more: Any) -> Any:
    import anthropic

    kind = anthropic.AsyncAnthropic if is_async(mode) else anthropic.Anthropic
    return kind(base_url=url("anthropic"), api_key="x", max_retries=0, **more)


@case("anthropic.messages", anthropic_client)
def anthropic_messages(client: Any, mode: str) -> Any:
    return both(client, mode, client.messages.create, {"stream": True}, model=CLAUDE, max_tokens=50, messages=HI)


@case("anthropic.stream_helper", anthropic_client, ("stream", "astream"))
def anthropic_stream_helper(client: Any, mode: str) -> Any:
    given: Any = {"model": CLAUDE, "max_tokens": 50, "messages": HI}
    if mode == "stream":
        with client.messages.stream(**given) as stream:
            return [*stream.text_stream, stream.get_final_message()]

    async def run() -> Any:
        async with client, client.messages.stream(**given) as stream:
            return [*[text async for text in stream.text_stream], await stream.get_final_message()]

    return asyncio.run(run())


@case("anthropic.aiohttp", lambda url, mode: url, ("async", "astream"))
def anthropic_aiohttp(url: Any, mode: str) -> Any:
    import anthropic

    async def run() -> Any:
        async with anthropic_client(url, mode, http_client=anthropic.DefaultAioHttpClient()) as client:
            more = {"stream": True} if mode == "astream" else {}
            result = await client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, **more)
            return [event async for event in result] if mode == "astream" else result

    return asyncio.run(run())


def anthropic_vertex_client(url: Url, mode: str) -> Any:
    import anthropic

    kind = anthropic.AsyncAnthropicVertex if is_async(mode) else anthropic.AnthropicVertex
    return kind(base_url=url("vertex") + "/v1", region="us-east5", project_id="p", access_token="x", max_retries=0)


@case("anthropic.vertex", anthropic_vertex_client)
def anthropic_vertex(client: Any, mode: str) -> Any:
    given: Any = {"model": "claude-sonnet-4@20250514", "max_tokens": 50, "messages": HI}
    return both(client, mode, client.messages.create, {"stream": True}, **given)


def anthropic_bedrock_client(url: Url, mode: str) -> Any:
    import anthropic

    kind = anthropic.AsyncAnthropicBedrock if is_async(mode) else anthropic.AnthropicBedrock
    return kind(base_url=url("bedrock"), aws_region="us-east-1", aws_access_key="x", aws_secret_key="x", max_retries=0)


@case("anthropic.bedrock", anthropic_bedrock_client)
def anthropic_bedrock(client: Any, mode: str) -> Any:
    given: Any = {"model": "anthropic.claude-3-5-sonnet-20241022-v2:0", "max_tokens": 50, "messages": HI}
    return both(client, mode, client.messages.create, {"stream": True}, **given)


@case("anthropic.batches", anthropic_client, ("sync", "async"))
def anthropic_batches(client: Any, mode: str) -> Any:
    """A batch of two, its results fetched twice."""
    batches = client.messages.batches
    params: Any = [{"model": CLAUDE, "max_tokens": 50 + i, "messages": HI} for i in range(2)]
    requests: Any = [{"custom_id": str(i), "params": row} for i, row in enumerate(params)]
    if mode == "sync":
        batch = batches.create(requests=requests)
        batch = batches.retrieve(batch.id)
        return [batch.processing_status, *batches.results(batch.id), *batches.results(batch.id)]

    async def run() -> Any:
        async with client:
            batch = await batches.create(requests=requests)
            batch = await batches.retrieve(batch.id)
            found = []
            for _ in range(2):
                found += [row async for row in await batches.results(batch.id)]
            return [batch.processing_status, *found]

    return asyncio.run(run())


_MESSAGES = ("anthropic.messages", "anthropic.stream_helper")
_MORE = (*_MESSAGES, "anthropic.batches", "anthropic.aiohttp", "anthropic.vertex", "anthropic.bedrock")

environment("anthropic-0.40.0", ("anthropic==0.40.0", "httpx<0.28"), _MESSAGES, True)
environment("anthropic-0.125.0", ("anthropic[aiohttp,vertex,bedrock]==0.125.0",), _MORE)
environment("anthropic-1.17.0", ("anthropic[aiohttp,vertex,bedrock]==1.17.0",), _MORE)
environment("anthropic-2.12.0", ("anthropic[aiohttp,vertex,bedrock]==2.12.0",), _MORE)
environment("anthropic-2.15.0", ("anthropic[aiohttp,vertex,bedrock]==2.15.0",), _MORE)
