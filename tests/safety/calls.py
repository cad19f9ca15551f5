"""The calls that the trust contract is tried on: real SDKs and HTTP libraries, plain and streamed, sync and async.

Owns the clients, made once because a client costs more than a call, and a table of calls. Each gives what its user
would see as plain data, without what differs from one call to the next (ids and times), so that two runs can be
compared. A library that is not installed has no row.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
from typing import Any, Callable, Dict, List

from aicostguard.simulator import Simulator

HI = [{"role": "user", "content": "hi"}]
GPT, CLAUDE, GEMINI = "gpt-4o", "claude-opus-4-8", "gemini-2.5-flash"
USAGE = {"include_usage": True}
KEY = "sk-simulated"
BEDROCK = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": HI})

_ID = re.compile(r"[0-9a-f]{24,}|call_[0-9a-f]{8,}")
_TIME = re.compile(r"\b1[789]\d{8}(\.\d+)?\b")
_SERIAL = re.compile(r'("date": |"request-id": )"[^"]*"')


def seen(value: Any) -> Any:
    """A result as plain data: its type's name and its content."""
    if isinstance(value, (bytes, str)):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return _scrubbed(text)
    if isinstance(value, (list, tuple)):
        return [seen(item) for item in value]
    dump = getattr(value, "model_dump_json", None)
    if dump is not None:
        return (type(value).__name__, _scrubbed(dump(exclude={"sdk_http_response"})))
    return (type(value).__name__, value if isinstance(value, (int, type(None))) else repr(value))


def _scrubbed(text: str) -> str:
    return _SERIAL.sub("", _TIME.sub("T", _ID.sub("ID", text)))


class Clients:
    """One client per library, all pointed at the simulated providers. `close` when done."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.loop = asyncio.new_event_loop()
        self._made: Dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The client `name`, made when first used."""
        if name not in self._made:
            self._made[name] = _MAKERS[name](self.simulator)
        return self._made[name]

    def run(self, coroutine: Any) -> Any:
        """Run on the loop that all asynchronous clients belong to."""
        return self.loop.run_until_complete(coroutine)

    def close(self) -> None:
        """Close everything."""
        for client in self._made.values():
            closing = (
                getattr(client, "aclose", None) or getattr(client, "close", None) or getattr(client, "clear", None)
            )
            ended = closing() if closing is not None else None
            if asyncio.iscoroutine(ended):
                self.run(ended)
            inner = getattr(getattr(client, "aio", None), "aclose", None)
            if inner is not None:
                self.run(inner())
        self.run(self.loop.shutdown_asyncgens())
        self.run(asyncio.sleep(0))
        self.loop.close()


def _openai(simulator: Simulator) -> Any:
    import openai

    return openai.OpenAI(base_url=simulator.base_url("openai"), api_key=KEY, max_retries=0)


def _openai_async(simulator: Simulator) -> Any:
    import openai

    return openai.AsyncOpenAI(base_url=simulator.base_url("openai"), api_key=KEY, max_retries=0)


def _anthropic(simulator: Simulator) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=simulator.urls["anthropic"], api_key=KEY, max_retries=0)


def _anthropic_async(simulator: Simulator) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(base_url=simulator.urls["anthropic"], api_key=KEY, max_retries=0)


def _google(simulator: Simulator) -> Any:
    from google import genai

    return genai.Client(api_key=KEY, http_options={"base_url": simulator.urls["google"]})


def _httpx(simulator: Simulator) -> Any:
    import httpx

    return httpx.Client()


def _httpx_async(simulator: Simulator) -> Any:
    import httpx

    return httpx.AsyncClient()


def _requests(simulator: Simulator) -> Any:
    import requests

    return requests.Session()


def _aiohttp(simulator: Simulator) -> Any:
    import aiohttp

    return aiohttp.ClientSession()  # first used inside a call, so inside the loop


def _google_live(simulator: Simulator) -> Any:
    from tests.live import gemini

    return gemini(simulator.urls["google"])


def _urllib3(simulator: Simulator) -> Any:
    import urllib3

    return urllib3.PoolManager()


def _bedrock(simulator: Simulator) -> Any:
    import boto3

    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=simulator.urls["bedrock"],
        aws_access_key_id=KEY,
        aws_secret_access_key=KEY,
    )


def _curl(simulator: Simulator) -> Any:
    from curl_cffi import requests

    return requests.Session()


def _niquests(simulator: Simulator) -> Any:
    import niquests

    return niquests.Session()


