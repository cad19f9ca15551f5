"""What the host program owns stays its own: requests, arguments, objects, exceptions, odd answers."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
from typing import Any, List

import pytest

from tests.agent import Agent
from tests.capture.tools import (
    CHAT,
    CLAUDE,
    GEMINI,
    HI,
    STREAM,
    WHOLE,
    attempt,
    both,
    both_async,
    fixed,
    kind,
    shown,
)

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")
LIBRARIES = ("httpx", "httpx2")
PATH = "/v1/chat/completions"


def library(name: str) -> Any:
    return pytest.importorskip(name)


def client_of(agent: Agent, **more: Any) -> Any:
    return openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x", **more)


def claude_of(agent: Agent, **more: Any) -> Any:
    return anthropic.Anthropic(base_url=agent.url("anthropic"), api_key="x", **more)


#: differs between two runs of the SDKs themselves
_OWN = ("idempotency-key", "x-stainless-read-timeout", "authorization")


def on_the_wire(agent: Agent) -> List[Any]:
    return [
        [
            exchange.method, exchange.path, exchange.body,
            [pair for pair in exchange.headers if pair[0].lower() not in _OWN],
        ]
        for exchange in agent.simulator.exchanges
    ]  # fmt: skip


@pytest.mark.ids("A15")
def test_requests_are_the_same_bytes(agent: Agent) -> None:
    """A chat stream that does not ask for usage stays one; the caller's dictionaries stay what they were."""
    httpx2, aiohttp, requests = library("httpx2"), library("aiohttp"), library("requests")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    arguments = {"model": "gpt-4o", "messages": [dict(HI[0])], "tools": tools, "stream": True, "metadata": {"a": "b"}}
    before = copy.deepcopy(arguments)

    async def ask_aiohttp(body: Any) -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(agent.url("openai") + PATH, json=body) as response:
                await response.read()

    def use() -> Any:
        agent.simulator.reset_count()
        with client_of(agent) as client:
            list(client.chat.completions.create(**arguments))
            client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
            list(client.responses.create(model="gpt-5", input="hi", stream=True))
        with claude_of(agent) as claude:
            list(claude.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True))
        gemini = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
        list(gemini.models.generate_content_stream(model=GEMINI, contents="hi"))
        with httpx2.Client() as plain:
            plain.post(agent.url("openai") + PATH, json=arguments)
        requests.post(agent.url("openai") + PATH, json=arguments)
        asyncio.run(ask_aiohttp(arguments))
        return on_the_wire(agent)

    both(agent, use)
    assert arguments == before
    assert arguments["tools"] is tools


@pytest.mark.ids("A20")
def test_what_can_be_read_once_is_read_by_the_callee(agent: Agent) -> None:
    """Generators as messages and as request bodies, where there is an SDK or library that takes them."""
    httpx, httpx2, requests, aiohttp = (library(n) for n in ("httpx", "httpx2", "requests", "aiohttp"))
    # The answer names no model, so that the agent has a reason to look at the request.
    agent.simulator.set_default(**fixed(False, body=WHOLE.replace(b'"model": "gpt-4o-2024-08-06", ', b"")))
    body = b'{"model": "gpt-4o", "messages": []}'

    def parts() -> Any:
        yield body[:10]
        yield body[10:]

    async def async_parts() -> Any:
        for part in parts():
            yield part

    async def asynchronous() -> None:
        for module in (httpx, httpx2):
            async with module.AsyncClient() as client:
                await client.post(agent.url("openai") + PATH, content=async_parts())
        async with aiohttp.ClientSession() as session:
            async with session.post(agent.url("openai") + PATH, data=async_parts()) as response:
                await response.read()

    def use() -> Any:
        agent.simulator.reset_count()
        with client_of(agent) as client:
            client.chat.completions.create(model="gpt-4o", messages=(message for message in HI))
        with claude_of(agent) as claude:
            assert attempt(lambda: claude.messages.create(model=CLAUDE, max_tokens=50, messages=iter(HI)))
        for module in (httpx, httpx2):
            with module.Client() as client:
                client.post(agent.url("openai") + PATH, content=parts())
        requests.post(agent.url("openai") + PATH, data=parts())
        asyncio.run(asynchronous())
        return [exchange.body for exchange in agent.simulator.exchanges]

    bodies = both(agent, use)
    assert b'"hi"' in bodies[0]
    assert bodies.count(body) == 6
    assert len(agent.settled(8)) == 8


@pytest.mark.ids("A5")
@pytest.mark.parametrize("name", LIBRARIES)
def test_copies_of_responses(agent: Agent, name: str) -> None:
    """pickle and deepcopy, of a response that was read, one half read, one not read, and of clients."""
    module = library(name)

    def copies(thing: Any) -> Any:
        copied = attempt(lambda: pickle.loads(pickle.dumps(thing)))
        deep = attempt(lambda: copy.deepcopy(thing))
        flat = attempt(lambda: sorted(vars(copy.copy(thing))))
        return [copied, deep, flat]

    def content(thing: Any) -> Any:
        return attempt(lambda: pickle.loads(pickle.dumps(thing)).content)

    agent.simulator.set_default(**fixed(True))

    def use() -> Any:
        with module.Client() as client:
            whole = client.post(agent.url("openai") + PATH, json=CHAT)
            seen = [copies(whole), content(whole), sorted(vars(whole))]
            for steps in (0, 1):
                with client.stream("POST", agent.url("openai") + PATH, json=STREAM) as response:
                    pieces = response.iter_bytes()
                    for _ in range(steps):
                        next(pieces)
                    seen += [copies(response)[:2], content(response)]
            return [*seen, copies(client)[:2]]

    both(agent, use)


