"""What is called, in which library, in which way: the rows of the matrix.

A case is a function that makes one logical call and gives back what its user sees. Names and modes are those of the
measured landscape: `sync`, `async`, `stream`, `astream`. Imports stand inside the functions, because each case runs
in an environment that has its own library and little else.
"""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

HI: Any = [{"role": "user", "content": "hi"}]
CLAUDE = "claude-sonnet-4-6"
USAGE = {"stream": True, "stream_options": {"include_usage": True}}

Url = Callable[[str], str]


class Case(NamedTuple):
    """One function and the modes it serves. `build` makes the client, so that the agent may come after it."""

    build: Callable[[Url, str], Any]
    call: Callable[[Any, str], Any]
    modes: Tuple[str, ...]


CASES: Dict[str, Case] = {}
ALL_MODES = ("sync", "async", "stream", "astream")


def case(name: str, build: Callable[[Url, str], Any], modes: Tuple[str, ...] = ALL_MODES) -> Callable[..., Any]:
    def register(call: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        CASES[name] = Case(build, call, modes)
        return call

    return register


def is_async(mode: str) -> bool:
    return mode.startswith("a")


def drain(stream: Any) -> List[Any]:
    """Every event of a stream, as its user would take it."""
    with stream as events:
        return list(events)


async def adrain(stream: Any) -> List[Any]:
    return [event async for event in stream]


def both(client: Any, mode: str, method: Callable[..., Any], streamed: Dict[str, Any], **given: Any) -> Any:
    """Call a method in one of the four ways and take everything it gives."""
    if mode == "sync":
        return method(**given)
    if mode == "stream":
        return list(method(**given, **streamed))

    async def run() -> Any:
        try:
            result = await method(**given, **(streamed if mode == "astream" else {}))
            return [event async for event in result] if mode == "astream" else result
        finally:
            close = getattr(client, "close", None)
            if close is not None:
                await close()

    return asyncio.run(run())


# OpenAI -----------------------------------------------------------------------------------------------------------


def openai_client(url: Url, mode: str, **more: Any) -> Any:
    import openai

    kind = openai.AsyncOpenAI if is_async(mode) else openai.OpenAI
    return kind(base_url=url("openai") + "/v1", api_key="x", max_retries=0, **more)


@case("openai.chat", openai_client)
def openai_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)


@case("openai.chat_stream_nousage", openai_client, ("stream",))
def openai_chat_stream_nousage(client: Any, mode: str) -> Any:
    return list(client.chat.completions.create(model="gpt-4o", messages=HI, stream=True))


def azure_client(url: Url, mode: str) -> Any:
    import openai

    kind = openai.AsyncAzureOpenAI if is_async(mode) else openai.AzureOpenAI
    return kind(azure_endpoint=url("azure"), api_key="x", api_version="2024-10-21", max_retries=0)


@case("openai.azure", azure_client)
def openai_azure(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)


def aiohttp_openai_client(url: Url, mode: str) -> Any:
    import openai

    return openai_client(url, mode, http_client=openai.DefaultAioHttpClient())


@case("openai.aiohttp", lambda url, mode: url, ("async", "astream"))
def openai_aiohttp(url: Any, mode: str) -> Any:
    async def run() -> Any:  # its client needs a running loop
        async with aiohttp_openai_client(url, mode) as client:
            more = USAGE if mode == "astream" else {}
            result = await client.chat.completions.create(model="gpt-4o", messages=HI, **more)
            return [event async for event in result] if mode == "astream" else result

    return asyncio.run(run())


def http_library(client_class: Any) -> Any:
    """The HTTP library that an SDK's client stands on: httpx or httpx2."""
    import sys

    for base in client_class.__mro__:
        root = base.__module__.split(".")[0]
        if root in ("httpx", "httpx2"):
            return sys.modules[root]
    raise LookupError(client_class)


def custom_http_client(url: Url, mode: str) -> Any:
    import openai

    library = http_library(openai.DefaultHttpxClient)
    return openai_client(url, mode, http_client=library.AsyncClient() if is_async(mode) else library.Client())


@case("openai.custom_http_client", custom_http_client, ("sync", "async", "stream"))
def openai_custom_http_client(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)


def custom_transport_client(url: Url, mode: str) -> Any:
    import urllib.request

    import openai

    library = http_library(openai.DefaultHttpxClient)

    class Urllib(library.BaseTransport):  # type: ignore[name-defined, misc]
        def handle_request(self, request: Any) -> Any:
            asked = urllib.request.Request(
                str(request.url), request.read(), dict(request.headers), method=request.method
            )
            with urllib.request.urlopen(asked) as reply:
                return library.Response(
                    reply.status, headers=reply.getheaders(), stream=library.ByteStream(reply.read())
                )

    return openai_client(url, mode, http_client=library.Client(transport=Urllib()))


@case("openai.custom_transport", custom_transport_client, ("sync",))
def openai_custom_transport(client: Any, mode: str) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=HI)


def legacy_client(url: Url, mode: str) -> Any:
    import httpx

    return openai_client(url, mode, http_client=httpx.AsyncClient() if is_async(mode) else httpx.Client())


