"""`AICG_STREAM_USAGE=request`: the provider is asked, the receipt is exact, the caller finds what it would have found.

Each way of reading runs without the agent and with it; what it gives has to be the same, though with us the provider
sends a chunk more and a member more in every other chunk.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import importlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from aicostguard.capture import asking
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering import ask
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.capture.tools import CHAT, EVENTS, HI, both, both_async, fixed, only, shown

PATH = "/v1/chat/completions"
PLAIN: Dict[str, Any] = dict(CHAT, stream=True)
OPTIONS = b',"stream_options":{"include_usage":true}'


class Asking(Agent):
    """The agent with the setting."""

    def on(self) -> None:
        super().on()
        state.ask = True


@pytest.fixture
def agent(simulator: Simulator) -> Iterator[Agent]:
    health.reset()
    asking._hosts.clear()
    agent = Asking(simulator)
    agent.on()
    yield agent
    agent.off()
    asking._hosts.clear()
    assert health.faults == {}


def asked(agent: Agent) -> List[bool]:
    return [b"include_usage" in row.body for row in agent.simulator.exchanges]


def client(agent: Agent, name: str = "OpenAI") -> Any:
    openai = pytest.importorskip("openai")
    return getattr(openai, name)(base_url=agent.url("openai") + "/v1", api_key="x", max_retries=0)


def sdk_stream(c: Any) -> Any:
    return list(c.chat.completions.create(**PLAIN))


def sdk_raw(c: Any) -> Any:
    raw = c.chat.completions.with_raw_response.create(**PLAIN)
    return [list(raw.parse()), raw.headers.get("content-type")]


def sdk_lines(c: Any) -> Any:
    with c.chat.completions.with_streaming_response.create(**PLAIN) as response:
        return list(response.iter_lines())


def sdk_bytes(c: Any) -> Any:
    with c.chat.completions.with_streaming_response.create(**PLAIN) as response:
        return b"".join(response.iter_bytes())


def sdk_read(c: Any) -> Any:
    with c.chat.completions.with_streaming_response.create(**PLAIN) as response:
        return response.read()


def sdk_helper(c: Any) -> Any:
    with c.chat.completions.stream(model="gpt-4o", messages=HI) as stream:
        events = list(stream)
        return [events, stream.get_final_completion()]


SDK = [sdk_stream, sdk_raw, sdk_lines, sdk_bytes, sdk_read, sdk_helper]


@pytest.mark.ids("A15", "B12")
@pytest.mark.parametrize("use", SDK)
def test_the_sdk_shows_what_it_showed(agent: Agent, use: Callable[[Any], Any]) -> None:
    both(agent, lambda: shown(use(client(agent))))
    assert asked(agent) == [True]
    receipt = only(agent)
    agent.balance()
    assert receipt["output_tokens"] > 0 and "usage_missing" not in receipt and "estimated" not in receipt
    assert health.warnings == {}


@pytest.mark.ids("A15", "B12")
@pytest.mark.parametrize("how", ["stream", "lines", "helper"])
def test_the_async_sdk_shows_what_it_showed(agent: Agent, how: str) -> None:
    async def use() -> Any:
        async with client(agent, "AsyncOpenAI") as c:
            if how == "stream":
                return shown([chunk async for chunk in await c.chat.completions.create(**PLAIN)])
            if how == "lines":
                async with c.chat.completions.with_streaming_response.create(**PLAIN) as response:
                    return shown([line async for line in response.iter_lines()])
            async with c.chat.completions.stream(model="gpt-4o", messages=HI) as stream:
                return shown([[event async for event in stream], await stream.get_final_completion()])

    both_async(agent, use)
    assert asked(agent) == [True]
    agent.balance()


def post(library: Any, agent: Agent, **more: Any) -> Any:
    return library.post(agent.url("openai") + PATH, json=PLAIN, **more)


def streamed(read: Callable[[Any], Any]) -> Callable[[Any, Agent], Any]:
    def use(library: Any, agent: Agent, **more: Any) -> Any:
        with library.stream("POST", agent.url("openai") + PATH, json=PLAIN, **more) as response:
            return read(response)

    return use


READS: Dict[str, Callable[..., Any]] = {
    "post": lambda library, agent, **more: post(library, agent, **more).text,
    "post content": lambda library, agent, **more: post(library, agent, **more).content,
    "raw": streamed(lambda response: b"".join(response.iter_raw())),
    "bytes": streamed(lambda response: b"".join(response.iter_bytes())),
    "bytes of seven": streamed(lambda response: b"".join(response.iter_bytes(7))),
    "lines": streamed(lambda response: list(response.iter_lines())),
    "text": streamed(lambda response: "".join(response.iter_text())),
    "read": streamed(lambda response: response.read()),
}


@pytest.mark.ids("A15", "A17")
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_plain_clients(agent: Agent, name: str, read: str) -> None:
    library = pytest.importorskip(name)
    both(agent, lambda: shown(READS[read](library, agent)))
    assert asked(agent) == [True]
    agent.balance()


#: what the fixed stream shows without the chunk that was asked for
SEEN = b"".join(event for event in EVENTS if b'"usage"' not in event)


@pytest.mark.ids("A15")
@pytest.mark.parametrize("name", ["httpx", "httpx2", "requests"])
def test_a_server_that_compresses_all_the_same(agent: Agent, name: str) -> None:
    """It was asked not to. Only who reads the compressed bytes themselves finds the chunk in them."""
    library = pytest.importorskip(name)
    body = gzip.compress(b"".join(EVENTS))
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    agent.simulator.set_default(**fixed(True, body=body, headers=headers))
    url = agent.url("openai") + PATH
    if name == "requests":
        with library.post(url, json=PLAIN, stream=True) as response:
            assert b"".join(response.iter_content(7)) == SEEN
        with library.post(url, json=PLAIN, stream=True) as response:
            assert response.raw.read() == body
    else:
        with library.stream("POST", url, json=PLAIN) as response:
            assert response.read() == SEEN
        with library.stream("POST", url, json=PLAIN) as response:
            assert b"".join(response.iter_raw()) == body
    assert library.post(url, json=PLAIN).content == SEEN
    assert [row["output_tokens"] for row in agent.settled(3)] == [5, 5, 5]


@pytest.mark.ids("A15")
@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_plain_async_clients(agent: Agent, name: str) -> None:
    library = pytest.importorskip(name)

    async def use() -> Any:
        seen = []
        async with library.AsyncClient() as c:
            seen.append((await c.post(agent.url("openai") + PATH, json=PLAIN)).text)
            for read in ("aiter_raw", "aiter_bytes", "aiter_lines"):
                async with c.stream("POST", agent.url("openai") + PATH, json=PLAIN) as response:
                    pieces = [piece async for piece in getattr(response, read)()]
                    seen.append(b"".join(pieces) if isinstance(pieces[0], bytes) else pieces)
        return shown(seen)

    both_async(agent, use)
    assert asked(agent) == [True] * 4
    agent.balance()


REQUESTS: Dict[str, Callable[[Any], Any]] = {
    "content": lambda response: response.content,
    "lines": lambda response: list(response.iter_lines()),
    "content of seven": lambda response: b"".join(response.iter_content(7)),
    "raw.stream": lambda response: b"".join(response.raw.stream(64, decode_content=False)),
    "raw.read": lambda response: response.raw.read(),
    "raw.read of nine": lambda response: nine(response.raw),
    "a file": lambda response: a_file(response.raw),
}


def a_file(raw: Any) -> bytes:
    raw.auto_close = False
    return b"".join(io.BufferedReader(raw))


def nine(raw: Any) -> bytes:
    """Read in nines: never more than was asked for, and nothing is the end."""
    pieces = list(iter(lambda: raw.read(9), b""))
    assert {len(piece) for piece in pieces[:-1]} <= set(range(1, 10))
    return b"".join(pieces)


@pytest.mark.ids("A15")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("read", REQUESTS)
def test_requests(agent: Agent, read: str, stream: bool) -> None:
    requests = pytest.importorskip("requests")
    if importlib.import_module("urllib3").__version__.startswith("1"):
        pytest.skip("stays off with urllib3 before 2")

    def use() -> Any:
        with requests.Session() as session:
            with session.post(agent.url("openai") + PATH, json=PLAIN, stream=stream) as response:
                return shown([REQUESTS[read](response), response.request.body, dict(response.request.headers)])

    both(agent, use)
    assert asked(agent) == [True]
    agent.balance()


AIOHTTP = ["read", "text", "iter_any", "iter_chunks", "readline", "iter_chunked", "readuntil"]


@pytest.mark.ids("A15")
@pytest.mark.parametrize("chunk_size", [0, 11])
@pytest.mark.parametrize("read", AIOHTTP)
def test_aiohttp(agent: Agent, read: str, chunk_size: int) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    agent.simulator.set_default(chunk_size=chunk_size)

    async def use() -> Any:
        async with aiohttp.ClientSession() as session:
            async with session.post(agent.url("openai") + PATH, json=PLAIN) as response:
                content = response.content
                if read in ("read", "text"):
                    return shown(await getattr(response, read)())
                if read == "iter_any":
                    return shown(b"".join([piece async for piece in content.iter_any()]))
                if read == "iter_chunks":
                    return shown(b"".join([piece async for piece, _ in content.iter_chunks()]))
                if read == "iter_chunked":
                    return shown(b"".join([piece async for piece in content.iter_chunked(9)]))
                if read == "readuntil":
                    return shown(await content.readuntil(b"[DONE]"))
                return shown([line async for line in content])

    both_async(agent, use)
    assert asked(agent) == [True]
    if read != "readuntil":
        agent.balance()


@pytest.mark.ids("A15")
def test_aiohttp_counts_what_is_seen(agent: Agent) -> None:
    """Bytes that had arrived before the tap, and bytes after it: sizes, ends of HTTP chunks and the end are right."""
    aiohttp = pytest.importorskip("aiohttp")
    from aicostguard.capture.transports.aiohttp_asking import HidingDeque

    class Quiet:
        call = None
        decoding = True

        def plain(self, data: bytes) -> None:
            pass

    class Protocol:
        _reading_paused = False

        def pause_reading(self) -> None:
            pass

        def resume_reading(self, *args: Any, **kwargs: Any) -> None:
            pass

    async def run() -> None:
        content = aiohttp.StreamReader(Protocol(), 2**16, loop=asyncio.get_running_loop())
        for number, event in enumerate(EVENTS):
            if number == len(EVENTS) - 2:  # the extra chunk is among what has arrived, [DONE] comes later
                content.begin_http_chunk_receiving()
                content.feed_data(event)
                content.end_http_chunk_receiving()
                hide = asking.Answer(None)  # type: ignore[arg-type]
                content._buffer = HidingDeque(Quiet(), content, hide)  # type: ignore[arg-type]
                continue
            content.begin_http_chunk_receiving()
            content.feed_data(event)
            content.end_http_chunk_receiving()
        content.feed_data(b": no blank line")
        content.feed_eof()
        content._buffer.end()
        pieces = [piece async for piece in content.iter_chunks()]
        wanted = [*((event, True) for event in EVENTS if b'"usage"' not in event), (b": no blank line", False)]
        assert pieces == wanted
        assert content._size == 0 and content.total_bytes == sum(len(piece) for piece, _ in wanted)

    asyncio.run(run())


@pytest.mark.ids("A15")
def test_the_callers_objects_stay_as_they_are(agent: Agent) -> None:
    httpx = pytest.importorskip("httpx")
    requests = pytest.importorskip("requests")
    body = copy.deepcopy(PLAIN)
    request = httpx.Request("POST", agent.url("openai") + PATH, json=body)
    before = (request.content, request.stream, dict(request.headers))
    with httpx.Client() as c:
        response = c.send(request, stream=True)
        assert response.request is request
        assert (request.content, request.stream, dict(request.headers)) == before
        response.read()
        c.send(request).read()  # the same object again
    prepared = requests.Request("POST", agent.url("openai") + PATH, json=body).prepare()
    kept = (prepared.body, dict(prepared.headers))
    with requests.Session() as session:
        session.send(prepared).close()
    assert (prepared.body, dict(prepared.headers)) == kept

    async def over_aiohttp() -> None:
        aiohttp = pytest.importorskip("aiohttp")
        async with aiohttp.ClientSession() as session:
            async with session.post(agent.url("openai") + PATH, json=body) as reply:
                await reply.read()

    asyncio.run(over_aiohttp())
    assert body == PLAIN
    assert asked(agent) == [True] * 4


#: request bodies that are left alone, byte for byte
ALONE: Dict[str, Dict[str, Any]] = {
    "not a stream": CHAT,
    "asks already": dict(PLAIN, stream_options={"include_usage": True}),
    "wants none": dict(PLAIN, stream_options={"include_usage": False}),
    "stream is false": dict(CHAT, stream=False),
}


@pytest.mark.ids("A15")
@pytest.mark.parametrize("name", ALONE)
def test_requests_that_are_left_alone(agent: Agent, name: str) -> None:
    httpx = pytest.importorskip("httpx")
    content = json.dumps(ALONE[name]).encode()
    reply = httpx.post(agent.url("openai") + PATH, content=content, headers={"content-type": "application/json"})
    assert agent.simulator.exchanges[-1].body == content
    assert (b'"usage":{' in reply.content) is (name in ("not a stream", "asks already", "stream is false"))


#: headers of a request whose body must not change
SIGNED = [
    {"authorization": "AWS4-HMAC-SHA256 Credential=x"},
    {"x-amz-content-sha256": "0"},
    {"content-digest": "sha-256=:x:"},
    {"digest": "x"},
    {"signature-input": "sig"},
    {"content-encoding": "x-own"},
]


@pytest.mark.ids("A15")
@pytest.mark.parametrize("headers", SIGNED, ids=lambda headers: next(iter(headers)))
def test_signed_requests_are_not_touched(agent: Agent, headers: Dict[str, str]) -> None:
    httpx = pytest.importorskip("httpx")
    httpx.post(agent.url("openai") + PATH, json=PLAIN, headers=headers)
    assert asked(agent) == [False]
    assert health.notes["not_asked: signed or encoded"] == 1


def test_an_unrecognised_path_is_passed_by(agent: Agent) -> None:
    httpx = pytest.importorskip("httpx")
    requests = pytest.importorskip("requests")
    httpx.post(agent.url("openai") + "/v1/nobody/knows", json=PLAIN)
    requests.post(agent.url("openai") + "/v1/nobody/knows", json=PLAIN).close()
    assert asked(agent) == [False, False]
    assert health.counters["unrecognised"] == 2


@pytest.mark.ids("A15")
def test_an_auth_flow_signs_what_goes_out(agent: Agent) -> None:
    """What signs inside the send sees the body that is sent."""
    httpx = pytest.importorskip("httpx")

    class Signs(httpx.Auth):  # type: ignore[name-defined, misc]
        requires_request_body = True

        def auth_flow(self, request: Any) -> Any:
            request.headers["x-sum"] = str(len(request.content))
            yield request

    httpx.post(agent.url("openai") + PATH, json=PLAIN, auth=Signs())
    row = agent.simulator.exchanges[-1]
    assert dict(row.headers)["x-sum"] == str(len(row.body)) and OPTIONS in row.body


def test_where_the_provider_tells_anyway_it_is_not_asked(agent: Agent) -> None:
    httpx = pytest.importorskip("httpx")
    httpx.post(agent.url("mistral") + PATH, json=PLAIN)
    httpx.post(agent.url("openai") + "/v1/completions", json={"model": "m", "prompt": "p", "stream": True})
    assert asked(agent) == [False, False]


def test_off_by_default(agent: Agent) -> None:
    httpx = pytest.importorskip("httpx")
    state.ask = False
    httpx.post(agent.url("openai") + PATH, json=PLAIN)
    assert asked(agent) == [False]
    assert only(agent)["usage_missing"] is True
    assert "AICG_STREAM_USAGE=request" in " ".join(health.warnings.values())


class Picky(BaseHTTPRequestHandler):
    """A server that refuses what it does not know, as strict ones do."""

    seen: List[bytes] = []
    always = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append(body)
        bad = self.always or b"stream_options" in body
        answer = b'{"error": "unknown field"}' if bad else b"".join(EVENTS[:6] + EVENTS[-1:])
        self.send_response(400 if bad else 200)
        self.send_header("content-type", "application/json" if bad else "text/event-stream")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def picky() -> Iterator[str]:
    Picky.seen, Picky.always = [], False
    with ThreadingHTTPServer(("127.0.0.1", 0), Picky) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield "http://127.0.0.1:%d%s" % (server.server_address[1], PATH)
        server.shutdown()
        thread.join()


def by_httpx(url: str) -> int:
    return int(pytest.importorskip("httpx").post(url, json=PLAIN).status_code)


def by_async_httpx(url: str) -> int:
    httpx = pytest.importorskip("httpx")

    async def run() -> int:
        async with httpx.AsyncClient() as c, c.stream("POST", url, json=PLAIN) as response:
            await response.aread()
            return int(response.status_code)

    return asyncio.run(run())


def by_requests(url: str) -> int:
    requests = pytest.importorskip("requests")
    if importlib.import_module("urllib3").__version__.startswith("1"):
        pytest.skip("stays off with urllib3 before 2")
    with requests.post(url, json=PLAIN) as response:
        return int(response.status_code)


def by_aiohttp(url: str, **more: Any) -> int:
    aiohttp = pytest.importorskip("aiohttp")

    async def run() -> int:
        async with aiohttp.ClientSession(**more) as session:
            try:
                async with session.post(url, json=PLAIN) as response:
                    await response.read()
                    return int(response.status)
            except aiohttp.ClientResponseError as error:
                return int(error.status)

    return asyncio.run(run())


def by_raising_aiohttp(url: str) -> int:
    return by_aiohttp(url, raise_for_status=True)


@pytest.mark.ids("A15")
@pytest.mark.parametrize("send", [by_httpx, by_async_httpx, by_requests, by_aiohttp, by_raising_aiohttp])
def test_a_server_that_refuses_the_question(agent: Agent, picky: str, send: Callable[[str], int]) -> None:
    """The caller has its answer all the same; the server is asked once, and that is said."""
    state.hosts = (("127.0.0.1", None, "custom"),)
    assert send(picky) == 200
    assert [b"stream_options" in body for body in Picky.seen] == [True, False]
    assert send(picky) == 200
    assert [b"stream_options" in body for body in Picky.seen] == [True, False, False]
    assert "stream-usage-refused" in health.warnings
    assert [receipt.get("usage_missing") for receipt in agent.settled(2)] == [True, True]


@pytest.mark.ids("A15")
@pytest.mark.parametrize("send", [by_httpx, by_requests, by_aiohttp, by_raising_aiohttp])
def test_a_request_that_is_wrong_anyway(agent: Agent, picky: str, send: Callable[[str], int]) -> None:
    """The error is the server's, to the request as the caller made it; nothing is concluded from it."""
    Picky.always = True
    state.hosts = (("127.0.0.1", None, "custom"),)
    assert send(picky) == 400
    assert [b"stream_options" in body for body in Picky.seen] == [True, False]
    assert asking._hosts == {} and "stream-usage-refused" not in health.warnings
    assert agent.receipts == []


