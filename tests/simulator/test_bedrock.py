"""boto3 takes the simulator for Bedrock: every event stream passes its checks, and what it reads is what was billed."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Optional

import pytest

from aicostguard.simulator import Simulator
from aicostguard.usage import Usage

boto3 = pytest.importorskip("boto3")

TURN: List[Any] = [{"role": "user", "content": [{"text": "What does a call cost?"}]}]
FORCED = {"input_tokens": 1000, "output_tokens": 90}
CACHED = {**FORCED, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 200}
PROFILE = "us.anthropic.claude-9-20260101-v1:0"


@pytest.fixture
def runtime(sim: Simulator) -> Iterator[Any]:
    yield from _client(sim, "bedrock-runtime")


@pytest.fixture
def agents(sim: Simulator) -> Iterator[Any]:
    yield from _client(sim, "bedrock-agent-runtime")


def _client(sim: Simulator, service: str) -> Iterator[Any]:
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    client = boto3.session.Session().client(service, endpoint_url=sim.urls["bedrock"], **keys)
    yield client
    client.close()


def test_converse_plain_and_streamed(sim: Simulator, runtime: Any) -> None:
    sim.set_default(usage=CACHED, tool_calls=['{"a": 1}'], service_tier="flex")
    told = {
        "inputTokens": 500, "outputTokens": 90, "totalTokens": 1090, "cacheReadInputTokens": 300,
        "cacheWriteInputTokens": 200,
    }  # fmt: skip
    plain = runtime.converse(modelId=PROFILE, messages=TURN)
    assert plain["usage"] == told
    assert plain["serviceTier"] == {"type": "flex"}
    assert plain["output"]["message"]["content"][1]["toolUse"]["input"] == {"a": 1}
    events = list(runtime.converse_stream(modelId=PROFILE, messages=TURN)["stream"])
    assert [next(iter(event)) for event in events][-2:] == ["messageStop", "metadata"]
    assert events[-1]["metadata"]["usage"] == told
    assert [(row.model, row.usage, row.streamed) for row in sim.billed()] == [
        (PROFILE, Usage(**CACHED), False),
        (PROFILE, Usage(**CACHED), True),
    ]


def test_a_router_names_the_model_that_answered(sim: Simulator, runtime: Any) -> None:
    sim.set_default(model="m-1")
    answer = runtime.converse(modelId="arn:aws:bedrock:us-east-1:012345678901:default-prompt-router/r:1", messages=TURN)
    assert answer["trace"]["promptRouter"]["invokedModelId"] == "m-1"
    assert [row.model for row in sim.billed()] == ["m-1"]


def _nova(event: Dict[str, Any]) -> Any:
    usage = event.get("usage") or event.get("metadata", {}).get("usage")
    return usage and (usage["inputTokens"], usage["outputTokens"])


def _openai(event: Dict[str, Any]) -> Any:
    usage = event.get("usage")
    return usage and (usage["prompt_tokens"], usage["completion_tokens"])


FAMILIES = {
    "amazon.nova-lite-v1:0": _nova,
    "meta.llama3-8b-instruct-v1:0": lambda body: (body["prompt_token_count"], body["generation_token_count"]),
    "amazon.titan-text-express-v1": lambda body: (body["inputTextTokenCount"], body["results"][0]["tokenCount"]),
    "openai.gpt-oss-20b-1:0": _openai,
    "cohere.command-r-v1:0": None,
    PROFILE: lambda body: (body["usage"]["input_tokens"], body["usage"]["output_tokens"]),
}


@pytest.mark.parametrize("model", sorted(FAMILIES))
def test_every_family_invoked(sim: Simulator, runtime: Any, model: str) -> None:
    sim.set_default(usage=FORCED)
    body = json.dumps({"messages": [], "max_tokens": 2000})
    answer = runtime.invoke_model(modelId=model, body=body)
    read = FAMILIES[model]
    if read is not None:
        assert read(json.loads(answer["body"].read())) == (1000, 90)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-input-token-count"] == "1000"
    assert headers["x-amzn-bedrock-output-token-count"] == "90"
    streamed = runtime.invoke_model_with_response_stream(modelId=model, body=body)["body"]
    events = [json.loads(event["chunk"]["bytes"]) for event in streamed]
    metrics = events[-1]["amazon-bedrock-invocationMetrics"]
    assert (metrics["inputTokenCount"], metrics["outputTokenCount"]) == (1000, 90)
    assert [(row.model, row.usage and row.usage.output_tokens) for row in sim.billed()] == [(model, 90)] * 2


def test_vectors_and_rankings(sim: Simulator, runtime: Any) -> None:
    sim.script([{"usage": {"input_tokens": 9}}, {"usage": {"input_tokens": 9}}])
    titan = runtime.invoke_model(modelId="amazon.titan-embed-text-v2:0", body='{"inputText": "a", "dimensions": 256}')
    body = json.loads(titan["body"].read())
    assert (len(body["embedding"]), body["inputTextTokenCount"]) == (256, 9)
    cohere = runtime.invoke_model(modelId="cohere.embed-v4:0", body='{"texts": ["a", "b"]}')
    assert cohere["ResponseMetadata"]["HTTPHeaders"]["x-amzn-bedrock-input-token-count"] == "9"
    assert len(json.loads(cohere["body"].read())["embeddings"]) == 2
    runtime.invoke_model(modelId="cohere.rerank-v3-5:0", body='{"documents": ["a"]}')
    assert [row.usage and row.usage.input_tokens for row in sim.billed()] == [9, 9, None]


def _steps(events: List[Any], path: str) -> List[Optional[Any]]:
    found = []
    for event in events:
        trace = event.get(path, {}).get("trace", {})
        node = trace.get("nodeDependencyTrace", {}).get("traceElements", {}).get("agentTraces", [{"trace": trace}])
        for part in node:
            output = part["trace"].get("orchestrationTrace", {}).get("modelInvocationOutput")
            if output:
                found.append(output["metadata"]["usage"]["inputTokens"])
    return found


def test_agents_bill_each_step_and_tell_it_in_their_trace(sim: Simulator, agents: Any) -> None:
    sim.set_default(usage=FORCED)
    asked = {"agentId": "AAAAAAAAAA", "agentAliasId": "BBBBBBBBBB", "sessionId": "s-1", "inputText": "hi"}
    traced = list(agents.invoke_agent(enableTrace=True, **asked)["completion"])
    assert _steps(traced, "trace") == [1000, 1011]
    assert [set(event) for event in agents.invoke_agent(**asked)["completion"]] == [{"chunk"}] * 4
    inline = {"foundationModel": "amazon.nova-lite-v1:0", "instruction": "x" * 40, "sessionId": "s-1", "inputText": "x"}
    assert _steps(list(agents.invoke_inline_agent(enableTrace=True, **inline)["completion"]), "trace") == [1000, 1011]
    flow = {"flowIdentifier": "FFFFFFFFFF", "flowAliasIdentifier": "TSTALIASID", "enableTrace": True}
    nodes = [{"content": {"document": "x"}, "nodeName": "n", "nodeOutputName": "document"}]
    assert _steps(list(agents.invoke_flow(inputs=nodes, **flow)["responseStream"]), "flowTraceEvent") == [1000, 1011]
    inputs = [None if row.usage is None else row.usage.input_tokens for row in sim.billed()]
    assert inputs == [1000, 1011, None, 1000, 1011, 1000, 1011]


def test_knowledge_bases_and_guardrails(sim: Simulator, agents: Any, runtime: Any) -> None:
    base = {"knowledgeBaseId": "KKKKKKKKKK", "modelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-x"}
    asked: Any = {
        "input": {"text": "x"},
        "retrieveAndGenerateConfiguration": {"type": "KNOWLEDGE_BASE", "knowledgeBaseConfiguration": base},
    }
    assert agents.retrieve_and_generate(**asked)["output"]["text"]
    assert [set(event) for event in agents.retrieve_and_generate_stream(**asked)["stream"]] == [{"output"}] * 4
    agents.retrieve(knowledgeBaseId="KKKKKKKKKK", retrievalQuery={"text": "x"})
    text = [{"text": {"text": "x"}}]
    applied = runtime.apply_guardrail(guardrailIdentifier="g", guardrailVersion="1", source="INPUT", content=text)
    assert applied["usage"]["contentPolicyUnits"] == 2
    assert runtime.count_tokens(modelId="m", input={"converse": {"messages": TURN}})["inputTokens"] > 0
    rows = [(row.model, row.usage) for row in sim.billed()]
    assert rows == [(base["modelArn"], None)] * 2 + [("guardrail", Usage(requests_billed=3))]


def test_a_stream_breaks_off_with_an_exception_that_botocore_knows(sim: Simulator, runtime: Any) -> None:
    sim.set_default(error={"message": "overloaded"})
    stream = runtime.converse_stream(modelId=PROFILE, messages=TURN)["stream"]
    from botocore.exceptions import EventStreamError

    with pytest.raises(EventStreamError, match="overloaded"):
        list(stream)
    stream.close()
