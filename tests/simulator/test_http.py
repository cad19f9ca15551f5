"""HTTP itself: requests split anywhere, pipelined, chunked, through a proxy; HTTP/2; what nonsense gets."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any, List

import pytest

from aicostguard.simulator import Simulator
from aicostguard.simulator.app import App
from aicostguard.simulator.http1 import Http1
from tests.simulator.raw import ask, connect, encode, events, read

PATH = "/v1/chat/completions"
BODY = {"model": "m", "messages": []}
STREAM = {**BODY, "stream": True, "stream_options": {"include_usage": True}}


def test_requests_split_at_every_byte(sim: Simulator) -> None:
    with connect(sim.urls["openai"]) as sock:
        for byte in encode(PATH, BODY):
            sock.sendall(bytes([byte]))
        assert read(sock)[0].status == 200


def test_pipelined_requests_are_answered_in_order(sim: Simulator) -> None:
    with connect(sim.urls["openai"]) as sock:
        bodies = [{**BODY, "model": "m%d" % n, "stream": n % 2 == 1} for n in range(6)]
        sock.sendall(b"".join(encode(PATH, body) for body in bodies))
        rest = b""
        models: List[Any] = []
        for body in bodies:
            answer, rest = read(sock, rest)
            found = events(answer.body)[0] if body["stream"] else json.loads(answer.body)
            models.append(found["model"])
        assert models == ["m%d" % n for n in range(6)]


def test_chunked_requests_with_trailers_and_expect(sim: Simulator) -> None:
    data = json.dumps(BODY).encode()
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n" % PATH.encode()
    with connect(sim.urls["openai"]) as sock:
        sock.sendall(head)
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"5;ext=1\r\n%s\r\n%x\r\n%s\r\n0\r\nx-trailer: 1\r\n\r\n" % (data[:5], len(data) - 5, data[5:]))
        sock.sendall(encode(PATH, BODY))
        first, rest = read(sock)
        second, _ = read(sock, rest)
    assert (first.status, second.status) == (200, 200)
    assert [exchange.body for exchange in sim.exchanges] == [data, data]


class Written(asyncio.Transport):
    """What is written to it, as if a client were there."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def write(self, data: Any) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return False


def test_who_waits_for_the_word_to_go_on_is_told_once_a_request() -> None:
    transport, connection = Written(), Http1(App(), "openai", set(), None)
    connection.connection_made(transport)
    for byte in 2 * encode(PATH, BODY, {"expect": "100-continue"}):
        connection.data_received(bytes([byte]))
    assert re.findall(rb"HTTP/1.1 (\d+) ", transport.data) == [b"100", b"200", b"100", b"200"]


def test_the_proxy_answers_as_the_host_it_was_meant_for(sim: Simulator) -> None:
    url = sim.urls["custom"]
    ask(url, "http://api.groq.com/openai/v1/chat/completions?x=1", BODY)
    ask(url, "http://api.anthropic.com:80/v1/messages", BODY)
    ask(url, "http://llm.example.com/v1/chat/completions", BODY)
    ask(sim.urls["openai"], "http://127.0.0.1:1/v1/chat/completions", BODY)
    ask(url, "/v1/chat/completions", BODY, {"Host": "api.mistral.ai"})
    assert [row.provider for row in sim.billed()] == ["groq", "anthropic", "custom", "openai", "mistral"]
    assert sim.exchanges[0].path == "http://api.groq.com/openai/v1/chat/completions?x=1"


def test_exchanges_keep_names_order_and_bytes(sim: Simulator) -> None:
    raw = b'{"model":  "m",\n "messages": []}'
    ask(sim.urls["openai"], PATH + "?q=1", raw, {"X-One": "1", "x-two": "2"})
    exchange = sim.exchanges[0]
    assert (exchange.method, exchange.path, exchange.body, exchange.status) == ("POST", PATH + "?q=1", raw, 200)
    assert [name for name, _ in exchange.headers] == ["host", "content-length", "X-One", "x-two"]
    assert exchange.header("x-one") == "1"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: \xb2\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-6\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000,
    ],
)
def test_nonsense_is_400_and_the_end_of_the_connection(sent: bytes, sim: Simulator) -> None:
    with connect(sim.urls["openai"]) as sock:
        sock.sendall(sent)
        answer, _ = read(sock)
        assert answer.status == 400
        assert sock.recv(1) == b""
    assert ask(sim.urls["openai"], PATH, b"[1]").status == 400
    assert ask(sim.urls["openai"], PATH, b"{").status == 400
    assert ask(sim.urls["openai"], "/v1/files", b"", {"content-type": "multipart/form-data"}).status == 400
    assert sim.billed() == []


