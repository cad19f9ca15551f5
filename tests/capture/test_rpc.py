"""Calls over gRPC: one receipt each, and gRPC's own objects in the user's hands."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any, Iterator, List

import pytest

import aicostguard
from aicostguard.capture.state import state
from tests.agent import Agent
from tests.capture.tools import both, both_async, only, shown

grpc = pytest.importorskip("grpc")
# A server of gRPC's own makes threads that outlive the test by a moment.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

CHAT = "/xai_api.Chat/GetCompletion"
CHUNKS = "/xai_api.Chat/GetCompletionChunk"
GEMINI = "/google.ai.generativelanguage.v1beta.GenerativeService/GenerateContent"
#: {1: "x", 2: "grok-4"}: the model is field 2
ASK = b"\x0a\x01x\x12\x06grok-4"
OTHER = "/shop.Orders/Get"


@pytest.fixture
def channel(agent: Agent) -> Iterator[Any]:
    with grpc.insecure_channel(agent.simulator.grpc_target()) as made:
        yield made


def xai(agent: Agent) -> Any:
    sdk = pytest.importorskip("xai_sdk")
    return sdk.Client(api_key="x", api_host=agent.simulator.grpc_target(), use_insecure_channel=True)


def chat_of(client: Any) -> Any:
    from xai_sdk.chat import user

    chat = client.chat.create(model="grok-4")
    chat.append(user("hi"))
    return chat


def proto(response: Any) -> Any:
    return [type(response).__name__, response.content, str(response.usage), response.finish_reason]


@pytest.mark.ids("A1", "A5", "B8")
def test_xai(agent: Agent) -> None:
    client = xai(agent)

    def ask() -> Any:
        whole = proto(chat_of(client).sample())
        streamed = [(proto(response), chunk.content) for response, chunk in chat_of(client).stream()]
        return [whole, streamed]

    both(agent, ask)
    agent.balance()
    assert [(r["provider"], r["feature"], r.get("streamed")) for r in agent.settled(2)] == [
        ("xai", "ask", None),
        ("xai", "ask", True),
    ]
    client.close()


@pytest.mark.ids("A1", "A5", "B8")
def test_xai_inside_a_loop(agent: Agent) -> None:
    sdk = pytest.importorskip("xai_sdk")

    async def ask() -> Any:
        target = agent.simulator.grpc_target()
        client = sdk.AsyncClient(api_key="x", api_host=target, use_insecure_channel=True)
        try:
            whole = proto(await chat_of(client).sample())
            streamed = [(proto(response), chunk.content) async for response, chunk in chat_of(client).stream()]
            return [whole, streamed]
        finally:
            await client.close()

    both_async(agent, ask)
    agent.balance()
    assert [(r["feature"], r.get("streamed")) for r in agent.settled(2)] == [("ask", None), ("ask", True)]
    assert not any(r.get("partial") for r in agent.receipts)


@pytest.mark.ids("B8", "C4")
def test_what_xai_says_of_usage(agent: Agent, channel: Any) -> None:
    agent.simulator.set_default(
        usage={
            "input_tokens": 900,
            "output_tokens": 500,
            "reasoning_output_tokens": 300,
            "cache_read_input_tokens": 128,
            "input_image_tokens": 64,
            "search_units": 5,
            "reported_cost_nanousd": 1_234_500,
        },
        tool_calls=["1", "1", "3", "4", "7"],
    )
    channel.unary_unary(CHAT)(ASK)
    agent.balance()
    receipt = only(agent)
    assert (receipt["output_tokens"], receipt["reasoning_output_tokens"]) == (500, 300)
    assert (receipt["web_searches"], receipt["tool_calls_billed"]) == (2, 1)
    assert receipt["model"] == "grok-4"


@pytest.mark.ids("A6")
def test_methods_of_other_services_are_left_alone(agent: Agent, channel: Any) -> None:
    """Neither copied nor tapped: the very object answers, by the very functions it was made with."""
    seen: List[Any] = []

    def told(data: bytes) -> bytes:
        seen.append(data)
        return data

    other = channel.unary_unary(OTHER, request_serializer=told, response_deserializer=told)
    assert other(b"abc") == b"abc"
    assert other._response_deserializer is told
    assert seen == [b"abc", b"abc"]
    assert other.future(b"x").result() == b"x"
    assert channel.unary_unary("/xai_api.Tokenize/TokenizeText")(b"") == b""  # AI's, and free
    assert agent.receipts == []


@pytest.mark.ids("A6", "A5")
def test_the_call_object_keeps_what_it_can_do(agent: Agent, channel: Any) -> None:
    def use() -> Any:
        out: List[Any] = []
        unary, stream = channel.unary_unary(CHAT), channel.unary_stream(CHUNKS)
        message, call = unary.with_call(ASK, timeout=10, metadata=(("a", "b"),))
        out += [shown(type(message)), type(call).__name__, call.code(), call.details(), call.trailing_metadata()]
        future = unary.future(ASK)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        out += [type(future).__name__, type(future.result()), future.code(), future.cancelled(), future.done()]
        assert done.wait(5)
        calls: List[str] = []
        ended = threading.Event()
        rendezvous = stream(ASK)
        out.append(rendezvous.add_callback(ended.set))
        calls += [type(message).__name__ for message in rendezvous]
        assert ended.wait(5)
        out += [type(rendezvous).__name__, calls, rendezvous.code(), rendezvous.details(), rendezvous.is_active()]
        out.append(rendezvous.time_remaining())
        return out

    both(agent, use)
    agent.balance()
    assert len(agent.settled(3)) == 3


@pytest.mark.ids("A6", "A5")
def test_the_call_object_keeps_what_it_can_do_inside_a_loop(agent: Agent) -> None:
    async def use() -> Any:
        out: List[Any] = []
        async with grpc.aio.insecure_channel(agent.simulator.grpc_target()) as channel:
            call = channel.unary_unary(CHAT)(ASK, timeout=10)
            done: List[bool] = []
            call.add_done_callback(lambda _: done.append(True))
            out += [type(call).__name__, type(await call), await call.code(), call.cancelled(), call.done()]
            read = channel.unary_stream(CHUNKS)(ASK)
            while True:
                message = await read.read()
                out.append(type(message).__name__)
                if message is grpc.aio.EOF:
                    break
            out += [type(read).__name__, await read.code(), await read.details(), await read.trailing_metadata()]
            iterated = channel.unary_stream(CHUNKS)(ASK)
            out.append([type(message).__name__ async for message in iterated])
            return [shown(item) for item in out] + [done]

    both_async(agent, use)
    agent.balance()
    assert len(agent.settled(3)) == 3


@pytest.mark.ids("B10")
@pytest.mark.parametrize("how", ["cancel", "drop", "cut"])
def test_a_stream_that_is_left(how: str, agent: Agent, channel: Any) -> None:
    agent.simulator.set_default(
        delay_ms=0 if how == "cut" else 60, chunks=5, **({"cut_after": 3} if how == "cut" else {})
    )
    stream = channel.unary_stream(CHUNKS)(ASK)
    next(stream)
    next(stream)
    if how == "cancel":
        stream.cancel()
    elif how == "drop":
        del stream
        gc.collect()
    else:
        with pytest.raises(grpc.RpcError):
            list(stream)
    receipt = agent.settled(1)[0]
    assert receipt["partial"] is True
    # What had come by then: each chunk says how much.
    assert receipt["output_tokens"] == (3 if how == "cut" else 2)
    time.sleep(0.1)
    assert len(agent.receipts) == 1


@pytest.mark.ids("B10", "A7")
@pytest.mark.parametrize("how", ["cancel", "break", "cut", "task"])
def test_a_stream_that_is_left_inside_a_loop(how: str, agent: Agent) -> None:
    agent.simulator.set_default(
        delay_ms=0 if how == "cut" else 60, chunks=5, **({"cut_after": 3} if how == "cut" else {})
    )

    async def take(stream: Any, count: int) -> None:
        async for _ in stream:
            count -= 1
            if not count:
                break

    async def use() -> None:
        async with grpc.aio.insecure_channel(agent.simulator.grpc_target()) as channel:
            stream = channel.unary_stream(CHUNKS)(ASK)
            if how == "cut":
                with pytest.raises(grpc.aio.AioRpcError):
                    await take(stream, 9)
            elif how == "task":
                task = asyncio.ensure_future(take(stream, 9))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await take(stream, 2)
                if how == "cancel":
                    assert stream.cancel() is True
            del stream

    asyncio.run(use())
    assert only(agent)["partial"] is True


@pytest.mark.ids("B4")
def test_a_call_that_fails_bills_nothing(agent: Agent, channel: Any) -> None:
    agent.simulator.set_default(status=503)
    for call in (
        channel.unary_unary(CHAT),
        channel.unary_unary(CHAT).with_call,
        lambda d: channel.unary_unary(CHAT).future(d).result(),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(ASK)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    gc.collect()
    assert agent.receipts == []


@pytest.mark.ids("B1")
def test_behind_an_interceptor(agent: Agent, channel: Any) -> None:
    class Passing(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            return proceed(details, request)

        def intercept_unary_stream(self, proceed: Any, details: Any, request: Any) -> Any:
            return proceed(details, request)

    behind = grpc.intercept_channel(channel, Passing())
    behind.unary_unary(CHAT)(ASK)
    assert len(list(behind.unary_stream(CHUNKS)(ASK))) == 4
    agent.balance()


@pytest.mark.ids("B17")
def test_many_at_once_keep_their_labels(agent: Agent, channel: Any) -> None:
    """One callable, used by many threads: each call has a tap of its own."""
    unary = channel.unary_unary(CHAT)

    def ask(number: int) -> None:
        with aicostguard.labels(user="u%d" % number):
            unary(ASK + bytes([0x1A, 1, 65 + number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agent.balance()
    assert sorted(receipt["user"] for receipt in agent.settled(12)) == sorted("u%d" % n for n in range(12))


@pytest.mark.ids("B7", "B12")
def test_gemini_without_usage(agent: Agent, channel: Any) -> None:
    agent.simulator.set_default(no_usage=True, model="gemini-2.5-flash")
    channel.unary_unary(GEMINI)(b"\x0a\x17models/gemini-2.5-flash")
    receipt = only(agent)
    assert (receipt["provider"], receipt["model"], receipt["usage_missing"]) == ("google", "gemini-2.5-flash", True)


@pytest.mark.ids("A6")
def test_an_unknown_method_of_a_known_service_is_counted(agent: Agent, channel: Any) -> None:
    from aicostguard.health import health

    assert channel.unary_unary("/xai_api.Chat/Dream")(b"abc") == b"abc"
    assert health.counters["unrecognised"] == 1
    assert agent.receipts == []


@pytest.mark.ids("B16")
def test_receipts_of_rpc_are_awaited(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline mode inside a loop: on the wire before the answer is given, without blocking the loop."""
    awaited: List[Any] = []

    async def adeliver(receipts: Any) -> None:
        await asyncio.sleep(0)
        awaited.extend(receipts)

    agent.off()
    monkeypatch.setattr(state, "inline", True)
    agent.on()
    monkeypatch.setattr(state, "adeliver", adeliver)

    async def use() -> None:
        async with grpc.aio.insecure_channel(agent.simulator.grpc_target()) as channel:
            await channel.unary_unary(CHAT)(ASK)
            assert len(awaited) == 1
            assert len([message async for message in channel.unary_stream(CHUNKS)(ASK)]) == 4
            assert len(awaited) == 2

    asyncio.run(use())
    assert agent.receipts == []


@pytest.mark.ids("A12")
def test_abandoned_streams_leave_nothing(agent: Agent, channel: Any) -> None:
    from aicostguard.capture.transports.grpc import Tap

    agent.simulator.set_default(delay_ms=1)
    stream = channel.unary_stream(CHUNKS)
    for _ in range(60):
        next(stream(ASK))
    agent.settled(60)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        gc.collect()
        left = [thing for thing in gc.get_objects() if type(thing) is Tap]
        if not left:
            break
        time.sleep(0.05)
    assert left == []
    assert len(agent.receipts) == 60
