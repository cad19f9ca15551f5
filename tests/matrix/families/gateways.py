"""Libraries that speak to many providers: LiteLLM, any-llm, aisuite; and instructor, which patches clients."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.matrix.case import CLAUDE, HI, LOOP, Url, case, environment, is_async

# Before LiteLLM is imported, by whoever: its table of prices comes with the package, instead of over the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


def litellm_given(model: str, base: str, **more: Any) -> Any:
    def build(url: Url, mode: str) -> Any:
        provider, _, path = base.partition("/")
        return {"model": model, "api_base": url(provider) + ("/" + path if path else ""), "api_key": "x", **more}

    return build


def litellm_call(given: Any, mode: str) -> Any:
    import litellm

    asked = dict(given, messages=HI)
    if "stream" in mode:
        asked.update(stream=True, stream_options={"include_usage": True})
    if mode == "sync":
        return litellm.completion(**asked).choices[0].message.content
    if mode == "stream":
        return [piece.choices[0].delta.content for piece in list(litellm.completion(**asked)) if piece.choices]

    async def run() -> Any:
        result = await litellm.acompletion(**asked)
        if mode == "async":
            return result.choices[0].message.content
        return [piece.choices[0].delta.content async for piece in result if piece.choices]

    return LOOP.run_until_complete(run())


_PLAIN = ("sync", "async")
case("litellm.openai", litellm_given("openai/gpt-4o", "openai/v1"))(litellm_call)
case("litellm.anthropic", litellm_given("anthropic/" + CLAUDE, "anthropic"))(litellm_call)
case("litellm.gemini", litellm_given("gemini/gemini-2.5-flash", "google/v1beta"))(litellm_call)
case("litellm.azure", litellm_given("azure/gpt-4o", "azure", api_version="2024-10-21"), _PLAIN)(litellm_call)
case("litellm.groq", litellm_given("groq/llama-3.3-70b-versatile", "groq/openai/v1"), _PLAIN)(litellm_call)


@case("litellm.responses", litellm_given("openai/gpt-5", "openai/v1"), _PLAIN)
def litellm_responses(given: Any, mode: str) -> Any:
    import litellm

    if mode == "sync":
        return litellm.responses(input="hi", **given).output[0].type
    return LOOP.run_until_complete(litellm.aresponses(input="hi", **given)).output[0].type


def any_llm_given(provider: str, model: str, base: str) -> Any:
    def build(url: Url, mode: str) -> Any:
        name, _, path = base.partition("/")
        api_base = url(name) + ("/" + path if path else "")
        return {"provider": provider, "model": model, "api_base": api_base, "api_key": "x"}

    return build


def any_llm_call(given: Any, mode: str) -> Any:
    import any_llm

    asked = dict(given, messages=HI)
    if "stream" in mode:
        asked["stream"] = True
        if given["provider"] == "openai":
            asked["stream_options"] = {"include_usage": True}
    if mode == "sync":
        return any_llm.completion(**asked).choices[0].message.content
    if mode == "stream":
        return [piece.choices[0].delta.content for piece in list(any_llm.completion(**asked)) if piece.choices]

    async def run() -> Any:
        result = await any_llm.acompletion(**asked)
        if mode == "async":
            return result.choices[0].message.content
        return [piece.choices[0].delta.content async for piece in result if piece.choices]

    return LOOP.run_until_complete(run())


case("any-llm.openai", any_llm_given("openai", "gpt-4o", "openai/v1"), imports="any_llm")(any_llm_call)
case("any-llm.anthropic", any_llm_given("anthropic", CLAUDE, "anthropic"), imports="any_llm")(any_llm_call)
case("any-llm.gemini", any_llm_given("gemini", "gemini-2.5-flash", "google"), _PLAIN, "any_llm")(any_llm_call)
case("any-llm.mistral", any_llm_given("mistral", "mistral-small", "mistral"), _PLAIN, "any_llm")(any_llm_call)
case("any-llm.huggingface", any_llm_given("huggingface", "m", "huggingface/v1"), _PLAIN, "any_llm")(any_llm_call)


def aisuite_client(url: Url, mode: str) -> Any:
    import aisuite

    return aisuite.Client(
        {
            "openai": {"api_key": "x", "base_url": url("openai") + "/v1", "max_retries": 0},
            "anthropic": {"api_key": "x", "base_url": url("anthropic"), "max_retries": 0},
        }
    )


@case("aisuite.openai", aisuite_client, ("sync",))
def aisuite_openai(client: Any, mode: str) -> Any:
    return client.chat.completions.create(model="openai:gpt-4o", messages=HI).choices[0].message.content


@case("aisuite.anthropic", aisuite_client, ("sync",))
def aisuite_anthropic(client: Any, mode: str) -> Any:
    return client.chat.completions.create(model="anthropic:" + CLAUDE, messages=HI).choices[0].message.content


def instructor_client(url: Url, mode: str) -> Any:
    import instructor
    import openai

    kind = openai.AsyncOpenAI if is_async(mode) else openai.OpenAI
    return instructor.from_openai(
        kind(base_url=url("openai") + "/v1", api_key="x", max_retries=0), mode=instructor.Mode.MD_JSON
    )


@case("instructor", instructor_client, _PLAIN)
def instructor_call(client: Any, mode: str) -> Any:
    given: Any = {"model": "gpt-4o", "messages": HI, "response_model": None}
    if mode == "sync":
        return client.create(**given).choices[0].message.content
    return LOOP.run_until_complete(client.create(**given)).choices[0].message.content


@case("instructor.gather", instructor_client, ("async",), "instructor")
def instructor_gather(client: Any, mode: str) -> Any:
    """Five at once: five receipts."""

    async def run() -> Any:
        asked: Any = {"model": "gpt-4o", "messages": HI, "response_model": None}
        answers = await asyncio.gather(*(client.create(**asked) for _ in range(5)))
        return [answer.choices[0].message.content for answer in answers]

    return LOOP.run_until_complete(run())


_LITELLM = (
    "litellm.openai",
    "litellm.anthropic",
    "litellm.gemini",
    "litellm.azure",
    "litellm.groq",
    "litellm.responses",
)
_ANY_LLM = ("any-llm.openai", "any-llm.anthropic", "any-llm.gemini", "any-llm.mistral", "any-llm.huggingface")
environment("litellm-1.106.2", ("litellm==1.106.2", "mcp"), _LITELLM)
environment("litellm-1.110.2", ("litellm==1.110.2", "mcp"), _LITELLM)
environment("any-llm-1.40.2", ("any-llm-sdk[openai,anthropic,mistral,gemini,huggingface]==1.40.2",), _ANY_LLM)
environment("aisuite-0.2.0", ("aisuite[openai,anthropic]==0.2.0",), ("aisuite.openai", "aisuite.anthropic"))
environment("instructor-1.17.0", ("instructor==1.17.0",), ("instructor", "instructor.gather"))
