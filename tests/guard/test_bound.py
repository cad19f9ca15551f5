"""The most that a call can use, from its request: never below what it did use, and unknown where nobody can tell."""

from __future__ import annotations

import collections
import json
from typing import Any, Dict, List, Optional, Tuple

import pytest

from aicostguard.guard import bound
from aicostguard.guard.bound import MEDIA, NO_MAXIMUM, OUTSIDE, TOOLS, UNREADABLE
from aicostguard.metering import Endpoint, recognise
from aicostguard.pricing import default_book
from tests.metering import test_corpus

HI = [{"role": "user", "content": "hi"}]
OPENAI = ("api.openai.com", "/v1/chat/completions")
RESPONSES = ("api.openai.com", "/v1/responses")
CLAUDE = ("api.anthropic.com", "/v1/messages")
GEMINI = ("generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-flash:generateContent")


def asked(where: Tuple[str, str], body: Any) -> bound.Asked:
    endpoint = recognise("POST", where[0], 443, where[1])
    assert isinstance(endpoint, Endpoint)
    return bound.read(endpoint, body if isinstance(body, bytes) or body is None else json.dumps(body).encode())


@pytest.mark.ids("ACC:Z2", "D1")
@pytest.mark.parametrize(
    "where, body, output",
    [
        (OPENAI, {"max_tokens": 100}, 100),
        (OPENAI, {"max_completion_tokens": 100, "n": 3}, 300),
        (OPENAI, {"max_completion_tokens": 100, "max_tokens": 7}, 100),
        (RESPONSES, {"input": "hi", "max_output_tokens": 64}, 64),
        (RESPONSES, {"input": [{"type": "reasoning", "encrypted_content": "gAAAAA"}], "max_output_tokens": 64}, 64),
        (OPENAI, {"max_completion_tokens": 9, "audio": {"voice": "alloy", "format": "wav"}}, 9),
        (CLAUDE, {"max_tokens": 1024}, 1024),
        (GEMINI, {"contents": [], "generationConfig": {"maxOutputTokens": 50, "candidateCount": 4}}, 200),
        (("api.openai.com", "/v1/completions"), {"prompt": "hi"}, 16),
        (("api.openai.com", "/v1/completions"), {"prompt": ["a", "b", "c"], "max_tokens": 5, "best_of": 4}, 60),
        (("api.openai.com", "/v1/completions"), {"prompt": [1, 2, 3], "max_tokens": 5}, 5),
        (("api.openai.com", "/v1/embeddings"), {"input": "hi"}, 0),
        (("api.cohere.com", "/v2/chat"), {"max_tokens": 9}, 9),
        (("api.cohere.com", "/v2/rerank"), {"query": "q", "documents": ["a", "b"]}, 0),
        (
            ("bedrock-runtime.us-east-1.amazonaws.com", "/model/amazon.nova-lite-v1:0/converse"),
            {"inferenceConfig": {"maxTokens": 77}},
            77,
        ),
        (
            ("bedrock-runtime.us-east-1.amazonaws.com", "/model/meta.llama3-8b-instruct-v1:0/invoke"),
            {"prompt": "hi", "max_gen_len": 20},
            20,
        ),
    ],
)
def test_the_maximum_is_where_each_format_states_it(where: Any, body: Dict[str, Any], output: int) -> None:
    given = {"model": "m", "messages": HI, **body}
    found = asked(where, given)
    assert (found.output_tokens, found.unknown) == (output, None)
    assert found.input_tokens is not None and found.input_tokens >= len(json.dumps(given).encode())


