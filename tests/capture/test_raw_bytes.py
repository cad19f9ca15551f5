"""urllib3, http.client and what stands on it: every way to read a body, without and with the agent."""

from __future__ import annotations

import http.client
import importlib
import io
import json
import urllib.error
import urllib.request
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.capture.state import state
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.gate import Gate
from tests.capture.tools import CHAT, ENCODINGS, EVENTS, STREAM, both, fixed, kind, only, shown

PATH = "/v1/chat/completions"
BODIES = pytest.mark.parametrize("body", [STREAM, CHAT], ids=["chunked", "content-length"])

Read = Callable[[Any], Any]


def way_of_urllib3(way: str) -> None:
    """Skip what this urllib3 cannot do."""
    if way == "read1" and not hasattr(importlib.import_module("urllib3").HTTPResponse, "read1"):
        pytest.skip("urllib3 before 2.0.3 has no read1")


def raw(body: Any) -> bytes:
    return json.dumps(body).encode()


def readinto(response: Any, size: int = 64) -> bytes:
    parts: List[bytes] = []
    buffer = bytearray(size)
    while True:
        got = response.readinto(buffer)
        if not got:
            return b"".join(parts)
        parts.append(bytes(buffer[:got]))


def until(read: Callable[[], bytes], response: Any = None) -> bytes:
    """Piece by piece, until nothing comes. The early urllib3 gives nothing for the head of what is compressed, too."""
    pieces = [read()]
    while pieces[-1] or (response is not None and not response.closed and (len(pieces) < 20 or any(pieces[-20:]))):
        pieces.append(read())
    return b"".join(pieces)


URLLIB3: Dict[str, Read] = {
    "data": lambda r: [r.data, r.data],
    "read": lambda r: r.read(decode_content=True),
    "read(9)": lambda r: until(lambda: r.read(9, decode_content=True), r),
    "read1": lambda r: until(lambda: r.read1(50, decode_content=True)),
    "stream": lambda r: b"".join(r.stream(11, decode_content=True)),
    "stream(None)": lambda r: b"".join(r.stream(None, decode_content=True)),
    "lines": list,
    "read_chunked": lambda r: b"".join(r.read_chunked(decode_content=True)) if r.chunked else r.data,
    "text": lambda r: io.TextIOWrapper(r, "utf-8").read(),
}
URLLIB3_UNDECODED: Dict[str, Read] = {
    "read": lambda r: r.read(decode_content=False),
    "read(9)": lambda r: until(lambda: r.read(9, decode_content=False)),
    "read1": lambda r: until(lambda: r.read1(50, decode_content=False)),
    "stream": lambda r: b"".join(r.stream(11, decode_content=False)),
    "readinto": readinto,
    "drain_conn": lambda r: r.drain_conn(),
}


def urllib3_looks(response: Any) -> List[Any]:
    return [kind(response), kind(response.headers), response.status, kind(response.retries), response.reason]


def ask_urllib3(agent: Agent, read: Read, body: Any, encoding: str, **how: Any) -> Any:
    urllib3 = importlib.import_module("urllib3")
    with urllib3.PoolManager() as manager:
        seen = []
        for _ in range(2):  # the second on the connection that was kept
            response = manager.request(
                "POST", agent.url("openai") + PATH, body=raw(body), headers={"accept-encoding": encoding}, **how
            )
            before = urllib3_looks(response)
            seen.append([before, shown(read(response)), urllib3_looks(response), response.closed])
        pool = manager.connection_from_url(agent.url("openai"))
        return [*seen, pool.num_connections, pool.num_requests]


def urllib3_decodes(encoding: str) -> bool:
    accepted = importlib.import_module("urllib3.util.request").ACCEPT_ENCODING
    return encoding == "identity" or encoding in accepted


@pytest.mark.ids("A1", "A2", "A5", "G08", "G09")
@BODIES
@pytest.mark.parametrize("way", list(URLLIB3))
def test_urllib3_read_later(agent: Agent, way: str, body: Any) -> None:
    way_of_urllib3(way)
    for encoding in filter(urllib3_decodes, ENCODINGS):
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=11 if body is STREAM else 0))
        both(agent, lambda e=encoding: ask_urllib3(agent, URLLIB3[way], body, e, preload_content=False))  # type: ignore[misc]
        agent.balance()
        assert not any("partial" in receipt for receipt in agent.receipts), encoding