# The two pure functions.


def usage_chunk(**more: Any) -> bytes:
    return b"data: " + json.dumps({"id": "x", "choices": [], "usage": {"prompt_tokens": 1}, **more}).encode() + b"\n\n"


@pytest.mark.ids("A15")
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("last", ["[DONE]", "no [DONE]", "no blank line"])
def test_hidden_however_it_is_split(end: bytes, last: str) -> None:
    events = EVENTS if last == "[DONE]" else EVENTS[:-1]
    whole, wanted = b"".join(events), b"".join(event for event in events if b'"usage"' not in event)
    if last == "no blank line":
        whole = whole[:-2]
    whole, wanted = whole.replace(b"\n\n", end), wanted.replace(b"\n\n", end)
    for cut in range(1, len(whole), 3):
        hidden = ask.Hidden()
        pieces = [hidden.show(whole[:cut]), hidden.show(whole[cut : cut + 7]), hidden.show(whole[cut + 7 :])]
        assert b"".join(pieces) + hidden.rest() == wanted


#: events that are shown as they are
SHOWN: Dict[str, bytes] = {
    "Azure's first": b'data: {"choices":[],"prompt_filter_results":[{}]}\n\n',
    "usage beside choices": b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\n\n',
    "an error": usage_chunk(error={"message": "x"}),
    "an empty usage": usage_chunk(usage={}),
    "a comment": b": OPENROUTER PROCESSING\n\n",
    "text that looks like it": b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":null"}}]}\n\n',
    "a large event": b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % (b"x" * 40_000),
    "no stream": b'{"choices":[],\n\n"usage":{"prompt_tokens":1}}',
}


