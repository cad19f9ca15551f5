"""Bedrock's agent runtime: agents, flows, knowledge bases, rerank; and guardrails.

Owns the paths of `bedrock-agent-runtime` and `/guardrail`. An agent bills each model invocation, and tells of them
only in the trace that its caller asked for. Source: the service model that botocore ships.
"""

from __future__ import annotations

import base64
from typing import Any, Dict, Iterator, List

from aicostguard.simulator.call import Call, Reply, dumps
from aicostguard.simulator.formats import eventstream
from aicostguard.usage import Usage

#: the model of an agent that is defined elsewhere
MODEL = "anthropic.claude-9-20260101-v1:0"


def agent(call: Call) -> Reply:
    """POST /agents/…/text, and /agents/SESSION for an inline agent: two model invocations."""
    model = str(call.json.get("foundationModel") or call.behaviour.model or MODEL)
    if call.json.get("enableTrace") is not True or call.behaviour.no_usage:
        asked = call.json.get("foundationModel")
        bill = call.bill(None, asked if isinstance(asked, str) else "unknown", True)
        return Reply(content_type=eventstream.TYPE, events=_said(call), bills=[bill])
    steps = _steps(call)
    bills = [call.bill(usage, model, True) for usage in steps]
    return Reply(content_type=eventstream.TYPE, events=_traced(call, model, steps), bills=bills)


def _steps(call: Call) -> List[Usage]:
    first = call.usage(("input_tokens", "output_tokens"))
    return [first, Usage(input_tokens=(first.input_tokens or 0) + 11, output_tokens=(first.output_tokens or 0) + 3)]


def _traces(call: Call, model: str, steps: List[Usage]) -> Iterator[Dict[str, Any]]:
    for at, usage in enumerate(steps):
        name = "%08x-%d" % (call.serial, at)
        asked = {"traceId": name, "text": "{}", "type": "ORCHESTRATION", "foundationModel": model}
        told = {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens}
        answer = {"traceId": name, "rawResponse": {"content": "x"}, "metadata": {"usage": told}}
        for trace in ({"modelInvocationInput": asked}, {"modelInvocationOutput": answer}):
            yield {"sessionId": "s", "trace": {"orchestrationTrace": trace}}


def _traced(call: Call, model: str, steps: List[Usage]) -> Iterator[bytes]:
    for trace in _traces(call, model, steps):
        yield eventstream.event("trace", dumps(trace))
    yield from _said(call)


def _said(call: Call) -> Iterator[bytes]:
    for piece in call.pieces():
        yield eventstream.event("chunk", dumps({"bytes": base64.b64encode(piece.encode()).decode()}))


def flow(call: Call) -> Reply:
    """POST /flows/ID/aliases/ID: a node of it is an agent."""
    steps = _steps(call) if call.json.get("enableTrace") is True else []
    bills = [call.bill(usage, MODEL, True) for usage in steps] or [call.bill(None, "unknown", True)]
    return Reply(content_type=eventstream.TYPE, events=_flowing(call, steps), bills=bills)


def _flowing(call: Call, steps: List[Usage]) -> Iterator[bytes]:
    for trace in _traces(call, MODEL, steps):
        node = {"nodeName": "n", "timestamp": "2026-11-22T00:00:00Z", "traceElements": {"agentTraces": [trace]}}
        yield eventstream.event("flowTraceEvent", dumps({"trace": {"nodeDependencyTrace": node}}))
    output = {"content": {"document": call.text()}, "nodeName": "out", "nodeType": "FlowOutputNode"}
    yield eventstream.event("flowOutputEvent", dumps(output))
    yield eventstream.event("flowCompletionEvent", dumps({"completionReason": "SUCCESS"}))


def answer(call: Call) -> Reply:
    """POST /retrieveAndGenerate and /retrieveAndGenerateStream: billed, and nothing told."""
    base = (call.json.get("retrieveAndGenerateConfiguration") or {}).get("knowledgeBaseConfiguration") or {}
    streamed = call.request.path.endswith("Stream")
    bill = call.bill(None, base.get("modelArn") or "unknown", streamed)
    if not streamed:
        body = {"citations": [], "output": {"text": call.text()}, "sessionId": "s"}
        return Reply(body=dumps(body), bills=[bill])
    events = (eventstream.event("output", dumps({"text": piece})) for piece in call.pieces())
    return Reply(content_type=eventstream.TYPE, events=events, bills=[bill])


def retrieve(call: Call) -> Reply:
    """POST /knowledgebases/ID/retrieve: no tokens."""
    return Reply(body=dumps({"retrievalResults": [{"content": {"text": "x", "type": "TEXT"}, "score": 0.5}]}))


def rerank(call: Call) -> Reply:
    """POST /rerank: billed by the query, and nothing told."""
    config = (call.json.get("rerankingConfiguration") or {}).get("bedrockRerankingConfiguration") or {}
    model = (config.get("modelConfiguration") or {}).get("modelArn") or "unknown"
    return Reply(body=dumps({"results": [{"index": 0, "relevanceScore": 0.5}]}), bills=[call.bill(None, model)])


def guardrail(call: Call) -> Reply:
    """POST /guardrail/ID/version/N/apply: text units, by policy."""
    units = {"contentPolicyUnits": 2, "topicPolicyUnits": 1, "wordPolicyUnits": 3}
    rest = ("sensitiveInformationPolicyUnits", "sensitiveInformationPolicyFreeUnits", "contextualGroundingPolicyUnits")
    body = {"action": "NONE", "assessments": [], "outputs": [], "usage": {**units, **dict.fromkeys(rest, 0)}}
    return Reply(body=dumps(body), bills=[call.bill(Usage(requests_billed=3), "guardrail")])
