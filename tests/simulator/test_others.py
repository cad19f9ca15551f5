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


def test_cohere_says_the_same_end_whole_and_streamed(sim: Simulator) -> None:
    for behaviour, end in (({}, "COMPLETE"), ({"tool_calls": ["{}"]}, "TOOL_CALL")):
        whole = json.loads(ask(sim.urls["cohere"], "/v2/chat", {"model": "m"}, **behaviour).body)
        *_, last, _ = events(ask(sim.urls["cohere"], "/v2/chat", {"model": "m", "stream": True}, **behaviour).body)
        assert (whole["finish_reason"], last["delta"]["finish_reason"]) == (end, end)


def test_tgi_has_a_path_that_always_streams(sim: Simulator) -> None:
    seen = events(ask(sim.urls["huggingface"], "/generate_stream", {"inputs": "hi"}).body)
    (row,) = sim.billed()
    assert row.usage is not None
    assert seen[-1]["details"]["generated_tokens"] == row.usage.output_tokens


def test_a_model_is_described_as_its_provider_does(sim: Simulator) -> None:
    google = json.loads(ask(sim.urls["google"], "/v1beta/models/gemini-9", method="GET").body)
    assert google["name"] == "models/gemini-9"
    claude = json.loads(ask(sim.urls["anthropic"], "/v1/models/claude-9", method="GET").body)
    assert (claude["type"], claude["id"]) == ("model", "claude-9")
    openai = json.loads(ask(sim.urls["openai"], "/v1/models/gpt-9", method="GET").body)
    assert (openai["object"], openai["id"]) == ("model", "gpt-9")


def test_a_batch_of_a_file_that_holds_no_requests_is_refused(sim: Simulator) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n%s\r\n--x--\r\n'
    for content in (b"no JSON", b"[1]"):
        headers = {"content-type": "multipart/form-data; boundary=x"}
        file = json.loads(ask(sim.urls["openai"], "/v1/files", form % content, headers).body)["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
        assert ask(sim.urls["openai"], "/v1/batches", asked).status == 400
    assert sim.billed() == []


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