@pytest.mark.ids("A15", "B15")
@pytest.mark.parametrize("name", SHOWN)
def test_what_is_not_hidden(name: str) -> None:
    for step in (len(SHOWN[name]), 1000):
        hidden = ask.Hidden()
        data = SHOWN[name]
        pieces = [hidden.show(data[at : at + step]) for at in range(0, len(data), step)]
        assert b"".join(pieces) + hidden.rest() == data


@pytest.mark.ids("A9")
def test_whole_events_pass_at_once() -> None:
    """Nothing that can be used waits; what is held of a long event is bounded."""
    hidden = ask.Hidden()
    for event in EVENTS[:6]:
        assert hidden.show(event) == event
    assert hidden.show(EVENTS[6]) == b""
    assert hidden.show(b"data: [DONE]") == b"data: [DONE]"
    hidden = ask.Hidden()
    assert hidden.show(b"data: " + b"x" * ask.HELD) != b""


#: body → what goes out
BODIES: Dict[bytes, Optional[bytes]] = {
    b'{"stream": true, "n": 1.0}\n': b'{"stream": true, "n": 1.0,"stream_options":{"include_usage":true}}\n',
    b'{"stream":true,"stream_options":null}': b'{"stream":true,"stream_options":{"include_usage":true}}',
    b'{"stream":true,"stream_options":{"include_obfuscation":false},"x":"\xc3\xa9"}': (
        b'{"stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true},"x":"\xc3\xa9"}'
    ),
    b'{"stream":true,"stream_options":{"include_usage":false}}': None,
    b'{"stream":true,"stream_options":3}': None,
    b'{"stream":1}': None,
    b'{"stream":"true"}': None,
    b'{"messages":[{"stream":true}]}': None,
    b'["stream"]': None,
    b'{"stream":true': None,
    b"": None,
}


@pytest.mark.ids("A15")
@pytest.mark.parametrize("body", BODIES)
def test_bodies(body: bytes) -> None:
    assert ask.asking(body) == BODIES[body]
