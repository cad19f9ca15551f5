"""What the host program owns stays its own: requests, arguments, objects, exceptions, odd answers."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import pickle
import socket
import traceback
from typing import Any, Callable, Dict, List

import pytest

from tests.agent import Agent
from tests.capture.tools import CHAT, CLAUDE, GEMINI, HI, STREAM, WHOLE, both, both_async, fixed, kind, scrub, shown

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


def attempt(function: Callable[[], Any]) -> Any:
    """What a function gives, or how it fails."""
    try:
        return shown(function())
    except Exception as error:
        return [kind(error), scrub(str(error))]


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


def frames(error: BaseException) -> List[str]:
    """The traceback without our own frames, which are the only ones that may be more."""
    return [
        frame.name for frame in traceback.extract_tb(error.__traceback__) if "aicostguard/capture" not in frame.filename
    ]


def failure(function: Callable[[], Any]) -> Any:
    try:
        function()
    except Exception as error:
        chain = [error, error.__cause__, error.__context__]
        return [[kind(link), scrub(repr(getattr(link, "args", None)))] for link in chain], frames(error)
    raise AssertionError("it did not fail")


def dead_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def failing(agent: Agent, url: str) -> Dict[str, Callable[[], Any]]:
    """One call by each library, with a short timeout."""
    httpx, httpx2, requests, aiohttp = (library(n) for n in ("httpx", "httpx2", "requests", "aiohttp"))

    def plain(module: Any) -> None:
        with module.Client(timeout=0.3) as client:
            client.post(url + PATH, json=CHAT).raise_for_status()

    async def asynchronous(module: Any) -> None:
        async with module.AsyncClient(timeout=0.3) as client:
            (await client.post(url + PATH, json=CHAT)).raise_for_status()

    async def ask_aiohttp() -> None:
        timeout = aiohttp.ClientTimeout(sock_read=0.3)
        async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
            async with session.post(url + PATH, json=CHAT) as response:
                await response.read()

    def sdk() -> None:
        with openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0, timeout=0.3) as client:
            client.chat.completions.create(**CHAT)

    async def sdk_async() -> None:
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="x", max_retries=0, timeout=0.3) as client:
            await client.chat.completions.create(**CHAT)

    def claude() -> None:
        with anthropic.Anthropic(base_url=url, api_key="x", max_retries=0, timeout=0.3) as client:
            client.messages.create(model=CLAUDE, max_tokens=50, messages=HI)

    return {
        "httpx": lambda: plain(httpx),
        "httpx2": lambda: plain(httpx2),
        "httpx async": lambda: asyncio.run(asynchronous(httpx)),
        "httpx2 async": lambda: asyncio.run(asynchronous(httpx2)),
        "aiohttp": lambda: asyncio.run(ask_aiohttp()),
        "requests": lambda: requests.post(url + PATH, json=CHAT, timeout=0.3).raise_for_status(),
        "openai": sdk,
        "openai async": lambda: asyncio.run(sdk_async()),
        "anthropic": claude,
    }


@pytest.mark.ids("A8", "B4")
@pytest.mark.parametrize("trouble", ["refused", "timeout", "429", "500", "cut", "reset"])
def test_exceptions_are_the_same(agent: Agent, trouble: str) -> None:
    """Type, arguments, cause, context and traceback, but for our own frames; and no receipt."""
    behaviour: Dict[str, Dict[str, Any]] = {
        "refused": {},
        "timeout": {"first_delay_ms": 2000},
        "429": {"status": 429, "retry_after": "1"},
        "500": {"status": 500},
        "cut": {"cut_after": 20},
        "reset": {"reset_after": -1},
    }
    agent.simulator.set_default(**behaviour[trouble])
    url = agent.url("openai") if trouble != "refused" else "http://127.0.0.1:%d" % dead_port()
    for call in failing(agent, url).values():
        both(agent, functools.partial(failure, call))
    assert agent.receipts == []


ODD: Dict[str, bytes] = {
    "choices null": b'{"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": null,'
    b' "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}}',
    "message null": b'{"id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o",'
    b' "choices": [{"index": 0, "message": null}], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}',
    "counts as texts": b'{"id": "x", "model": "gpt-4o", "choices": [],'
    b' "usage": {"prompt_tokens": "9", "completion_tokens": "5"}}',
    "usage a list": b'{"id": "x", "model": "gpt-4o", "choices": [], "usage": [1, 2]}',
    "usage null": b'{"id": "x", "model": "gpt-4o", "choices": [], "usage": null}',
    "model a number": b'{"id": 1, "model": 7, "choices": {},'
    b' "usage": {"prompt_tokens": -1, "completion_tokens": 1e99}}',
    "truncated": b'{"id": "x", "model": "gpt-4o", "choices": [{"index": 0, "mess',
    "no JSON": b"<html>busy</html>",
    "empty": b"",
    "an array": b"[1, 2]",
    "deep": b"[" * 5000,
    "no UTF-8": b'{"model": "\xff\xfe", "usage": {"prompt_tokens": 1}}',
}


@pytest.mark.ids("A21")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", list(ODD))
def test_odd_answers(agent: Agent, name: str, streamed: bool) -> None:
    """What the SDKs make of them, they still make of them."""
    body = ODD[name]
    more: Dict[str, Any] = {"body": body}
    if streamed:
        more = {"body": b"data: %s\n\ndata: [DONE]\n\n" % body, "headers": {"content-type": "text/event-stream"}}
    agent.simulator.set_default(**more)

    def use() -> Any:
        seen = []
        with client_of(agent, max_retries=0) as client:
            seen.append(attempt(lambda: read(client.chat.completions.create(**(STREAM if streamed else CHAT)))))
            seen.append(attempt(lambda: read(client.responses.create(model="gpt-5", input="hi", stream=streamed))))
        with claude_of(agent, max_retries=0) as claude:
            seen.append(
                attempt(lambda: read(claude.messages.create(model=CLAUDE, max_tokens=9, messages=HI, stream=streamed)))
            )
        gemini = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
        ask = gemini.models.generate_content_stream if streamed else gemini.models.generate_content
        seen.append(attempt(lambda: [type(chunk) for chunk in ask(model=GEMINI, contents="hi")]))
        return seen

    def read(made: Any) -> Any:
        return list(made) if streamed else repr(made)

    both(agent, use)
    assert len(agent.settled(0)) <= 4


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
