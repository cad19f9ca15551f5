"""Bedrock's agent runtime and what stands beside the models: agents, flows, knowledge bases, rerank, guardrails.

Owns which of them tell what they used. An agent tells it for every model invocation, and only when the caller asked
for its trace: one reading a step. Answers from knowledge bases, prompts that are optimised and asynchronous
invocations tell nothing, and are readings without counts. If this is wrong, an agent's steps are one call, or none.
Definition: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_InvokeAgent.html
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.bedrock import exception, usage_of
from aicostguard.metering.eventstream import Message
from aicostguard.metering.formats import Facts, Fold, Format, RequestBody, is_error
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage

_DOCS = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_"
#: where a request names its model: inline agent, knowledge base, outside sources, rerank, prompts, asynchronous work
_NAMES: Tuple[Tuple[str, ...], ...] = (
    ("foundationModel",),
    ("retrieveAndGenerateConfiguration", "knowledgeBaseConfiguration", "modelArn"),
    ("retrieveAndGenerateConfiguration", "externalSourcesConfiguration", "modelArn"),
    ("rerankingConfiguration", "bedrockRerankingConfiguration", "modelConfiguration", "modelArn"),
    ("targetModelId",),
    ("modelId",),
)
#: units that cost nothing: https://aws.amazon.com/bedrock/pricing/ (guardrails)
_FREE_UNITS = ("wordPolicyUnits", "sensitiveInformationPolicyFreeUnits")


def requested(said: Optional[str], url: Optional[str], request: RequestBody) -> Optional[str]:
    """The model's name: the trace's, else the one the request asks for."""
    if said is not None:
        return said
    body = mapping(parse(request() or b""))
    for path in _NAMES:
        value: Any = body
        for key in path:
            value = mapping(value).get(key)
        if text(value):
            return str(value)
    return None


class AgentFold(Fold):
    """The messages of an agent or a flow: traces hold the usage, one model invocation each."""

    __slots__ = ("_models", "_steps", "_failed")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        #: id of a step whose output has not come → its model
        self._models: Dict[str, str] = {}
        self._steps: List[Reading] = []
        #: how many messages came before an exception
        self._failed: Optional[int] = None

    def message(self, message: Message) -> bool:
        if exception(message):
            self._failed = message.before
        elif b"modelInvocation" in message.payload:
            part = mapping(parse(message.payload))
            self._part(part)
            # A flow's trace holds those of the agents that are its nodes.
            for node in mapping(part.get("trace")).values():
                nested = mapping(mapping(node).get("traceElements")).get("agentTraces")
                for each in nested if type(nested) is list else []:
                    self._part(mapping(each))
        return False

    def _part(self, part: Mapping[str, Any]) -> None:
        for kind, trace in mapping(part.get("trace")).items():
            if not kind.endswith("Trace"):
                continue
            asked = mapping(mapping(trace).get("modelInvocationInput"))
            name, step = text(asked.get("foundationModel")), text(asked.get("traceId"))
            if name is not None and step is not None:
                self._models[step] = name
            answer = mapping(trace).get("modelInvocationOutput")
            if type(answer) is dict:
                usage, mismatch = usage_of(mapping(mapping(answer.get("metadata")).get("usage")))
                model = self._models.pop(text(answer.get("traceId")) or "", None)
                self._steps.append(Reading(model, usage, mismatch=mismatch))

    def readings(self) -> List[Reading]:
        if self._steps:
            return list(self._steps)
        return [] if self._failed == 0 else [Reading(None, None)]


class UntoldFold(Fold):
    """A stream that never tells what it used."""

    __slots__ = ("_failed",)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._failed: Optional[int] = None

    def message(self, message: Message) -> bool:
        if exception(message):
            self._failed = message.before
        return False

    def readings(self) -> List[Reading]:
        return [] if self._failed == 0 else [Reading(None, None)]


def read_untold(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A response that never tells what it used."""
    return [] if is_error(body, "output", "results", "queries", "invocationArn") else [Reading(None, None)]


def read_guardrail(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Text units that a guardrail's policies were applied to, those that are billed, added up."""
    units = 0
    for key, value in mapping(body.get("usage")).items():
        number = count(value) if type(value) is not dict else count(value.get("textUnits"))
        if number is not None and key.endswith("Units" if type(value) is not dict else "") and key not in _FREE_UNITS:
            units += number
    return [Reading("guardrail", Usage(requests_billed=units))]


UNTOLD = Format(
    "bedrock_untold", None, "usage", (), (), read_untold, (), None, UntoldFold, 0,
    _DOCS + "Operations_Agents_for_Amazon_Bedrock_Runtime.html",
    wanted=(b"xception",), model=requested,
)  # fmt: skip
ANSWER = UNTOLD._replace(name="bedrock_answer", docs=_DOCS + "agent-runtime_RetrieveAndGenerate.html")
RERANK = UNTOLD._replace(name="bedrock_rerank", operation="rerank", docs=_DOCS + "agent-runtime_Rerank.html")
ASYNC = UNTOLD._replace(name="bedrock_async", docs=_DOCS + "runtime_StartAsyncInvoke.html")
AGENT = UNTOLD._replace(
    name="bedrock_agent", fold=AgentFold, wanted=(b"race", b"xception"), docs=_DOCS + "agent-runtime_Trace.html"
)
FLOW = AGENT._replace(name="bedrock_flow", docs=_DOCS + "agent-runtime_FlowTraceEvent.html")
GUARDRAIL = UNTOLD._replace(
    name="bedrock_guardrail",
    operation="moderation",
    read=read_guardrail,
    docs=_DOCS + "runtime_GuardrailUsage.html",
)

FORMATS = (UNTOLD, ANSWER, RERANK, ASYNC, AGENT, FLOW, GUARDRAIL)