@pytest.mark.ids("ACC:Z2")
@pytest.mark.parametrize(
    "where, body, why",
    [
        (OPENAI, {}, NO_MAXIMUM),
        (OPENAI, {"max_tokens": None}, NO_MAXIMUM),
        (OPENAI, {"max_tokens": "100"}, NO_MAXIMUM),
        (OPENAI, {"max_tokens": -1}, NO_MAXIMUM),
        (OPENAI, {"max_tokens": 5, "n": "3"}, NO_MAXIMUM),
        (("my.gateway.test", "/v1/completions"), {"prompt": "hi"}, NO_MAXIMUM),
        (RESPONSES, {"max_output_tokens": 5, "previous_response_id": "resp_1"}, OUTSIDE),
        (RESPONSES, {"max_output_tokens": 5, "conversation": "conv_1"}, OUTSIDE),
        (RESPONSES, {"max_output_tokens": 5, "prompt": {"id": "pmpt_1"}}, OUTSIDE),
        (RESPONSES, {"max_output_tokens": 5, "input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, OUTSIDE),
        (RESPONSES, {"max_output_tokens": 5, "input": [{"type": "image_generation_call", "id": "ig_1"}]}, OUTSIDE),
        (RESPONSES, {"max_output_tokens": 5, "tools": [{"type": "web_search"}]}, TOOLS),
        (RESPONSES, {"max_output_tokens": 5, "tools": [{"type": "code_interpreter"}]}, TOOLS),
        (RESPONSES, {"max_output_tokens": 5, "tools": [{"type": "mcp", "name": "x"}]}, TOOLS),
        (RESPONSES, {"max_output_tokens": 5, "tools": ["web_search"]}, TOOLS),
        (CLAUDE, {"max_tokens": 5, "tools": [{"type": "web_search_20260101", "name": "web_search"}]}, TOOLS),
        (CLAUDE, {"max_tokens": 5, "mcp_servers": [{"url": "u"}]}, TOOLS),
        (CLAUDE, {"max_tokens": 5, "messages": [{"content": [{"type": "image", "source": {"data": "x"}}]}]}, MEDIA),
        (CLAUDE, {"max_tokens": 5, "messages": [{"content": [{"type": "document", "source": {}}]}]}, MEDIA),
        (OPENAI, {"max_tokens": 5, "messages": [{"content": [{"image_url": {"url": "http://x"}}]}]}, MEDIA),
        (OPENAI, {"max_tokens": 5, "messages": [{"content": [{"type": "file", "file": {"file_id": "f"}}]}]}, OUTSIDE),
        (OPENAI, {"max_tokens": 5, "web_search_options": {"a": 1}}, TOOLS),
        (OPENAI, {"max_tokens": 5, "model": "gpt-4o-search-preview"}, TOOLS),
        (("api.perplexity.ai", "/chat/completions"), {"max_tokens": 5, "model": "sonar-pro"}, TOOLS),
        (OPENAI, {"max_tokens": 5, "messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, OUTSIDE),
        (("openrouter.ai", "/api/v1/chat/completions"), {"max_tokens": 5, "models": ["a", "b"]}, OUTSIDE),
        (("openrouter.ai", "/api/v1/chat/completions"), {"max_tokens": 5, "preset": "mine"}, OUTSIDE),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 5}, "tools": {"google_search": {}}}, TOOLS),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 5}, "tools": [{"google_search": {}}]}, TOOLS),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 5}, "cachedContent": "cachedContents/1"}, OUTSIDE),
        (
            GEMINI,
            {"generationConfig": {"maxOutputTokens": 5}, "contents": [{"parts": [{"inlineData": {"data": "x"}}]}]},
            MEDIA,
        ),
        (("api.openai.com", "/v1/images/generations"), {"prompt": "x"}, OUTSIDE),
        (OPENAI, None, UNREADABLE),
        (OPENAI, b"", UNREADABLE),
        (OPENAI, b"\x1f\x8b\x08gzip", UNREADABLE),
        (OPENAI, b"[]", UNREADABLE),
        (OPENAI, b"{", UNREADABLE),
    ],
)
def test_what_nobody_can_bound_is_said_to_be_unknown(where: Any, body: Any, why: str) -> None:
    given = {"model": "m", "messages": HI, **body} if isinstance(body, dict) else body
    endpoint = recognise("POST", where[0], 443, where[1], (("my.gateway.test", None, None),))
    assert isinstance(endpoint, Endpoint)
    found = bound.read(endpoint, json.dumps(given).encode() if isinstance(given, dict) else given)
    assert found.unknown == why
    assert found.input_tokens is None or why == NO_MAXIMUM