def _lm15(simulator: Simulator) -> Any:
    from lm15.transports import StdlibTransport

    return StdlibTransport()


def _lm15_async(simulator: Simulator) -> Any:
    from lm15.transports import StdlibAsyncTransport

    return StdlibAsyncTransport()


_MAKERS: Dict[str, Callable[[Simulator], Any]] = {
    "google live": _google_live,
    "openai": _openai,
    "openai async": _openai_async,
    "anthropic": _anthropic,
    "anthropic async": _anthropic_async,
    "google": _google,
    "httpx": _httpx,
    "httpx async": _httpx_async,
    "requests": _requests,
    "aiohttp": _aiohttp,
    "urllib3": _urllib3,
    "bedrock": _bedrock,
    "curl_cffi": _curl,
    "niquests": _niquests,
    "lm15": _lm15,
    "lm15 async": _lm15_async,
}

Ask = Callable[[Clients], Any]
#: name → the call; filled below
CALLS: Dict[str, Ask] = {}


def _needs(module: str) -> Callable[[Ask], Ask]:
    try:
        there = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        there = False

    def add(ask: Ask) -> Ask:
        if there:
            CALLS[ask.__name__] = ask
        return ask

    return add


def names(*starts: str) -> List[str]:
    """The names of the calls that start like this."""
    return [name for name in CALLS if name.startswith(starts)]


@_needs("openai")
def openai_plain(clients: Clients) -> Any:
    return seen(clients["openai"].chat.completions.create(model=GPT, messages=HI))


@_needs("openai")
def openai_stream(clients: Clients) -> Any:
    return seen(
        list(clients["openai"].chat.completions.create(model=GPT, messages=HI, stream=True, stream_options=USAGE))
    )


@_needs("openai")
def openai_broken_off(clients: Clients) -> Any:
    with clients["openai"].chat.completions.create(model=GPT, messages=HI, stream=True) as stream:
        return seen(next(iter(stream)))


@_needs("openai")
def openai_responses(clients: Clients) -> Any:
    client = clients["openai"]
    return [
        seen(client.responses.create(model="gpt-5", input="hi")),
        seen(list(client.responses.create(model="gpt-5", input="hi", stream=True))),
    ]


@_needs("openai")
def openai_other(clients: Clients) -> Any:
    client = clients["openai"]
    return [
        seen(client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi")),
        seen(client.embeddings.create(model="text-embedding-3-small", input="hi " * 50, dimensions=512)),
    ]


@_needs("openai")
def openai_async_plain(clients: Clients) -> Any:
    async def ask() -> Any:
        return seen(await clients["openai async"].chat.completions.create(model=GPT, messages=HI))

    return clients.run(ask())


@_needs("openai")
def openai_async_stream(clients: Clients) -> Any:
    async def ask() -> Any:
        stream = await clients["openai async"].chat.completions.create(
            model=GPT, messages=HI, stream=True, stream_options=USAGE
        )
        return seen([event async for event in stream])

    return clients.run(ask())


@_needs("anthropic")
def anthropic_plain(clients: Clients) -> Any:
    return seen(clients["anthropic"].messages.create(model=CLAUDE, max_tokens=50, messages=HI))


@_needs("anthropic")
def anthropic_stream(clients: Clients) -> Any:
    with clients["anthropic"].messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
        return seen([stream.get_final_message()])


@_needs("anthropic")
def anthropic_async_plain(clients: Clients) -> Any:
    async def ask() -> Any:
        return seen(await clients["anthropic async"].messages.create(model=CLAUDE, max_tokens=50, messages=HI))

    return clients.run(ask())


@_needs("anthropic")
def anthropic_async_stream(clients: Clients) -> Any:
    async def ask() -> Any:
        client = clients["anthropic async"]
        async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=HI) as stream:
            return seen([event.type async for event in stream])

    return clients.run(ask())


@_needs("google.genai")
def google_plain(clients: Clients) -> Any:
    models = clients["google"].models
    return [
        seen(models.generate_content(model=GEMINI, contents="hi")),
        seen(models.embed_content(model="gemini-embedding-001", contents="hi")),
    ]


@_needs("google.genai")
def google_stream(clients: Clients) -> Any:
    return seen(list(clients["google"].models.generate_content_stream(model=GEMINI, contents="hi")))


