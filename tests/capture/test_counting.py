"""One receipt per billed response: retries, fetched responses, other hosts, layers, and many calls at once."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List

import pytest

from aicostguard import pricing
from tests.agent import Agent
from tests.capture.tools import CHAT, CLAUDE, GEMINI, HI, STREAM, both, fixed, only

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")

#: 22 November 2026, 12:00 UTC
NOW = 1_795_348_800_000


def client_of(agent: Agent, **more: Any) -> Any:
    return openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x", **more)


@pytest.mark.ids("B4")
def test_two_failures_then_success(agent: Agent) -> None:
    """One receipt that says how often it was tried; the next call starts to count anew."""
    agent.simulator.set_default(fail_times=2, retry_after="0")
    with client_of(agent, max_retries=3) as client:
        client.chat.completions.create(**CHAT)
        for _ in client.chat.completions.create(**STREAM):
            pass
        agent.simulator.set_default()
        client.chat.completions.create(**CHAT)
    assert [receipt.get("attempts") for receipt in agent.settled(3)] == [3, 3, None]
    agent.balance()


@pytest.mark.ids("B4")
def test_two_failures_then_success_elsewhere(agent: Agent) -> None:
    agent.simulator.set_default(fail_times=2, retry_after="0")

    async def ask() -> None:
        async with anthropic.AsyncAnthropic(base_url=agent.url("anthropic"), api_key="x", max_retries=3) as client:
            await client.messages.create(model=CLAUDE, max_tokens=50, messages=HI)

    asyncio.run(ask())
    options = {"base_url": agent.url("google"), "retry_options": {"attempts": 4, "initial_delay": 0.01}}
    gemini = genai.Client(api_key="x", http_options=options)
    gemini.models.generate_content(model=GEMINI, contents="hi")
    assert [receipt.get("attempts") for receipt in agent.settled(2)] == [3, 3]
    agent.balance()


@pytest.mark.ids("B4")
def test_all_attempts_fail(agent: Agent) -> None:
    agent.simulator.set_default(status=503, retry_after="0")
    with client_of(agent, max_retries=2) as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**CHAT)
    assert len(agent.simulator.exchanges) == 3
    assert agent.receipts == []


@pytest.mark.ids("B3")
def test_a_fetched_response_is_not_billed_again(agent: Agent) -> None:
    with client_of(agent) as client:
        made = client.responses.create(model="gpt-5", input="hi")
        for _ in range(2):
            client.responses.retrieve(made.id)
        client.responses.delete(made.id)
        client.models.list()
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("B3")
def test_a_background_response_is_billed_once(agent: Agent) -> None:
    agent.simulator.set_default(polls=2)
    with client_of(agent) as client:
        made = client.responses.create(model="gpt-5", input="hi", background=True)
        assert agent.receipts == []
        while made.status != "completed":
            made = client.responses.retrieve(made.id)
        for _ in range(2):
            client.responses.retrieve(made.id)
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("B3", "B17")
def test_a_background_response_that_many_poll_is_billed_once(agent: Agent) -> None:
    """And the image that its tool made is billed too, once."""
    body = {
        "id": "resp_many", "object": "response", "status": "queued", "model": "gpt-5", "background": True,
        "output": [], "usage": None,
    }  # fmt: skip
    agent.simulator.set_default(body=json.dumps(body).encode())
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=agent.url("openai") + "/v1") as client:
        client.post("/responses", json={"model": "gpt-5", "input": "hi", "background": True})
        assert agent.receipts == []
        body["status"] = "completed"
        body["usage"] = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
        body["tools"] = [{"type": "image_generation", "model": "gpt-image-1"}]
        body["tool_usage"] = {"image_gen": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
        agent.simulator.set_default(body=json.dumps(body).encode())
        gather(8, lambda: client.get("/responses/resp_many"))
    agent.settled(2)
    assert sorted(receipt["model"] for receipt in agent.receipts) == ["gpt-5", "gpt-image-1"]


def gather(times: int, function: Callable[[], Any]) -> List[Any]:
    """Run in so many threads, all starting at once."""
    barrier = threading.Barrier(times)

    def run(_: int) -> Any:
        barrier.wait(10)
        return function()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


@pytest.mark.ids("B17")
def test_five_at_once(agent: Agent) -> None:
    """Below one agent, in tasks and in threads: five receipts each, all with the agent's name."""
    from aicostguard import context

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
            calls = (
                client.chat.completions.create(
                    model="gpt-4o", messages=HI, stream=streamed, stream_options={"include_usage": True}
                )
                if streamed
                else client.chat.completions.create(**CHAT)
                for streamed in (True, False, True, False, False)
            )
            for made in await asyncio.gather(*calls):
                if hasattr(made, "__aiter__"):
                    async for _ in made:
                        pass

    with context.agent("planner"):
        asyncio.run(ask())
    assert [receipt["agent"] for receipt in agent.settled(5)] == ["planner"] * 5
    with client_of(agent) as client:
        gather(5, lambda: client.chat.completions.create(**CHAT))
    assert len(agent.settled(10)) == 10
    assert {receipt.get("attempts") for receipt in agent.receipts} == {None}
    agent.balance()