@case("openai.legacy_httpx_client", legacy_client, ("sync", "async", "stream"))
def openai_legacy_httpx_client(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)


def openai_module(url: Url, mode: str) -> Any:
    import openai

    openai.api_key, openai.base_url = "x", url("openai") + "/v1/"  # type: ignore[assignment]
    return openai


@case("openai.module_level", openai_module, ("sync",))
def openai_module_level(module: Any, mode: str) -> Any:
    return module.chat.completions.create(model="gpt-4o", messages=HI)


@case("openai.embeddings", openai_client, ("sync", "async"))
def openai_embeddings(client: Any, mode: str) -> Any:
    return both(client, mode, client.embeddings.create, {}, model="text-embedding-3-small", input="hi " * 40)


@case("openai.completions", openai_client)
def openai_completions(client: Any, mode: str) -> Any:
    return both(client, mode, client.completions.create, USAGE, model="gpt-3.5-turbo-instruct", prompt="hi")


@case("openai.raw_response", openai_client)
def openai_raw_response(client: Any, mode: str) -> Any:
    if mode in ("sync", "async"):
        raw = both(client, mode, client.chat.completions.with_raw_response.create, {}, model="gpt-4o", messages=HI)
        return raw.parse()
    streaming = client.chat.completions.with_streaming_response
    given: Any = {"model": "gpt-4o", "messages": HI, **USAGE}
    if mode == "stream":
        with streaming.create(**given) as response:
            return list(response.iter_lines())

    async def run() -> Any:
        async with client, streaming.create(**given) as response:
            return [line async for line in response.iter_lines()]

    return asyncio.run(run())


@case("openai.responses", openai_client)
def openai_responses(client: Any, mode: str) -> Any:
    return both(client, mode, client.responses.create, {"stream": True}, model="gpt-5", input="hi")


@case("openai.responses_background", openai_client, ("sync",))
def openai_responses_background(client: Any, mode: str) -> Any:
    response = client.responses.create(model="gpt-5", input="hi", background=True)
    for _ in range(5):
        if response.status not in ("queued", "in_progress"):
            break
        response = client.responses.retrieve(response.id)
    return client.responses.retrieve(response.id)


@case("openai.stream_helpers", openai_client, ("stream", "astream"))
def openai_stream_helpers(client: Any, mode: str) -> Any:
    home = client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
    given: Any = {"model": "gpt-4o", "messages": HI, "stream_options": {"include_usage": True}}
    if mode == "stream":
        with home.stream(**given) as stream:
            return [*stream, stream.get_final_completion()]

    async def run() -> Any:
        async with client, home.stream(**given) as stream:
            return [*[event async for event in stream], await stream.get_final_completion()]

    return asyncio.run(run())


# Anthropic --------------------------------------------------------------------------------------------------------


def anthropic_client(url: Url, mode: str, **more: Any) -> Any:
    import anthropic

    kind = anthropic.AsyncAnthropic if is_async(mode) else anthropic.Anthropic
    return kind(base_url=url("anthropic"), api_key="x", max_retries=0, **more)


@case("anthropic.messages", anthropic_client)
def anthropic_messages(client: Any, mode: str) -> Any:
    return both(client, mode, client.messages.create, {"stream": True}, model=CLAUDE, max_tokens=50, messages=HI)


@case("anthropic.stream_helper", anthropic_client, ("stream", "astream"))
def anthropic_stream_helper(client: Any, mode: str) -> Any:
    given: Any = {"model": CLAUDE, "max_tokens": 50, "messages": HI}
    if mode == "stream":
        with client.messages.stream(**given) as stream:
            return [*stream.text_stream, stream.get_final_message()]

    async def run() -> Any:
        async with client, client.messages.stream(**given) as stream:
            return [*[text async for text in stream.text_stream], await stream.get_final_message()]

    return asyncio.run(run())


@case("anthropic.aiohttp", lambda url, mode: url, ("async", "astream"))
def anthropic_aiohttp(url: Any, mode: str) -> Any:
    import anthropic

    async def run() -> Any:
        async with anthropic_client(url, mode, http_client=anthropic.DefaultAioHttpClient()) as client:
            more = {"stream": True} if mode == "astream" else {}
            result = await client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, **more)
            return [event async for event in result] if mode == "astream" else result

    return asyncio.run(run())


def anthropic_vertex_client(url: Url, mode: str) -> Any:
    import anthropic

    kind = anthropic.AsyncAnthropicVertex if is_async(mode) else anthropic.AnthropicVertex
    return kind(base_url=url("vertex") + "/v1", region="us-east5", project_id="p", access_token="x", max_retries=0)


@case("anthropic.vertex", anthropic_vertex_client)
def anthropic_vertex(client: Any, mode: str) -> Any:
    given: Any = {"model": "claude-sonnet-4@20250514", "max_tokens": 50, "messages": HI}
    return both(client, mode, client.messages.create, {"stream": True}, **given)


