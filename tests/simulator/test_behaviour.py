"""Every behaviour, seen from a bare socket."""

from __future__ import annotations

import importlib
import json
import threading
import time
import zlib
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.simulator import BadBehaviour, Simulator
from aicostguard.usage import Usage
from tests.simulator.raw import ask, connect, encode, events, read

PATH = "/v1/chat/completions"
BODY = {"model": "m", "messages": []}
STREAM = {**BODY, "stream": True, "stream_options": {"include_usage": True}}


def brotli(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli").Decompressor().process(data))


def zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").ZstdDecompressor().decompressobj().decompress(data))


DECODERS: Dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.decompressobj(31).decompress(data),
    "deflate": lambda data: zlib.decompressobj(15).decompress(data),
    "br": brotli,
    "zstd": zstd,
}


@pytest.mark.parametrize("encoding", DECODERS)
def test_each_event_of_a_compressed_stream_can_be_decoded_when_it_arrives(encoding: str, sim: Simulator) -> None:
    if encoding in ("br", "zstd"):
        pytest.importorskip({"br": "brotli", "zstd": "zstandard"}[encoding])
    headers = {"accept-encoding": "gzip, deflate, br, zstd"}
    plain = ask(sim.urls["openai"], PATH, STREAM, headers)
    packed = ask(sim.urls["openai"], PATH, STREAM, headers, encoding=encoding)
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == encoding
    decode = DECODERS[encoding]
    assert len(events(decode(packed.body))) == len(events(plain.body))
    # the first HTTP chunk alone gives the first event whole
    assert len(events(decode(packed.parts[0]))) == 1
    for late in (0, 1):
        whole = ask(sim.urls["openai"], PATH, BODY, headers, encoding=encoding, first_delay_ms=late)
        assert json.loads(decode(whole.body))["object"] == "chat.completion"


def test_a_client_that_does_not_accept_an_encoding_does_not_get_it(sim: Simulator) -> None:
    for headers in ({}, {"accept-encoding": "br"}):
        assert "content-encoding" not in ask(sim.urls["openai"], PATH, BODY, headers, encoding="gzip").headers


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("body", [BODY, STREAM])
def test_chunk_size_cuts_the_wire_anywhere(size: int, body: Dict[str, Any], sim: Simulator) -> None:
    whole = ask(sim.urls["openai"], PATH, body, usage={"input_tokens": 9})
    cut = ask(sim.urls["openai"], PATH, body, usage={"input_tokens": 9}, chunk_size=size)
    assert max(map(len, cut.parts)) == size
    assert len(cut.body) == len(whole.body)
    assert all(row.complete for row in sim.billed())


def test_events_arrive_one_by_one_and_not_before_their_time(sim: Simulator) -> None:
    with connect(sim.urls["openai"]) as sock:
        begun = time.monotonic()
        sock.sendall(encode(PATH, STREAM, delay_ms=40, first_delay_ms=80, chunks=3))
        first = sock.recv(65536)
        waited = time.monotonic() - begun
        assert waited >= 0.08
        assert first.count(b"data: ") == 1
        assert sim.billed()[0].complete is False
        answer, _ = read(sock, first)
        assert time.monotonic() - begun >= 0.08 + 0.04 * (len(answer.parts) - 1) * 0.9
    assert sim.billed()[0].complete is True


def test_errors_bill_nothing_and_speak_the_providers_language(sim: Simulator) -> None:
    sim.set_default(status=429, retry_after="3")
    for provider, path, shape in (
        ("openai", PATH, ("error", "type")),
        ("anthropic", "/v1/messages", ("error", "type")),
        ("google", "/v1beta/models/g:generateContent", ("error", "status")),
    ):
        answer = ask(sim.urls[provider], path, {})
        assert (answer.status, answer.headers["retry-after"]) == (429, "3")
        assert json.loads(answer.body)[shape[0]][shape[1]]
    answer = ask(sim.urls["openai"], PATH, BODY, status=500, error={"mine": True})
    assert (answer.status, json.loads(answer.body)) == (500, {"mine": True})
    assert sim.billed() == []
    assert [e.status for e in sim.exchanges] == [429, 429, 429, 500]


