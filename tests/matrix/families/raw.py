"""HTTP libraries without any SDK."""

from __future__ import annotations

import asyncio
import json
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


@case("raw.urllib3", lambda url, mode: url("openai"), ("sync", "stream"), "urllib3")
def raw_urllib3(base: str, mode: str) -> Any:
    import urllib3

    with urllib3.PoolManager() as manager:
        url = base + "/v1/chat/completions"
        if mode == "sync":
            return json.loads(manager.request("POST", url, body=json.dumps(BODY)).data)
        response = manager.request("POST", url, body=json.dumps({**BODY, **USAGE}), preload_content=False)
        return list(response)


@case("raw.urllib", lambda url, mode: url("openai"), ("sync", "stream"), "urllib.request")
def raw_urllib(base: str, mode: str) -> Any:
    from urllib.request import urlopen

    body = json.dumps({**BODY, **USAGE} if mode == "stream" else BODY).encode()
    with urlopen(base + "/v1/chat/completions", body) as response:
        return list(response) if mode == "stream" else json.load(response)


@case("raw.http.client", lambda url, mode: url("openai"), ("sync", "stream"), "http.client")
def raw_http_client(base: str, mode: str) -> Any:
    import http.client

    connection = http.client.HTTPConnection(base.split("//")[1])
    connection.request("POST", "/v1/chat/completions", json.dumps({**BODY, **USAGE} if mode == "stream" else BODY))
    response = connection.getresponse()
    try:
        return list(iter(lambda: response.read1(100), b"")) if mode == "stream" else json.load(response)
    finally:
        connection.close()


@case("raw.httplib2", lambda url, mode: url("openai"), ("sync",), "httplib2")
def raw_httplib2(base: str, mode: str) -> Any:
    import httplib2

    return json.loads(httplib2.Http().request(base + "/v1/chat/completions", "POST", json.dumps(BODY))[1])


@case("raw.niquests", lambda url, mode: url("openai"), imports="niquests")
def raw_niquests(base: str, mode: str) -> Any:
    import niquests

    url = base + "/v1/chat/completions"
    if mode == "sync":
        return niquests.post(url, json=BODY).json()
    if mode == "stream":
        with niquests.post(url, json={**BODY, **USAGE}, stream=True) as response:
            return list(response.iter_lines())

    async def run() -> Any:
        async with niquests.AsyncSession() as session:
            if mode == "async":
                return (await session.post(url, json=BODY)).json()
            response = await session.post(url, json={**BODY, **USAGE}, stream=True)
            return b"".join([piece async for piece in await response.iter_content()])

    return asyncio.run(run())


@case("raw.curl_cffi", lambda url, mode: url("openai"), imports="curl_cffi")
def raw_curl_cffi(base: str, mode: str) -> Any:
    from curl_cffi import requests

    url = base + "/v1/chat/completions"
    if mode == "sync":
        return requests.post(url, json=BODY).json()
    if mode == "stream":
        # Its session waits for itself for ever when an answer is whole before `Future.add_done_callback` is called.
        later = {"x-sim": json.dumps({"first_delay_ms": 250})}
        with requests.Session() as session:
            response = session.post(url, json={**BODY, **USAGE}, headers=later, stream=True)
            try:
                return list(response.iter_lines())
            finally:
                response.close()

    async def run() -> Any:
        async with requests.AsyncSession() as session:
            if mode == "async":
                return (await session.post(url, json=BODY)).json()
            response = await session.post(url, json={**BODY, **USAGE}, stream=True)
            try:
                return [line async for line in response.aiter_lines()]
            finally:
                await response.aclose()

    return asyncio.run(run())


def fetched(client: str) -> Any:
    """A fetch with tornado's default client, or another."""

    def call(base: str, mode: str) -> Any:
        from tornado.httpclient import AsyncHTTPClient

        AsyncHTTPClient.configure(client)
        chunks: Any = []

        async def run() -> Any:
            more = {"streaming_callback": chunks.append} if mode == "astream" else {}
            body = json.dumps({**BODY, **USAGE} if mode == "astream" else BODY)
            url = base + "/v1/chat/completions"
            answer = await AsyncHTTPClient().fetch(url, method="POST", body=body, **more)
            return [answer.code, answer.body, b"".join(chunks)]

        return asyncio.run(run())

    return call


for _name, _client in (
    ("raw.tornado", "tornado.simple_httpclient.SimpleAsyncHTTPClient"),
    ("raw.tornado_curl", "tornado.curl_httpclient.CurlAsyncHTTPClient"),
):
    case(_name, lambda url, mode: url("openai"), ("async", "astream"), "tornado.httpclient")(fetched(_client))

_STANDARD = ("raw.urllib", "raw.http.client")
_ALL = ("raw.httpx", "raw.aiohttp", "raw.requests", "raw.urllib3", "raw.httplib2", *_STANDARD)

environment(
    "raw-current",
    ("httpx==0.28.1", "httpx2==2.16.2", "aiohttp==3.14.5", "requests==2.34.2", "urllib3==2.8.0", "httplib2==0.32.1"),
    (*_ALL, "raw.httpx2"),
)
environment(
    "raw-oldest",
    ("httpx==0.25.2", "aiohttp==3.9.5", "requests==2.28.2", "urllib3==1.26.20", "httplib2==0.20.4"),
    _ALL,
    True,
)
# before 1.26.10 urllib3 read in another way; long-lived Linux distributions ship 1.26.5
environment("raw-early", ("requests==2.25.1", "urllib3==1.26.5"), ("raw.requests", "raw.urllib3", *_STANDARD))
# urllib3-future, which comes with niquests, takes the place of urllib3 for requests, too
_FUTURE = ("raw.niquests", "raw.requests", "raw.urllib3")
environment("raw-niquests", ("niquests==3.21.2", "requests", "pytest", "h2", "httpx==0.28.1", "trio==0.35.0"), _FUTURE)
environment("raw-niquests-oldest", ("niquests==3.7.2", "requests==2.31.0"), _FUTURE)
environment(
    "raw-curl", ("curl_cffi==0.16.3", "tornado==6.6.1", "pycurl"), ("raw.curl_cffi", "raw.tornado", "raw.tornado_curl")
)
environment("raw-curl-oldest", ("curl_cffi==0.7.4", "tornado==6.1"), ("raw.curl_cffi", "raw.tornado"))