@pytest.mark.ids("B17")
def test_sixteen_threads(agent: Agent) -> None:
    """All sync transports at once, from 16 threads, the first use of each included."""
    httpx, httpx2, requests = (pytest.importorskip(name) for name in ("httpx", "httpx2", "requests"))
    base = agent.url("openai")
    with httpx.Client(base_url=base) as one, httpx2.Client(base_url=base) as two:

        def run() -> None:
            for _ in range(3):
                for client in (one, two):
                    with client.stream("POST", "/v1/chat/completions", json=STREAM) as response:
                        response.read()
                    client.post("/v1/chat/completions", json=CHAT)
                with requests.post(base + "/v1/chat/completions", json=STREAM, stream=True) as answer:
                    list(answer.iter_lines())
                requests.post(base + "/v1/chat/completions", json=CHAT)

        gather(16, run)
    agent.settled(16 * 3 * 3 * 2)
    agent.balance()


@pytest.mark.ids("B13")
def test_zero_is_not_missing(agent: Agent) -> None:
    agent.simulator.set_default(usage={"input_tokens": 0, "output_tokens": 0})
    with client_of(agent) as client:
        client.chat.completions.create(**CHAT)
        for _ in client.chat.completions.create(**STREAM):
            pass
    for receipt in agent.settled(2):
        assert (receipt["input_tokens"], receipt["output_tokens"]) == (0, 0)
        assert "usage_missing" not in receipt
        assert "estimated" not in receipt
    agent.receipts.clear()
    agent.simulator.set_default(no_usage=True)
    with client_of(agent) as client:
        client.chat.completions.create(**CHAT)
    assert "input_tokens" not in only(agent)
    assert only(agent)["usage_missing"] is True


LOOKALIKE = (
    '{"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "input_tokens": 4}, "model": "x"}'
)


@pytest.mark.ids("B15")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("where", [{"text": LOOKALIKE}, {"tool_calls": [LOOKALIKE]}], ids=["text", "arguments"])
def test_what_looks_like_usage(agent: Agent, where: Dict[str, Any], streamed: bool) -> None:
    """In message text (as JSON mode gives it) and in tool arguments, cut into one piece and into many."""
    for chunks in (1, 40):
        agent.simulator.set_default(chunks=chunks, **where)
        with client_of(agent) as client:
            for ask in (client.chat.completions.create, client.responses.create):
                more: Dict[str, Any] = {"model": "gpt-5", "input": "hi", "stream": streamed}
                if ask == client.chat.completions.create:
                    more = STREAM if streamed else CHAT
                answer = ask(**more)
                if streamed:
                    list(answer)
        with anthropic.Anthropic(base_url=agent.url("anthropic"), api_key="x") as claude:
            said = claude.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=streamed)
            if streamed:
                list(said)
        gemini = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
        name = "generate_content_stream" if streamed else "generate_content"
        list(getattr(gemini.models, name)(model=GEMINI, contents="hi"))
    agent.balance()


#: base URL of a provider → its name
HOSTS = {
    "http://api.groq.com/openai/v1": "groq",
    "http://api.x.ai/v1": "xai",
    "http://openrouter.ai/api/v1": "openrouter",
    "http://api.deepseek.com": "deepseek",
    "http://api.together.xyz/v1": "together",
    "http://api.mistral.ai/v1": "mistral",
    "http://api.cerebras.ai/v1": "cerebras",
    "http://api.fireworks.ai/inference/v1": "fireworks",
    "http://api.perplexity.ai": "perplexity",
    "http://generativelanguage.googleapis.com/v1beta/openai": "google",
    "http://me.openai.azure.com/openai/v1": "azure",
    "http://api.openai.com/v1": "openai",
}


@pytest.mark.ids("B14", "A17")
@pytest.mark.parametrize("base", list(HOSTS))
def test_the_host_says_who_is_asked(agent: Agent, base: str) -> None:
    """The openai SDK at other providers' hosts, through a proxy."""
    httpx2 = pytest.importorskip("httpx2")
    with httpx2.Client(proxy=agent.url("openai")) as proxied:
        client = openai.OpenAI(base_url=base, api_key="x", http_client=proxied)
        client.chat.completions.create(**CHAT)
        for _ in client.chat.completions.create(**STREAM):
            pass
    agent.balance()
    assert [receipt["provider"] for receipt in agent.receipts] == [HOSTS[base]] * 2


@pytest.mark.ids("B14")
def test_azure_deployments(agent: Agent) -> None:
    httpx2 = pytest.importorskip("httpx2")
    with httpx2.Client(proxy=agent.url("openai")) as proxied:
        client = openai.AzureOpenAI(
            azure_endpoint="http://me.openai.azure.com", api_version="2024-10-21", api_key="x", http_client=proxied
        )
        client.chat.completions.create(model="our-deployment", messages=HI)
    agent.balance()
    assert only(agent)["provider"] == "azure"


