"""Amazon Bedrock: boto3, aioboto3, and what stands on them."""

from __future__ import annotations

import json
from typing import Any, Dict

from tests.matrix.case import HI, LOOP, Url, case, environment, is_async

NOVA, CLAUDE = "us.amazon.nova-lite-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"
TURN: Any = [{"role": "user", "content": [{"text": "hi"}]}]
KEYS: Dict[str, str] = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
BODY = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50, "messages": HI})


def runtime(url: Url, mode: str) -> Any:
    import boto3

    return boto3.client("bedrock-runtime", endpoint_url=url("bedrock"), **KEYS)


def agents(url: Url, mode: str) -> Any:
    import boto3

    return boto3.client("bedrock-agent-runtime", endpoint_url=url("bedrock"), **KEYS)


def told(answer: Any) -> Any:
    """What the user sees, without the ids of the request."""
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


@case("boto3.converse", runtime, ("sync", "stream"))
def boto3_converse(client: Any, mode: str) -> Any:
    if mode == "sync":
        return told(client.converse(modelId=NOVA, messages=TURN))
    return list(client.converse_stream(modelId=NOVA, messages=TURN)["stream"])


@case("boto3.invoke_model", runtime, ("sync", "stream"))
def boto3_invoke_model(client: Any, mode: str) -> Any:
    if mode == "sync":
        return json.loads(client.invoke_model(modelId=CLAUDE, body=BODY)["body"].read())["content"]
    body = client.invoke_model_with_response_stream(modelId=CLAUDE, body=BODY)["body"]
    return [json.loads(event["chunk"]["bytes"])["type"] for event in body]


@case("boto3.invoke_families", runtime, ("sync", "stream"))
def boto3_invoke_families(client: Any, mode: str) -> Any:
    """Nova, Llama, Titan, Cohere, OpenAI's shape: five receipts."""
    seen = []
    for model in (
        NOVA,
        "meta.llama3-8b-v1:0",
        "amazon.titan-text-x",
        "cohere.command-r-v1:0",
        "openai.gpt-oss-20b-1:0",
    ):
        if mode == "sync":
            seen.append(sorted(json.loads(client.invoke_model(modelId=model, body="{}")["body"].read())))
        else:
            body = client.invoke_model_with_response_stream(modelId=model, body="{}")["body"]
            seen.append([sorted(json.loads(event["chunk"]["bytes"])) for event in body])
    return seen


@case("boto3.invoke_agent", agents, ("stream",))
def boto3_invoke_agent(client: Any, mode: str) -> Any:
    """Two model invocations in one response: two receipts."""
    asked = {"agentId": "AAAAAAAAAA", "agentAliasId": "BBBBBBBBBB", "sessionId": "s-1", "inputText": "hi"}
    return [list(event) for event in client.invoke_agent(enableTrace=True, **asked)["completion"]]


@case("boto3.embeddings", runtime, ("sync",))
def boto3_embeddings(client: Any, mode: str) -> Any:
    answer = client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=json.dumps({"inputText": "hi"}))
    return json.loads(answer["body"].read())["embedding"][:3]


@case("aioboto3", lambda url, mode: url, ("async", "astream"))
def aioboto3_call(url: Any, mode: str) -> Any:
    import aioboto3

    async def run() -> Any:
        async with aioboto3.Session().client("bedrock-runtime", endpoint_url=url("bedrock"), **KEYS) as client:
            if mode == "async":
                return told(await client.converse(modelId=NOVA, messages=TURN))
            answer = await client.converse_stream(modelId=NOVA, messages=TURN)
            return [event async for event in answer["stream"]]

    return LOOP.run_until_complete(run())


@case("aioboto3.invoke_model", lambda url, mode: url, ("async", "astream"), "aioboto3")
def aioboto3_invoke_model(url: Any, mode: str) -> Any:
    import aioboto3

    async def run() -> Any:
        async with aioboto3.Session().client("bedrock-runtime", endpoint_url=url("bedrock"), **KEYS) as client:
            if mode == "async":
                answer = await client.invoke_model(modelId=CLAUDE, body=BODY)
                return json.loads(await answer["body"].read())["content"]
            answer = await client.invoke_model_with_response_stream(modelId=CLAUDE, body=BODY)
            return [json.loads(event["chunk"]["bytes"])["type"] async for event in answer["body"]]

    return LOOP.run_until_complete(run())


def chat_bedrock(url: Url, mode: str) -> Any:
    from langchain_aws import ChatBedrockConverse

    return ChatBedrockConverse(model=NOVA, endpoint_url=url("bedrock"), **KEYS)


@case("langchain-aws", chat_bedrock, imports="langchain_aws")
def langchain_aws_call(model: Any, mode: str) -> Any:
    if mode == "sync":
        return model.invoke("hi").content
    if mode == "stream":
        return [piece.content for piece in model.stream("hi")]

    async def run() -> Any:
        if mode == "async":
            return (await model.ainvoke("hi")).content
        return [piece.content async for piece in model.astream("hi")]

    return LOOP.run_until_complete(run())


@case("any-llm.bedrock", lambda url, mode: url("bedrock"), ("sync", "async"), "any_llm")
def any_llm_bedrock(base: str, mode: str) -> Any:
    import os

    import any_llm

    os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1")
    given: Any = {"provider": "bedrock", "model": NOVA, "messages": HI, "api_base": base}
    if is_async(mode):
        return LOOP.run_until_complete(any_llm.acompletion(**given)).choices[0].message.content
    return any_llm.completion(**given).choices[0].message.content


_BOTO3 = ("boto3.converse", "boto3.invoke_model", "boto3.invoke_families", "boto3.invoke_agent", "boto3.embeddings")

environment("boto3-1.44.5", ("boto3==1.44.5",), _BOTO3, True)
environment("boto3-1.44.8", ("boto3==1.44.8",), _BOTO3)
environment("aioboto3-15.5.0", ("aioboto3==15.5.0", "boto3==1.40.61"), (*_BOTO3, "aioboto3", "aioboto3.invoke_model"))
environment("langchain-aws-1.9.1", ("langchain-aws==1.9.1",), ("langchain-aws",))
environment("any-llm-bedrock-1.40.2", ("any-llm-sdk[bedrock]==1.40.2",), ("any-llm.bedrock",))


def litellm_given(url: Url, mode: str) -> Any:
    import os

    os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    return {
        "model": "bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0",
        "api_base": url("bedrock"),
        "aws_region_name": "us-east-1",
        "messages": HI,
    }


@case("litellm.bedrock", litellm_given, imports="litellm")
def litellm_bedrock(given: Any, mode: str) -> Any:
    import litellm

    if mode == "sync":
        return litellm.completion(**given).choices[0].message.content
    if mode == "stream":
        return [piece.choices[0].delta.content for piece in litellm.completion(stream=True, **given)]

    async def run() -> Any:
        if mode == "async":
            return (await litellm.acompletion(**given)).choices[0].message.content
        return [piece.choices[0].delta.content async for piece in await litellm.acompletion(stream=True, **given)]

    return LOOP.run_until_complete(run())


environment("litellm-bedrock-1.106.2", ("litellm==1.106.2", "boto3"), ("litellm.bedrock",))
