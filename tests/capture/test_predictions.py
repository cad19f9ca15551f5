"""Work that is ordered and fetched: billed once, whichever of its answers is seen finished first."""

from __future__ import annotations

import json
from typing import Any, Dict

import pytest

from aicostguard.health import health
from tests.agent import Agent

httpx = pytest.importorskip("httpx")

ORDER = "/v1/models/org/m-1/predictions"
BODY: Dict[str, Any] = {"input": {"prompt": "hi"}}


@pytest.mark.ids("B3")
def test_a_prediction_that_is_polled_is_billed_once(agent: Agent) -> None:
    agent.simulator.set_default(polls=2)
    with httpx.Client(base_url=agent.url("replicate")) as client:
        made = client.post(ORDER, json=BODY).json()
        assert agent.receipts == []
        for _ in range(5):
            made = client.get("/v1/predictions/" + made["id"]).json()
    assert made["status"] == "succeeded"
    agent.balance()
    (receipt,) = agent.receipts
    assert receipt["model"] == "org/m-1"
    assert receipt["input_tokens"] == made["metrics"]["input_token_count"]


@pytest.mark.ids("B3")
def test_a_prediction_that_was_waited_for_is_not_billed_by_a_fetch(agent: Agent) -> None:
    with httpx.Client(base_url=agent.url("replicate")) as client:
        made = client.post(ORDER, json=BODY, headers={"prefer": "wait=5"}).json()
        for _ in range(2):
            client.get("/v1/predictions/" + made["id"])
        client.get("/v1/predictions/somebody-elses")
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("B3")
@pytest.mark.parametrize("stream_first", [True, False])
def test_a_prediction_and_its_stream_are_one_response(agent: Agent, stream_first: bool) -> None:
    agent.simulator.set_default(polls=0)
    with httpx.Client(base_url=agent.url("replicate")) as client:
        made = client.post(ORDER, json={**BODY, "stream": True}).json()
        steps = [made["urls"]["stream"], made["urls"]["get"]]
        for url in steps if stream_first else reversed(steps):
            client.get(url)
    agent.balance()
    (receipt,) = agent.receipts
    assert receipt["model"] == "org/m-1"
    assert receipt.get("usage_missing", False) is stream_first
    # Its streams never tell: there is nothing to advise.
    assert "stream_options" not in str(health.snapshot().get("warnings"))


@pytest.mark.ids("B3")
def test_a_prediction_that_was_waited_for_and_still_says_processing_is_billed_once(agent: Agent) -> None:
    shown = {"id": "p-1", "model": "org/m-1", "status": "processing", "output": ["a"], "metrics": {}}
    agent.simulator.set_default(body=json.dumps(shown).encode())
    with httpx.Client(base_url=agent.url("replicate")) as client:
        client.post(ORDER, json=BODY, headers={"prefer": "wait"})
        client.get("/v1/predictions/p-1")
        agent.simulator.set_default(body=json.dumps({**shown, "status": "succeeded"}).encode())
        client.get("/v1/predictions/p-1")
    (receipt,) = agent.settled(1)
    assert receipt["usage_missing"] is True