@pytest.mark.ids("A1", "G09")
@BODIES
@pytest.mark.parametrize("way", list(URLLIB3_UNDECODED))
def test_urllib3_undecoded(agent: Agent, way: str, body: Any) -> None:
    way_of_urllib3(way)
    for encoding in ENCODINGS:
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=11 if body is STREAM else 0))

        def read(response: Any) -> Any:
            got = URLLIB3_UNDECODED[way](response)
            return got if got is None else len(got) > 100

        def use(encoding: str = encoding) -> Any:
            return ask_urllib3(agent, read, body, encoding, preload_content=False, decode_content=False)

        both(agent, use)
        agent.balance()
        assert not any("partial" in receipt for receipt in agent.receipts), encoding


@pytest.mark.ids("A5", "G09")
@BODIES
@pytest.mark.parametrize("decode", [True, False], ids=["decoded", "undecoded"])
def test_urllib3_read_inside(agent: Agent, decode: bool, body: Any) -> None:
    for encoding in ENCODINGS if not decode else filter(urllib3_decodes, ENCODINGS):
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding))

        def read(response: Any) -> Any:
            return response.data if decode else len(response.data) > 100

        both(agent, lambda e=encoding: ask_urllib3(agent, read, body, e, decode_content=decode))  # type: ignore[misc]
        agent.balance()
        assert not any("partial" in receipt for receipt in agent.receipts), encoding


@pytest.mark.ids("B4", "A8")
@pytest.mark.parametrize("preload", [True, False])
def test_urllib3_tries_again_by_itself(agent: Agent, preload: bool) -> None:
    """Two failures inside `urlopen`, then success: one receipt, whose time is that of the last try."""
    urllib3 = importlib.import_module("urllib3")
    retry = urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[503], allowed_methods=None)

    def use() -> Any:
        with urllib3.PoolManager() as manager:
            response = manager.request(
                "POST", agent.url("openai") + PATH, body=raw(STREAM), retries=retry, preload_content=preload
            )
            return [kind(response), response.status, len(response.retries.history), b"[DONE]" in response.data]

    agent.off()
    agent.simulator.set_default(fail_times=2)
    off = use()
    agent.on()
    agent.simulator.reset_count()
    assert use() == off == ["urllib3.response.HTTPResponse", 200, 2, True]
    agent.balance()
    assert only(agent)["latency_ms"] < 350, "the pauses before it were 0.4 seconds and more"


@pytest.mark.ids("B1", "G09")
def test_urllib3_redirect(agent: Agent) -> None:
    urllib3 = importlib.import_module("urllib3")
    agent.simulator.script([{"redirect": ""}])
    with urllib3.PoolManager() as manager:
        pool = manager.connection_from_url(agent.url("openai"))
        assert pool.urlopen("POST", PATH, raw(CHAT)).status == 200
        agent.simulator.script([{"redirect": ""}])
        assert manager.request("POST", agent.url("openai") + PATH, body=raw(CHAT)).status == 200
    agent.balance()
    assert len(agent.receipts) == 2


HTTP_CLIENT: Dict[str, Read] = {
    "read": lambda r: r.read(),
    "read(9)": lambda r: until(lambda: r.read(9)),
    "readinto": readinto,
    "readinto1": lambda r: until(lambda: (lambda b, n: bytes(b[:n]))(b := bytearray(50), r.readinto1(b))),
    "read1": lambda r: until(lambda: r.read1(50)),
    "read1()": lambda r: until(lambda: r.read1()),
    "readline": lambda r: list(iter(r.readline, b"")),
    "readline(20)": lambda r: list(iter(lambda: r.readline(20), b"")),
    "lines": list,
    "readlines": lambda r: r.readlines(),
    "peek": lambda r: until(lambda: r.read(min(len(r.peek(7)), 7))),
    "text": lambda r: io.TextIOWrapper(r, "latin-1").read(),
    "buffered": lambda r: io.BufferedReader(r).read(),
    "some, then the rest": lambda r: [r.read(5), r.readline(), r.read()],
    "too often": lambda r: [r.read(), r.read(), r.read(1), r.readline(), r.read1(), r.readinto(bytearray(3))],
}


def http_looks(response: Any) -> List[Any]:
    return [kind(response), response.status, kind(response.headers), response.isclosed(), response.closed]


def ask_http_client(agent: Agent, read: Read, body: Any, encoding: str = "identity") -> Any:
    connection = http.client.HTTPConnection(agent.url("openai")[7:])
    seen = []
    for _ in range(2):
        connection.request("POST", PATH, raw(body), {"accept-encoding": encoding})
        response = connection.getresponse()
        seen.append([http_looks(response), shown(read(response)), http_looks(response)])
        response.close()
    connection.close()
    return seen


