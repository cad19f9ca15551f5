"""curl_cffi, tornado, lm15: ways to read a body, early ends and errors, without and with the agent."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.capture.state import state
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.gate import Gate
from tests.capture.tools import CHAT, EVENTS, STREAM, both, both_async, fixed, kind, only, shown

PATH = "/v1/chat/completions"
#: a stream that is still under way when its first piece has been read
LONG = {"chunks": 400, "delay_ms": 5}
GZIP = pytest.mark.parametrize("encoding", ["identity", "gzip"])


def library(name: str) -> Any:
    return pytest.importorskip(name)


CURL: Dict[str, Callable[[Any], Any]] = {
    "iter_content": lambda r: b"".join(r.iter_content()),
    "iter_lines": lambda r: list(r.iter_lines()),
}


@pytest.mark.ids("A1", "A5", "G09")
@GZIP
@pytest.mark.parametrize("way", list(CURL))
def test_curl_cffi(agent: Agent, way: str, encoding: str) -> None:
    requests = library("curl_cffi.requests")
    agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=11))

    def use() -> Any:
        with requests.Session() as session:
            response = session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
            seen = [kind(response), shown(CURL[way](response)), kind(response.iter_content())]
            response.close()
            return seen

    both(agent, use)
    agent.balance()
    assert "partial" not in only(agent)

    async def use_async() -> Any:
        async with requests.AsyncSession() as session:
            response = await session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
            seen = [kind(response), shown(await response.acontent()), kind(response.aiter_content())]
            await response.aclose()
            return seen

    both_async(agent, use_async)
    agent.balance()
    assert "partial" not in only(agent)
    # Without an end marker nothing but the end of the bytes says that it is whole.
    agent.simulator.set_default(**fixed(True, encoding=encoding, chunk_size=11, body=b"".join(EVENTS[:3])))
    for whole in (use, lambda: asyncio.run(use_async())):
        agent.receipts.clear()
        whole()
        assert only(agent)["usage_missing"] is True
        assert "partial" not in only(agent)


@pytest.mark.ids("B10", "A4")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("how", ["close", "cut"])
def test_curl_cffi_left(agent: Agent, how: str, asynchronous: bool) -> None:
    requests = library("curl_cffi.requests")
    agent.simulator.set_default(**(fixed(True, cut_after=400) if how == "cut" else {"chunks": 40, "delay_ms": 5}))

    async def use() -> None:
        async with requests.AsyncSession() as session:
            response = await session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
            pieces = response.aiter_content()
            if how == "cut":
                with pytest.raises(requests.exceptions.RequestException):
                    async for _ in pieces:
                        pass
            else:
                await pieces.__anext__()
                await response.aclose()
            assert len(agent.receipts) == 1

    if asynchronous:
        asyncio.run(use())
    else:
        with requests.Session() as session:
            response = session.post(agent.url("openai") + PATH, json=STREAM, stream=True)
            pieces = response.iter_content()
            if how == "cut":
                with pytest.raises(requests.exceptions.RequestException):
                    list(pieces)
            else:
                next(pieces)
                response.close()
            assert len(agent.receipts) == 1
    assert only(agent)["partial"] is True


@pytest.mark.ids("A9", "B11")
def test_curl_cffi_holds_nothing_back(agent: Agent) -> None:
    requests = library("curl_cffi.requests")
    with Gate(EVENTS) as gate, requests.Session() as session:
        gate.permit(2)
        response = session.post(gate.url + PATH, json=STREAM, stream=True)
        pieces = response.iter_content()
        assert next(pieces)
        for _ in EVENTS[1:]:
            gate.permit()
            assert next(pieces)
        assert only(agent)["output_tokens"] == 5
        gate.permit()
        assert list(pieces) == []
        response.close()


CLIENTS = pytest.mark.parametrize("client", ["simple", "curl"])


def tornado_client(client: str) -> Any:
    library("tornado.%s_httpclient" % client)
    httpclient = importlib.import_module("tornado.httpclient")
    name = "SimpleAsyncHTTPClient" if client == "simple" else "CurlAsyncHTTPClient"
    httpclient.AsyncHTTPClient.configure("tornado.%s_httpclient.%s" % (client, name))
    return httpclient


@pytest.mark.ids("A1", "A5", "G09")
@CLIENTS
@GZIP
@pytest.mark.parametrize("way", ["body", "callback", "undecoded"])
def test_tornado(agent: Agent, client: str, encoding: str, way: str) -> None:
    httpclient = tornado_client(client)
    agent.simulator.set_default(**fixed(way != "body", encoding=encoding))

    async def use() -> Any:
        pieces: List[bytes] = []
        request = httpclient.HTTPRequest(
            agent.url("openai") + PATH,
            method="POST",
            body=json.dumps(CHAT if way == "body" else STREAM),
            headers={"accept-encoding": encoding} if way == "undecoded" else None,
            decompress_response=way != "undecoded",
            streaming_callback=None if way == "body" else pieces.append,
        )
        future = httpclient.AsyncHTTPClient().fetch(request)
        response = await future
        got = b"".join(pieces) if way != "undecoded" else len(b"".join(pieces)) > 100
        # The request is the user's own object: nothing is put into it.
        mine = request.streaming_callback is None or type(request.streaming_callback).__name__
        return [kind(future), kind(response), response.code, shown(response.body), shown(got), mine]

    both_async(agent, use)
    agent.balance()
    assert "partial" not in only(agent)


@pytest.mark.ids("B1", "B4", "B10")
@CLIENTS
def test_tornado_redirected_failed_and_cut(agent: Agent, client: str) -> None:
    httpclient = tornado_client(client)

    async def fetch(**more: Any) -> Any:
        url = agent.url("openai") + PATH
        return await httpclient.AsyncHTTPClient().fetch(
            url, raise_error=False, method="POST", body=json.dumps(STREAM), **more
        )

    agent.simulator.script([{"redirect": ""}])
    assert asyncio.run(fetch()).code == 200
    agent.balance()
    assert len(agent.receipts) == 1
    agent.simulator.script([{"status": 500}])
    assert asyncio.run(fetch()).code == 500
    assert len(agent.receipts) == 1
    agent.receipts.clear()
    agent.simulator.set_default(**fixed(True, cut_after=400))
    with pytest.raises(httpclient.HTTPError) as caught:
        asyncio.run(fetch(streaming_callback=lambda piece: None))
    assert caught.value.code == 599
    assert only(agent)["partial"] is True


@pytest.mark.ids("B10")
@CLIENTS
def test_tornado_keeps_only_so_much_of_a_stream(agent: Agent, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is longer is the user's as it was, and is counted as unmetered."""
    httpclient = tornado_client(client)
    monkeypatch.setattr("aicostguard.capture.transports.tornado.MOST", 300)
    agent.simulator.set_default(**fixed(True))
    pieces: List[bytes] = []

    async def fetch() -> None:
        url, body = agent.url("openai") + PATH, json.dumps(STREAM)
        await httpclient.AsyncHTTPClient().fetch(url, method="POST", body=body, streaming_callback=pieces.append)

    asyncio.run(fetch())
    assert len(b"".join(pieces)) > 300
    assert agent.settled(0) == [] and health.counters["unmetered"] == 1


