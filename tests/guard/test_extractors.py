"""Extractors: the SDKs' own objects, from real calls, cost what the provider billed."""

from __future__ import annotations

import asyncio
import types
from typing import Any, Iterator

import pytest

from aicostguard import (
    AnthropicCostExtractor,
    BudgetExceeded,
    CostTracker,
    GoogleCostExtractor,
    LoopDetected,
    OpenAICostExtractor,
    TokenUsage,
    pricing,
    receipt,
)
from aicostguard.simulator import Simulator

#: SDKs that run on 3.9 know that the model is old
pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude:DeprecationWarning")

MESSAGES: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    return running


def billed(sim: Simulator, at_ms: int = 1_796_000_000_000) -> int:
    """Nano-dollars of everything that the simulator billed, by its own count."""
    total = 0
    for row in sim.billed():
        operation = row.format if row.format == "embeddings" else None
        made, changed = receipt.build(row.provider, row.model, row.usage, {"operation": operation})
        assert changed == 0
        cost = pricing.price(made, at_ms).cost_nanousd
        assert cost
        total += cost
    return total


def openai(sim: Simulator, **more: Any) -> Any:
    return pytest.importorskip("openai").OpenAI(api_key="k", base_url=sim.base_url("openai"), max_retries=0, **more)


def anthropic(sim: Simulator) -> Any:
    return pytest.importorskip("anthropic").Anthropic(api_key="k", base_url=sim.urls["anthropic"], max_retries=0)


def genai(sim: Simulator) -> Any:
    module = pytest.importorskip("google.genai")
    return module.Client(api_key="k", http_options={"base_url": sim.urls["google"]})


def last(stream: Any) -> Any:
    return list(stream)[-1]


def openai_event(client: Any) -> Any:
    stream = client.responses.create(model="gpt-4o", input="Hello", stream=True)
    return next(event for event in stream if event.type == "response.completed")


OPENAI = {
    "chat": lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES),
    "a dict": lambda c: c.chat.completions.create(model="gpt-4o", messages=MESSAGES).model_dump(),
    "a raw response": lambda c: c.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES),
    "the last chunk": lambda c: last(
        c.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    ),
    "responses": lambda c: c.responses.create(model="gpt-4o", input="Hello"),
    "the last event": openai_event,
    "embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input="Hello"),
}


@pytest.mark.ids("B25")
@pytest.mark.parametrize("kind", OPENAI)
def test_openai_objects_cost_what_was_billed(sim: Simulator, kind: str) -> None:
    tracker = CostTracker(max_budget=5.0)
    with openai(sim) as client:
        cost = OpenAICostExtractor(tracker).record(OPENAI[kind](client))
    assert tracker.spent_nanousd == billed(sim) and cost == tracker.spent
    (row,) = sim.billed()
    assert tracker.total_tokens == row.usage.input_tokens + (row.usage.output_tokens or 0)


def message_event(client: Any) -> Any:
    with client.messages.stream(model="claude-sonnet-4-20250514", max_tokens=9, messages=MESSAGES) as stream:
        return list(stream)[-1]


def final_message(client: Any) -> Any:
    with client.messages.stream(model="claude-sonnet-4-20250514", max_tokens=9, messages=MESSAGES) as stream:
        return stream.get_final_message()


def message(client: Any) -> Any:
    return client.messages.create(model="claude-sonnet-4-20250514", max_tokens=1024, messages=MESSAGES)


ANTHROPIC = {
    "a message": message,
    "a dict": lambda c: message(c).model_dump(),
    "the last event": message_event,
    "the final message": final_message,
}


@pytest.mark.ids("B26", "B6")
@pytest.mark.parametrize("kind", ANTHROPIC)
def test_anthropic_objects_cost_what_was_billed(sim: Simulator, kind: str) -> None:
    sim.set_default(usage={"cache_read_input_tokens": 400, "cache_creation_input_tokens": 300})
    tracker = CostTracker(max_budget=5.0)
    with anthropic(sim) as client:
        cost = AnthropicCostExtractor(tracker).record(ANTHROPIC[kind](client))
    assert tracker.spent_nanousd == billed(sim) and cost == tracker.spent


def content(client: Any) -> Any:
    return client.models.generate_content(model="gemini-2.5-flash", contents="Hello")


def adk_event(client: Any) -> Any:
    """An event of Google's ADK carries these members of the answer, under its own names."""
    answer = content(client)
    return types.SimpleNamespace(
        content=answer.candidates[0].content, usage_metadata=answer.usage_metadata, author="agent", partial=None
    )