@pytest.mark.ids("A1", "A2", "A5", "G08", "G09")
@BODIES
@pytest.mark.parametrize("way", list(HTTP_CLIENT))
def test_http_client(agent: Agent, way: str, body: Any) -> None:
    agent.simulator.set_default(**fixed(body is STREAM, chunk_size=11 if body is STREAM else 0))
    both(agent, lambda: ask_http_client(agent, HTTP_CLIENT[way], body))
    agent.balance()
    assert not any("partial" in receipt for receipt in agent.receipts)


@pytest.mark.ids("A1", "G09")
@BODIES
def test_http_client_compressed(agent: Agent, body: Any) -> None:
    """http.client decodes nothing; the agent decodes a copy."""
    for encoding in ENCODINGS:
        agent.simulator.set_default(**fixed(body is STREAM, encoding=encoding, chunk_size=13 if body is STREAM else 0))
        for read in (lambda r: r.read(), lambda r: until(lambda: r.read(9)), readinto):
            both(agent, lambda e=encoding, r=read: ask_http_client(agent, lambda a: len(r(a)) > 100, body, e))  # type: ignore[misc]
            agent.balance()


@pytest.mark.ids("G09", "B14")
def test_http_client_by_hand(agent: Agent) -> None:
    """Head and body put one after the other; the model is in the request alone."""
    answer = {"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}}
    agent.simulator.set_default(body=raw(answer), usage={"input_tokens": 9, "output_tokens": 5}, model="gpt-4o")

    port = int(agent.url("openai").rsplit(":", 1)[1])

    def use() -> Any:
        state.hosts = (("localhost", port, "openai"),)
        connection = http.client.HTTPConnection("LOCALHOST", port)
        connection.putrequest("POST", PATH + "?a=b")
        connection.putheader("Content-Length", str(len(raw(CHAT))))
        connection.endheaders(raw(CHAT))
        seen = shown(connection.getresponse().read())
        connection.close()
        return seen

    both(agent, use)
    agent.balance()
    assert only(agent)["model"] == "gpt-4o"


@pytest.mark.ids("A8", "B4")
def test_http_client_given_up(agent: Agent) -> None:
    """A request that was never answered is no call, and does not become that of the next on its connection."""
    connection = http.client.HTTPConnection(agent.url("openai")[7:])
    connection.request("POST", PATH, raw(CHAT))
    connection.close()
    state.hosts = ()
    connection.request("POST", PATH, raw(CHAT))
    assert connection.getresponse().status == 200
    connection.close()
    connection.request("GET", "/elsewhere")
    with pytest.raises(http.client.CannotSendRequest):
        connection.request("POST", PATH, raw(CHAT))
    connection.close()
    assert agent.receipts == []


@pytest.mark.ids("B10")
@pytest.mark.parametrize("way", ["read", "read(9)", "readinto", "read1", "readline", "lines"])
@pytest.mark.parametrize("where", ["in a chunk", "before the length"])
def test_http_client_cut(agent: Agent, where: str, way: str) -> None:
    """One partial receipt, and the same exception, or none, as without us."""
    with Gate(EVENTS[:3], cut=True) as gate:
        url = gate.url[7:]
        gate.permit(1000)
        if where == "before the length":
            agent.simulator.set_default(**fixed(True, cut_after=400))
            url = agent.url("openai")[7:]

        def use() -> Any:
            connection = http.client.HTTPConnection(url)
            connection.request("POST", PATH, raw(STREAM))
            response = connection.getresponse()
            try:
                return shown(HTTP_CLIENT[way](response))
            except http.client.IncompleteRead as error:
                at_once.append(len(agent.receipts))
                return [kind(error), error.partial, error.expected]
            finally:
                connection.close()

        at_once: List[int] = []
        agent.off()
        off = use()
        agent.on()
        state.hosts = (*state.hosts, ("127.0.0.1", gate.port, "openai"))
        assert use() == off
        assert at_once in ([], [0, 1])
    assert only(agent)["partial"] is True


@pytest.mark.ids("B10")
def test_what_an_incomplete_read_had_is_metered(agent: Agent) -> None:
    """The exception hands it to the user; the usage had come, only the end had not."""
    agent.simulator.set_default(**fixed(True, cut_after=len(b"".join(EVENTS[:-1]))))
    with urllib.request.urlopen(agent.url("openai") + PATH, raw(STREAM)) as response:
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    assert only(agent)["output_tokens"] == 5


@pytest.mark.ids("B10", "G10")
def test_a_whole_stream_without_an_end_marker(agent: Agent) -> None:
    for chunk_size in (0, 11):
        agent.simulator.set_default(**fixed(True, chunk_size=chunk_size, body=b"".join(EVENTS[:3])))
        for way, read in HTTP_CLIENT.items():
            ask_http_client(agent, read, STREAM)
            assert [r.get("partial") for r in agent.settled(2)] == [None, None], way
            agent.receipts.clear()


URLLIB: Dict[str, Read] = {
    "read": lambda r: r.read(),
    "lines": list,
    "with": lambda r: r.__enter__().read(),
    "json": lambda r: r.read().decode()[:20],
}


@pytest.mark.ids("A1", "A5", "G09", "B1")
@BODIES
@pytest.mark.parametrize("way", list(URLLIB))
def test_urllib_request(agent: Agent, way: str, body: Any) -> None:
    agent.simulator.set_default(**fixed(body is STREAM))

    def use() -> Any:
        request = urllib.request.Request(agent.url("openai") + PATH, raw(body), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return [http_looks(response), response.url[-20:], response.msg, shown(URLLIB[way](response))]

    both(agent, use)
    agent.balance()
    assert "partial" not in only(agent)


@pytest.mark.ids("A8", "B4")
def test_urllib_request_error(agent: Agent) -> None:
    agent.simulator.set_default(status=500)

    def use() -> Any:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(agent.url("openai") + PATH, raw(CHAT))
        with caught.value as error:
            return [error.code, shown(error.read()), kind(error.fp)]

    both(agent, use)
    assert agent.receipts == []


@pytest.mark.ids("A17")
@pytest.mark.parametrize("library", ["urllib.request", "urllib3"])
def test_through_a_proxy(agent: Agent, library: str) -> None:
    """The proxy is what is connected to; the host that is asked for decides."""
    url, proxy = "http://api.openai.com" + PATH, agent.url("custom")
    if library == "urllib3":
        with importlib.import_module("urllib3").ProxyManager(proxy) as manager:
            assert manager.request("POST", url, body=raw(CHAT)).status == 200
    else:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
        with opener.open(url, raw(CHAT)) as response:
            assert response.read()
    agent.balance()
    assert only(agent)["provider"] == "openai"


@pytest.mark.ids("G09", "B1")
def test_httplib2(agent: Agent) -> None:
    httplib2 = pytest.importorskip("httplib2")

    def use() -> Any:
        client = httplib2.Http()
        head, content = client.request(agent.url("openai") + PATH, "POST", raw(CHAT))
        client.close()
        return [kind(head), head.status, shown(content)[0]]

    both(agent, use)
    agent.balance()
    agent.simulator.set_default(**fixed(True, encoding="gzip"))
    both(agent, use)
    agent.balance()


@pytest.mark.ids("A15", "A6")
def test_other_hosts_are_left_alone(agent: Agent) -> None:
    """Nothing is kept on their objects, and what they read is not looked at, once AI calls have been seen too."""
    ask_http_client(agent, HTTP_CLIENT["read"], CHAT)
    ask_urllib3(agent, URLLIB3["read"], CHAT, "identity", preload_content=False)
    agent.receipts.clear()
    urllib3 = importlib.import_module("urllib3")
    agent.simulator.set_default()
    state.hosts = ()
    connection = http.client.HTTPConnection(agent.url("openai")[7:])
    connection.request("POST", PATH, raw(CHAT))
    with urllib3.PoolManager() as manager:
        for response in (
            connection.getresponse(),
            manager.request("POST", agent.url("openai") + PATH, body=raw(CHAT), preload_content=False),
        ):
            assert [name for name in vars(response) if "aicostguard" in name] == []
            assert response.read()
    assert [name for name in vars(connection) if "aicostguard" in name] == []
    connection.close()
    assert agent.receipts == []


@pytest.mark.ids("B1", "G11")
@pytest.mark.parametrize("library", ["requests", "urllib3", "http.client"])
def test_an_unknown_path_is_counted_once(agent: Agent, library: str) -> None:
    """By the outermost of the transports that it passes."""
    url = agent.url("openai") + "/v1/nobody/knows"
    if library == "requests":
        pytest.importorskip("requests").post(url, data=b"{}")
    elif library == "urllib3":
        with importlib.import_module("urllib3").PoolManager() as manager:
            manager.request("POST", url, body=b"{}")
    else:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, b"{}")
        caught.value.close()
    assert health.counters["unrecognised"] == 1
    assert agent.receipts == []
