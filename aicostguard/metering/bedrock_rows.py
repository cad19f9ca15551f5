"""The row of Amazon Bedrock: its hosts and the paths of its two runtimes.

Owns what of Bedrock is metered, and what is known to cost nothing. The formats stand in `bedrock` and `bedrock_agents`.
If a path is wrong, its calls are counted as unrecognised, or a request that never bills makes a receipt.
"""

from __future__ import annotations

from typing import Tuple

from aicostguard.metering.provider import OPENAI_FORMATS, Path, Provider

#: The services that answer with models' work: plain, FIPS, dual-stack, and behind an endpoint in one's own network.
#: Control planes (`bedrock.`, `bedrock-agent.`) are not named, because nothing there bills.
#: https://docs.aws.amazon.com/general/latest/gr/bedrock.html
_HOSTS = (
    "bedrock-runtime*.amazonaws.com",
    "bedrock-runtime*.api.aws",
    "bedrock-runtime*.amazonaws.eu",
    "bedrock-mantle.*.api.aws",
    "bedrock-agent-runtime*.amazonaws.com",
    "bedrock-agent-runtime*.api.aws",
    "*.bedrock-runtime*.vpce.amazonaws.com",
    "*.bedrock-agent-runtime*.vpce.amazonaws.com",
)

BEDROCK: Tuple[Provider, ...] = (
    Provider(
        "bedrock",
        _HOSTS,
        # The OpenAI and Anthropic shapes of `/openai/v1` and of bedrock-mantle
        formats=(*OPENAI_FORMATS, "messages"),
        paths=(
            Path(r"/model/(?P<model>.+)/converse(-stream)?\Z", "converse", anywhere=True),
            Path(r"/model/(?P<model>.*(embed|marengo).*)/invoke\Z", "bedrock_embeddings", anywhere=True),
            Path(r"/model/(?P<model>.+)/invoke(-with-response-stream)?\Z", "bedrock_invoke", anywhere=True),
            Path(r"/model/.+/count-tokens\Z", "", anywhere=True),
            Path(r"\A/agents/[^/]+(/agentAliases/[^/]+/sessions/[^/]+/text)?\Z", "bedrock_agent"),
            Path(r"\A/flows/[^/]+/aliases/[^/]+\Z", "bedrock_flow"),
            Path(r"\A/retrieveAndGenerate(Stream)?\Z", "bedrock_answer"),
            Path(r"\A/(agenticRetrieveStream|generateQuery|optimize-prompt)\Z", "bedrock_untold"),
            Path(r"\A/rerank\Z", "bedrock_rerank"),
            Path(r"\A/guardrail/[^/]+/version/[^/]+/apply\Z|\A/guardrail-checks/invoke\Z", "bedrock_guardrail"),
            Path(r"\A/async-invoke\Z", "bedrock_async"),
            # Retrieval costs no tokens that anybody tells; executions of flows answer with an address.
            Path(r"\A/(knowledgebases|sessions|tags|flows)/", ""),
        ),
        region=1,
        docs="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations.html",
    ),
)
