"""SDKs that come from the generators of OpenAI's and Mistral's."""

from __future__ import annotations

import asyncio
from typing import Any, Tuple

from tests.matrix.case import HI, Url, adrain, both, case, drain, environment, is_async


def stainless(module: str, names: Tuple[str, str], provider: str, path: str, model: str) -> None:
    def build(url: Url, mode: str) -> Any:
        import importlib

        kind = getattr(importlib.import_module(module), names[is_async(mode)])
        return kind(base_url=url(provider) + path, api_key="x", max_retries=0)

    def call(client: Any, mode: str) -> Any:
        return both(client, mode, client.chat.completions.create, {"stream": True}, model=model, messages=HI)

    name = {"cerebras.cloud.sdk": "cerebras", "perplexity": "perplexityai"}.get(module, module)
    case(name, build, imports=module)(call)


stainless("groq", ("Groq", "AsyncGroq"), "groq", "", "llama-3.3-70b-versatile")
stainless("together", ("Together", "AsyncTogether"), "together", "", "meta-llama/Llama-3.3-70B-Instruct-Turbo")
stainless("perplexity", ("Perplexity", "AsyncPerplexity"), "perplexity", "", "sonar")
stainless("cerebras.cloud.sdk", ("Cerebras", "AsyncCerebras"), "cerebras", "", "llama3.1-8b")


def speakeasy(client: Any, mode: str, plain: Any, plain_async: Any, stream: Any, astream: Any, given: Any) -> Any:
    if mode == "sync":
        return plain(**given)
    if mode == "stream":
        return drain(stream(**given))

    async def run() -> Any:
        async with client:
            if mode == "async":
                return await plain_async(**given)
            return await adrain(await astream(**given))

    return asyncio.run(run())


def mistral_client(url: Url, mode: str) -> Any:
    try:
        from mistralai import Mistral
    except ImportError:
        from mistralai.client import Mistral
    return Mistral(api_key="x", server_url=url("mistral"))


@case("mistralai", mistral_client)
def mistral(client: Any, mode: str) -> Any:
    chat = client.chat
    given = {"model": "mistral-small-latest", "messages": HI}
    return speakeasy(client, mode, chat.complete, chat.complete_async, chat.stream, chat.stream_async, given)


def openrouter_client(url: Url, mode: str) -> Any:
    from openrouter import OpenRouter

    return OpenRouter(api_key="x", server_url=url("openrouter") + "/api/v1")


@case("openrouter", openrouter_client)
def openrouter(client: Any, mode: str) -> Any:
    chat = client.chat
    given: Any = {"model": "openai/gpt-4o", "messages": HI}
    if mode in ("stream", "astream"):
        given["stream"] = True
    return speakeasy(client, mode, chat.send, chat.send_async, chat.send, chat.send_async, given)


environment("groq-1.7.0", ("groq==1.7.0",), ("groq",))
environment("together-3.1.1", ("together==3.1.1",), ("together",))
environment("mistralai-1.12.4", ("mistralai==1.12.4",), ("mistralai",))
environment("mistralai-3.7.0", ("mistralai==3.7.0",), ("mistralai",), True)
environment("cerebras-1.91.0", ("cerebras-cloud-sdk==1.91.0",), ("cerebras",))
environment("perplexityai-0.46.1", ("perplexityai==0.46.1",), ("perplexityai",))
environment("openrouter-1.3.84", ("openrouter==1.3.84",), ("openrouter",))
