"""Answers that no provider gave now: out of a cache beneath a client. What was billed is counted, once."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from typing import Any, Callable, Dict

import pytest

from aicostguard.capture.transports import httpx_around
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import CHAT, STREAM, WHOLE, fixed
from tests.guard.budgets import CENT, cap, gate, standing

LIBRARIES = ("httpx", "httpx2")
PATH = "/v1/chat/completions"


def library(name: str) -> Any:
    return pytest.importorskip(name)


def cache(module: Any, inner: Any, ask: Any = None) -> Any:
    """A transport that keeps what `inner` answers, in both colours. `ask` is how it asks `inner`."""

    class Stream(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, body: bytes) -> None:
            self.body = body

        def __iter__(self) -> Any:
            yield self.body

        async def __aiter__(self) -> Any:
            yield self.body

    class Cache(module.BaseTransport, module.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.inner = inner
            self.kept: Dict[bytes, Any] = {}

        def given(self, body: bytes) -> Any:
            kind, content = self.kept[body]
            return module.Response(200, headers={"content-type": kind}, stream=Stream(content))

        def handle_request(self, request: Any) -> Any:
            body = request.read()
            if body not in self.kept:
                answer = (ask or inner.handle_request)(request)
                self.kept[body] = answer.headers["content-type"], answer.read()
            return self.given(body)

        async def handle_async_request(self, request: Any) -> Any:
            body = request.content
            if body not in self.kept:
                answer = await inner.handle_async_request(request)
                self.kept[body] = answer.headers["content-type"], await answer.aread()
            return self.given(body)

        def close(self) -> None:
            inner.close()

        async def aclose(self) -> None:
            await inner.aclose()

    return Cache()


def repeat(client: Any, url: str) -> None:
    """Each call twice; the second one is answered from memory."""
    for body in (CHAT, STREAM) * 2:
        with client.stream("POST", url, json=body) as response:
            assert response.read()


async def arepeat(client: Any, url: str) -> None:
    for body in (CHAT, STREAM) * 2:
        async with client.stream("POST", url, json=body) as response:
            assert await response.aread()


def replayed(agent: Agent, times: int) -> None:
    """The receipts are what the provider billed; so many answers more are noted, and nothing is left in the books."""
    agent.balance()
    assert agent.receipts and health.notes.get("replayed", 0) == times
    assert not httpx_around._under_way


@pytest.mark.ids("B2", "A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_cache_beneath_a_client(agent: Agent, name: str) -> None:
    module = library(name)
    with module.Client(transport=cache(module, module.HTTPTransport())) as client:
        repeat(client, agent.url("openai") + PATH)
    replayed(agent, 2)


@pytest.mark.ids("B2", "A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_cache_beneath_an_asynchronous_client(agent: Agent, name: str) -> None:
    module = library(name)

    async def use() -> None:
        transport = cache(module, module.AsyncHTTPTransport())
        async with module.AsyncClient(transport=transport) as client:
            await arepeat(client, agent.url("openai") + PATH)

    asyncio.run(use())
    replayed(agent, 2)


def around(module: Any, inner: Any) -> Any:
    """A transport that only passes on; it holds the other in a table, as routers do."""

    class Around(module.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.routes = {"all": inner}

        def handle_request(self, request: Any) -> Any:
            return self.routes["all"].handle_request(request)

        def close(self) -> None:
            self.routes["all"].close()

    return Around()


@pytest.mark.ids("B2", "A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_where_a_cache_may_stand(agent: Agent, name: str) -> None:
    """Beneath another transport, above another, above a mock, mounted, and as a kind of the library's own."""
    module = library(name)
    url = agent.url("openai") + PATH

    class Kind(module.HTTPTransport):  # type: ignore[name-defined, misc]
        kept: Any = None

        def handle_request(self, request: Any) -> Any:
            if self.kept is None:
                answer = super().handle_request(request)
                self.kept = answer.headers, answer.read()
            return module.Response(200, headers={"content-type": "application/json"}, content=self.kept[1])

    for transport in (
        around(module, cache(module, module.HTTPTransport())),
        cache(module, around(module, module.HTTPTransport())),
        Kind(),
    ):
        for more in ({"transport": transport}, {"mounts": {"all://": transport}}):
            with module.Client(**more) as client:
                for _ in range(2):
                    client.post(url, json=CHAT)
    replayed(agent, 9)
    agent.receipts.clear()
    mock = cache(module, module.MockTransport(lambda request: module.Response(200, json=json.loads(WHOLE))))
    with module.Client(transport=mock) as client:
        repeat(client, url)
    assert len(agent.settled(2)) == 2, "a mock is not told from a provider; what is kept of its answers is"


