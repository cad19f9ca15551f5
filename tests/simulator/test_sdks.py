"""The real SDKs take the simulator for the provider: what they parse is what was billed.

Each case reads the SDK's own objects by hand, so that a wrong row in the simulator's tables does not cancel out.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Callable, Dict, List, NamedTuple

import pytest

from aicostguard.simulator import Simulator
from aicostguard.usage import Usage

MESSAGES: List[Any] = [{"role": "user", "content": "What does a call cost?"}]
ASKED = {"stream_options": {"include_usage": True}}


class Case(NamedTuple):
    """One SDK on one provider. `plain` and `stream` give the SDK's usage object; `read` our numbers from it."""

    name: str
    provider: str
    module: str
    plain: Callable[[Any], Any]
    stream: Callable[[Any], Any]
    make: Callable[[Any, Simulator, bool], Any]
    read: Callable[[Any], Dict[str, Any]]
    forced: Dict[str, int]


def _openai(provider: str) -> Callable[[Any, Simulator, bool], Any]:
    def make(module: Any, sim: Simulator, is_async: bool) -> Any:
        name = "AsyncOpenAI" if is_async else "OpenAI"
        return getattr(module, name)(api_key="k", base_url=sim.base_url(provider), max_retries=0)

    return make


def _client(provider: str, name: str) -> Callable[..., Any]:
    def make(module: Any, sim: Simulator, is_async: bool) -> Any:
        return getattr(module, ("Async" if is_async else "") + name)(api_key="k", base_url=sim.urls[provider])

    return make


def _together(module: Any, sim: Simulator, is_async: bool) -> Any:
    # before 3.0 the SDK's base URL ends in /v1, since then its paths begin with it
    bare = str(module.Together(api_key="k").base_url).rstrip("/").endswith("/v1") is False
    name = "AsyncTogether" if is_async else "Together"
    return getattr(module, name)(api_key="k", base_url=sim.urls["together"] if bare else sim.base_url("together"))


def _create(**more: Any) -> Callable[[Any], Any]:
    return lambda client: client.chat.completions.create(model="m-1", messages=MESSAGES, **more)


def _chat(usage: Any) -> Dict[str, Any]:
    """OpenAI's own shape: parts are inside."""
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    read = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    prompt = getattr(usage, "prompt_tokens_details", None)
    completion = getattr(usage, "completion_tokens_details", None)
    if prompt is not None:
        read["cache_read_input_tokens"] = prompt.cached_tokens
    if completion is not None:
        read["reasoning_output_tokens"] = completion.reasoning_tokens
    return read


def _costed(usage: Any) -> Dict[str, Any]:
    return {**_chat(usage), "reported_cost_nanousd": round(usage.cost * 1e9)}


def _pplx(usage: Any) -> Dict[str, Any]:
    parts = usage.cost.input_tokens_cost + usage.cost.output_tokens_cost + usage.cost.request_cost
    assert round(parts * 1e9) == round(usage.cost.total_cost * 1e9)
    return {**_chat(usage), "reported_cost_nanousd": round(usage.cost.total_cost * 1e9)}


def _xai(usage: Any) -> Dict[str, Any]:
    reasoning = usage.completion_tokens_details.reasoning_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens + reasoning
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens + reasoning,
        "reasoning_output_tokens": reasoning,
        "cache_read_input_tokens": usage.prompt_tokens_details.cached_tokens,
        "reported_cost_nanousd": usage.cost_in_usd_ticks // 10,
    }


def _deepseek(usage: Any) -> Dict[str, Any]:
    assert usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens == usage.prompt_tokens
    return {**_chat(usage), "cache_read_input_tokens": usage.prompt_cache_hit_tokens}


def _claude(usage: Any) -> Dict[str, Any]:
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    return {
        "input_tokens": usage.input_tokens + read + written,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation_1h_input_tokens": usage.cache_creation.ephemeral_1h_input_tokens,
    }


