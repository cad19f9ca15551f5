"""Cannot send prompts or responses: what leaves the process are the keys of the closed list, whatever is put in.

Canaries go into every text that a call has; then everything the agent let out is searched for them: the bodies on
the ledger's socket, the local ledger file, spool and status files, the log, stderr, and what `stats()` shows.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aicostguard as aicg
from aicostguard import auto, receipt
from aicostguard import health as our_health
from aicostguard.health import COUNTERS
from aicostguard.simulator import Simulator
from aicostguard.usage import Usage
from tests.delivery.fake_ledger import Answer, FakeLedger
from tests.safety import inject
from tests.safety.calls import CALLS, CLAUDE, GEMINI, GPT, HI, USAGE, Clients
from tests.safety.wiring import Outlets, Wire

#: in every text; plain letters, so that no pattern keeps it out by its form alone
CANARY = "canaryquetzal"
ENVELOPE = {"schema", "agent", "epoch", "sent_at", "service", "environment", "release", "host", "counters"}
ENVELOPE |= {"seq", "at", "receipts", "ended"}


def canary(where: str) -> str:
    """A canary that tells where it stood, as a sentence and as a word."""
    return "Secret of %s: %s%s!" % (where, CANARY, where)


def leaked(outlets: Outlets) -> List[str]:
    """The canaries found in anything that left the agent."""
    return sorted(set(re.findall("%s[a-z]*" % CANARY, outlets.all().decode("utf-8", "replace"))))


def closed(outlets: Outlets) -> None:
    """Every envelope and receipt that left has keys of the list only, and values that fit."""
    for envelope in outlets.envelopes():
        assert set(envelope) <= ENVELOPE
        assert set(envelope["counters"]) == set(COUNTERS)
        for item in envelope["receipts"]:
            assert receipt.check(item) == []
            assert set(item) <= set(receipt.FIELDS)


def ask_everything(clients: Clients, simulator: Simulator) -> int:
    """Calls with a canary in every place that takes text; how many of them bill."""
    tool = {"name": CANARY + "tool", "description": canary("tooldescription")}
    steering = {
        "text": canary("response"),
        "tool_calls": [json.dumps({"usage": {"prompt_tokens": 1}, "q": canary("args")})],
    }
    hidden = {"x-sim": json.dumps(steering), "x-secret": canary("header"), "cookie": "session=" + CANARY + "cookie"}
    billed = 0
    if "openai_plain" in CALLS:
        messages = [
            {"role": "system", "content": canary("system")},
            {"role": "user", "name": CANARY + "name", "content": canary("prompt")},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": canary("toolarguments")}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": canary("toolresult")},
            {"role": CANARY + "role", "content": [{"type": "file", "file": {"filename": CANARY + "filename.pdf"}}]},
        ]
        more: Dict[str, Any] = {
            "tools": [{"type": "function", "function": {**tool, "parameters": {"title": canary("parameters")}}}],
            "user": CANARY + "user",
            "metadata": {"thread": CANARY + "thread"},
            "extra_headers": hidden,
            "extra_query": {"trace": CANARY + "query"},
            "extra_body": {"prompt_cache_key": CANARY + "cachekey", "thread_id": CANARY + "threadid"},
        }
        client = clients["openai"]
        client.chat.completions.create(model=GPT, messages=messages, **more)
        list(client.chat.completions.create(model=GPT, messages=messages, stream=True, stream_options=USAGE, **more))
        list(client.chat.completions.create(model=GPT, messages=messages, stream=True, **more))
        client.responses.create(
            model="gpt-5",
            input=canary("input"),
            instructions=canary("instructions"),
            metadata={"conversation": CANARY + "conversation"},
            extra_headers={"x-sim": json.dumps({"text": canary("responsestext")})},
        )
        client.embeddings.create(model="text-embedding-3-small", input=[canary("embedded")] * 60)
        billed += 5
    if "anthropic_plain" in CALLS:
        clients["anthropic"].messages.create(
            model=CLAUDE,
            max_tokens=50,
            system=canary("claudesystem"),
            messages=[{"role": "user", "content": canary("claudeprompt")}],
            tools=[{**tool, "input_schema": {"type": "object", "title": canary("schema")}}],
            metadata={"user_id": CANARY + "claudeuser"},
            extra_headers=hidden,
        )
        billed += 1
    if "google_plain" in CALLS:
        clients["google"].models.generate_content(
            model=GEMINI,
            contents=canary("contents"),
            config={
                "system_instruction": canary("instruction"),
                "labels": None,
                "http_options": {"headers": {"x-sim": json.dumps({"text": canary("geminitext")})}},
            },
        )
        billed += 1
    if "httpx_plain" in CALLS:
        body = json.dumps({"model": GPT, "messages": HI}).encode()
        url = simulator.base_url("openai")
        for path in ("/chat/completions?q=%squery" % CANARY, "/chat/completions#%sfragment" % CANARY):
            clients["httpx"].post(url + path, content=body, headers={"content-type": "application/json"})
        billed += 2
        # What fails and what nobody recognises must be silent, too.
        clients["httpx"].post(url + "/%spath/unknown" % CANARY, content=body)
        clients["httpx"].get(url + "/files/%sfile/content" % CANARY)
        failing = {"x-sim": json.dumps({"status": 400, "error": {"message": canary("error")}})}
        clients["httpx"].post(url + "/chat/completions", content=body, headers=failing)
        clients["httpx"].post(url + "/chat/completions", content=canary("notjson").encode())
    if "requests_plain" in CALLS:
        clients["requests"].post(
            url=simulator.base_url("openai") + "/chat/completions?x=%sq" % CANARY,
            json={"model": GPT, "messages": [{"role": "user", "content": canary("requests")}]},
            headers={"x-sim": json.dumps({"headers": {"x-request-id": CANARY + "requestid"}})},
        )
        billed += 1
    return billed


@pytest.mark.ids("G17", "G03", "G04", "G05")
@pytest.mark.parametrize("mode", ["background", "inline", "file", "dead ledger"])
def test_no_text_of_a_call_leaves_the_process(
    mode: str, wired: Wire, outlets: Outlets, simulator: Simulator, clients: Clients, listening: Any
) -> None:
    answer = Answer(503, (("Retry-After", "0"),)) if mode == "dead ledger" else Answer()
    with FakeLedger(then=answer) as ledger:
        outlets.ledgers.append(ledger)
        url = "sqlite:///%s" % outlets.file if mode == "file" else ledger.url
        wired(url, MODE="inline" if mode == "inline" else "background")
        billed = ask_everything(clients, simulator)
        auto.flush(5)
        auto.shutdown(5)
        listening()
        assert len(simulator.billed()) >= billed
        closed(outlets)
        if mode == "dead ledger":
            assert outlets.files().count(b'{"provider":') >= billed, "the spool was to be looked at"
        else:
            assert len(outlets.receipts()) == billed
        assert b"aicostguard: a stream from openai" in outlets.all(), "the log was to be looked at"
        assert b'"capture"' in outlets.files(), "the status file was to be looked at"
        assert leaked(outlets) == []


@pytest.mark.ids("G17", "A8")
def test_text_of_an_exception_leaves_no_trace(wired: Wire, outlets: Outlets, clients: Clients, listening: Any) -> None:
    class Telling(ValueError):
        def __init__(self) -> None:
            super().__init__(canary("exception"))

    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url)
        _, reached = inject.reached(lambda: CALLS["httpx_plain"](clients))
        functions = inject.functions()
        for code in reached:
            name = inject.name_of(code)
            if name.startswith(("capture/call", "receipt", "metering")) and not inject.guards(code):
                with inject.planted(code, functions, Telling):
                    CALLS["httpx_plain"](clients)
        auto.shutdown(5)
        listening()
        assert "Telling" in repr(auto.stats()["faults"])
        assert b"fault in" in outlets.all()
        assert leaked(outlets) == []


SENTENCE = "Please summarise this: %s, said the patient." % CANARY
POISON: Dict[str, Any] = {
    "model is a prompt": {"model": SENTENCE},
    "model is giant": {"model": "m" * 100_000 + CANARY},
    "model has control characters": {"model": "gpt-4o\n%s\x00\x1b[31m" % CANARY},
    "model has odd letters": {"model": "gpt-４o %s \ud800 \U0001f600" % CANARY},
    "model is an object": {"model": {"text": SENTENCE}},
    "model is a list": {"model": [SENTENCE]},
    "model is a number": {"model": 4},
    "model is true": {"model": True},
    "usage has text": {"usage": {"prompt_tokens": SENTENCE, "completion_tokens": 1, "note": SENTENCE}},
    "usage has more keys": {"usage": {"prompt_tokens": 1, "completion_tokens": 1, CANARY: 1, "prompt": SENTENCE}},
    "usage has objects": {"usage": {"prompt_tokens": {CANARY: 1}, "completion_tokens": [1]}},
    "usage is text": {"usage": SENTENCE},
    "usage is a list": {"usage": [{"prompt_tokens": 1}]},
    "usage is negative": {"usage": {"prompt_tokens": -1, "completion_tokens": -(10**30)}},
    "usage is huge": {"usage": {"prompt_tokens": 10**30, "completion_tokens": 1e308, "total_tokens": 1}},
    "usage is a fraction": {"usage": {"prompt_tokens": 1.5, "completion_tokens": True}},
    "details have text": {
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"x": SENTENCE}}
    },
    "details are text": {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "completion_tokens_details": SENTENCE}},
    "tier is a sentence": {"service_tier": SENTENCE},
    "tier is an object": {"service_tier": {CANARY: 1}},
    "keys of a receipt": {
        "feature": CANARY,
        "user": CANARY,
        "tags": {"a": CANARY},
        "session": CANARY,
        "prompt": CANARY,
    },
    "id is a sentence": {"id": SENTENCE, "system_fingerprint": SENTENCE},
    "nested deep": {"choices": [[[[{"usage": {"prompt_tokens": 9}, "model": SENTENCE}]]]]},
    "provider": {"provider": SENTENCE, "object": SENTENCE},
}


@pytest.mark.ids("G17", "A21", "B15")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", ["openai", "anthropic", "google"])
def test_a_poisoned_response_cannot_speak(
    api: str, streamed: bool, wired: Wire, outlets: Outlets, simulator: Simulator, clients: Clients, listening: Any
) -> None:
    httpx = pytest.importorskip("httpx")
    path = {
        "openai": "/chat/completions",
        "anthropic": "/v1/messages",
        "google": "/v1beta/models/%s:%s" % (GEMINI, "streamGenerateContent?alt=sse" if streamed else "generateContent"),
    }[api]
    url = (simulator.base_url(api) if api == "openai" else simulator.urls[api]) + path
    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url)
        for poison in POISON.values():
            raw = json.dumps(poisoned(api, poison, streamed)).encode()
            sent = b"data: %s\n\ndata: [DONE]\n\n" % raw if streamed else raw
            kind = "text/event-stream" if streamed else "application/json"
            simulator.set_default(body=sent, headers={"content-type": kind})
            answer = clients["httpx"].post(url, content=b"{}")
            assert isinstance(answer, httpx.Response) and answer.content == sent
        simulator.set_default()
        auto.flush(5)
        auto.shutdown(5)
        listening()
        assert our_health.health.counters["faults"] == 0
        assert our_health.health.counters["generated"] > 10
        assert len(outlets.receipts()) == our_health.health.counters["generated"]
        closed(outlets)
        assert leaked(outlets) == []


def poisoned(api: str, poison: Dict[str, Any], streamed: bool) -> Dict[str, Any]:
    """A plausible body of this API, with the poison in."""
    if api == "openai":
        body: Dict[str, Any] = {
            "id": "c",
            "model": GPT,
            "choices": [],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        body.update(poison)
        return body
    if api == "anthropic":
        body = {
            "id": "m",
            "type": "message",
            "model": CLAUDE,
            "content": [],
            "usage": {"input_tokens": 3, "output_tokens": 2},
        }
        body.update(poison)
        if isinstance(poison.get("usage"), dict):
            renamed = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
            body["usage"] = {renamed.get(key, key): value for key, value in poison["usage"].items()}
        return {"type": "message_start", "message": body} if streamed else body
    body = {"modelVersion": GEMINI, "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}
    body.update(poison)
    body["modelVersion"] = poison.get("model", GEMINI)
    if "usage" in poison:
        body["usageMetadata"] = poison["usage"]
    if isinstance(poison.get("usage"), dict):
        renamed = {"prompt_tokens": "promptTokenCount", "completion_tokens": "candidatesTokenCount"}
        body["usageMetadata"] = {renamed.get(key, key): value for key, value in poison["usage"].items()}
    return body


@pytest.mark.ids("G17")
def test_headers_of_a_response_cannot_speak(
    wired: Wire, outlets: Outlets, simulator: Simulator, clients: Clients, listening: Any
) -> None:
    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url)
        for stream in (False, True):
            for header in ("content-encoding", "content-type", "x-request-id", "anthropic-version", "server"):
                steering = json.dumps({"headers": {header: CANARY + "header"}})
                request = clients["httpx"].build_request(
                    "POST",
                    simulator.base_url("openai") + "/chat/completions",
                    json={"model": GPT, "messages": HI, "stream": stream},
                    headers={"x-sim": steering},
                )
                answer = clients["httpx"].send(request, stream=True)
                b"".join(answer.iter_raw())
                answer.close()
        auto.shutdown(5)
        listening()
        assert outlets.receipts()
        assert leaked(outlets) == []


@pytest.mark.ids("G17", "X4")
def test_a_label_that_is_a_text_is_replaced_and_counted(
    wired: Wire, outlets: Outlets, clients: Clients, listening: Any
) -> None:
    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url)
        tags = {"tag%d" % i: SENTENCE for i in range(40)}
        tags.update({SENTENCE: "x", "line\nbreak": CANARY, "ok": "fine"})
        named = {"user": SENTENCE, "session": SENTENCE * 9, "team": "a\nb" + CANARY, "request": "\x1b[1m" + CANARY}
        with aicg.feature(SENTENCE), aicg.agent(SENTENCE, parent=SENTENCE), aicg.labels(tags=tags, **named):  # type: ignore[arg-type]
            CALLS["httpx_plain"](clients)
            # The warning of a stream without usage names the feature.
            clients["openai"].chat.completions.create(model=GPT, messages=HI, stream=True).close()
            list(clients["openai"].chat.completions.create(model=GPT, messages=HI, stream=True))
        auto.shutdown(5)
        listening()
        assert len(outlets.receipts()) >= 2
        closed(outlets)
        assert re.match(r"replaced-[0-9a-f]{10}$", outlets.receipts()[0]["feature"])
        assert our_health.health.notes["replaced"] > 10
        assert "replaced-" in next(text for text in our_health.health.warnings.values() if "carried no usage" in text)
        assert leaked(outlets) == []


@pytest.mark.ids("G03", "G17", "X4")
def test_a_plain_call_sends_exactly_the_six_keys(
    wired: Wire, outlets: Outlets, simulator: Simulator, clients: Clients
) -> None:
    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url, MODE="inline")
        simulator.set_default(usage={"input_tokens": 1240, "output_tokens": 312})
        plain = [name for name in CALLS if name.endswith("_plain") and not name.startswith("google")]
        for name in plain:
            CALLS[name](clients)
        assert len(outlets.receipts()) == len(simulator.billed()) >= len(plain)
        for item in outlets.receipts():
            assert tuple(item) == receipt.CORE
            assert (item["input_tokens"], item["output_tokens"]) == (1240, 312)


@pytest.mark.ids("G03", "G17", "X4")
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_core_is_never_more_than_the_six(mode: str, wired: Wire, outlets: Outlets, clients: Clients) -> None:
    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url, MODE=mode, RECEIPT="core")
        with aicg.labels(user="u", tags={"a": "b"}), aicg.session("s"):
            for ask in CALLS.values():
                ask(clients)
        auto.flush(5)
        assert len(outlets.receipts()) >= len(CALLS)
        assert {key for item in outlets.receipts() for key in item} == set(receipt.CORE)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(sorted(receipt.FIELDS)) | st.text(max_size=12)


@pytest.mark.ids("G17")
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    provider=st.text(max_size=40) | st.sampled_from(["openai", "custom"]),
    model=st.none() | st.text(max_size=250),
    usage=st.none() | st.builds(Usage, *[st.none() | st.integers() | st.floats() for _ in Usage._fields]),
    more=st.dictionaries(KEYS, ANYTHING, max_size=12),
)
def test_whatever_is_built_fits_the_list(provider: Any, model: Any, usage: Any, more: Dict[str, Any]) -> None:
    made, changed = receipt.build(provider, model, usage, more)
    assert receipt.check(made) == []
    sent = json.loads(receipt.encode(made))
    assert sent == made
    assert set(receipt.core(made)) <= set(receipt.CORE)
    if any(key not in receipt.FIELDS and more[key] not in (None, False) for key in more):
        assert changed


@pytest.mark.ids("G17")
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, ANYTHING, max_size=12))
def test_whatever_is_encoded_fits_the_list(value: Dict[str, Any]) -> None:
    sent = json.loads(receipt.encode(value))
    assert {problem.error for problem in receipt.check(sent)} <= {"is required"}
    assert set(sent) <= set(receipt.FIELDS)


LABEL = st.from_regex(receipt._LABEL, fullmatch=True)


@pytest.mark.ids("G17")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(sorted(set(receipt.LABELS) - {"tags"} | {"feature"})), LABEL),
    st.dictionaries(st.from_regex(receipt._TAG_KEY, fullmatch=True), LABEL, min_size=1, max_size=4),
    st.from_regex(receipt._MODEL, fullmatch=True),
)
def test_text_that_fits_stands_in_json_as_it_is(labels: Dict[str, str], tags: Dict[str, str], model: str) -> None:
    """The encoder quotes nothing: no pattern may let through what JSON would have to quote."""
    value = {"provider": "openai", "model": model, **labels, "tags": tags, "streamed": True}
    assert receipt.check(value) == []
    text = receipt.encode(value)
    assert json.loads(text) == value
    assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.ids("G17")
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from(sorted(set(receipt.LABELS) - {"tags"} | {"feature"})), LABEL, max_size=3),
    st.lists(st.integers(0, receipt.MAX_TOKENS), min_size=2, max_size=2),
    ANYTHING,
)
def test_a_known_shape_is_written_as_any_other(labels: Dict[str, str], numbers: List[int], odd: Any) -> None:
    """Receipts with the same keys share their text: what does not fit is left out of the next one all the same."""
    keys = {"provider": "openai", "model": "gpt-4o", **labels, "streamed": True}
    for first in (1, *numbers):
        value = {**keys, "input_tokens": first, "latency_ms": numbers[-1]}
        assert receipt.encode(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    for key in ("model", "streamed", "input_tokens", *labels):
        value = {**keys, "input_tokens": 1, "latency_ms": 2, key: odd}
        fits = receipt.FIELDS[key].fits(odd)
        assert json.loads(receipt.encode(value)) == (
            {**value} if fits else {k: v for k, v in value.items() if k != key}
        )