@pytest.mark.ids("B2", "A17")
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("way", ["thread", "client", "requests", "urllib3", "replaced"])
def test_a_transport_that_asks_in_another_way_is_billed(agent: Agent, name: str, way: str) -> None:
    """In a thread of its own, by a client or library of its own, or where somebody has replaced what stands beneath."""
    module = library(name)
    requests, urllib3 = library("requests"), library("urllib3")
    inner = module.HTTPTransport()

    def threaded(request: Any) -> Any:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(inner.handle_request(request)))
        thread.start()
        thread.join()
        return answers[0]

    def asked(send: Callable[[str, bytes], Any]) -> Any:
        def ask(request: Any) -> Any:
            return module.Response(200, json=json.loads(send(str(request.url), request.read())))

        return ask

    def by_client(url: str, body: bytes) -> Any:
        with module.Client() as client:
            return client.post(url, content=body).content

    ask = {
        "thread": threaded,
        "client": asked(by_client),
        "requests": asked(lambda url, body: requests.post(url, data=body).content),
        "urllib3": asked(lambda url, body: urllib3.request("POST", url, body=body).data),
        "replaced": None,
    }[way]
    with pytest.MonkeyPatch.context() as patches:
        if way == "replaced":
            real = module.HTTPTransport.handle_request
            patches.setattr(module.HTTPTransport, "handle_request", lambda self, request: real(self, request))
        with module.Client(transport=cache(module, inner, ask)) as client:
            client.post(agent.url("openai") + PATH, json=CHAT)
    replayed(agent, 0)


@pytest.mark.ids("A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_mock_that_took_the_place_of_what_tells_is_no_cache(agent: Agent, name: str) -> None:
    """Nobody tells then whether it was asked; a mock's answer gives a receipt beneath a client, and so it does here."""
    module = library(name)

    class Passes(module.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.inner = module.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            return self.inner.handle_request(request)

        def close(self) -> None:
            self.inner.close()

    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    with module.Client(transport=Passes()) as client, pytest.MonkeyPatch.context() as patches:
        client.post(agent.url("openai") + PATH, json=CHAT)  # from here on something of ours stands on the class
        patches.setattr(
            module.HTTPTransport,
            "handle_request",
            lambda self, request: module.Response(200, json={"model": "gpt-4o", "usage": usage}),
        )
        client.post(agent.url("openai") + PATH, json=CHAT)
    assert [receipt["output_tokens"] for receipt in agent.receipts][1:] == [4]
    assert "replayed" not in health.notes


@pytest.mark.ids("B2")
@pytest.mark.parametrize("name", LIBRARIES)
def test_what_is_still_the_same_is_not_billed(agent: Agent, name: str) -> None:
    """A cache that asks whether it is, and hears 304; one whose server gives a new answer pays for that."""
    module = library(name)

    class Asks(module.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.inner = module.HTTPTransport()
            self.kept = b""

        def handle_request(self, request: Any) -> Any:
            answer = self.inner.handle_request(request)
            self.kept = answer.read() or self.kept
            return module.Response(200, headers={"content-type": "application/json"}, content=self.kept)

        def close(self) -> None:
            self.inner.close()

    agent.simulator.script([fixed(False), {"status": 304, "body": b""}, fixed(False)])
    with module.Client(transport=Asks()) as client:
        for _ in range(3):
            client.post(agent.url("openai") + PATH, json=CHAT)
    assert len(agent.receipts) == 2
    replayed(agent, 1)


@pytest.mark.ids("B2")
@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("mark", [{"caching": {"from_cache": True}}, {"hishel_from_cache": True}, {"from_cache": True}])
def test_a_cache_that_says_so(agent: Agent, name: str, mark: Any) -> None:
    """As hishel does, also where it hands out what it has kept because its server failed."""
    module = library(name)
    agent.simulator.set_default(status=500)

    class Stale(around(module, None).__class__):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            failed = super().handle_request(request)
            assert failed.status_code == 500 and failed.read()
            return module.Response(200, json=json.loads(WHOLE), extensions=dict(mark))

    transport = Stale()
    transport.routes = {"all": module.HTTPTransport()}
    with module.Client(transport=transport) as client:
        client.post(agent.url("openai") + PATH, json=CHAT)
    assert agent.receipts == [] and health.notes == {"replayed": 1}


@pytest.mark.ids("B2")
@pytest.mark.parametrize("says", ["attribute", "header", "nothing"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_cache_beneath_requests(agent: Agent, says: str, streamed: bool) -> None:
    """An adapter that says so, as CacheControl's and hishel's do, or that has asked before and does not now."""
    requests, urllib3 = library("requests"), library("urllib3")

    class Cache(requests.adapters.HTTPAdapter):  # type: ignore[name-defined, misc]
        kept: Any = None

        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            if self.kept is None:
                first = super().send(request, *args, **kwargs)
                self.kept = first.headers["content-type"], first.content
                return first
            headers = {"content-type": self.kept[0], **({"X-Hishel-From-Cache": "true"} if says == "header" else {})}
            body = io.BytesIO(self.kept[1])
            response = self.build_response(
                request, urllib3.HTTPResponse(body, headers, 200, preload_content=False, decode_content=False)
            )
            if says == "attribute":
                response.from_cache = True
            return response

    with requests.Session() as session:
        session.mount("http://", Cache())
        for _ in range(3):
            response = session.post(agent.url("openai") + PATH, json=STREAM if streamed else CHAT, stream=streamed)
            assert response.content
    replayed(agent, 2)


@pytest.mark.ids("B2")
def test_what_is_replayed_keeps_no_budget(agent: Agent) -> None:
    httpx = library("httpx")
    gate(cap(100 * CENT))
    with httpx.Client(transport=cache(httpx, httpx.HTTPTransport())) as client:
        client.post(agent.url("openai") + PATH, json=CHAT)
        spent = standing().spent
        repeat_only = [client.post(agent.url("openai") + PATH, json=CHAT).status_code for _ in range(3)]
    assert repeat_only == [200] * 3
    assert standing().spent == spent > 0
    replayed(agent, 3)