def test_an_error_inside_a_200(sim: Simulator) -> None:
    plain = ask(sim.urls["azure"], "/openai/deployments/d/chat/completions", BODY, error={"error": {"code": "x"}})
    assert (plain.status, json.loads(plain.body)) == (200, {"error": {"code": "x"}})
    assert sim.billed() == []
    stream = ask(sim.urls["anthropic"], "/v1/messages", STREAM, error={"type": "error", "error": {"type": "o"}})
    assert b"event: error\n" in stream.body
    assert b"message_stop" not in stream.body
    assert [row.complete for row in sim.billed()] == [False]


@pytest.mark.ids("B10")
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "streamed"])
def test_a_reset_after_so_many_bytes(body: Dict[str, Any], sim: Simulator) -> None:
    answer = ask(sim.urls["openai"], PATH, body, reset_after=100)
    assert answer.ended == "reset"
    assert len(answer.body) <= 100
    assert [row.complete for row in sim.billed()] == [False]


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "streamed"])
def test_a_cut_closes_in_good_order_without_the_end(body: Dict[str, Any], sim: Simulator) -> None:
    answer = ask(sim.urls["openai"], PATH, body, cut_after=100)
    assert (answer.ended, len(answer.body)) == ("closed", 100)
    assert [row.complete for row in sim.billed()] == [False]


def test_a_cut_behind_the_last_byte_leaves_only_the_end_out(sim: Simulator) -> None:
    answer = ask(sim.urls["openai"], PATH, STREAM, cut_after=10**6)
    assert events(answer.body)[-1] == "[DONE]"
    assert answer.ended == "closed"
    assert [row.complete for row in sim.billed()] == [True]


@pytest.mark.parametrize(("key", "ended"), [("reset_after", "reset"), ("cut_after", "closed")])
def test_nothing_sent_is_nothing_billed(key: str, ended: str, sim: Simulator) -> None:
    answer = ask(sim.urls["openai"], PATH, BODY, **{key: -1})
    assert (answer.status, answer.ended) == (0, ended)
    assert sim.billed() == []


@pytest.mark.ids("B4")
def test_attempts_fail_and_then_one_succeeds_per_call(sim: Simulator) -> None:
    url = sim.urls["openai"]

    def attempts(headers: Dict[str, str], body: Any = BODY, times: int = 3) -> Any:
        return [ask(url, PATH, body, headers, fail_times=2).status for _ in range(times)]

    assert attempts({"x-sim-tag": "a"}) == [503, 503, 200]
    assert attempts({"idempotency-key": "k"}) == [503, 503, 200]
    assert attempts({}) == [503, 503, 200]
    assert attempts({}) == [503, 503, 200]  # a later call begins anew
    # two calls side by side do not use up each other's attempts
    mixed = [attempts({"x-sim-tag": tag}, times=1)[0] for tag in ("a", "b", "a", "b", "a", "b")]
    assert mixed == [503, 503, 503, 503, 200, 200]
    assert len(sim.billed()) == 6


def test_a_scripted_failure_stays_with_its_call(sim: Simulator) -> None:
    sim.script([{"fail_times": 2, "status": 429}, {"model": "second"}])
    url = sim.urls["openai"]
    other = {**BODY, "user": "other"}
    statuses = [ask(url, PATH, body).status for body in (BODY, other, BODY, BODY)]
    assert statuses == [429, 200, 429, 200]
    assert [row.model for row in sim.billed()] == ["second", "m"]


def test_default_script_and_header_are_merged_key_by_key(sim: Simulator) -> None:
    sim.set_default(model="default", text="from the default")
    sim.script([{"model": "scripted"}])
    url = sim.urls["openai"]
    answers = [json.loads(ask(url, PATH, BODY, **sim_).body) for sim_ in ({"text": "header"}, {})]
    assert [a["model"] for a in answers] == ["scripted", "default"]
    assert [a["choices"][0]["message"]["content"] for a in answers] == ["header", "from the default"]


def test_a_warm_up_request_does_not_use_up_the_script(sim: Simulator) -> None:
    sim.script([{"model": "scripted"}])
    ask(sim.urls["cerebras"], "/v1/tcp_warming", method="GET")
    ask(sim.urls["cerebras"], PATH, BODY)
    assert sim.billed()[0].model == "scripted"


def test_verbatim_bodies_and_headers(sim: Simulator) -> None:
    url = sim.urls["openai"]
    answer = ask(url, PATH, BODY, body='{"odd": null}')
    assert (answer.body, answer.status) == (b'{"odd": null}', 200)
    assert sim.billed() == []
    sim.set_default(body=b"data: {}\n\n", headers={"content-type": "text/event-stream", "x-more": "1"})
    answer = ask(url, "/v1/no/such/path", BODY)
    assert (answer.headers["content-type"], answer.headers["x-more"]) == ("text/event-stream", "1")
    ask(url, PATH, BODY, usage={"input_tokens": 5}, model="n")
    assert [(row.model, row.usage) for row in sim.billed()] == [("n", Usage(input_tokens=5))]


