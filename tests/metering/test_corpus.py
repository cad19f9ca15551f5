"""Every recorded exchange of the formats we read, against its truth; and nothing from other services.

The corpus is no part of the project: it is found by `AICG_CORPUS`, else beside the project's folder, and without
it these tests skip by name.
"""

from __future__ import annotations

import base64
import collections
import functools
import gzip
import importlib.util
import json
import os
import pathlib
import sys
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from aicostguard.metering import UNRECOGNISED, Endpoint, Meter, read_body, recognise
from aicostguard.usage import Reading

CORPUS = pathlib.Path(os.environ.get("AICG_CORPUS") or pathlib.Path(__file__).parents[3] / "shared" / "corpus")

pytestmark = pytest.mark.skipif(not (CORPUS / "dev.jsonl.gz").exists(), reason="no corpus at AICG_CORPUS")

#: hosts that a user would name in AICG_HOSTS: self-hosted servers and a gateway that no table knows
HOSTS = (("localhost", 8000, None), ("localhost", 5002, None), ("api.portkey.ai", None, None))

#: (provider, flavour) of exchanges that a later issue reads, and why; nothing else may go unread
LATER: Dict[Tuple[str, str], str] = {}
#: (provider, flavour) that never bill and are known as such
FREE = {
    ("bedrock", "kb_retrieve"),
    ("google", "cached_contents"),
    ("openai", "assistants_admin"),
    ("openai", "assistants_messages"),
    ("openai", "assistants_thread"),
    ("openai", "telemetry"),
    ("replicate", "models"),
    ("watsonx", "models"),
}


@functools.cache
def cases(name: str) -> Tuple[Dict[str, Any], ...]:
    with gzip.open(CORPUS / name, "rt", encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


@functools.cache
def scorer() -> Any:
    """The corpus's own score.py, loaded from beside the data."""
    sys.path.insert(0, str(CORPUS))
    try:
        spec = importlib.util.spec_from_file_location("corpus_score", CORPUS / "score.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(CORPUS))


def body_of(case: Dict[str, Any]) -> bytes:
    return base64.b64decode(case["response_body_base64"])


def found(case: Dict[str, Any]) -> Any:
    host, _, port = case["host"].partition(":")
    return recognise(case["method"], host.lower(), int(port) if port else 443, case["path"], HOSTS)


def arguments(case: Dict[str, Any], endpoint: Endpoint) -> Tuple[Any, ...]:
    headers: Dict[str, str] = {}
    for name, value in dict(case["response_headers"]).items():
        headers[name.lower()] = value[0] if isinstance(value, list) else value
    request = case["request_body"]
    if isinstance(request, (dict, list)):
        request = json.dumps(request)
    payload = request.encode() if isinstance(request, str) else None
    return endpoint, case["status"], headers.get("content-type") or "", lambda: payload, headers.get


def read(case: Dict[str, Any], step: Optional[int] = None) -> List[Reading]:
    endpoint = found(case)
    if not isinstance(endpoint, Endpoint):
        return []
    endpoint, status, kind, request, header = arguments(case, endpoint)
    if step is None:
        return read_body(endpoint, status, kind, body_of(case), request, header)
    meter, body = Meter(endpoint, status, kind, request, header), body_of(case)
    for at in range(0, len(body), step):
        meter.feed(body[at : at + step])
    return meter.finish(True)


def as_scored(reading: Reading) -> Dict[str, Any]:
    if reading.pending or reading.usage is None:
        return {}
    usage = reading.usage
    return {
        "provider": reading.provider,
        "model": reading.model,
        "total_input": usage.input_tokens,
        "total_output": usage.output_tokens,
        "cached_input_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_creation_input_tokens,
        "reasoning_tokens": usage.reasoning_output_tokens,
        "estimated": False,
    }


def in_scope() -> Iterator[Dict[str, Any]]:
    for case in cases("dev.jsonl.gz"):
        endpoint = found(case)
        kind = (case["truth"]["provider"], case["truth"]["flavour"])
        if isinstance(endpoint, Endpoint) and (endpoint.bills or kind not in LATER):
            yield case


@pytest.mark.parametrize("step", [None, 1500, 61, 1])
@pytest.mark.ids("B3", "B5", "B6", "B7", "B8", "B13", "B14", "B15", "G07")
def test_every_exchange_is_exact(step: Optional[int]) -> None:
    verdicts: collections.Counter[str] = collections.Counter()
    bad = []
    for case in in_scope():
        if step == 1 and len(case["response_body_base64"]) > 8192:  # every boundary, where that is soon done
            continue
        verdict = scorer().score_case(case, [as_scored(reading) for reading in read(case, step)])
        verdicts[verdict] += 1
        if verdict != "ok":
            bad.append((verdict, case["id"], case["truth"]["provider"], case["truth"]["flavour"]))
    print("\ncorpus:", dict(verdicts))
    assert not bad
    assert verdicts["ok"] > (800 if step == 1 else 1500)


@pytest.mark.ids("B14")
def test_model_and_provider_are_the_truths() -> None:
    bad = []
    for case in in_scope():
        truth = case["truth"]
        if not truth["billable"]:
            continue
        for reading in read(case)[:1]:
            provider = truth["provider"]
            if provider == "google" and truth.get("platform") == "vertex":
                provider = "vertex"
            if provider == "openai-compatible":
                provider = "custom"
            # Aleph Alpha's answer names the version of the model, which the truth takes for it. On Bedrock the URL
            # names the model more exactly; and the request does, where the truth knows no model.
            models = {truth["request_model"] if provider == "aleph-alpha" else truth["model"]}
            if provider == "bedrock":
                models |= {truth.get("url_model")}
                models |= {reading.model} if truth["flavour"] == "retrieve_and_generate" else set()
            if reading.provider != provider or reading.model not in models:
                bad.append((case["id"], reading.provider, provider, reading.model, models))
    assert not bad


def test_a_billable_exchange_without_usage_still_gives_a_reading() -> None:
    for case in in_scope():
        if case["truth"]["usage_missing"]:
            readings = read(case)
            assert len(readings) == 1, case["id"]
            # A reranker that is billed by the search says how many, and no tokens.
            usage = readings[0].usage
            assert usage is None or (usage.input_tokens is None and usage.output_tokens is None), case["id"]


def test_what_is_not_read_is_listed() -> None:
    unread: collections.Counter[Tuple[str, str]] = collections.Counter()
    unbilled: collections.Counter[Tuple[str, str]] = collections.Counter()
    for case in cases("dev.jsonl.gz"):
        kind = (case["truth"]["provider"], case["truth"]["flavour"])
        endpoint = found(case)
        if endpoint is UNRECOGNISED or endpoint is None:
            unread[kind] += 1
        elif not endpoint.bills:
            unbilled[kind] += 1
    print("\nleft to later issues:", {"%s %s" % kind: number for kind, number in sorted(unread.items())})
    assert set(unread) - set(LATER) - FREE == set()
    assert set(unbilled) - FREE == set()


@pytest.mark.parametrize("step", [None, 61])
def test_other_services_give_no_reading(step: Optional[int]) -> None:
    for case in cases("negatives.jsonl.gz"):
        assert read(case, step) == [], case["id"]
    assert len(cases("negatives.jsonl.gz")) == 288
