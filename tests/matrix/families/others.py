"""SDKs of the providers that do not speak OpenAI's language, and of some that do, with an SDK of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import HI, USAGE, Url, adrain, both, case, drain, environment, is_async

PROMPT = "hi"


# --- Cohere ------------------------------------------------------------------------------------------------------
def cohere_client(url: Url, mode: str) -> Any:
    import cohere

    kind = cohere.AsyncClientV2 if is_async(mode) else cohere.ClientV2
    return kind(api_key="x", base_url=url("cohere"))


def streamed_apart(client: Any, mode: str, plain: Any, stream: Any, **given: Any) -> Any:
    """A client with a method for streams; in its asynchronous twin that method is no coroutine."""
    if mode == "sync":
        return plain(**given)
    if mode == "stream":
        return list(stream(**given))

    async def run() -> Any:
        if mode == "async":
            return await plain(**given)
        return [event async for event in stream(**given)]

    return asyncio.run(run())


@case("cohere", cohere_client)
def cohere_chat(client: Any, mode: str) -> Any:
    return streamed_apart(client, mode, client.chat, client.chat_stream, model="command-a-03-2025", messages=HI)


def cohere_v1_client(url: Url, mode: str) -> Any:
    import cohere

    kind = cohere.AsyncClient if is_async(mode) else cohere.Client
    return kind(api_key="x", base_url=url("cohere"))


@case("cohere.v1", cohere_v1_client)
def cohere_chat_v1(client: Any, mode: str) -> Any:
    return streamed_apart(client, mode, client.chat, client.chat_stream, model="command-r", message=PROMPT)


@case("cohere.embed", cohere_client, ("sync", "async"))
def cohere_embed(client: Any, mode: str) -> Any:
    given = {"model": "embed-v4.0", "texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]}
    return both(client, mode, client.embed, {}, **given)


@case("cohere.rerank", cohere_client, ("sync", "async"))
def cohere_rerank(client: Any, mode: str) -> Any:
    return both(client, mode, client.rerank, {}, model="rerank-v3.5", query="q", documents=["a", "b"])


# --- Ollama ------------------------------------------------------------------------------------------------------
def ollama_client(url: Url, mode: str) -> Any:
    import ollama

    return (ollama.AsyncClient if is_async(mode) else ollama.Client)(host=url("ollama"))


@case("ollama", ollama_client)
def ollama_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat, {"stream": True}, model="llama3.2", messages=HI)


@case("ollama.generate", ollama_client)
def ollama_generate(client: Any, mode: str) -> Any:
    return both(client, mode, client.generate, {"stream": True}, model="llama3.2", prompt=PROMPT)


@case("ollama.embed", ollama_client, ("sync", "async"))
def ollama_embed(client: Any, mode: str) -> Any:
    return both(client, mode, client.embed, {}, model="all-minilm", input=["a", "b"])


def ollama_module(url: Url, mode: str) -> Any:
    import ollama

    # The functions of the module are methods of a client that was made with it.
    ollama.chat.__self__._client._base_url = ollama.Client(host=url("ollama"))._client._base_url
    return ollama


@case("ollama.module_level", ollama_module, ("sync",))
def ollama_module_level(module: Any, mode: str) -> Any:
    return module.chat(model="llama3.2", messages=HI)


# --- Hugging Face ------------------------------------------------------------------------------------------------
def hub_client(url: Url, mode: str) -> Any:
    import huggingface_hub

    kind = huggingface_hub.AsyncInferenceClient if is_async(mode) else huggingface_hub.InferenceClient
    return kind(base_url=url("huggingface") + "/v1", token="x")


@case("huggingface_hub", hub_client)
def hub_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat_completion, USAGE, model="meta-llama/Llama-3.3-70B", messages=HI)


def hub_endpoint(url: Url, mode: str) -> Any:
    import huggingface_hub

    kind = huggingface_hub.AsyncInferenceClient if is_async(mode) else huggingface_hub.InferenceClient
    return kind(url("huggingface"), token="x")


@case("huggingface_hub.text_generation", hub_endpoint)
def hub_generate(client: Any, mode: str) -> Any:
    return both(client, mode, client.text_generation, {"stream": True}, prompt=PROMPT, details=True)


# --- Replicate ---------------------------------------------------------------------------------------------------
def replicate_client(url: Url, mode: str) -> Any:
    import replicate

    return replicate.Client(api_token="x", base_url=url("replicate"))


@case("replicate", replicate_client)
def replicate_run(client: Any, mode: str) -> Any:
    given: Any = {"input": {"prompt": PROMPT}}
    if mode == "sync":
        return client.run("meta/llama", **given)
    if mode == "stream":
        return [str(event) for event in client.stream("meta/llama", **given)]

    async def run() -> Any:
        if mode == "async":
            return await client.async_run("meta/llama", **given)
        return [str(event) async for event in await client.async_stream("meta/llama", **given)]

    return asyncio.run(run())


@case("replicate.polled", replicate_client, ("sync", "async"))
def replicate_polled(client: Any, mode: str) -> Any:
    given: Any = {"model": "meta/llama", "input": {"prompt": PROMPT}}
    if mode == "sync":
        prediction = client.predictions.create(**given)
        prediction.wait()
        prediction.reload()
        return prediction.output

    async def run() -> Any:
        prediction = await client.predictions.async_create(**given)
        await prediction.async_wait()
        await prediction.async_reload()
        return prediction.output

    return asyncio.run(run())


# --- Writer, Fireworks, AI21, Z.ai -------------------------------------------------------------------------------
def writer_client(url: Url, mode: str) -> Any:
    import writerai

    kind = writerai.AsyncWriter if is_async(mode) else writerai.Writer
    return kind(api_key="x", base_url=url("writer"), max_retries=0)


@case("writer-sdk", writer_client, imports="writerai")
def writer_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.chat, USAGE, model="palmyra-x5", messages=HI)


@case("writer-sdk.completions", writer_client, imports="writerai")
def writer_completions(client: Any, mode: str) -> Any:
    return both(client, mode, client.completions.create, {"stream": True}, model="palmyra-x5", prompt=PROMPT)


def fireworks_client(url: Url, mode: str) -> Any:
    import fireworks

    kind = fireworks.AsyncFireworks if is_async(mode) else fireworks.Fireworks
    return kind(api_key="x", base_url=url("fireworks") + "/inference", max_retries=0)


@case("fireworks-ai", fireworks_client, imports="fireworks")
def fireworks_chat(client: Any, mode: str) -> Any:
    model = "accounts/fireworks/models/llama-v3p3-70b-instruct"
    return both(client, mode, client.chat.completions.create, {"stream": True}, model=model, messages=HI)


def ai21_client(url: Url, mode: str) -> Any:
    import ai21

    kind = ai21.AsyncAI21Client if is_async(mode) else ai21.AI21Client
    return kind(api_key="x", api_host=url("ai21") + "/studio/v1", num_retries=0)


@case("ai21", ai21_client)
def ai21_chat(client: Any, mode: str) -> Any:
    from ai21.models.chat import ChatMessage

    given = {"model": "jamba-large", "messages": [ChatMessage(role="user", content="hi")]}
    method = client.chat.completions.create
    if mode == "sync":
        return method(**given)
    if mode == "stream":
        return list(method(**given, stream=True))

    async def run() -> Any:
        if mode == "async":
            return await method(**given)
        return await adrain(await method(**given, stream=True))

    return asyncio.run(run())


def zhipuai_client(url: Url, mode: str) -> Any:
    import zhipuai

    return zhipuai.ZhipuAI(api_key="a.b", base_url=url("zhipuai") + "/api/paas/v4", max_retries=0)


@case("zhipuai", zhipuai_client, ("sync", "stream"))
def zhipuai_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, {"stream": True}, model="glm-4.6", messages=HI)


# --- Voyage ------------------------------------------------------------------------------------------------------
def voyage_client(url: Url, mode: str) -> Any:
    import voyageai

    kind = voyageai.AsyncClient if is_async(mode) else voyageai.Client
    return kind(api_key="x", base_url=url("voyage") + "/v1", max_retries=0)


@case("voyageai", voyage_client, ("sync", "async"))
def voyage_embed(client: Any, mode: str) -> Any:
    return both(client, mode, client.embed, {}, texts=["a", "b"], model="voyage-3.5")


@case("voyageai.rerank", voyage_client, ("sync", "async"))
def voyage_rerank(client: Any, mode: str) -> Any:
    return both(client, mode, client.rerank, {}, query="q", documents=["a", "b"], model="rerank-2.5")


# --- DashScope ---------------------------------------------------------------------------------------------------
def dashscope_module(url: Url, mode: str) -> Any:
    import dashscope

    dashscope.base_http_api_url = url("dashscope") + "/api/v1"
    dashscope.api_key = "x"
    return dashscope


@case("dashscope", dashscope_module)
def dashscope_call(module: Any, mode: str) -> Any:
    given: Any = {"model": "qwen-plus", "messages": HI, "result_format": "message"}
    if mode == "sync":
        return module.Generation.call(**given)
    if mode == "stream":
        return list(module.Generation.call(**given, stream=True, incremental_output=True))

    async def run() -> Any:
        from dashscope.aigc.generation import AioGeneration

        if mode == "async":
            return await AioGeneration.call(**given)
        return [event async for event in await AioGeneration.call(**given, stream=True)]

    return asyncio.run(run())


# --- Azure AI Inference ------------------------------------------------------------------------------------------
def azure_client(url: Url, mode: str) -> Any:
    from azure.core.credentials import AzureKeyCredential

    if is_async(mode):
        from azure.ai.inference.aio import ChatCompletionsClient as Client
    else:
        from azure.ai.inference import ChatCompletionsClient as Client  # type: ignore[assignment]
    return Client(endpoint=url("azure") + "/models", credential=AzureKeyCredential("x"))


@case("azure-ai-inference", azure_client, imports="azure.ai.inference")
def azure_inference(client: Any, mode: str) -> Any:
    given: Any = {"messages": HI, "model": "gpt-4o"}
    options = {"model_extras": {"stream_options": {"include_usage": True}}}
    if mode == "sync":
        return client.complete(**given)
    if mode == "stream":
        return drain(client.complete(**given, stream=True, **options))

    async def run() -> Any:
        async with client:
            if mode == "async":
                return await client.complete(**given)
            return await adrain(await client.complete(**given, stream=True, **options))

    return asyncio.run(run())


_COHERE = ("cohere", "cohere.v1", "cohere.embed", "cohere.rerank")
_OLLAMA = ("ollama", "ollama.generate", "ollama.embed", "ollama.module_level")
_HUB = ("huggingface_hub", "huggingface_hub.text_generation")

environment("cohere-5.21.1", ("cohere==5.21.1",), _COHERE)
environment("cohere-7.3.1", ("cohere==7.3.1",), _COHERE, True)
environment("ollama-0.6.3", ("ollama==0.6.3",), _OLLAMA, True)
environment("huggingface_hub-0.36.2", ("huggingface_hub==0.36.2", "aiohttp"), _HUB)
environment("huggingface_hub-2.4.0", ("huggingface_hub==2.4.0",), _HUB)
environment("replicate-1.0.7", ("replicate==1.0.7",), ("replicate", "replicate.polled"), True)
environment("writer-sdk-3.0.0", ("writer-sdk==3.0.0",), ("writer-sdk", "writer-sdk.completions"))
environment("fireworks-ai-1.2.28", ("fireworks-ai==1.2.28",), ("fireworks-ai",))
environment("ai21-4.3.0", ("ai21==4.3.0",), ("ai21",))
environment("zhipuai-2.1.5", ("zhipuai==2.1.5.20250825", "sniffio"), ("zhipuai",))
environment("voyageai-0.5.0", ("voyageai==0.5.0",), ("voyageai", "voyageai.rerank"))
environment("dashscope-2.0.2", ("dashscope==2.0.2",), ("dashscope",))
environment("azure-ai-inference-1.0.0b9", ("azure-ai-inference==1.0.0b9", "aiohttp"), ("azure-ai-inference",))