def _claude_stream(client: Any) -> Any:
    return client.messages.stream(model="claude-9", max_tokens=900, messages=MESSAGES)


def _gemini(usage: Any) -> Dict[str, Any]:
    thoughts = usage.thoughts_token_count or 0
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + thoughts
    return {
        "input_tokens": usage.prompt_token_count,
        "output_tokens": usage.candidates_token_count + thoughts,
        "cache_read_input_tokens": usage.cached_content_token_count,
        "reasoning_output_tokens": usage.thoughts_token_count,
    }


def _genai(module: Any, sim: Simulator, is_async: bool) -> Any:
    client = module.Client(api_key="k", http_options={"base_url": sim.urls["google"]})
    return client.aio if is_async else client


def _mistral(module: Any, sim: Simulator, is_async: bool) -> Any:
    client = module.Mistral(api_key="k", server_url=sim.urls["mistral"])
    return _Suffixed(client.chat, "_async") if is_async else client.chat


class _Suffixed:
    """`complete` → `complete_async`: mistralai and openrouter name their twins so."""

    def __init__(self, inner: Any, suffix: str) -> None:
        self.inner, self.suffix = inner, suffix

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name + self.suffix)


def _openrouter(module: Any, sim: Simulator, is_async: bool) -> Any:
    client = module.OpenRouter(api_key="k", server_url=sim.base_url("openrouter"))
    return _Suffixed(client.chat, "_async") if is_async else client.chat


PARTS = {"input_tokens": 1000, "output_tokens": 500, "cache_read_input_tokens": 300, "reasoning_output_tokens": 120}
CACHED = {key: PARTS[key] for key in ("input_tokens", "output_tokens", "cache_read_input_tokens")}
TWO = {"input_tokens": 1000, "output_tokens": 500}
CLAUDE = {**CACHED, "cache_creation_input_tokens": 200, "cache_creation_1h_input_tokens": 50}


def _case(provider: str, read: Callable[[Any], Dict[str, Any]], forced: Dict[str, int], **more: Any) -> Case:
    make = _openai(provider)
    return Case(
        "openai on " + provider, provider, "openai", _create(), _create(stream=True, **more), make, read, forced
    )


_OWN = _create(), _create(stream=True)
CASES = [
    _case("openai", _chat, PARTS, **ASKED),
    _case("azure", _chat, PARTS, **ASKED),
    _case("vercel", _chat, PARTS, **ASKED),
    _case("custom", _chat, PARTS, **ASKED),
    _case("bedrock", _chat, PARTS, **ASKED),
    _case("google", _chat, TWO, **ASKED),
    _case("cohere", _chat, TWO, **ASKED),
    _case("groq", _chat, PARTS, **ASKED),
    _case("mistral", _chat, CACHED),
    _case("fireworks", _chat, CACHED),
    _case("together", _chat, TWO),
    _case("cerebras", _chat, PARTS),
    _case("deepseek", _deepseek, PARTS),
    _case("xai", _xai, PARTS),
    _case("openrouter", _costed, PARTS),
    Case("groq", "groq", "groq", *_OWN, _client("groq", "Groq"), _chat, PARTS),
    Case("together", "together", "together", *_OWN, _together, _chat, TWO),
    Case("cerebras", "cerebras", "cerebras.cloud.sdk", *_OWN, _client("cerebras", "Cerebras"), _chat, PARTS),
    Case("perplexity", "perplexity", "perplexity", *_OWN, _client("perplexity", "Perplexity"), _pplx, TWO),
    Case(
        "mistral",
        "mistral",
        "mistralai",
        lambda chat: chat.complete(model="m-1", messages=MESSAGES),
        lambda chat: chat.stream(model="m-1", messages=MESSAGES),
        _mistral,
        _chat,
        TWO,
    ),
    Case(
        "openrouter",
        "openrouter",
        "openrouter",
        lambda chat: chat.send(model="m-1", messages=MESSAGES),
        lambda chat: chat.send(model="m-1", messages=MESSAGES, stream=True),
        _openrouter,
        _costed,
        PARTS,
    ),
    Case(
        "anthropic",
        "anthropic",
        "anthropic",
        lambda client: client.messages.create(model="claude-9", max_tokens=900, messages=MESSAGES),
        _claude_stream,
        _client("anthropic", "Anthropic"),
        _claude,
        CLAUDE,
    ),
    Case(
        "google-genai",
        "google",
        "google.genai",
        lambda client: client.models.generate_content(model="gemini-9", contents="What does a call cost?"),
        lambda client: client.models.generate_content_stream(model="gemini-9", contents="What does a call cost?"),
        _genai,
        _gemini,
        PARTS,
    ),
]