@_needs("google.genai")
def google_async_plain(clients: Clients) -> Any:
    async def ask() -> Any:
        return seen(await clients["google"].aio.models.generate_content(model=GEMINI, contents="hi"))

    return clients.run(ask())


@_needs("google.genai")
def google_async_stream(clients: Clients) -> Any:
    async def ask() -> Any:
        stream = await clients["google"].aio.models.generate_content_stream(model=GEMINI, contents="hi")
        return seen([event async for event in stream])

    return clients.run(ask())


#: openai still opens sessions in the way that websockets 17.1 discourages
_OLD_WAY = r"connect\(\) must be used as a context"


def _address(clients: Clients) -> str:
    return clients.simulator.base_url("openai").replace("http", "ws", 1) + "/realtime?model=gpt-realtime"


@_needs("websockets")
def socket_openai(clients: Clients) -> Any:
    """A realtime session of two turns, the second one left, and one of Responses."""
    import warnings

    found: List[Any] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _OLD_WAY, DeprecationWarning)
        with clients["openai"].realtime.connect(model="gpt-realtime") as connection:
            heard: Any = {"transcription": {"model": "gpt-4o-transcribe"}}
            connection.session.update(session={"type": "realtime", "audio": {"input": heard}})
            connection.input_audio_buffer.commit()
            for last in ("response.done", "response.created"):
                connection.response.create()
                for event in connection:
                    found.append(seen(event))
                    if event.type == last:
                        break
        with clients["openai"].responses.connect() as connection:
            connection.response.create(model="gpt-5", input="hi")
            for event in connection:
                found.append(seen(event))
                if event.type == "response.completed":
                    break
    return found


@_needs("websockets")
def socket_async(clients: Clients) -> Any:
    """Messages taken whole, by iteration and in fragments."""

    async def ask() -> Any:
        from websockets.asyncio.client import connect

        found: List[str] = []
        async with connect(_address(clients)) as socket:
            found.append(seen(await socket.recv()))
            for _ in range(2):
                await socket.send(json.dumps({"type": "response.create"}))
                async for message in socket:
                    found.append(seen(message))
                    if '"response.done"' in str(message):
                        break
            await socket.send(json.dumps({"type": "response.create"}))
            found.append(seen("".join([part async for part in socket.recv_streaming()])))
        return found

    return clients.run(ask())


@_needs("websockets")
def socket_fragments(clients: Clients) -> Any:
    from websockets.sync.client import connect

    found: List[str] = []
    with connect(_address(clients)) as socket:
        socket.send(json.dumps({"type": "response.create"}).encode())
        while not found or '"response.done"' not in found[-1]:
            found.append(seen("".join(socket.recv_streaming())))
    return found


@_needs("websocket")
def socket_client(clients: Clients) -> Any:
    import websocket

    socket = websocket.create_connection(_address(clients))
    found = [seen(socket.recv())]
    for last in ("response.done", "response.created"):
        socket.send(json.dumps({"type": "response.create"}))
        while '"%s"' % last not in found[-1]:
            found.append(seen(socket.recv()))
    socket.close()
    return found


@_needs("aiohttp")
def socket_aiohttp(clients: Clients) -> Any:
    async def ask() -> Any:
        found: List[str] = []
        async with clients["aiohttp"].ws_connect(_address(clients)) as socket:
            for last in ("response.done", "response.created"):
                await socket.send_json({"type": "response.create"})
                async for message in socket:
                    found.append(seen(message.data))
                    if '"%s"' % last in message.data:
                        break
        return found

    return clients.run(ask())


@_needs("wsproto")
def socket_httpx2(clients: Clients) -> Any:
    import httpx2

    found = []
    with httpx2.Client() as client, client.websocket(_address(clients)) as socket:
        for last in ("response.done", "response.created"):
            socket.send_json({"type": "response.create"})
            while not found or '"%s"' % last not in found[-1]:
                found.append(seen(socket.receive_text()))
    return found


@_needs("wsproto")
def socket_httpx2_async(clients: Clients) -> Any:
    import httpx2

    async def ask() -> Any:
        found: List[str] = []
        async with httpx2.AsyncClient() as client, client.websocket(_address(clients)) as socket:
            await socket.send_json({"type": "response.create"})
            while not found or '"response.done"' not in found[-1]:
                found.append(seen(await socket.receive_text()))
        return found

    return clients.run(ask())


