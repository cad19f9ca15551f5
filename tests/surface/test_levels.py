"""At whichever level a program stands, one billed response is one receipt: SDK, framework on an SDK, plain HTTP."""

from __future__ import annotations

import json
import urllib.request
from typing import Any, Callable, Dict

import pytest

from aicostguard import auto
from aicostguard.simulator import Simulator

openai = pytest.importorskip("openai")

ASKED: Any = [{"role": "user", "content": "hi"}]
BODY: Dict[str, Any] = {"model": "gpt-4o", "messages": ASKED}


def with_the_sdk(url: str) -> None:
    with openai.OpenAI(api_key="k", base_url=url) as client:
        client.chat.completions.create(**BODY)


def with_the_sdk_raw(url: str) -> None:
    with openai.OpenAI(api_key="k", base_url=url) as client:
        client.chat.completions.with_raw_response.create(**BODY).parse()


def with_the_sdk_over_a_client_of_ones_own(url: str) -> None:
    httpx2 = pytest.importorskip("httpx2")
    with httpx2.Client() as http, openai.OpenAI(api_key="k", base_url=url, http_client=http) as client:
        client.chat.completions.create(**BODY)


def with_a_framework(url: str) -> None:
    chat = pytest.importorskip("langchain_openai").ChatOpenAI(model="gpt-4o", api_key="k", base_url=url)
    chat.invoke("hi")
    chat.root_client.close()


def with_httpx(url: str) -> None:
    pytest.importorskip("httpx").post(url + "/chat/completions", json=BODY, headers={"Authorization": "Bearer k"})


def with_requests(url: str) -> None:
    pytest.importorskip("requests").post(url + "/chat/completions", json=BODY, headers={"Authorization": "Bearer k"})


def with_urllib(url: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer k"}
    asked = urllib.request.Request(url + "/chat/completions", json.dumps(BODY).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as reply:
        reply.read()


@pytest.mark.ids("X8", "B1")
@pytest.mark.parametrize(
    "ask",
    [
        *(with_the_sdk, with_the_sdk_raw, with_the_sdk_over_a_client_of_ones_own, with_a_framework),
        *(with_httpx, with_requests, with_urllib),
    ],
)
def test_one_billed_response_is_one_receipt_at_every_level(
    sim: Simulator, ask: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICG_HOSTS", sim.hosts_setting())
    seen: list[Any] = []
    stop = auto.observe(seen.append)
    assert stop is not None
    try:
        ask(sim.base_url("openai"))
    finally:
        stop()
    (billed,) = sim.billed()
    (receipt,) = seen
    assert billed.usage is not None
    assert (receipt["provider"], receipt["model"], receipt["input_tokens"], receipt["output_tokens"]) == (
        *("openai", "gpt-4o", billed.usage.input_tokens, billed.usage.output_tokens),
    )
    assert receipt["feature"] == ask.__name__