def last_content(client: Any) -> Any:
    return last(client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hello"))


GOOGLE = {
    "an answer": content,
    "a dict": lambda c: content(c).model_dump(),
    "the JSON": lambda c: content(c).model_dump(mode="json", by_alias=True),
    "the last chunk": last_content,
    "an event of ADK": adk_event,
}


@pytest.mark.ids("B27", "B7")
@pytest.mark.parametrize("kind", GOOGLE)
def test_google_objects_cost_what_was_billed(sim: Simulator, kind: str) -> None:
    sim.set_default(usage={"cache_read_input_tokens": 400, "reasoning_output_tokens": 30})
    tracker = CostTracker(max_budget=5.0)
    cost = GoogleCostExtractor(tracker, default_model="gemini-2.5-flash").record(GOOGLE[kind](genai(sim)))
    assert tracker.spent_nanousd == billed(sim) and cost == tracker.spent


@pytest.mark.ids("B27")
def test_googles_model_is_the_named_one_then_the_answers_then_the_default() -> None:
    usage = {"prompt_token_count": 1000, "candidates_token_count": 100, "total_token_count": 1100}
    extractor = GoogleCostExtractor(CostTracker(), default_model="gemini-2.5-flash")

    def models(body: Any, model: Any = None) -> Any:
        return [each.model for each in extractor.usages(body, model)]

    assert models({"usage_metadata": usage}) == ["gemini-2.5-flash"]
    assert models({"usage_metadata": usage, "model_version": "gemini-2.0-flash"}) == ["gemini-2.0-flash"]
    assert models({"usage_metadata": usage}, "gemini-2.5-pro") == ["gemini-2.5-pro"]

    class Response:
        """What google-generativeai gives: its dicts have the names of protobuf."""

        def to_dict(self) -> Any:
            return {"candidates": [], "usage_metadata": usage}

    assert extractor.record(Response(), model="gemini-2.5-pro") == 0.00225


@pytest.mark.ids("B28")
def test_one_tracker_takes_them_all(sim: Simulator) -> None:
    tracker = CostTracker(max_budget=10.0)
    with openai(sim) as one, anthropic(sim) as two:
        OpenAICostExtractor(tracker, agent_id="a").record(OPENAI["chat"](one))
        AnthropicCostExtractor(tracker, agent_id="b").record(message(two))
    GoogleCostExtractor(tracker).record(content(genai(sim)))
    assert tracker.spent_nanousd == billed(sim) and tracker.call_count == 3
    assert set(tracker.by_agent) == {"a", "b"}
    assert set(tracker.by_model) == {"gpt-4o", "claude-sonnet-4-20250514", "gemini-2.5-flash"}


@pytest.mark.ids("B25")
def test_asynchronous_objects_are_the_same(sim: Simulator) -> None:
    module = pytest.importorskip("openai")
    tracker = CostTracker()

    async def ask() -> None:
        async with module.AsyncOpenAI(api_key="k", base_url=sim.base_url("openai"), max_retries=0) as client:
            extractor = OpenAICostExtractor(tracker)
            extractor.record(await client.chat.completions.create(model="gpt-4o", messages=MESSAGES))

    asyncio.run(ask())
    assert tracker.spent_nanousd == billed(sim)


@pytest.mark.ids("B12", "X1")
def test_a_response_without_usage_has_no_cost_and_is_counted() -> None:
    tracker = CostTracker()
    chunk = {"object": "chat.completion.chunk", "model": "gpt-4o", "choices": [{"delta": {"content": "Hi"}}]}
    assert OpenAICostExtractor(tracker).record(chunk) is None
    assert (tracker.unpriced, tracker.call_count, tracker.spent) == (1, 1, 0.0)


@pytest.mark.ids("B14")
def test_another_host_has_its_own_prices() -> None:
    body = {
        "model": "llama-3.3-70b-versatile",
        "choices": [],
        "usage": {"prompt_tokens": 10**6, "completion_tokens": 0},
    }
    assert OpenAICostExtractor(CostTracker(), provider="groq").record(body) == 0.59


@pytest.mark.ids("D8", "X7", "B23")
def test_equal_responses_are_no_loop_unless_they_are_called_one_action() -> None:
    body = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 1}}
    extractor = OpenAICostExtractor(CostTracker(), agent_id="a")
    for _ in range(20):
        extractor.record(body)
    with pytest.raises(LoopDetected):
        for _ in range(5):
            extractor.record(body, action_type="retry")
    with pytest.raises(BudgetExceeded):
        OpenAICostExtractor(CostTracker(max_budget=0)).record(body)


@pytest.mark.parametrize("thing", [None, "text", 5, [1], object()])
def test_what_is_no_response_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="is no response of an SDK"):
        OpenAICostExtractor(CostTracker()).record(thing)


def test_a_usage_is_read_by_metering_and_kept_whole() -> None:
    body = {
        "object": "response",
        "model": "o3",
        "service_tier": "flex",
        "usage": {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 400},
            "output_tokens": 100,
            "output_tokens_details": {"reasoning_tokens": 60},
        },
    }
    assert OpenAICostExtractor(CostTracker()).usages(body) == [
        TokenUsage("o3", 1000, 100, 400, provider="openai", reasoning_output_tokens=60, service_tier="flex")
    ]