def test_redirects_keep_method_and_body(sim: Simulator) -> None:
    url = sim.urls["openai"]
    answer = ask(url, PATH, BODY, redirect="/v1/completions")
    assert answer.status == 307
    target = answer.headers["location"]
    assert target.startswith("/v1/completions?")
    assert ask(url, target, BODY, redirect="/v1/completions").status == 200
    assert [row.format for row in sim.billed()] == ["completions"]


def test_service_tier_is_said_and_counted(sim: Simulator) -> None:
    answer = json.loads(ask(sim.urls["openai"], PATH, BODY, service_tier="flex").body)
    assert answer["service_tier"] == sim.billed()[0].service_tier == "flex"


def test_text_and_chunks(sim: Simulator) -> None:
    text = 'quotes " and\nlines and ☃ and {"usage":{"prompt_tokens":1}}'
    seen = events(ask(sim.urls["openai"], PATH, STREAM, text=text, chunks=9).body)[:-1]
    pieces = [c["choices"][0]["delta"].get("content") for c in seen if c["choices"]]
    assert "".join(p for p in pieces if p) == text
    assert len([p for p in pieces if p]) == 9


NONE_SUCH: List[Dict[str, Any]] = [
    {"nonsense": 1}, {"encoding": "lzma"}, {"usage": {"input": 1}}, {"usage": 3}, {"chunks": "many"}, {"chunks": None},
    {"delay_ms": "1"}, {"delay_ms": -1}, {"first_delay_ms": 1e300}, {"status": "429"}, {"status": True}, {"text": 5},
    {"reset_after": 1.5}, {"no_usage": "yes"}, {"headers": "x"}, {"polls": -1}, {"tool_use_prompt_tokens": []},
    {"body_base64": "a"}, {"body_base64": 5}, {"tool_calls": 5}, {"tool_calls": {"a": 1}}, {"headers": {"x": 1}},
]  # fmt: skip


@pytest.mark.parametrize("values", NONE_SUCH, ids=str)
def test_a_behaviour_that_does_not_exist_is_refused(values: Dict[str, Any], sim: Simulator) -> None:
    with pytest.raises(BadBehaviour, match=next(iter(values))):
        sim.set_default(**values)
    assert ask(sim.urls["openai"], PATH, BODY, **values).status == 400
    assert ask(sim.urls["openai"], PATH, BODY, {"x-sim": "not json"}).status == 400
    assert sim.billed() == []


def test_the_control_paths(sim: Simulator) -> None:
    url = sim.urls["openai"]
    assert ask(url, "/__sim/behaviour", {"model": "d"}).status == 200
    assert ask(url, "/__sim/behaviour", [{"model": "s"}]).status == 200
    for _ in range(2):
        ask(url, PATH, BODY, {"x-sim-tag": "t"})
    told = json.loads(ask(url, "/__sim/billed", method="GET").body)
    assert [row["model"] for row in told["billed"]] == ["s", "d"]
    assert told["billed"][0]["usage"]["input_tokens"] > 0
    assert told["billed"][0]["tag"] == "t"
    assert ask(url, "/__sim/behaviour", {"nonsense": 1}).status == 400
    assert ask(url, "/__sim/nothing", {}).status == 404
    assert ask(url, "/__sim/reset", {}).status == 200
    assert sim.billed() == []
    assert sim.exchanges == []


def test_an_encoding_whose_package_is_absent_is_left_out(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(name: str, package: Any = None) -> Any:
        if name == "brotli":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    answer = ask(sim.urls["openai"], PATH, BODY, {"accept-encoding": "br"}, encoding="br")
    assert "content-encoding" not in answer.headers
    assert json.loads(answer.body)["model"] == "m"


def test_steering_from_many_threads_gives_each_script_entry_once(sim: Simulator) -> None:
    sim.script([{"model": "m%d" % n} for n in range(40)])

    def work(number: int) -> None:
        for _ in range(10):
            ask(sim.urls["openai"], PATH, {**BODY, "user": str(number)})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row.model or "" for row in sim.billed()) == sorted("m%d" % n for n in range(40))