@_needs("google.genai")
def socket_google(clients: Clients) -> Any:
    """Gemini Live, with a turn that is left."""

    async def ask() -> Any:
        found: List[Any] = []
        async with clients["google live"].aio.live.connect(model="gemini-live") as session:
            for _ in range(2):
                await session.send_client_content(turns={"role": "user", "parts": [{"text": "hi"}]})
                found += [seen(message) async for message in session.receive()]
            await session.send_client_content(turns={"role": "user", "parts": [{"text": "left"}]})
        return found

    return clients.run(ask())


@_needs("websockets")
def socket_mistral(clients: Clients) -> Any:
    from websockets.sync.client import connect

    found: List[str] = []
    path = "/audio/transcriptions/realtime?model=voxtral"
    with connect(clients.simulator.base_url("mistral").replace("http", "ws", 1) + path) as socket:
        socket.send(json.dumps({"type": "input_audio.end"}))
        while not found or '"transcription.done"' not in found[-1]:
            found.append(seen(socket.recv(timeout=20)))
    return found


@_needs("grpc")
def rpc_threads(clients: Clients) -> Any:
    """Every way of calling, a stream that is left, and a service that is no business of ours."""
    import grpc

    found: List[Any] = []
    with grpc.insecure_channel(clients.simulator.grpc_target()) as channel:
        unary, stream = channel.unary_unary("/xai_api.Chat/GetCompletion"), channel.unary_stream(_CHUNKS)
        found += [seen(unary(_ASK)), seen(unary.with_call(_ASK)[0]), seen(unary.future(_ASK).result())]
        found.append(seen(list(stream(_ASK))))
        left = stream(_ASK)
        found.append(seen(next(left)))
        left.cancel()
        found.append(seen(channel.unary_unary("/shop.Orders/Get")(b"abc")))
        found.append(seen(channel.unary_unary(_GEMINI)(b"\x0a\x0fmodels/gemini-x")))
        with contextlib.suppress(grpc.RpcError):
            unary(_ASK, timeout=0.000001)
    return found


@_needs("grpc")
def rpc_async(clients: Clients) -> Any:
    async def ask() -> Any:
        import grpc

        async with grpc.aio.insecure_channel(clients.simulator.grpc_target()) as channel:
            found = [seen(await channel.unary_unary("/xai_api.Chat/GetCompletion")(_ASK))]
            found += [seen(message) async for message in channel.unary_stream(_CHUNKS)(_ASK)]
            left = channel.unary_stream(_CHUNKS)(_ASK)
            found.append(seen(await left.read()))
            left.cancel()
        return found

    return clients.run(ask())


@_needs("aicostguard")
def claude_agent(clients: Clients) -> Any:
    """Two turns of a process, and one that is ended in a turn; a stand-in for the package (see tests/claude.py)."""
    from tests import claude

    claude.stand_in()

    async def ask() -> Any:
        turns = [claude.assistant(), claude.result(a=claude.sums(10, 20)), claude.assistant()]
        query = claude.Query(turns, resume="s")
        await query.start()
        client = claude.ClaudeSDKClient(query)
        await client.query("hi")
        found = [seen(json.dumps(message)) async for message in client.receive_response()]
        found += [seen(json.dumps(message)) async for message in query.receive_messages()]
        await query.close()
        return found

    return clients.run(ask())


_ASK = b"\x0a\x01x\x12\x06grok-4"
_CHUNKS = "/xai_api.Chat/GetCompletionChunk"
_GEMINI = "/google.ai.generativelanguage.v1beta.GenerativeService/GenerateContent"


def post(clients: Clients, stream: bool = False, **behaviour: Any) -> Dict[str, Any]:
    """Arguments of a chat call for a plain HTTP library."""
    body: Dict[str, Any] = {"model": GPT, "messages": HI}
    if stream:
        body.update(stream=True, stream_options=USAGE)
    return {
        "url": clients.simulator.base_url("openai") + "/chat/completions",
        "data": json.dumps(body).encode(),
        "headers": {
            "Content-Type": "application/json",
            "Authorization": "Bearer " + KEY,
            "x-sim": json.dumps(behaviour),
        },
    }


def _for_httpx(arguments: Dict[str, Any]) -> Dict[str, Any]:
    arguments["content"] = arguments.pop("data")
    return arguments


@_needs("httpx")
def httpx_plain(clients: Clients) -> Any:
    answer = clients["httpx"].post(**_for_httpx(post(clients, encoding="gzip")))
    return [answer.status_code, seen(answer.text)]


