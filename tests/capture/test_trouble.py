"""Exceptions and odd answers: what the SDKs and libraries make of them, they still make of them."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import traceback
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import CHAT, CLAUDE, GEMINI, HI, STREAM, attempt, both, kind, scrub

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")
PATH = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _collected(simulator: object) -> None:
    """What an SDK left open in the test before is ended now, not in the middle of this one."""
    gc.collect()


def library(name: str) -> Any:
    return pytest.importorskip(name)


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
        with openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x", max_retries=0) as client:
            seen.append(attempt(lambda: read(client.chat.completions.create(**(STREAM if streamed else CHAT)))))
            seen.append(attempt(lambda: read(client.responses.create(model="gpt-5", input="hi", stream=streamed))))
        with anthropic.Anthropic(base_url=agent.url("anthropic"), api_key="x", max_retries=0) as claude:
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


@pytest.mark.parametrize("name", ["httpx", "httpx2", "aiohttp", "requests"])
def test_a_call_that_was_interrupted_is_counted(agent: Agent, name: str) -> None:
    """No receipt can be made of it, and the provider may bill it all the same."""
    agent.simulator.set_default(first_delay_ms=3000)
    url, module = agent.url("openai") + PATH, library(name)

    async def asynchronous() -> None:
        async with module.ClientSession(timeout=module.ClientTimeout(total=0.2)) as session:
            await session.post(url, json=CHAT)

    def post() -> None:
        if name == "aiohttp":
            asyncio.run(asynchronous())
        else:
            module.post(url, json=CHAT, timeout=0.2)

    with pytest.raises(Exception, match=r"(?i)time") if name != "aiohttp" else pytest.raises(asyncio.TimeoutError):
        post()
    assert health.notes["interrupted"] == 1
    assert agent.receipts == []
