"""SDKs of providers with formats of their own, at a host that nobody knows: only the entry hook tells whose it is."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.capture.state import state
from aicostguard.health import health
from tests.agent import Agent

# Some of these SDKs have no way to close what they opened.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def alone(agent: Agent) -> Agent:
    """The agent without `AICG_HOSTS`."""
    state.hosts = ()
    state.endpoints.clear()
    return agent


def ollama_plain(url: str) -> Any:
    return pytest.importorskip("ollama").Client(host=url).chat(model="m", messages=HI)


def ollama_stream(url: str) -> Any:
    return list(pytest.importorskip("ollama").Client(host=url).chat(model="m", messages=HI, stream=True))


async def ollama_async(url: str) -> Any:
    return await pytest.importorskip("ollama").AsyncClient(host=url).chat(model="m", messages=HI)


async def ollama_astream(url: str) -> List[Any]:
    client = pytest.importorskip("ollama").AsyncClient(host=url)
    return [event async for event in await client.chat(model="m", messages=HI, stream=True)]


def cohere_plain(url: str) -> Any:
    return pytest.importorskip("cohere").ClientV2("x", base_url=url).chat(model="m", messages=HI)


def cohere_v1(url: str) -> Any:
    return pytest.importorskip("cohere").Client("x", base_url=url).chat(model="m", message="hi")


def cohere_stream(url: str) -> Any:
    return list(pytest.importorskip("cohere").Client("x", base_url=url).chat_stream(model="m", message="hi"))


async def cohere_astream(url: str) -> List[Any]:
    client = pytest.importorskip("cohere").AsyncClient("x", base_url=url)
    return [event async for event in client.chat_stream(model="m", message="hi")]


def replicate_run(url: str) -> Any:
    return pytest.importorskip("replicate").Client("x", base_url=url).run("org/m", input={"prompt": "hi"})


def writer_chat(url: str) -> Any:
    client = pytest.importorskip("writerai").Writer(api_key="x", base_url=url)
    return client.chat.chat(model="m", messages=HI)


def hub_generate(url: str) -> Any:
    client = pytest.importorskip("huggingface_hub").InferenceClient(url, token="x")
    return client.text_generation("hi", details=True)


def voyage_embed(url: str) -> Any:
    return pytest.importorskip("voyageai").Client("x", base_url=url + "/v1").embed(["a"], model="m")


CALLS: Dict[str, List[Callable[[str], Any]]] = {
    "ollama": [ollama_plain, ollama_stream, ollama_async, ollama_astream],
    "cohere": [cohere_plain, cohere_v1, cohere_stream, cohere_astream],
    "replicate": [replicate_run],
    "writer": [writer_chat],
    "huggingface": [hub_generate],
    "voyage": [voyage_embed],
}
ROWS = [(provider, call) for provider, calls in CALLS.items() for call in calls]


@pytest.mark.ids("A15", "B14")
@pytest.mark.parametrize(("provider", "call"), ROWS, ids=[call.__name__ for _, call in ROWS])
def test_an_sdk_at_a_host_that_nobody_knows(alone: Agent, provider: str, call: Callable[[str], Any]) -> None:
    if inspect.iscoroutinefunction(call):
        asyncio.run(call(alone.url(provider)))
    else:
        call(alone.url(provider))
    alone.balance()
    assert [receipt["feature"] for receipt in alone.receipts] == [call.__name__]
    assert health.snapshot()["counters"]["unrecognised"] == 0


@pytest.mark.ids("A15")
def test_a_retry_of_coheres_is_an_attempt_of_the_same_call(alone: Agent) -> None:
    cohere = pytest.importorskip("cohere")
    alone.simulator.set_default(fail_times=2, retry_after="0")
    client = cohere.ClientV2("x", base_url=alone.url("cohere"))
    client.chat(model="m", messages=HI)
    alone.balance()
    assert [receipt.get("attempts") for receipt in alone.receipts] == [3]


@pytest.mark.ids("B11")
def test_a_stream_of_ollamas_that_is_left_is_partial_and_closed(alone: Agent) -> None:
    ollama = pytest.importorskip("ollama")
    alone.simulator.set_default(chunks=50)
    stream = ollama.Client(host=alone.url("ollama")).chat(model="m", messages=HI, stream=True)
    next(stream)
    stream.close()
    (receipt,) = alone.settled(1)
    assert receipt["partial"] is True
    assert receipt["usage_missing"] is True