def _module(case: Case) -> Any:
    module = pytest.importorskip(case.module)
    if case.name == "mistral" and not hasattr(module, "Mistral"):
        return importlib.import_module("mistralai.client")  # since 2.0
    return module


def _usage(item: Any) -> Any:
    """The usage of a response, a chunk, or a chunk inside an event; None when it carries none."""
    item = getattr(item, "data", item)
    found = getattr(item, "usage", None) or getattr(item, "usage_metadata", None)
    hidden = getattr(item, "x_groq", None)
    return found or (getattr(hidden, "usage", None) if hidden is not None else None)


def _drain(stream: Any) -> Any:
    if hasattr(stream, "__enter__") and hasattr(stream, "__exit__"):
        with stream as inside:
            if hasattr(inside, "get_final_message"):
                return inside.get_final_message().usage
            return _last(list(inside))
    return _last(list(stream))


async def _adrain(stream: Any) -> Any:
    if asyncio.iscoroutine(stream):
        stream = await stream
    if hasattr(stream, "__aenter__") and not hasattr(stream, "__anext__"):
        async with stream as inside:
            if hasattr(inside, "get_final_message"):
                return (await inside.get_final_message()).usage
            return _last([item async for item in inside])
    return _last([item async for item in stream])


def _last(items: List[Any]) -> Any:
    found = [usage for usage in map(_usage, items) if usage is not None]
    assert found, "no usage in the stream"
    return found[-1]


def _same(case: Case, usage: Any, sim: Simulator, streamed: bool) -> None:
    rows = sim.billed()
    assert len(rows) == 1
    row = rows[0]
    assert (row.provider, row.streamed, row.complete) == (case.provider, streamed, True)
    billed = row.usage
    assert isinstance(billed, Usage)
    for field, value in case.read(usage).items():
        assert (getattr(billed, field) or 0) == (value or 0), field
    for field, value in case.forced.items():
        assert getattr(billed, field) == value, field


MODES = ["plain", "stream", "async plain", "async stream"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_sdk_reads_what_was_billed(case: Case, mode: str, sim: Simulator) -> None:
    sim.set_default(usage=case.forced)
    streamed, is_async = mode.endswith("stream"), mode.startswith("async")
    client = case.make(_module(case), sim, is_async)
    act = case.stream if streamed else case.plain

    async def run() -> Any:
        if streamed:
            return await _adrain(act(client))
        return _usage(await act(client))

    if is_async:
        usage = asyncio.run(run())
    else:
        usage = _drain(act(client)) if streamed else _usage(act(client))
    _same(case, usage, sim, streamed)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_openai_responses_plain_streamed_and_by_its_helper(sim: Simulator) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url=sim.base_url("openai"))
    if not hasattr(client, "responses"):
        pytest.skip("this openai has no Responses API")
    sim.set_default(usage={**PARTS, "cache_creation_input_tokens": 100}, text="An answer.")
    plain = client.responses.create(model="gpt-9", input="hi")
    *_, last = client.responses.create(model="gpt-9", input="hi", stream=True)
    with client.responses.stream(model="gpt-9", input="hi") as stream:
        final = stream.get_final_response()
    for response in (plain, last.response, final):
        assert response.output_text == "An answer."
        usage = response.usage
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1000, 500, 1500)
        assert usage.input_tokens_details.cached_tokens == 300
        assert usage.output_tokens_details.reasoning_tokens == 120
    assert [row.usage for row in sim.billed()] == [Usage(**{**PARTS, "cache_creation_input_tokens": 100})] * 3


