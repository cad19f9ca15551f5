"""SDKs of providers with clients of their own: nearly each closes, streams and counts in its own way."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict

from tests.matrix.case import HI, LOOP, USAGE, Url, adrain, both, case, environment, is_async

Given = Dict[str, Any]


def streamed(given: Given, mode: str) -> Given:
    """The arguments, with the wish for a stream where the mode has it."""
    return {**given, "stream": True} if "stream" in mode else given


def awaited(made: Callable[[], Awaitable[Any]], mode: str) -> Any:
    """What a coroutine function gives, and all that its stream gives."""

    async def run() -> Any:
        result = await made()
        return await adrain(result) if mode == "astream" else result

    return LOOP.run_until_complete(run())


def either(mode: str, method: Callable[..., Any], given: Given) -> Any:
    """Call a method, of whichever kind, that takes `stream`."""
    if is_async(mode):
        return awaited(lambda: method(**given), mode)
    result = method(**given)
    return list(result) if mode == "stream" else result


def ai21_client(url: Url, mode: str) -> Any:
    import ai21

    kind = ai21.AsyncAI21Client if is_async(mode) else ai21.AI21Client
    return kind(api_key="x", api_host=url("ai21") + "/studio/v1")


@case("ai21", ai21_client)
def ai21_chat(client: Any, mode: str) -> Any:
    from ai21.models.chat import ChatMessage

    messages = [ChatMessage(role="user", content="hi")]
    return either(mode, client.chat.completions.create, streamed({"model": "jamba-mini", "messages": messages}, mode))


def azure_client(url: Url, mode: str) -> Any:
    from azure.ai.inference import ChatCompletionsClient
    from azure.ai.inference.aio import ChatCompletionsClient as AsyncClient
    from azure.core.credentials import AzureKeyCredential

    kind = AsyncClient if is_async(mode) else ChatCompletionsClient
    return kind(url("azure") + "/models", AzureKeyCredential("x"), retry_total=0)


@case("azure-ai-inference", azure_client, imports="azure.ai.inference")
def azure_chat(client: Any, mode: str) -> Any:
    given = streamed({"model": "gpt-4o", "messages": HI}, mode)
    if "stream" in mode:
        given["model_extras"] = {"stream_options": {"include_usage": True}}
    return both(client, mode, client.complete, {}, **given)


def cohere_client(url: Url, mode: str) -> Any:
    import cohere

    return (cohere.AsyncClientV2 if is_async(mode) else cohere.ClientV2)("x", base_url=url("cohere"))


@case("cohere", cohere_client)
def cohere_chat(client: Any, mode: str) -> Any:
    given: Given = {"model": "command-a-03-2025", "messages": HI}
    if mode == "astream":
        return LOOP.run_until_complete(adrain(client.chat_stream(**given)))
    return either(mode, client.chat_stream if mode == "stream" else client.chat, given)


@case("cohere.v1", lambda url, mode: cohere_v1_client(url, mode))
def cohere_v1_chat(client: Any, mode: str) -> Any:
    given: Given = {"model": "command-r", "message": "hi"}
    if mode == "astream":
        return LOOP.run_until_complete(adrain(client.chat_stream(**given)))
    return either(mode, client.chat_stream if mode == "stream" else client.chat, given)


def cohere_v1_client(url: Url, mode: str) -> Any:
    import cohere

    return (cohere.AsyncClient if is_async(mode) else cohere.Client)("x", base_url=url("cohere"))


def dashscope_base(url: Url, mode: str) -> Any:
    return {"model": "qwen-plus", "messages": HI, "api_key": "x", "base_address": url("dashscope") + "/api/v1"}


@case("dashscope", dashscope_base)
def dashscope_generation(given: Given, mode: str) -> Any:
    import dashscope

    asked = {**streamed(given, mode), "result_format": "message"}
    method = dashscope.AioGeneration.call if is_async(mode) else dashscope.Generation.call
    return either(mode, method, asked)


def fireworks_client(url: Url, mode: str) -> Any:
    import fireworks

    kind = fireworks.AsyncFireworks if is_async(mode) else fireworks.Fireworks
    return kind(api_key="x", base_url=url("fireworks") + "/inference", max_retries=0)


@case("fireworks-ai", fireworks_client, imports="fireworks")
def fireworks_chat(client: Any, mode: str) -> Any:
    model = "accounts/fireworks/models/llama-v3p3-70b-instruct"
    return both(client, mode, client.chat.completions.create, {"stream": True}, model=model, messages=HI)


def hub_client(url: Url, mode: str) -> Any:
    import huggingface_hub

    kind = huggingface_hub.AsyncInferenceClient if is_async(mode) else huggingface_hub.InferenceClient
    return kind(base_url=url("huggingface") + "/v1", api_key="x")


@case("huggingface_hub", hub_client)
def hub_chat(client: Any, mode: str) -> Any:
    given = streamed({"model": "meta-llama/Llama-3.3-70B-Instruct", "messages": HI}, mode)
    if "stream" in mode:
        given["stream_options"] = {"include_usage": True}
    return either(mode, client.chat_completion, given)


def ollama_client(url: Url, mode: str) -> Any:
    import ollama

    return (ollama.AsyncClient if is_async(mode) else ollama.Client)(host=url("ollama"))


@case("ollama", ollama_client)
def ollama_chat(client: Any, mode: str) -> Any:
    return either(mode, client.chat, streamed({"model": "llama3.2", "messages": HI}, mode))


def ollama_module(url: Url, mode: str) -> Any:
    """Its functions belong to a client that is made at import, when nobody knows yet where the simulator listens."""
    import ollama

    ollama.chat.__self__._client.base_url = url("ollama")
    return None


@case("ollama.module_level", ollama_module, ("sync",))
def ollama_module_chat(client: Any, mode: str) -> Any:
    import ollama

    return ollama.chat(model="llama3.2", messages=HI)


def replicate_client(url: Url, mode: str) -> Any:
    import replicate

    return replicate.Client("x", base_url=url("replicate"))


@case("replicate", replicate_client, ("sync", "async"))
def replicate_run(client: Any, mode: str) -> Any:
    given: Given = {"ref": "meta/meta-llama-3-8b-instruct", "input": {"prompt": "hi"}}
    return either(mode, client.async_run if is_async(mode) else client.run, given)


def voyage_client(url: Url, mode: str) -> Any:
    import voyageai

    return (voyageai.AsyncClient if is_async(mode) else voyageai.Client)("x", base_url=url("voyage") + "/v1")


@case("voyageai", voyage_client, ("sync", "async"))
def voyage_embed(client: Any, mode: str) -> Any:
    return either(mode, client.embed, {"texts": ["a", "b"], "model": "voyage-3"}).total_tokens


def writer_client(url: Url, mode: str) -> Any:
    import writerai

    kind = writerai.AsyncWriter if is_async(mode) else writerai.Writer
    return kind(api_key="x", base_url=url("writer"), max_retries=0)


@case("writer-sdk", writer_client, imports="writerai")
def writer_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.chat, USAGE, model="palmyra-x5", messages=HI)


def zhipu_client(url: Url, mode: str) -> Any:
    import zhipuai

    return zhipuai.ZhipuAI(api_key="x.y", base_url=url("zhipuai") + "/api/paas/v4", max_retries=0)


@case("zhipuai", zhipu_client, ("sync", "stream"))
def zhipu_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, {"stream": True}, model="glm-4-plus", messages=HI)


environment("ai21-4.3.0", ("ai21==4.3.0",), ("ai21",))
environment("azure-ai-inference-1.0.0b9", ("azure-ai-inference==1.0.0b9", "aiohttp"), ("azure-ai-inference",))
environment("cohere-5.21.1", ("cohere==5.21.1",), ("cohere", "cohere.v1"))
environment("cohere-7.3.1", ("cohere==7.3.1",), ("cohere", "cohere.v1"))
environment("dashscope-2.0.2", ("dashscope==2.0.2",), ("dashscope",))
environment("fireworks-ai-1.2.28", ("fireworks-ai==1.2.28",), ("fireworks-ai",))
environment("huggingface_hub-0.36.2", ("huggingface_hub==0.36.2", "aiohttp"), ("huggingface_hub",))
environment("huggingface_hub-2.4.0", ("huggingface_hub==2.4.0",), ("huggingface_hub",))
environment("ollama-0.6.3", ("ollama==0.6.3",), ("ollama", "ollama.module_level"))
environment("replicate-1.0.7", ("replicate==1.0.7",), ("replicate",))
environment("voyageai-0.5.0", ("voyageai==0.5.0",), ("voyageai",))
environment("writer-sdk-3.0.0", ("writer-sdk==3.0.0",), ("writer-sdk",))
environment("zhipuai-2.1.5.20250825", ("zhipuai==2.1.5.20250825", "sniffio"), ("zhipuai",))