@pytest.mark.ids("C5")
@pytest.mark.parametrize("streamed", [False, True])
def test_the_model_that_answered_is_billed(agent: Agent, streamed: bool) -> None:
    """A deployment has a name of its own; what stands behind it, the response says."""
    httpx2 = pytest.importorskip("httpx2")
    agent.simulator.set_default(model="gpt-4o-2024-08-06", usage={"input_tokens": 1000, "output_tokens": 100})
    with httpx2.Client(proxy=agent.url("openai")) as proxied:
        client = openai.AzureOpenAI(
            azure_endpoint="http://me.openai.azure.com", api_version="2024-10-21", api_key="x", http_client=proxied
        )
        list(client.chat.completions.create(**{**(STREAM if streamed else CHAT), "model": "our-deployment"}))
    (receipt,) = agent.settled(1)
    assert receipt["model"] == "gpt-4o-2024-08-06"
    assert pricing.price(receipt, NOW).cost_nanousd == 1000 * 2500 + 100 * 10_000


@pytest.mark.ids("C2")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "asked, served, rate", [("priority", "default", 1250), ("flex", "flex", 625), ("auto", "priority", 2500)]
)
def test_the_tier_that_served_is_billed(agent: Agent, asked: str, served: str, rate: int, streamed: bool) -> None:
    """What was asked for may not be had, and a project may have a tier of its own: the answer says which it was."""
    agent.simulator.set_default(service_tier=served, usage={"input_tokens": 1000, "output_tokens": 0})
    with client_of(agent) as client:
        ask = {**(STREAM if streamed else CHAT), "model": "gpt-5", "service_tier": asked}
        list(client.chat.completions.create(**ask))
    (receipt,) = agent.settled(1)
    assert pricing.price(receipt, NOW).cost_nanousd == 1000 * rate


@pytest.mark.ids("B1")
def test_a_subclass_that_calls_super(agent: Agent) -> None:
    httpx2 = pytest.importorskip("httpx2")

    class Logged(httpx2.Client):  # type: ignore[name-defined, misc]
        def send(self, request: Any, **more: Any) -> Any:
            return super().send(request, **more)

    class Ours(openai.OpenAI):  # type: ignore[name-defined, misc]
        def request(self, *args: Any, **more: Any) -> Any:
            return super().request(*args, **more)

    agent.simulator.set_default(**fixed(False))

    def use() -> Any:
        with Ours(base_url=agent.url("openai") + "/v1", api_key="x", http_client=Logged()) as client:
            return client.chat.completions.create(**CHAT).model_dump_json()

    both(agent, use)
    agent.balance()
    assert "attempts" not in only(agent)


@pytest.mark.ids("B1")
def test_langchain(agent: Agent) -> None:
    chat_models = pytest.importorskip("langchain_openai")
    httpx2 = pytest.importorskip("httpx2")

    async def ask(chat: Any) -> None:
        await asyncio.gather(*(chat.ainvoke("hi") for _ in range(5)))
        async for _ in chat.astream("hi"):
            pass
        await chat.root_async_client.close()

    with httpx2.Client() as client:
        chat = chat_models.ChatOpenAI(
            base_url=agent.url("openai") + "/v1", api_key="x", model="gpt-4o", stream_usage=True, max_retries=0,
            http_client=client, http_async_client=httpx2.AsyncClient(),
        )  # fmt: skip
        chat.invoke("hi")
        list(chat.stream("hi"))
        chat.batch(["one", "two"])
        asyncio.run(ask(chat))
    assert len(agent.settled(10)) == 10
    agent.balance()


def cached_chat(chat: Any) -> Any:
    """The model, with LangChain's own cache before it."""
    chat.cache = pytest.importorskip("langchain_core.caches").InMemoryCache()
    return chat


@pytest.mark.ids("B2")
def test_an_answer_from_a_cache_is_not_billed(agent: Agent) -> None:
    """The same question asked three times is one call, another question a second one."""
    chat_models = pytest.importorskip("langchain_openai")
    httpx2 = pytest.importorskip("httpx2")

    async def ask(chat: Any) -> Any:
        return await chat.ainvoke("hi")

    with httpx2.Client() as client:
        asynchronous = httpx2.AsyncClient()
        chat = cached_chat(
            chat_models.ChatOpenAI(
                base_url=agent.url("openai") + "/v1", api_key="x", model="gpt-4o", max_retries=0,
                http_client=client, http_async_client=asynchronous,
            )
        )  # fmt: skip
        first = chat.invoke("hi")
        assert [chat.invoke("hi").content, asyncio.run(ask(chat)).content] == [first.content] * 2
        chat.invoke("and now?")
        asyncio.run(asynchronous.aclose())
    assert len(agent.settled(2)) == 2
    agent.balance()