@_needs("httpx")
def httpx_stream(clients: Clients) -> Any:
    arguments = _for_httpx(post(clients, stream=True, encoding="gzip"))
    with clients["httpx"].stream("POST", **arguments) as answer:
        return [answer.status_code, seen("".join(answer.iter_text()))]


@_needs("httpx")
def httpx_undecoded(clients: Clients) -> Any:
    import gzip

    arguments = _for_httpx(post(clients, stream=True, encoding="gzip", chunk_size=60))
    with clients["httpx"].stream("POST", **arguments) as answer:
        return [answer.status_code, seen(gzip.decompress(b"".join(answer.iter_raw())))]


@_needs("httpx")
def httpx_async_plain(clients: Clients) -> Any:
    async def ask() -> Any:
        answer = await clients["httpx async"].post(**_for_httpx(post(clients)))
        return [answer.status_code, seen(answer.text)]

    return clients.run(ask())


@_needs("httpx")
def httpx_async_stream(clients: Clients) -> Any:
    async def ask() -> Any:
        arguments = _for_httpx(post(clients, stream=True))
        async with clients["httpx async"].stream("POST", **arguments) as answer:
            return [answer.status_code, seen(b"".join([part async for part in answer.aiter_bytes()]))]

    return clients.run(ask())


@_needs("requests")
def requests_plain(clients: Clients) -> Any:
    answer = clients["requests"].post(**post(clients))
    return [answer.status_code, seen(answer.text)]


@_needs("requests")
def requests_stream(clients: Clients) -> Any:
    with clients["requests"].post(stream=True, **post(clients, stream=True, encoding="gzip")) as answer:
        return [answer.status_code, seen(b"".join(answer.iter_content(50)))]


@_needs("requests")
def requests_undecoded(clients: Clients) -> Any:
    with clients["requests"].post(stream=True, **post(clients, stream=True)) as answer:
        return [answer.status_code, seen(answer.raw.read())]


@_needs("aiohttp")
def aiohttp_plain(clients: Clients) -> Any:
    async def ask() -> Any:
        async with clients["aiohttp"].post(**post(clients)) as answer:
            return [answer.status, seen(await answer.text())]

    return clients.run(ask())


@_needs("aiohttp")
def aiohttp_stream(clients: Clients) -> Any:
    async def ask() -> Any:
        async with clients["aiohttp"].post(**post(clients, stream=True, encoding="gzip")) as answer:
            return [answer.status, seen(b"".join([part async for part in answer.content.iter_any()]))]

    return clients.run(ask())


def _for_urllib3(arguments: Dict[str, Any]) -> Dict[str, Any]:
    arguments["body"] = arguments.pop("data")
    return {"method": "POST", **arguments}


@_needs("urllib3")
def urllib3_plain(clients: Clients) -> Any:
    seen_of = []
    for decode in (True, False):
        answer = clients["urllib3"].request(**_for_urllib3(post(clients, encoding="gzip")), decode_content=decode)
        seen_of.append(seen(answer.data) if decode else len(answer.data) > 100)
    return seen_of


@_needs("urllib3")
def urllib3_stream(clients: Clients) -> Any:
    arguments = _for_urllib3(post(clients, stream=True, encoding="gzip"))
    answer = clients["urllib3"].request(**arguments, preload_content=False)
    return [answer.status, seen(b"".join(answer.stream(50)))]


@_needs("urllib3")
def urllib3_again(clients: Clients) -> Any:
    import urllib3

    arguments = _for_urllib3(post(clients, fail_times=1))
    retries = urllib3.Retry(status_forcelist=[503], allowed_methods=None)
    answer = clients["urllib3"].request(**arguments, retries=retries)
    return [answer.status, len(answer.retries.history)]


@_needs("urllib3")
def urllib3_of_others(clients: Clients) -> Any:
    """Nothing that anybody knows, at a host that somebody does."""
    arguments = _for_urllib3(post(clients))
    arguments["url"] += "/of/others"
    return clients["urllib3"].request(**arguments).status


def _urlopen(arguments: Dict[str, Any]) -> Any:
    import urllib.request

    return urllib.request.urlopen(urllib.request.Request(**arguments))


@_needs("urllib.request")
def urllib_plain(clients: Clients) -> Any:
    with _urlopen(post(clients)) as answer:
        return [answer.status, seen(answer.read())]


@_needs("urllib.request")
def urllib_stream(clients: Clients) -> Any:
    with _urlopen(post(clients, stream=True)) as answer:
        buffer = bytearray(20)
        return [seen(answer.readline()), answer.readinto(buffer), seen(b"".join(answer))]