def test_connection_close_is_obeyed(sim: Simulator) -> None:
    for body in (BODY, STREAM):
        with connect(sim.urls["openai"]) as sock:
            sock.sendall(encode(PATH, body, {"connection": "close"}))
            assert read(sock)[0].status == 200
            assert sock.recv(1) == b""


def test_a_client_that_leaves_a_stream_is_seen(sim: Simulator) -> None:
    with connect(sim.urls["openai"]) as sock:
        sock.sendall(encode(PATH, STREAM, delay_ms=20, chunks=50))
        sock.recv(10)
    time.sleep(0.1)
    assert [row.complete for row in sim.billed()] == [False]
    assert ask(sim.urls["openai"], PATH, BODY).status == 200


def test_a_slow_reader_does_not_stop_the_others(sim: Simulator) -> None:
    with connect(sim.urls["openai"]) as slow:
        slow.sendall(encode("/v1/embeddings", {"model": "e", "input": ["x"] * 400}))
        assert ask(sim.urls["openai"], PATH, BODY).status == 200
        answer, _ = read(slow)
    assert len(json.loads(answer.body)["data"]) == 400


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_http2_by_prior_knowledge(library: str, sim: Simulator) -> None:
    pytest.importorskip("h2")
    module = pytest.importorskip(library)
    with module.Client(http2=True, http1=False, base_url=sim.urls["openai"]) as client:
        plain = client.post(PATH, json=BODY)
        assert (plain.http_version, plain.json()["model"]) == ("HTTP/2", "m")
        large = client.post("/v1/embeddings", json={"model": "e", "input": ["x"] * 20})
        assert len(large.content) > 400_000  # beyond the window: the client has to open it
        for size in (0, 5):
            sim_header = {"x-sim": json.dumps({"encoding": "gzip", "chunk_size": size})}
            with client.stream("POST", PATH, json=STREAM, headers=sim_header) as stream:
                stream.read()
            assert stream.headers["content-encoding"] == "gzip"
            assert events(stream.content)[-1] == "[DONE]"
        error = client.post(PATH, json=BODY, headers={"x-sim": '{"status": 429, "retry_after": "2"}'})
        assert (error.status_code, error.headers["retry-after"]) == (429, "2")
        for key in ("reset_after", "cut_after"):
            with pytest.raises(module.RemoteProtocolError):
                client.post(PATH, json=STREAM, headers={"x-sim": json.dumps({key: 60})})
    rows = sim.billed()
    assert [row.complete for row in rows] == [True] * 4 + [False] * 2
    assert {exchange.http_version for exchange in sim.exchanges} == {"HTTP/2"}
    assert sim.exchanges[0].header("content-type") == "application/json"


def test_http2_keeps_to_the_clients_window_and_opens_its_own(sim: Simulator) -> None:
    pytest.importorskip("h2")
    import h2.connection
    import h2.events

    client = h2.connection.H2Connection()
    client.initiate_connection()
    upload = json.dumps({"model": "e", "input": ["x" * 20_000] * 12}).encode()
    head = [(":method", "POST"), (":path", "/v1/embeddings"), (":scheme", "http"), (":authority", "127.0.0.1")]
    got, ended, unopened = 0, False, 0
    with connect(sim.urls["openai"]) as sock:

        def turn() -> None:
            nonlocal got, ended, unopened
            sock.sendall(client.data_to_send())
            for event in client.receive_data(sock.recv(1 << 20)):
                if isinstance(event, h2.events.DataReceived):
                    got += len(event.data or b"")
                    unopened += event.flow_controlled_length or 0
                    if unopened >= 60_000:  # open the window only when it is nearly used up
                        client.increment_flow_control_window(unopened)
                        client.increment_flow_control_window(unopened, 1)
                        unopened = 0
                ended = ended or isinstance(event, h2.events.StreamEnded)

        client.send_headers(1, head)
        left = upload
        while left:
            room = min(client.local_flow_control_window(1), client.max_outbound_frame_size)
            if room > 0:
                client.send_data(1, left[:room])
                left = left[room:]
            else:
                turn()
        client.end_stream(1)
        while not ended:
            turn()
    assert len(sim.exchanges[0].body) == len(upload) > 200_000
    assert got > 200_000
    assert sim.billed()[0].complete


def test_stopping_frees_the_ports_and_keeps_the_count() -> None:
    simulator = Simulator(["openai"]).start()
    url = simulator.urls["openai"]
    port = int(url.rsplit(":", 1)[1])
    with connect(url) as open_connection:
        open_connection.sendall(encode(PATH, STREAM, delay_ms=1000))
        open_connection.recv(10)
        simulator.stop()
    assert len(simulator.billed()) == 1
    with Simulator(["anthropic"], port=port) as again:
        assert again.urls["anthropic"] == url
        assert again.hosts_setting() == "127.0.0.1:%d=anthropic" % port
    with pytest.raises(ValueError, match="unknown providers: nobody"):
        Simulator(["nobody"])