@pytest.mark.ids("A5")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_copy_of_a_stream(agent: Agent, name: str) -> None:
    """An unread stream of a mock can be copied and read; that of a real connection cannot."""
    module = library(name)
    agent.simulator.set_default(**fixed(True))

    def mock(request: Any) -> Any:
        return module.Response(200, stream=module.ByteStream(b"data: [DONE]\n\n"))

    def use() -> Any:
        seen = []
        for transport in (module.MockTransport(mock), module.HTTPTransport()):
            with module.Client(transport=transport) as client:
                with client.stream("POST", agent.url("openai") + PATH, json=STREAM) as response:
                    seen.append(attempt(lambda: b"".join(copy.deepcopy(response.stream))))
                    seen.append(attempt(lambda: kind(copy.copy(response.stream))))
                    seen.append(shown(response.read()))
        return seen

    both(agent, use)


@pytest.mark.ids("A5")
def test_copies_of_other_things(agent: Agent) -> None:
    requests = library("requests")
    agent.simulator.set_default(**fixed(False))

    def use() -> Any:
        seen = []
        with client_of(agent) as client:
            made = client.chat.completions.create(**CHAT)
            seen += [shown(pickle.loads(pickle.dumps(made))), shown(copy.deepcopy(made)), shown(made.model_copy())]
            seen += [attempt(lambda: kind(copy.copy(client))), kind(client.with_options(timeout=3))]
        for stream in (False, True):
            with requests.post(agent.url("openai") + PATH, json=CHAT, stream=stream) as response:
                seen.append(pickle.loads(pickle.dumps(response)).content)
                seen.append(sorted(vars(response)))
        with requests.Session() as session:
            seen.append(kind(pickle.loads(pickle.dumps(session))))
        return seen

    both(agent, use)
    agent.balance()


@pytest.mark.ids("A5")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_copies_of_a_client(agent: Agent) -> None:
    """openai's client refuses to be copied in depth, halfway through; so it still does."""

    def use() -> Any:
        with client_of(agent) as client:
            seen = [attempt(lambda: copy.deepcopy(client)), attempt(lambda: pickle.dumps(client))]
        gc.collect()
        return seen

    both(agent, use)


@pytest.mark.ids("A10")
def test_subclasses_that_skip_init(agent: Agent) -> None:
    httpx2, aiohttp, requests = library("httpx2"), library("aiohttp"), library("requests")

    class Lazy(httpx2.Client):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.inner = httpx2.Client()

        def send(self, request: Any, **more: Any) -> Any:
            return self.inner.send(request, **more)

        def build_request(self, *args: Any, **more: Any) -> Any:
            return self.inner.build_request(*args, **more)

    class Empty(httpx2.Client):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            pass

    with pytest.warns(DeprecationWarning, match="discouraged"):  # aiohttp's own

        class Session(aiohttp.ClientSession):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                pass

    class Sdk(openai.OpenAI):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            pass

    class Plain(requests.Session):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            pass

    async def aiohttp_fails() -> Any:
        session = Session()
        try:
            await session._request("POST", agent.url("openai") + PATH, json=CHAT)
        except Exception as error:
            return [kind(error), str(error)]

    def use() -> Any:
        lazy = Lazy()
        request = lazy.build_request("POST", agent.url("openai") + PATH, json=CHAT)
        seen = [lazy.send(request).status_code]
        lazy.inner.close()
        seen.append(attempt(lambda: Empty().send(request)))
        seen.append(attempt(lambda: Sdk().chat.completions.create(**CHAT)))
        prepared = requests.Request("POST", agent.url("openai") + PATH, json=CHAT).prepare()
        seen.append(attempt(lambda: Plain().send(prepared)))
        seen.append(asyncio.run(aiohttp_fails()))
        return seen

    both(agent, use)
    assert len(agent.receipts) == 1


@pytest.mark.ids("A7")
def test_types_of_coroutines(agent: Agent) -> None:
    """Hooked methods are still coroutine functions, bound methods and plain functions, with their signatures."""
    import inspect

    httpx2, aiohttp = library("httpx2"), library("aiohttp")

    async def use() -> Any:
        async with httpx2.AsyncClient() as client, aiohttp.ClientSession() as session:
            methods = (client.send, session._request, httpx2.Client.send, openai.OpenAI.request, client.post)
            return [
                [kind(method), method.__name__, inspect.iscoroutinefunction(method), str(inspect.signature(method))]
                for method in methods
            ]

    both_async(agent, use)