def lm15(part: str) -> Any:
    """lm15's transports, where dspy keeps them or by themselves."""
    for package in ("dspy._vendor.lm15", "lm15"):
        try:
            return importlib.import_module("%s.transports.%s" % (package, part))
        except ImportError:
            continue
    return pytest.skip("neither dspy nor lm15 is installed")


def lm15_request(agent: Agent, url: str = "") -> Any:
    body = json.dumps(STREAM).encode()
    kinds = lm15("_types")
    return kinds.TransportRequest(
        "POST", url or agent.url("openai") + PATH, [("content-type", "application/json")], body
    )


LM15: Dict[str, Callable[[Any], Any]] = {
    "read": lambda r: r.read(),
    "lines": lambda r: list(r.iter_lines()),
    "iter": lambda r: b"".join(r),
}


@pytest.mark.ids("A1", "A5", "G09")
@pytest.mark.parametrize("way", list(LM15))
def test_lm15(agent: Agent, way: str) -> None:
    transports = lm15("_sync")
    agent.simulator.set_default(**fixed(True, chunk_size=11))

    def use() -> Any:
        with transports.StdlibTransport() as transport:
            seen = []
            for _ in range(2):  # the second on the connection that was kept
                with transport.stream(lm15_request(agent)) as response:
                    seen.append([kind(response), shown(LM15[way](response))])
            return [*seen, transport.pool_stats()["total_opened"]]

    both(agent, use)
    agent.balance()
    assert [receipt.get("partial") for receipt in agent.receipts] == [None, None]


@pytest.mark.ids("A4", "B10")
@pytest.mark.parametrize("how", ["close", "cut", "collected", "unread"])
def test_lm15_left(agent: Agent, how: str) -> None:
    transports = lm15("_sync")
    agent.simulator.set_default(**(fixed(True, cut_after=400) if how == "cut" else LONG))

    def use() -> Any:
        with transports.StdlibTransport() as transport:
            response = transport.stream(lm15_request(agent))
            if how == "cut":
                with pytest.raises(Exception, match=r".") as caught:
                    response.read()
                return [kind(caught.value), transport.pool_stats()]
            if how != "unread":
                next(iter(response))
            if how == "close":
                response.close()
                at_once.append(len(agent.receipts))
            del response
            at_once.append(len(agent.receipts))  # without the garbage collector: nothing of ours makes a cycle
            return transport.pool_stats()

    at_once: List[int] = []
    both(agent, use)
    assert at_once in ([], [0, 1], [0, 0, 1, 1])
    assert only(agent)["partial"] is True


@pytest.mark.ids("A1", "A7", "G09", "B10")
@pytest.mark.parametrize("how", ["read", "lines", "close", "cancel"])
def test_lm15_async(agent: Agent, how: str) -> None:
    transports = lm15("_async")
    agent.simulator.set_default(**(fixed(True) if how in ("read", "lines") else LONG))

    async def use() -> Any:
        async with transports.StdlibAsyncTransport() as transport:
            async with transport.stream(lm15_request(agent)) as response:
                if how == "read":
                    return [kind(response), shown(await response.read())]
                if how == "lines":
                    return [kind(response), [line async for line in response.aiter_lines()]]
                pieces = response.__aiter__()
                await pieces.__anext__()
                if how == "cancel":
                    task = asyncio.ensure_future(response.read())
                    await asyncio.sleep(0.02)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                return kind(response)

    both_async(agent, use)
    if how in ("read", "lines"):
        agent.balance()
    assert only(agent).get("partial", False) is (how in ("close", "cancel"))


@pytest.mark.ids("G09", "B14")
def test_lm15_at_a_host_that_nobody_named(agent: Agent) -> None:
    """Whoever speaks through lm15 is an AI SDK."""
    transports = lm15("_sync")
    state.hosts = ()
    with transports.StdlibTransport() as transport, transport.stream(lm15_request(agent)) as response:
        response.read()
    assert only(agent)["provider"] == "custom"
