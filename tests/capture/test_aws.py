"""boto3: every way to read what Bedrock answers; one logical call; other services are left alone."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Iterator

import pytest

from aicostguard import context
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.capture.tools import both, kind, only, shown

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
BODY = json.dumps(
    {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
)


@pytest.fixture(scope="module")
def made() -> Iterator[Dict[str, Any]]:
    """Clients, because one costs more than all the calls of this file. They are older than the hooks."""
    clients: Dict[str, Any] = {}
    yield clients
    for client in clients.values():
        client.close()


def client_of(made: Dict[str, Any], simulator: Simulator, service: str = "bedrock-runtime", **config: Any) -> Any:
    boto3 = pytest.importorskip("boto3")
    name = json.dumps([service, config])
    if name not in made:
        made[name] = boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=simulator.urls["bedrock"],
            aws_access_key_id="x",
            aws_secret_access_key="y",
            config=__import__("botocore.config").config.Config(**config),
        )
    return made[name]


READS: Dict[str, Callable[[Any], Any]] = {
    "read": lambda body: body.read(),
    "read(9)": lambda body: b"".join(iter(lambda: body.read(9), b"")),
    "iter": lambda body: b"".join(body),
    "iter_chunks": lambda body: b"".join(body.iter_chunks(7)),
    "iter_lines": lambda body: list(body.iter_lines()),
    "readlines": lambda body: body.readlines(),
    "json": lambda body: sorted(json.load(body)),
}


@pytest.mark.ids("A1", "A5", "B9", "B1", "G08")
@pytest.mark.parametrize("way", list(READS))
def test_invoke_model(agent: Agent, made: Dict[str, Any], way: str) -> None:
    client = client_of(made, agent.simulator)

    def use() -> Any:
        answer = client.invoke_model(modelId=MODEL, body=BODY)
        return [kind(answer), kind(answer["body"]), sorted(answer), shown(READS[way](answer["body"]))]

    both(agent, use)
    agent.balance()
    receipt = only(agent)
    assert receipt["provider"] == "bedrock"
    assert receipt["feature"] == "use"
    assert "partial" not in receipt


@pytest.mark.ids("A1", "A5", "B9", "B1", "G08")
def test_invoke_model_with_response_stream(agent: Agent, made: Dict[str, Any]) -> None:
    client = client_of(made, agent.simulator)

    def use() -> Any:
        answer = client.invoke_model_with_response_stream(modelId=MODEL, body=BODY)
        return [kind(answer["body"]), [json.loads(event["chunk"]["bytes"])["type"] for event in answer["body"]]]

    both(agent, use)
    agent.balance()
    assert only(agent)["streamed"] is True
    assert "partial" not in only(agent)


@pytest.mark.ids("A4", "B10")
def test_a_stream_that_is_left(agent: Agent, made: Dict[str, Any]) -> None:
    client = client_of(made, agent.simulator)
    agent.simulator.set_default(chunks=400, delay_ms=5)
    body = client.invoke_model_with_response_stream(modelId=MODEL, body=BODY)["body"]
    next(iter(body))
    assert agent.receipts == []
    body.close()
    assert only(agent)["partial"] is True
    assert len(agent.receipts) == 1


@pytest.mark.ids("B4")
def test_tries_of_one_call(agent: Agent, made: Dict[str, Any]) -> None:
    """botocore tries again by itself, below the call that its user makes: one receipt, which says so."""
    client = client_of(made, agent.simulator, retries={"max_attempts": 4, "mode": "standard"})
    agent.simulator.set_default(fail_times=1)
    client.invoke_model(modelId=MODEL, body=BODY)["body"].read()
    agent.balance()
    assert only(agent)["attempts"] == 2


@pytest.mark.ids("A6", "B1")
def test_other_services_are_not_marked(agent: Agent, made: Dict[str, Any]) -> None:
    """What looks like a model's path in another service's address is not one."""
    seen = []
    for service in ("sqs", "bedrock-runtime"):
        client = client_of(made, agent.simulator, service)
        client.meta.events.register("before-send", lambda **_: seen.append(context.logical.get()), unique_id="aicg")
        agent.simulator.set_default(body=b"{}")
        client.list_queues() if service == "sqs" else client.invoke_model(modelId=MODEL, body=BODY)["body"].read()
        client.meta.events.unregister("before-send", unique_id="aicg")
    assert [logical and logical.family for logical in seen] == [None, "botocore"]
    assert len(agent.receipts) == 1, "the one of the model"
