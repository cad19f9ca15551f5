"""Bedrock through boto3: what is special there. The ways to read a body stand in `test_aws`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List

import pytest

from tests.agent import Agent
from tests.capture.tools import attempt, both, only, shown

boto3 = pytest.importorskip("boto3")

NOVA, PROFILE = "us.amazon.nova-lite-v1:0", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
TURN: List[Any] = [{"role": "user", "content": [{"text": "hi"}]}]
CACHED = {
    "input_tokens": 1000, "output_tokens": 90, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 200,
}  # fmt: skip
ASKED = {"agentId": "AAAAAAAAAA", "agentAliasId": "BBBBBBBBBB", "sessionId": "s-1", "inputText": "hi"}


@pytest.fixture(scope="module")
def made() -> Iterator[Dict[str, Any]]:
    """Clients: one costs more than all the calls of this file. They are older than the hooks."""
    clients: Dict[str, Any] = {}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture
def runtime(agent: Agent, made: Dict[str, Any]) -> Any:
    return _client(agent, made, "bedrock-runtime")


@pytest.fixture
def agents(agent: Agent, made: Dict[str, Any]) -> Any:
    return _client(agent, made, "bedrock-agent-runtime")


def _client(agent: Agent, made: Dict[str, Any], service: str) -> Any:
    if service not in made:
        keys = {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        made[service] = boto3.session.Session().client(service, endpoint_url=agent.url("bedrock"), **keys)
    return made[service]


@pytest.mark.ids("A1", "A5", "B9", "B1")
def test_converse(agent: Agent, runtime: Any) -> None:
    agent.simulator.set_default(usage=CACHED, service_tier="flex", tool_calls=['{"usage": {"inputTokens": 7}}'])

    def use() -> Any:
        answer = runtime.converse(modelId=NOVA, messages=TURN)
        return [sorted(answer), shown(answer["usage"]), answer["output"]["message"]["content"][0]]

    both(agent, use)
    agent.balance()
    receipt = only(agent)
    assert (receipt["model"], receipt["service_tier"], receipt["feature"]) == (NOVA, "flex", "use")


@pytest.mark.ids("A1", "A5", "A9", "B9", "B1")
def test_converse_stream(agent: Agent, runtime: Any) -> None:
    agent.simulator.set_default(usage=CACHED, chunks=30)

    def use() -> Any:
        stream = runtime.converse_stream(modelId=NOVA, messages=TURN)["stream"]
        return [shown(stream)[0], [sorted(event) for event in stream]]

    both(agent, use)
    agent.balance()
    assert only(agent)["streamed"] is True
    assert "partial" not in only(agent)


@pytest.mark.ids("B9", "C9")
@pytest.mark.parametrize("streamed", [False, True])
def test_the_profile_that_was_asked_for_is_the_model(agent: Agent, runtime: Any, streamed: bool) -> None:
    """The response says `claude-sonnet-4-5-20250929`, which costs a tenth more without the global profile."""
    body = json.dumps({"messages": [], "max_tokens": 50})
    if streamed:
        list(runtime.invoke_model_with_response_stream(modelId=PROFILE, body=body)["body"])
    else:
        runtime.invoke_model(modelId=PROFILE, body=body)["body"].read()
    agent.balance()
    assert only(agent)["model"] == PROFILE


@pytest.mark.ids("B9")
@pytest.mark.parametrize(
    "model", ["amazon.titan-text-express-v1", "meta.llama3-8b-v1:0", "cohere.command-r-v1:0", "openai.gpt-oss-20b-1:0"]
)
def test_families_invoked(agent: Agent, runtime: Any, model: str) -> None:
    def use() -> Any:
        whole = json.loads(runtime.invoke_model(modelId=model, body="{}")["body"].read())
        body = runtime.invoke_model_with_response_stream(modelId=model, body="{}")["body"]
        return [sorted(whole), [sorted(json.loads(event["chunk"]["bytes"])) for event in body]]

    both(agent, use)
    agent.balance()
    assert [bool(receipt.get("streamed")) for receipt in agent.receipts] == [False, True]


@pytest.mark.ids("B9", "B17")
def test_an_agents_steps_are_receipts(agent: Agent, agents: Any) -> None:
    def use() -> Any:
        return [sorted(event) for event in agents.invoke_agent(enableTrace=True, **ASKED)["completion"]]

    both(agent, use)
    agent.balance()
    assert [receipt["feature"] for receipt in agent.receipts] == ["use", "use"]


@pytest.mark.ids("B12")
def test_an_agent_without_its_trace_is_one_receipt_without_counts(agent: Agent, agents: Any) -> None:
    list(agents.invoke_agent(**ASKED)["completion"])
    assert only(agent)["usage_missing"] is True
    assert "input_tokens" not in only(agent)


@pytest.mark.ids("B10", "A4")
def test_a_turn_that_is_left(agent: Agent, runtime: Any) -> None:
    agent.simulator.set_default(chunks=400, delay_ms=5)
    stream = runtime.converse_stream(modelId=NOVA, messages=TURN)["stream"]
    next(iter(stream))
    assert agent.receipts == []
    stream.close()
    receipt = only(agent)
    assert (receipt["partial"], receipt["usage_missing"]) == (True, True)


@pytest.mark.ids("A8", "B9")
def test_an_exception_in_the_stream_is_the_users_and_bills_what_came(agent: Agent, runtime: Any) -> None:
    agent.simulator.set_default(error={"message": "overloaded"})

    def use() -> Any:
        stream = runtime.converse_stream(modelId=NOVA, messages=TURN)["stream"]
        try:
            return attempt(lambda: list(stream))
        finally:
            stream.close()

    assert "EventStreamError" in both(agent, use)[0]
    assert only(agent)["partial"] is True


@pytest.mark.ids("B4")
def test_errors_bill_nothing(agent: Agent, runtime: Any) -> None:
    agent.simulator.set_default(status=400)
    assert "ClientError" in both(agent, lambda: attempt(lambda: runtime.converse(modelId=NOVA, messages=TURN)))[0]
    assert agent.receipts == []


@pytest.mark.ids("A15")
def test_requests_are_signed_as_they_were(agent: Agent, runtime: Any) -> None:
    """The same bytes and headers as without us, and a signature that botocore made of them."""
    both(agent, lambda: sorted(runtime.converse(modelId=NOVA, messages=TURN)))
    (on,) = agent.simulator.exchanges
    agent.off()
    runtime.converse(modelId=NOVA, messages=TURN)
    off = agent.simulator.exchanges[-1]
    assert on.body == off.body
    names = [[name for name, _ in row.headers] for row in (on, off)]
    assert names[0] == names[1]
    signed = [str(row.header("authorization")) for row in (on, off)]
    assert signed[0].startswith("AWS4-HMAC-SHA256 Credential=AKIAX/")
    assert signed[0].split("Signature=")[0] == signed[1].split("Signature=")[0]


@pytest.mark.ids("B17")
def test_five_at_once(agent: Agent, runtime: Any) -> None:
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda at: runtime.converse(modelId=NOVA, messages=TURN, system=[{"text": str(at)}]), range(5)))
    agent.balance()
    assert len(agent.receipts) == 5


def test_what_costs_nothing_makes_no_receipt(agent: Agent, runtime: Any, agents: Any) -> None:
    runtime.count_tokens(modelId=NOVA, input={"converse": {"messages": TURN}})
    agents.retrieve(knowledgeBaseId="KKKKKKKKKK", retrievalQuery={"text": "x"})
    assert agent.receipts == []
