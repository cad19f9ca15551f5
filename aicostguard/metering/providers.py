"""Who answers at a host, which formats it speaks, and where its usage differs from OpenAI's.

Owns the table of providers. A new OpenAI-compatible provider is one row in `compatible_rows` and one fixture in
`tests/metering/fixtures_hosts.py`; one with formats of its own is a row in `native_rows`. Never decides by the SDK's
name where the host is known: the host decides. If a row is wrong, calls are booked to the wrong provider or parts of
their tokens are counted twice.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from aicostguard.metering.bedrock_rows import BEDROCK
from aicostguard.metering.compatible_rows import COMPATIBLE
from aicostguard.metering.job_rows import ANTHROPIC_JOBS, FIREWORKS_PATHS, GOOGLE_JOBS, MISTRAL_PATHS, XAI_PATHS
from aicostguard.metering.native_rows import COHERE_V2, NATIVE
from aicostguard.metering.provider import (
    BY_TOTAL,
    INCLUDED,
    OPENAI_FORMATS,
    REMAINDER,
    SEPARATE,
    Path,
    Provider,
)

__all__ = [
    "BY_FORMAT",
    "BY_NAME",
    "BY_SDK",
    "BY_TOTAL",
    "CUSTOM",
    "INCLUDED",
    "PROVIDERS",
    "REMAINDER",
    "SEPARATE",
    "HostTable",
    "Path",
    "Provider",
    "rules",
]

PROVIDERS: Tuple[Provider, ...] = (
    Provider(
        "openai",
        ("api.openai.com", "*.api.openai.com"),
        free=("/moderations",),
        region=0,
        docs="https://developers.openai.com/api/reference/resources/chat",
    ),
    Provider(
        "azure",
        ("*.openai.azure.com", "*.openai.azure.us", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"),
        formats=(*OPENAI_FORMATS, "messages"),
        within=("/openai/", "/models/", "/anthropic/", "/providers/"),
        paths=COHERE_V2,
        docs="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
    ),
    # A model of the catalog, deployed without a server of one's own.
    Provider(
        "azure",
        ("*.models.ai.azure.com",),
        formats=(*OPENAI_FORMATS, "rerank"),
        paths=(*COHERE_V2, Path(r"/v1/chat\Z", "cohere_v1")),
        docs="https://learn.microsoft.com/azure/ai-foundry/reference/reference-model-inference-chat-completions",
    ),
    Provider(
        "anthropic",
        ("api.anthropic.com",),
        # /v1/chat/completions is Anthropic's own OpenAI-compatible endpoint
        formats=("messages", "chat"),
        paths=ANTHROPIC_JOBS,
        docs="https://platform.claude.com/docs/en/api/messages",
    ),
    Provider(
        "google",
        ("generativelanguage.googleapis.com",),
        # Thinking is in total_tokens and in nothing else: https://ai.google.dev/gemini-api/docs/openai
        reasoning=REMAINDER,
        paths=GOOGLE_JOBS,
        docs="https://ai.google.dev/api/generate-content#UsageMetadata",
    ),
    Provider(
        "vertex",
        ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com"),
        reasoning=REMAINDER,
        paths=GOOGLE_JOBS,
        docs="https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse",
    ),
    Provider(
        "mistral",
        ("api.mistral.ai", "codestral.mistral.ai"),
        tells_usage=True,
        paths=MISTRAL_PATHS,
        docs="https://docs.mistral.ai/api/",
    ),
    Provider("groq", ("api.groq.com",), docs="https://console.groq.com/docs/api-reference"),
    Provider(
        "xai",
        ("api.x.ai", "*.api.x.ai"),
        formats=(*OPENAI_FORMATS, "messages"),
        reasoning=BY_TOTAL,
        # A tick is 1e-10 dollar.
        cost=("cost_in_usd_ticks",),
        cost_units=10**10,
        free=("/tokenize-text",),
        tells_usage=True,
        paths=XAI_PATHS,
        docs="https://docs.x.ai/developers/cost-tracking",
    ),
    Provider(
        "together",
        ("api.together.xyz", "api.together.ai"),
        formats=(*OPENAI_FORMATS, "rerank"),
        tells_usage=True,
        docs="https://docs.together.ai/reference",
    ),
    Provider(
        "fireworks",
        ("api.fireworks.ai",),
        formats=(*OPENAI_FORMATS, "messages", "rerank"),
        tells_usage=True,
        paths=FIREWORKS_PATHS,
        docs="https://docs.fireworks.ai/api-reference/post-chatcompletions",
    ),
    Provider(
        "perplexity",
        ("api.perplexity.ai",),
        reasoning=SEPARATE,
        more_input=("citation_tokens",),
        cost=("cost", "total_cost"),
        tells_usage=True,
        paths=(
            Path(r"/async/(chat/completions|sonar)\Z", "perplexity_task"),
            Path(r"/async/(chat/completions|sonar)/(?P<id>[^/]+)\Z", "perplexity_task_get", "GET"),
            Path(r"/contextualizedembeddings\Z", "embeddings"),
        ),
        docs="https://docs.perplexity.ai/getting-started/pricing",
    ),
    Provider(
        "deepseek",
        ("api.deepseek.com",),
        formats=(*OPENAI_FORMATS, "messages"),
        tells_usage=True,
        docs="https://api-docs.deepseek.com/api/create-chat-completion",
    ),
    Provider(
        "openrouter",
        ("openrouter.ai", "*.openrouter.ai"),
        formats=(*OPENAI_FORMATS, "messages"),
        within=("/api/",),
        cost=("cost",),
        tells_usage=True,
        docs="https://openrouter.ai/docs/use-cases/usage-accounting",
    ),
    Provider(
        "vercel",
        ("ai-gateway.vercel.sh",),
        formats=(*OPENAI_FORMATS, "messages"),
        docs="https://vercel.com/docs/ai-gateway/sdks-and-apis/openai-chat-completions",
    ),
    Provider(
        "cerebras", ("api.cerebras.ai",), tells_usage=True, docs="https://inference-docs.cerebras.ai/api-reference"
    ),
    *BEDROCK,
    *NATIVE,
    *COMPATIBLE,
)

#: who answers at a host that only `AICG_HOSTS` or an SDK knows, by format; elsewhere `custom`
BY_FORMAT: Dict[str, str] = {
    "messages": "anthropic",
    "generate": "google",
    "gemini_embeddings": "google",
    "bidi": "google",
    "interactions_socket": "google",
}

#: a host that nobody described may leave reasoning out of the completion; its total tells
CUSTOM = Provider(
    "custom",
    (),
    formats=(*OPENAI_FORMATS, "messages", "rerank"),
    reasoning=BY_TOTAL,
    # Where a gateway stands before OpenAI. Of who bills it, the host is known.
    free=("/moderations",),
)

BY_NAME: Dict[str, Provider] = {}
for _row in PROVIDERS:
    # A provider with several rows is known by its first, and by the paths of all.
    _first = BY_NAME.setdefault(_row.name, _row)
    if _first is not _row:
        BY_NAME[_row.name] = _first._replace(paths=(*_first.paths, *_row.paths))

#: family of an SDK → its provider's row
BY_SDK: Dict[str, Provider] = {sdk: BY_NAME[row.name] for row in PROVIDERS for sdk in row.sdks}


def rules(name: str) -> Provider:
    """The row of a provider; the row `custom` for one without."""
    return BY_NAME.get(name, CUSTOM)


class HostTable:
    """Hosts → rows: a dict for whole names, and for patterns a dict on the last two labels, so that a miss is cheap.

    A pattern has one `*`, or two.
    """

    def __init__(self, rows: Tuple[Provider, ...]) -> None:
        self._exact: Dict[str, Provider] = {}
        #: domain → what stands before, between and behind the `*`, and the row
        self._patterns: Dict[str, List[Tuple[str, str, str, Provider]]] = {}
        for row in rows:
            for host in row.hosts:
                before, star, behind = host.partition("*")
                if not star:
                    self._exact[host] = row
                    continue
                between, _, behind = behind.rpartition("*")
                domain = ".".join(host.rsplit(".", 2)[-2:])
                self._patterns.setdefault(domain, []).append((before, between, behind, row))

    def find(self, host: str) -> Optional[Provider]:
        """The row of a lower-case host, or None."""
        row = self._exact.get(host)
        if row is not None:
            return row
        dot = host.rfind(".", 0, max(0, host.rfind(".")))
        for before, between, behind, row in self._patterns.get(host[dot + 1 :], ()):
            if len(host) > len(before) + len(behind) and host.startswith(before) and host.endswith(behind):
                middle = host[len(before) : -len(behind)] if between else ""
                if between in middle:
                    return row
        return None
