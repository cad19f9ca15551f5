"""OpenAI's SDK: its APIs, its clients, its ways of being given an HTTP client."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import HI, USAGE, Url, both, case, environment, is_async


def openai_client(url: Url, mode: str, **more: Any) -> Any:
    import openai

    kind = openai.AsyncOpenAI if is_async(mode) else openai.OpenAI
    return kind(base_url=url("openai") + "/v1", api_key="x", max_retries=0, **more)


@case("openai.chat", openai_client)
def openai_chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)


@case("openai.chat_stream_nousage", openai_client, ("stream",), silent=True)
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


#: a few bytes that stand for a picture, and for a recording
PICTURE: Any = ("cat.png", b"not really a picture", "image/png")
SOUND: Any = ("hi.mp3", b"not really a sound" * 99, "audio/mpeg")


def in_turn(client: Any, mode: str, asks: Any) -> Any:
    """What the generator asks for, one after the other; it is sent each answer."""
    answers = []
    if mode == "sync":
        answer = None
        while True:
            try:
                method, given = asks.send(answer)
            except StopIteration:
                return answers
            answer = method(**given)
            answers.append(answer)

    async def run() -> Any:
        async with client:
            answer = None
            while True:
                try:
                    method, given = asks.send(answer)
                except StopIteration:
                    return answers
                answer = await method(**given)
                answers.append(answer)

    return asyncio.run(run())


def jsonl(rows: Any) -> Any:
    import json

    return ("in.jsonl", b"\n".join(json.dumps(row).encode() for row in rows), "application/jsonl")


@case("openai.other", openai_client, ("sync", "async"))
def openai_other(client: Any, mode: str) -> Any:
    """Pictures, sound, moderation, a batch, a run of an assistant."""

    def asks() -> Any:
        yield client.images.generate, {"model": "gpt-image-1", "prompt": "a cat"}
        yield client.images.generate, {"model": "dall-e-2", "prompt": "a cat", "n": 2}
        yield client.images.edit, {"model": "gpt-image-1", "prompt": "a cat", "image": PICTURE}
        for form in ("json", "verbose_json", "text"):
            yield client.audio.transcriptions.create, {"model": "whisper-1", "file": SOUND, "response_format": form}
        yield client.audio.transcriptions.create, {"model": "gpt-4o-transcribe", "file": SOUND}
        yield client.audio.translations.create, {"model": "whisper-1", "file": SOUND}
        yield client.audio.speech.create, {"model": "tts-1", "voice": "alloy", "input": "hello"}
        yield client.moderations.create, {"input": "hello"}
        lines = [{"custom_id": str(i), "body": {"model": "gpt-4o", "messages": HI * (i + 1)}} for i in range(3)]
        file = yield client.files.create, {"file": jsonl(lines), "purpose": "batch"}
        where: Any = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = yield client.batches.create, {"input_file_id": file.id, **where}
        batch = yield client.batches.retrieve, {"batch_id": batch.id}
        for _ in range(2):
            yield client.files.content, {"file_id": batch.output_file_id}
        threads = client.beta.threads
        thread = yield threads.create, {}
        run = yield threads.runs.create, {"thread_id": thread.id, "assistant_id": "asst_1", "model": "gpt-4o-mini"}
        for _ in range(3):
            yield threads.runs.retrieve, {"thread_id": thread.id, "run_id": run.id}

    return in_turn(client, mode, asks())


def bedrock_alias_client(url: Url, mode: str) -> Any:
    """`httpx` is `httpx2` from here on, and the SDK speaks to Bedrock."""
    import httpx2

    httpx2.alias_httpx()
    import openai

    return openai.BedrockOpenAI(base_url=url("bedrock") + "/openai/v1", api_key="x", max_retries=0)


@case("openai.bedrock_or_alias", bedrock_alias_client, ("sync",))
def openai_bedrock_or_alias(client: Any, mode: str) -> Any:
    answer = client.chat.completions.create(model="openai.gpt-oss-120b-1:0", messages=HI)
    return [answer, client.responses.create(model="openai.gpt-oss-120b-1:0", input="hi")]


_CHAT = ("openai.chat", "openai.azure", "openai.custom_http_client", "openai.embeddings", "openai.completions")
_CHAT += ("openai.raw_response", "openai.other")
_NEWER = (*_CHAT, "openai.responses", "openai.stream_helpers", "openai.aiohttp")
_CURRENT = ("openai.chat_stream_nousage", "openai.custom_transport", "openai.legacy_httpx_client")
_CURRENT += ("openai.module_level", "openai.responses_background")

environment("openai-1.30.5", ("openai==1.30.5", "httpx<0.28"), (*_CHAT, "openai.chat_stream_nousage"), True)
environment("openai-1.109.1", ("openai[aiohttp]==1.109.1",), (*_NEWER, "openai.module_level"))
environment("openai-2.54.0", ("openai[aiohttp]==2.54.0",), _NEWER)
environment("openai-3.54.0-alias", ("openai==3.54.0",), ("openai.bedrock_or_alias",))
environment("openai-3.54.0", ("openai[aiohttp]==3.54.0", "httpx"), (*_NEWER, *_CURRENT), True)
environment("openai-3.57.0", ("openai[aiohttp]==3.57.0", "httpx"), (*_NEWER, *_CURRENT))