@pytest.mark.ids("B3")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_background_response_is_billed_once_when_its_usage_first_shows(sim: Simulator) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url=sim.base_url("openai"))
    if not hasattr(client, "responses"):
        pytest.skip("this openai has no Responses API")
    sim.set_default(polls=2)
    seen = [client.responses.create(model="gpt-9", input="hi", background=True)]
    billed = [len(sim.billed())]
    for _ in range(4):
        seen.append(client.responses.retrieve(seen[0].id))
        billed.append(len(sim.billed()))
    assert [r.status for r in seen] == ["queued", "in_progress", "in_progress", "completed", "completed"]
    assert [r.usage is None for r in seen] == [True, True, True, False, False]
    assert billed == [0, 0, 0, 1, 1]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_openai_embeddings_are_the_same_in_base64_and_in_floats(sim: Simulator) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url=sim.base_url("openai"))
    packed = client.embeddings.create(model="e", input=["a", "b"], dimensions=16)
    plain = client.embeddings.create(model="e", input=["a", "b"], dimensions=16, encoding_format="float")
    for left, right in zip(packed.data, plain.data):
        assert list(left.embedding) == pytest.approx(right.embedding, abs=1e-6)
    assert [row.usage.input_tokens for row in sim.billed() if row.usage] == [
        packed.usage.prompt_tokens,
        plain.usage.prompt_tokens,
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_anthropic_on_vertex_and_its_batches(sim: Simulator) -> None:
    anthropic = pytest.importorskip("anthropic")
    pytest.importorskip("google.auth")
    sim.set_default(usage=CLAUDE)
    client = anthropic.AnthropicVertex(
        project_id="p", region="r", access_token="t", base_url=sim.urls["vertex"] + "/v1"
    )
    message = client.messages.create(model="claude-9@20260101", max_tokens=900, messages=MESSAGES)
    assert _claude(message.usage)["input_tokens"] == 1000
    assert [(r.provider, r.model) for r in sim.billed()] == [("vertex", "claude-9-20260101")]
    sim.reset_count()
    direct = anthropic.Anthropic(api_key="k", base_url=sim.urls["anthropic"])
    params = {"model": "claude-9", "max_tokens": 900, "messages": MESSAGES}
    batch = direct.messages.batches.create(requests=[{"custom_id": str(i), "params": params} for i in range(3)])
    assert sim.billed() == []
    assert direct.messages.batches.retrieve(batch.id).processing_status == "ended"
    usages = [row.result.message.usage for row in direct.messages.batches.results(batch.id)]
    list(direct.messages.batches.results(batch.id))  # fetched again: free
    assert [_claude(usage)["input_tokens"] for usage in usages] == [1000] * 3
    assert [(row.service_tier, row.usage) for row in sim.billed()] == [("batch", Usage(**CLAUDE))] * 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_anthropic_on_bedrock_through_botocores_decoder(sim: Simulator) -> None:
    anthropic = pytest.importorskip("anthropic")
    pytest.importorskip("boto3")
    sim.set_default(usage=CLAUDE)
    keys = {"aws_access_key": "a", "aws_secret_key": "b", "aws_region": "us-east-1"}
    client = anthropic.AnthropicBedrock(**keys, base_url=sim.urls["bedrock"])
    name = "us.anthropic.claude-9-20260101-v1:0"
    plain = client.messages.create(model=name, max_tokens=900, messages=MESSAGES)
    with client.messages.stream(model=name, max_tokens=900, messages=MESSAGES) as stream:
        final = stream.get_final_message()
    assert [_claude(m.usage)["input_tokens"] for m in (plain, final)] == [1000, 1000]
    assert [(r.model, r.usage) for r in sim.billed()] == [(name, Usage(**CLAUDE))] * 2
