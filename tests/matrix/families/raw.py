"""HTTP libraries without any SDK."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import HI, USAGE, Url, case, environment, is_async

BODY: Any = {"model": "gpt-4o", "messages": HI}


def httpx_like(name: str) -> None:
    def build(url: Url, mode: str) -> Any:
        import importlib

        library = importlib.import_module(name)
        return library.AsyncClient(base_url=url("openai")) if is_async(mode) else library.Client(base_url=url("openai"))

    def call(client: Any, mode: str) -> Any:
        path = "/v1/chat/completions"
        if mode == "sync":
            return client.post(path, json=BODY).json()
        if mode == "stream":
            with client.stream("POST", path, json={**BODY, **USAGE}) as response:
                return list(response.iter_lines())

        async def run() -> Any:
            async with client:
                if mode == "async":
                    return (await client.post(path, json=BODY)).json()
                async with client.stream("POST", path, json={**BODY, **USAGE}) as response:
                    return [line async for line in response.aiter_lines()]

        return asyncio.run(run())

    case("raw." + name, build, imports=name)(call)


httpx_like("httpx")
httpx_like("httpx2")


@case("raw.aiohttp", lambda url, mode: url, ("async", "astream"), "aiohttp")
def raw_aiohttp(url: Any, mode: str) -> Any:
    import aiohttp

    async def run() -> Any:
        async with aiohttp.ClientSession() as session:
            body = {**BODY, **USAGE} if mode == "astream" else BODY
            async with session.post(url("openai") + "/v1/chat/completions", json=body) as response:
                if mode == "async":
                    return await response.json()
                return [line async for line in response.content]

    return asyncio.run(run())


def requests_session(url: Url, mode: str) -> Any:
    import requests

    session = requests.Session()
    session.base = url("openai") + "/v1/chat/completions"  # type: ignore[attr-defined]
    return session


@case("raw.requests", requests_session, ("sync", "stream"), "requests")
def raw_requests(session: Any, mode: str) -> Any:
    if mode == "sync":
        return session.post(session.base, json=BODY).json()
    with session.post(session.base, json={**BODY, **USAGE}, stream=True) as response:
        return list(response.iter_lines())


_ALL = ("raw.httpx", "raw.aiohttp", "raw.requests")

environment("raw-current", ("httpx", "httpx2", "aiohttp", "requests"), (*_ALL, "raw.httpx2"))
environment("raw-oldest", ("httpx==0.25.2", "aiohttp==3.9.5", "requests==2.28.2", "urllib3==1.26.20"), _ALL, True)