@_needs("urllib.request")
def urllib_broken_off(clients: Clients) -> Any:
    import http.client

    with _urlopen(post(clients, stream=True, cut_after=300)) as answer:
        try:
            return seen(answer.read())
        except http.client.IncompleteRead as error:
            return len(error.partial) > 100


@_needs("boto3")
def bedrock_plain(clients: Clients) -> Any:
    answer = clients["bedrock"].invoke_model(modelId="anthropic.claude-sonnet-4-5-20250929-v1:0", body=BEDROCK)
    return seen(answer["body"].read())


@_needs("boto3")
def bedrock_stream(clients: Clients) -> Any:
    answer = clients["bedrock"].invoke_model_with_response_stream(
        modelId="anthropic.claude-sonnet-4-5-20250929-v1:0", body=BEDROCK
    )
    return seen([event["chunk"]["bytes"] for event in answer["body"]])


@_needs("curl_cffi")
def curl_cffi_both(clients: Clients) -> Any:
    streamed = clients["curl_cffi"].post(**post(clients, stream=True, encoding="gzip"), stream=True)
    try:
        return [
            seen(clients["curl_cffi"].post(**post(clients)).content),
            streamed.status_code,
            seen(b"".join(streamed.iter_content())),
        ]
    finally:
        streamed.close()


@_needs("curl_cffi")
def curl_cffi_async(clients: Clients) -> Any:
    from curl_cffi import requests

    async def ask() -> Any:
        async with requests.AsyncSession() as session:
            streamed = await session.post(**post(clients, stream=True), stream=True)
            try:
                return [
                    seen((await session.post(**post(clients))).content),
                    seen(b"".join([piece async for piece in streamed.aiter_content()])),
                ]
            finally:
                await streamed.aclose()

    return clients.run(ask())


def _fetch(clients: Clients, client: str) -> Any:
    from tornado.httpclient import AsyncHTTPClient

    AsyncHTTPClient.configure(client)

    async def ask() -> Any:
        pieces: List[bytes] = []
        http = AsyncHTTPClient(force_instance=True)
        try:
            plain, streamed = _for_urllib3(post(clients)), _for_urllib3(post(clients, stream=True))
            answer = await http.fetch(plain.pop("url"), **plain)
            await http.fetch(streamed.pop("url"), **streamed, streaming_callback=pieces.append)
            return [answer.code, seen(answer.body), seen(b"".join(pieces))]
        finally:
            http.close()

    return clients.run(ask())


@_needs("tornado")
def tornado_simple(clients: Clients) -> Any:
    return _fetch(clients, "tornado.simple_httpclient.SimpleAsyncHTTPClient")


@_needs("pycurl")
def tornado_curl(clients: Clients) -> Any:
    return _fetch(clients, "tornado.curl_httpclient.CurlAsyncHTTPClient")


def _for_lm15(arguments: Dict[str, Any]) -> Any:
    from lm15.transports import TransportRequest

    return TransportRequest("POST", arguments["url"], list(arguments["headers"].items()), arguments["data"])


@_needs("lm15")
def lm15_stream(clients: Clients) -> Any:
    with clients["lm15"].stream(_for_lm15(post(clients, stream=True))) as answer:
        return [answer.status, seen(answer.read())]


@_needs("lm15")
def lm15_async_plain(clients: Clients) -> Any:
    async def ask() -> Any:
        async with clients["lm15 async"].stream(_for_lm15(post(clients))) as answer:
            return [answer.status, seen(await answer.read())]

    return clients.run(ask())


@_needs("niquests")
def niquests_both(clients: Clients) -> Any:
    with clients["niquests"].post(**post(clients, stream=True, encoding="gzip"), stream=True) as streamed:
        plain = clients["niquests"].post(**post(clients))
        return [seen(plain.content), seen(b"".join(streamed.iter_content(50)))]


@_needs("niquests")
def niquests_async(clients: Clients) -> Any:
    import niquests

    async def ask() -> Any:
        async with niquests.AsyncSession() as session:
            plain = await session.post(**post(clients))
            streamed = await session.post(**post(clients, stream=True), stream=True)
            pieces = [piece async for piece in await streamed.iter_content(50)]
            left = await session.post(**post(clients, stream=True), stream=True)
            await left.close()
            return [seen(plain.content), seen(b"".join(pieces))]

    return clients.run(ask())
