"""Every way to consume a stream of the SDKs, without and with the agent: same types, same events, same order."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from tests.agent import Agent
from tests.capture.tools import CHAT, CLAUDE, GEMINI, HI, STREAM, both, both_async, kind, shown

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")

Ways = Dict[str, Callable[[Any], Any]]


def response_of(response: Any) -> List[Any]:
    """The parts of an HTTP response that SDKs hand out, by type, with what a caller may ask of them."""
    return [
        kind(response), kind(response.stream), kind(response.headers), kind(response.request), response.status_code,
        response.is_closed, response.http_version, response.headers.get("content-type"), sorted(response.extensions),
    ]  # fmt: skip


def o_for(client: Any) -> Any:
    stream = client.chat.completions.create(**STREAM)
    first = [kind(stream), response_of(stream.response), sorted(vars(stream))]
    return [*first, *(shown(event) for event in stream), response_of(stream.response)]


def o_next(client: Any) -> Any:
    stream = client.chat.completions.create(**STREAM)
    seen = []
    while True:
        try:
            seen.append(shown(next(stream)))
        except StopIteration:
            return seen


def o_with(client: Any) -> Any:
    with client.chat.completions.create(**STREAM) as stream:
        return [kind(stream), *(shown(event) for event in stream)]


def o_responses(client: Any) -> Any:
    with client.responses.create(model="gpt-5", input="hi", stream=True) as stream:
        return [shown(event) for event in stream]


def o_responses_helper(client: Any) -> Any:
    with client.responses.stream(model="gpt-5", input="hi") as stream:
        seen = [kind(stream), *(shown(event) for event in stream)]
        return [*seen, shown(stream.get_final_response())]


def o_responses_until_done(client: Any) -> Any:
    with client.responses.stream(model="gpt-5", input="hi") as stream:
        return [kind(stream.until_done()), shown(stream.get_final_response())]


def o_chat_helper(client: Any) -> Any:
    with client.chat.completions.stream(model="gpt-4o", messages=HI, stream_options={"include_usage": True}) as stream:
        seen = [kind(stream), *(shown(event) for event in stream)]
        return [*seen, shown(stream.get_final_completion()), shown(stream.current_completion_snapshot)]


def o_chat_until_done(client: Any) -> Any:
    with client.chat.completions.stream(model="gpt-4o", messages=HI, stream_options={"include_usage": True}) as stream:
        return [kind(stream.until_done()), shown(stream.get_final_completion())]


def o_raw(client: Any) -> Any:
    raw = client.chat.completions.with_raw_response.create(**STREAM)
    return [kind(raw), kind(raw.headers), raw.status_code, *(shown(event) for event in raw.parse())]


def o_raw_whole(client: Any) -> Any:
    raw = client.chat.completions.with_raw_response.create(**CHAT)
    return [kind(raw), kind(raw.http_response), raw.text[:2], shown(raw.parse()), kind(raw.elapsed)]


def o_streaming(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def way(client: Any) -> Any:
        with client.chat.completions.with_streaming_response.create(**STREAM) as response:
            return [kind(response), response_of(response.http_response), read(response)]

    return way


OPENAI: Ways = {
    "for": o_for,
    "next": o_next,
    "with": o_with,
    "responses": o_responses,
    "responses helper": o_responses_helper,
    "responses until_done": o_responses_until_done,
    "chat helper": o_chat_helper,
    "chat until_done": o_chat_until_done,
    "raw": o_raw,
    "raw whole": o_raw_whole,
    "iter_lines": o_streaming(lambda response: [shown(line) for line in response.iter_lines()]),
    "iter_text": o_streaming(lambda response: shown("".join(response.iter_text()))),
    "iter_bytes": o_streaming(lambda response: shown(b"".join(response.iter_bytes()))),
    "iter_bytes(7)": o_streaming(lambda response: shown(b"".join(response.iter_bytes(7)))),
    "iter_raw": o_streaming(lambda response: shown(b"".join(response.http_response.iter_raw()))),
    "read": o_streaming(lambda response: shown(response.read())),
    "parse": o_streaming(lambda response: [shown(event) for event in response.parse()]),
}


def a_for(client: Any) -> Any:
    stream = client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True)
    first = [kind(stream), response_of(stream.response)]
    return [*first, *(shown(event) for event in stream), response_of(stream.response)]


def a_with(client: Any) -> Any:
    with client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True) as stream:
        return [shown(event) for event in stream]


def a_helper(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def way(client: Any) -> Any:
        with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
            return [kind(stream), response_of(stream.response), kind(stream.request_id), read(stream)]

    return way


def a_streaming(client: Any) -> Any:
    with client.messages.with_streaming_response.create(
        model=CLAUDE, max_tokens=50, messages=HI, stream=True
    ) as response:
        return [kind(response), [shown(event) for event in response.parse()]]


ANTHROPIC: Ways = {
    "for": a_for,
    "with": a_with,
    "streaming response": a_streaming,
    "events": a_helper(lambda stream: [shown(event) for event in stream]),
    "next": a_helper(lambda stream: [shown(next(stream)), shown(next(stream)), shown(stream.get_final_message())]),
    "text_stream": a_helper(lambda stream: [list(stream.text_stream), shown(stream.current_message_snapshot)]),
    "get_final_message": a_helper(lambda stream: shown(stream.get_final_message())),
    "get_final_text": a_helper(lambda stream: stream.get_final_text()),
    "until_done": a_helper(lambda stream: [stream.until_done(), shown(stream.get_final_message())]),
    "events, then final": a_helper(lambda stream: [*map(shown, stream), shown(stream.get_final_message())]),
}


def g_for(client: Any) -> Any:
    stream = client.models.generate_content_stream(model=GEMINI, contents="hi")
    return [kind(stream), *(google_shown(chunk) for chunk in stream)]


def g_chat(client: Any) -> Any:
    chat = client.chats.create(model=GEMINI)
    seen = [google_shown(chunk) for chunk in chat.send_message_stream("hi")]
    return [*seen, len(chat.get_history())]


def g_whole(client: Any) -> Any:
    return google_shown(client.models.generate_content(model=GEMINI, contents="hi"))


def google_shown(chunk: Any) -> Any:
    """A chunk without the HTTP headers it carries (they name the date), but with their type."""
    http = chunk.sdk_http_response
    return [shown(chunk.model_copy(update={"sdk_http_response": None})), kind(http), kind(http and http.headers)]


GOOGLE: Ways = {"for": g_for, "chat": g_chat, "whole": g_whole}


@pytest.mark.ids("A1", "A2", "A3", "A5")
@pytest.mark.parametrize("way", list(OPENAI))
def test_openai(agent: Agent, way: str) -> None:
    def use() -> Any:
        with openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
            return OPENAI[way](client)

    both(agent, use)
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("A1", "A2", "A3", "A5")
@pytest.mark.parametrize("way", list(ANTHROPIC))
def test_anthropic(agent: Agent, way: str) -> None:
    def use() -> Any:
        with anthropic.Anthropic(base_url=agent.url("anthropic"), api_key="x") as client:
            return ANTHROPIC[way](client)

    both(agent, use)
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("A1", "A2", "A5")
@pytest.mark.parametrize("way", list(GOOGLE))
def test_google(agent: Agent, way: str) -> None:
    client = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
    both(agent, lambda: GOOGLE[way](client))
    agent.balance()
    assert len(agent.receipts) == 1


async def oa_for(client: Any) -> Any:
    stream = await client.chat.completions.create(**STREAM)
    seen = [kind(stream), response_of(stream.response)]
    async for event in stream:
        seen.append(shown(event))
    return [*seen, response_of(stream.response)]


async def oa_with(client: Any) -> Any:
    async with await client.chat.completions.create(**STREAM) as stream:
        return [kind(stream), [shown(event) async for event in stream]]


async def oa_next(client: Any) -> Any:
    stream = await client.chat.completions.create(**STREAM)
    seen = []
    while True:
        try:
            seen.append(shown(await stream.__anext__()))
        except StopAsyncIteration:
            return seen


async def oa_helper(client: Any) -> Any:
    async with client.chat.completions.stream(
        model="gpt-4o", messages=HI, stream_options={"include_usage": True}
    ) as stream:
        seen = [kind(stream), [shown(event) async for event in stream]]
        return [*seen, shown(await stream.get_final_completion())]


async def oa_responses(client: Any) -> Any:
    async with client.responses.stream(model="gpt-5", input="hi") as stream:
        seen = [kind(stream), [shown(event) async for event in stream]]
        return [*seen, shown(await stream.get_final_response())]


def oa_streaming(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def way(client: Any) -> Any:
        async with client.chat.completions.with_streaming_response.create(**STREAM) as response:
            return [kind(response), response_of(response.http_response), await read(response)]

    return way


async def oa_lines(response: Any) -> Any:
    return [line async for line in response.iter_lines()]


async def oa_bytes(response: Any) -> Any:
    return shown(b"".join([piece async for piece in response.iter_bytes()]))


async def oa_raw_bytes(response: Any) -> Any:
    return shown(b"".join([piece async for piece in response.http_response.aiter_raw()]))


async def oa_read(response: Any) -> Any:
    return shown(await response.read())


async def oa_parse(response: Any) -> Any:
    return [shown(event) async for event in await response.parse()]


def scrubbed(way: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def run(response: Any) -> Any:
        return shown(await way(response))

    return run


OPENAI_ASYNC: Ways = {
    "for": oa_for,
    "with": oa_with,
    "next": oa_next,
    "helper": oa_helper,
    "responses helper": oa_responses,
    "iter_lines": oa_streaming(scrubbed(oa_lines)),
    "iter_bytes": oa_streaming(oa_bytes),
    "iter_raw": oa_streaming(oa_raw_bytes),
    "read": oa_streaming(oa_read),
    "parse": oa_streaming(oa_parse),
}


async def aa_for(client: Any) -> Any:
    stream = await client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True)
    return [kind(stream), response_of(stream.response), [shown(event) async for event in stream]]


async def aa_with(client: Any) -> Any:
    async with await client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True) as stream:
        return [shown(event) async for event in stream]


async def aa_events(client: Any) -> Any:
    async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
        seen = [kind(stream), response_of(stream.response), [shown(event) async for event in stream]]
        return [*seen, shown(await stream.get_final_message()), await stream.get_final_text()]


async def aa_text(client: Any) -> Any:
    async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
        return [[text async for text in stream.text_stream], shown(stream.current_message_snapshot)]


async def aa_until_done(client: Any) -> Any:
    async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
        return [await stream.until_done(), shown(await stream.get_final_message())]


ANTHROPIC_ASYNC: Ways = {
    "for": aa_for, "with": aa_with, "events": aa_events, "text_stream": aa_text, "until_done": aa_until_done,
}  # fmt: skip


async def ga_for(client: Any) -> Any:
    stream = await client.aio.models.generate_content_stream(model=GEMINI, contents="hi")
    return [kind(stream), [google_shown(chunk) async for chunk in stream]]


async def ga_chat(client: Any) -> Any:
    chat = client.aio.chats.create(model=GEMINI)
    return [google_shown(chunk) async for chunk in await chat.send_message_stream("hi")]


GOOGLE_ASYNC: Ways = {"for": ga_for, "chat": ga_chat}


@pytest.mark.ids("A1", "A2", "A3", "A5")
@pytest.mark.parametrize("way", list(OPENAI_ASYNC))
def test_openai_async(agent: Agent, way: str) -> None:
    async def use() -> Any:
        async with openai.AsyncOpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
            return await OPENAI_ASYNC[way](client)

    both_async(agent, use)
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("A1", "A2", "A3", "A5")
@pytest.mark.parametrize("way", list(ANTHROPIC_ASYNC))
def test_anthropic_async(agent: Agent, way: str) -> None:
    async def use() -> Any:
        async with anthropic.AsyncAnthropic(base_url=agent.url("anthropic"), api_key="x") as client:
            return await ANTHROPIC_ASYNC[way](client)

    both_async(agent, use)
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("A1", "A2", "A5")
@pytest.mark.parametrize("way", list(GOOGLE_ASYNC))
def test_google_async(agent: Agent, way: str) -> None:
    async def use() -> Any:
        client = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
        try:
            return await GOOGLE_ASYNC[way](client)
        finally:
            if hasattr(client.aio, "aclose"):
                await client.aio.aclose()

    both_async(agent, use)
    agent.balance()
    assert len(agent.receipts) == 1
