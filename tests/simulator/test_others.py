"""Formats of the providers that do not speak OpenAI's language, read from the bytes."""

from __future__ import annotations

import json

import pytest

from aicostguard.simulator import Simulator
from tests.simulator.raw import ask, events


@pytest.mark.parametrize("path", ["/v1/chat", "/v2/chat"])
def test_cohere_bills_less_than_it_processes(path: str, sim: Simulator) -> None:
    body = json.loads(ask(sim.urls["cohere"], path, {"model": "m", "message": "hi", "messages": []}).body)
    counted = body["meta"] if path == "/v1/chat" else body["usage"]
    (row,) = sim.billed()
    assert row.usage is not None
    assert counted["billed_units"]["input_tokens"] == row.usage.input_tokens
    assert counted["tokens"]["input_tokens"] > row.usage.input_tokens


def test_ollama_streams_lines_unless_told_otherwise(sim: Simulator) -> None:
    answer = ask(sim.urls["ollama"], "/api/chat", {"model": "m", "messages": []})
    rows = [json.loads(line) for line in answer.body.splitlines()]
    assert [row["done"] for row in rows] == [False] * 4 + [True]
    whole = json.loads(ask(sim.urls["ollama"], "/api/chat", {"model": "m", "messages": [], "stream": False}).body)
    assert whole["done"] is True
    assert len(sim.billed()) == 2


def test_watsonx_counts_input_once_and_output_so_far(sim: Simulator) -> None:
    answer = ask(sim.urls["watsonx"], "/ml/v1/text/generation_stream", {"model_id": "m", "input": "hi"})
    results = [event["results"][0] for event in events(answer.body)]
    (row,) = sim.billed()
    assert row.usage is not None
    assert sum(result["input_token_count"] for result in results) == row.usage.input_tokens
    assert results[-1]["generated_token_count"] == row.usage.output_tokens


def test_a_prediction_is_billed_when_it_is_first_seen_finished(sim: Simulator) -> None:
    made = json.loads(
        ask(sim.urls["replicate"], "/v1/predictions", {"version": "v", "input": {}}, {"x-sim": '{"polls":1}'}).body
    )
    path = "/v1/predictions/" + made["id"]
    seen = []
    for _ in range(3):
        seen.append(json.loads(ask(sim.urls["replicate"], path, method="GET").body)["status"])
    assert seen == ["processing", "succeeded", "succeeded"]
    assert len(sim.billed()) == 1
