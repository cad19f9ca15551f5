"""Google's SDK: AI Studio and Vertex, over its four transports."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import Url, case, environment


def google_client(url: Url, mode: str) -> Any:
    from google import genai

    return genai.Client(api_key="x", http_options={"base_url": url("google")})


def google_call(client: Any, mode: str) -> Any:
    given: Any = {"model": "gemini-2.5-flash", "contents": "hi"}
    if mode == "sync":
        return client.models.generate_content(**given)
    if mode == "stream":
        return list(client.models.generate_content_stream(**given))

    async def run() -> Any:
        models = client.aio.models
        try:
            if mode == "async":
                return await models.generate_content(**given)
            return [chunk async for chunk in await models.generate_content_stream(**given)]
        finally:
            if hasattr(client.aio, "aclose"):
                await client.aio.aclose()

    return asyncio.run(run())


case("google-genai", google_client, imports="google.genai")(google_call)
case("google-genai.aiohttp_client", google_client, ("async", "astream"), "google.genai")(google_call)


def google_env_httpx_client(url: Url, mode: str) -> Any:
    import os

    os.environ["GOOGLE_GENAI_HTTP_CLIENT"] = "httpx"
    return google_client(url, mode)


case("google-genai.env_httpx", google_env_httpx_client, ("sync", "async"), "google.genai")(google_call)


def google_vertex_client(url: Url, mode: str) -> Any:
    import google.oauth2.credentials
    from google import genai

    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=google.oauth2.credentials.Credentials(token="x"),
        http_options={"base_url": url("vertex")},
    )


case("google-genai.vertex", google_vertex_client, imports="google.genai")(google_call)


@case("google-genai.embed", google_client, ("sync",), "google.genai")
def google_embed(client: Any, mode: str) -> Any:
    return client.models.embed_content(model="gemini-embedding-001", contents="hi")


@case("google-genai.interactions", google_client, ("sync", "async", "stream", "astream"), "google.genai")
def google_interactions(client: Any, mode: str) -> Any:
    given: Any = {"model": "gemini-2.5-flash", "input": "hi"}
    if mode == "sync":
        begun = client.interactions.create(agent="deep-research-pro", input="hi", background=True)
        polls = [client.interactions.get(begun.id) for _ in range(3)]
        return [client.interactions.create(**given), begun, *polls]
    if mode == "stream":
        return list(client.interactions.create(**given, stream=True))

    async def run() -> Any:
        interactions = client.aio.interactions
        try:
            if mode == "async":
                return await interactions.create(**given)
            return [event async for event in await interactions.create(**given, stream=True)]
        finally:
            await client.aio.aclose()

    return asyncio.run(run())


_MORE = ("google-genai", "google-genai.vertex")
_CURRENT = ("google-genai.env_httpx", "google-genai.embed", "google-genai.interactions")

environment("google-genai-1.75.0", ("google-genai[aiohttp]==1.75.0",), ("google-genai",))
environment("google-genai-2.34.0", ("google-genai[aiohttp]==2.34.0",), ("google-genai",))
environment(
    "google-genai-3.4.0",
    ("google-genai==3.4.0", "httpx"),
    (*_MORE, *_CURRENT),
)
environment("google-genai-3.6.1", ("google-genai==3.6.1", "httpx"), (*_MORE, *_CURRENT))
environment("google-genai-3.6.1-aiohttp", ("google-genai[aiohttp]==3.6.1",), (*_MORE, "google-genai.aiohttp_client"))
environment(
    "google-genai-3.4.0-aiohttp", ("google-genai[aiohttp]==3.4.0",), (*_MORE, "google-genai.aiohttp_client"), True
)