def anthropic_bedrock_client(url: Url, mode: str) -> Any:
    import anthropic

    kind = anthropic.AsyncAnthropicBedrock if is_async(mode) else anthropic.AnthropicBedrock
    return kind(base_url=url("bedrock"), aws_region="us-east-1", aws_access_key="x", aws_secret_key="x", max_retries=0)


@case("anthropic.bedrock", anthropic_bedrock_client)
def anthropic_bedrock(client: Any, mode: str) -> Any:
    given: Any = {"model": "anthropic.claude-3-5-sonnet-20241022-v2:0", "max_tokens": 50, "messages": HI}
    return both(client, mode, client.messages.create, {"stream": True}, **given)


# Google -----------------------------------------------------------------------------------------------------------


def google_client(url: Url, mode: str) -> Any:
    from google import genai

    return genai.Client(api_key="x", http_options={"base_url": url("google")})


def google_call(client: Any, mode: str) -> Any:
    given: Any = {"model": "gemini-2.5-flash", "contents": "hi"}
    if mode == "sync":
        return client.models.generate_content(**given)
    if mode == "stream":
        return list(client.models.generate_content_stream(**given))

    async def run() -> Any:
        models = client.aio.models
        try:
            if mode == "async":
                return await models.generate_content(**given)
            return [chunk async for chunk in await models.generate_content_stream(**given)]
        finally:
            if hasattr(client.aio, "aclose"):
                await client.aio.aclose()

    return asyncio.run(run())


case("google-genai", google_client)(google_call)
case("google-genai.aiohttp_client", google_client, ("async", "astream"))(google_call)


def google_env_httpx_client(url: Url, mode: str) -> Any:
    import os

    os.environ["GOOGLE_GENAI_HTTP_CLIENT"] = "httpx"
    return google_client(url, mode)


case("google-genai.env_httpx", google_env_httpx_client, ("sync", "async"))(google_call)


def google_vertex_client(url: Url, mode: str) -> Any:
    import google.oauth2.credentials
    from google import genai

    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=google.oauth2.credentials.Credentials(token="x"),
        http_options={"base_url": url("vertex")},
    )


case("google-genai.vertex", google_vertex_client)(google_call)


@case("google-genai.embed", google_client, ("sync",))
def google_embed(client: Any, mode: str) -> Any:
    return client.models.embed_content(model="gemini-embedding-001", contents="hi")


# SDKs of the same two generators ------------------------------------------------------------------------------------


def stainless(module: str, names: Tuple[str, str], provider: str, path: str, model: str) -> None:
    def build(url: Url, mode: str) -> Any:
        import importlib

        kind = getattr(importlib.import_module(module), names[is_async(mode)])
        return kind(base_url=url(provider) + path, api_key="x", max_retries=0)

    def call(client: Any, mode: str) -> Any:
        return both(client, mode, client.chat.completions.create, {"stream": True}, model=model, messages=HI)

    case({"cerebras.cloud.sdk": "cerebras", "perplexity": "perplexityai"}.get(module, module), build)(call)


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


# No SDK at all ----------------------------------------------------------------------------------------------------

BODY: Any = {"model": "gpt-4o", "messages": HI}


def httpx_like(name: str) -> None:
    def build(url: Url, mode: str) -> Any:
        import importlib

        library = importlib.import_module(name)
        return library.AsyncClient(base_url=url("openai")) if is_async(mode) else library.Client(base_url=url("openai"))

    def call(client: Any, mode: str) -> Any:
        path = "/v1/chat/completions"
        if mode == "sync":
            return client.post(path, json=BODY).json()
        if mode == "stream":
            with client.stream("POST", path, json={**BODY, **USAGE}) as response:
                return list(response.iter_lines())

        async def run() -> Any:
            async with client:
                if mode == "async":
                    return (await client.post(path, json=BODY)).json()
                async with client.stream("POST", path, json={**BODY, **USAGE}) as response:
                    return [line async for line in response.aiter_lines()]

        return asyncio.run(run())

    case("raw." + name, build)(call)


httpx_like("httpx")
httpx_like("httpx2")


@case("raw.aiohttp", lambda url, mode: url, ("async", "astream"))
def raw_aiohttp(url: Any, mode: str) -> Any:
    import aiohttp

    async def run() -> Any:
        async with aiohttp.ClientSession() as session:
            body = {**BODY, **USAGE} if mode == "astream" else BODY
            async with session.post(url("openai") + "/v1/chat/completions", json=body) as response:
                if mode == "async":
                    return await response.json()
                return [line async for line in response.content]

    return asyncio.run(run())


def requests_session(url: Url, mode: str) -> Any:
    import requests

    session = requests.Session()
    session.base = url("openai") + "/v1/chat/completions"  # type: ignore[attr-defined]
    return session


@case("raw.requests", requests_session, ("sync", "stream"))
def raw_requests(session: Any, mode: str) -> Any:
    if mode == "sync":
        return session.post(session.base, json=BODY).json()
    with session.post(session.base, json={**BODY, **USAGE}, stream=True) as response:
        return list(response.iter_lines())