@pytest.mark.ids("ACC:Z2", "A15", "B15")
def test_words_are_no_content_from_outside() -> None:
    """Text that looks like a part, schemas of the caller's tools, documents of text."""
    said = 'a "file_id": "f", an "image" and {"type": "image", "image_url": "x"}'
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"image": {"type": "string"}}}}}
    assert asked(OPENAI, {"model": "m", "max_tokens": 5, "messages": [{"content": said}]}).unknown is None
    assert asked(OPENAI, {"model": "m", "max_tokens": 5, "messages": HI, "tools": [tool]}).unknown is None
    text = {"type": "document", "source": {"type": "text", "data": "words"}}
    assert asked(CLAUDE, {"model": "m", "max_tokens": 5, "messages": [{"content": [text]}]}).unknown is None


@pytest.mark.ids("ACC:Z2")
def test_tools_that_the_provider_explains_cost_input() -> None:
    plain = {"model": "m", "max_tokens": 5, "messages": HI}
    local = {**plain, "tools": [{"type": "bash_20250124", "name": "bash"}]}
    without, with_tools = asked(CLAUDE, plain), asked(CLAUDE, local)
    assert without.input_tokens is not None and with_tools.input_tokens is not None
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing: up to 700 for one tool
    assert with_tools.input_tokens - without.input_tokens > 1700


#: recordings whose request was shortened by hand, so that it is smaller than what was sent
SHORTENED = ("very very long system prompt",)


@test_corpus.pytestmark
@pytest.mark.ids("ACC:Z2", "D1")
def test_no_recorded_call_used_more_than_its_bound() -> None:
    """Tokens and price, for every billable exchange whose bound is known."""
    book = default_book()
    known, unknown = collections.Counter[str](), collections.Counter[Optional[str]]()
    priced = 0
    over: List[Any] = []
    for case in test_corpus.in_scope():
        endpoint = test_corpus.found(case)
        if not case["truth"].get("billable") or any(word in str(case["request_body"]) for word in SHORTENED):
            continue
        used = [r for r in test_corpus.read(case) if r.usage is not None and not r.pending]
        if not used:
            continue
        found = bound.read(endpoint, test_corpus.arguments(case, endpoint)[3]())
        if found.unknown is not None:
            unknown[found.unknown] += 1
            continue
        known[endpoint.format] += 1
        assert found.input_tokens is not None and found.output_tokens is not None
        tokens_in = sum(r.usage.input_tokens or 0 for r in used if r.usage)
        tokens_out = sum(r.usage.output_tokens or 0 for r in used if r.usage)
        if tokens_in > found.input_tokens or tokens_out > found.output_tokens:
            over.append((case["id"], found, tokens_in, tokens_out))
        for reading in used:
            assert reading.usage is not None
            parts = {k: v for k, v in reading.usage._asdict().items() if v is not None}
            provider, model = reading.provider or endpoint.provider, reading.model or found.model or "unknown"
            receipt: Dict[str, Any] = {"provider": provider, "model": model, **parts}
            if reading.service_tier:
                receipt["service_tier"] = reading.service_tier
            cost = book.price(receipt, NOW).cost_nanousd
            most = book.ceiling(
                provider,
                model,
                input_tokens_max=found.input_tokens,
                output_tokens_max=found.output_tokens,
                at_ms=NOW,
                service_tier=found.tier,
                operation=reading.operation,
                region=endpoint.region,
            )
            if cost is not None and most is not None:
                priced += 1
                if cost > most:
                    over.append((case["id"], cost, most))
    print("\nbounds known:", sum(known.values()), dict(known), "priced:", priced, "unknown:", dict(unknown))
    assert over == []
    assert sum(known.values()) > 500 and priced > 300


NOW = 1_795_000_000_000


@pytest.mark.ids("ACC:Z2")
@pytest.mark.parametrize("more", [{"echo": True}, {"prediction": {"type": "content", "content": "abc"}}])
def test_input_that_may_be_billed_as_output_once_more(more: Dict[str, Any]) -> None:
    """An echo comes back as output, and what was predicted and not taken is billed as such."""
    body = json.dumps({"model": "gpt-4o", "messages": [], "prompt": "abc", "max_tokens": 7, **more}).encode()
    for path in ("/v1/completions", "/v1/chat/completions"):
        endpoint = recognise("POST", "api.openai.com", 443, path)
        assert isinstance(endpoint, Endpoint)
        found = bound.read(endpoint, body)
        assert found.unknown is None and found.output_tokens == 7 + len(body)
