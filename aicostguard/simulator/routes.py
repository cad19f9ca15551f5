"""Which path is which format, and which provider serves it: two tables.

Owns the paths that each provider really has (a path it lacks is a 404 here too) and the real host names, so that
a request that comes through the simulator as a proxy is answered as the host it was meant for.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Pattern, Sequence, Tuple

from aicostguard.simulator.call import Call, Reply
from aicostguard.simulator.formats import (
    anthropic,
    batches,
    bedrock,
    bedrock_agents,
    chat,
    cohere,
    gemini,
    jobs,
    media,
    misc,
    ollama,
    others,
    replicate,
    responses,
    vectors,
)

Handler = Callable[[Call], Reply]


class Route(NamedTuple):
    """One row: method, path behind the provider's prefix, format's name, handler, and the providers that have it."""

    method: str
    path: Pattern[str]
    format: str
    handler: Handler
    providers: Tuple[str, ...] = ()


#: provider → the prefixes of its OpenAI-style API; the first is the usual one
PREFIXES: Dict[str, Tuple[str, ...]] = {
    "openai": ("/v1",),
    "azure": ("/openai/v1", "/openai/deployments/{deployment}", "/openai", "/models"),
    "anthropic": ("/v1",),
    "google": ("/v1beta/openai",),
    "vertex": (),
    "bedrock": ("/openai/v1",),
    "mistral": ("/v1",),
    "cohere": ("/compatibility/v1",),
    "groq": ("/openai/v1",),
    "xai": ("/v1",),
    "together": ("/v1",),
    "fireworks": ("/inference/v1",),
    "perplexity": ("", "/v1"),
    "deepseek": ("", "/v1", "/beta"),
    "openrouter": ("/api/v1",),
    "vercel": ("/v1",),
    "cerebras": ("/v1",),
    "huggingface": ("/v1",),
    "ollama": ("/v1",),
    "replicate": (),
    "watsonx": (),
    "writer": ("/v1",),
    "voyage": ("/v1",),
    "ai21": ("/studio/v1",),
    "dashscope": ("/compatible-mode/v1",),
    "zai": ("/api/paas/v4",),
    "zhipuai": ("/api/paas/v4",),
    "custom": ("/v1", "", "/api/v1", "/openai/v1"),
}
ALL: Tuple[str, ...] = tuple(PREFIXES)

#: real host → provider
HOSTS: Dict[str, str] = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "api.mistral.ai": "mistral",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.groq.com": "groq",
    "api.x.ai": "xai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.perplexity.ai": "perplexity",
    "api.deepseek.com": "deepseek",
    "openrouter.ai": "openrouter",
    "ai-gateway.vercel.sh": "vercel",
    "api.cerebras.ai": "cerebras",
    "router.huggingface.co": "huggingface",
    "ollama.com": "ollama",
    "api.replicate.com": "replicate",
    "api.writer.com": "writer",
    "api.voyageai.com": "voyage",
    "api.ai21.com": "ai21",
    "dashscope.aliyuncs.com": "dashscope",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
}
#: the hosts that carry a region or a customer's name
_HOST_PATTERNS: Tuple[Tuple[Pattern[str], str], ...] = (
    (re.compile(r"[\w-]+\.(openai\.azure\.com|cognitiveservices\.azure\.com|services\.ai\.azure\.com)\Z"), "azure"),
    (re.compile(r"(([\w-]+-)?aiplatform\.googleapis\.com|aiplatform\.[\w-]+\.rep\.googleapis\.com)\Z"), "vertex"),
    (re.compile(r"bedrock-(agent-)?runtime\.[\w-]+\.amazonaws\.com\Z"), "bedrock"),
    (re.compile(r"[\w-]+\.api\.openai\.com\Z"), "openai"),
)


def provider_of(host: str) -> Optional[str]:
    """The provider behind a real host name, or None."""
    known = HOSTS.get(host)
    if known is None and "." in host:
        for pattern, provider in _HOST_PATTERNS:
            if pattern.match(host):
                return provider
    return known


def _row(method: str, path: str, fmt: str, handler: Handler, *providers: str) -> Route:
    return Route(method, re.compile(path + r"\Z"), fmt, handler, providers)


_CLAUDE = ("anthropic", "openrouter", "vercel", "custom")
_RESPONSES = ("openai", "azure", "groq", "xai", "openrouter", "vercel", "fireworks", "bedrock", "mistral", "custom")

_FILES = ("openai", "azure", "groq", "together", "custom")
_THREADS = ("openai", "azure", "custom")

#: behind a prefix of PREFIXES
_PREFIXED: Sequence[Route] = (
    _row("POST", "/chat/completions", "chat", chat.chat),
    _row("POST", "/completions", "completions", chat.completions),
    _row("POST", "/embeddings", "embeddings", vectors.embeddings),
    _row("POST", "/responses", "responses", responses.create, *_RESPONSES),
    _row("POST", "/responses/input_tokens", "responses", responses.input_tokens, *_RESPONSES),
    _row("GET", "/responses/(?P<id>[^/]+)", "responses", responses.retrieve, *_RESPONSES),
    _row("DELETE", "/responses/(?P<id>[^/]+)", "responses", responses.delete, *_RESPONSES),
    _row("POST", "/responses/(?P<id>[^/]+)/cancel", "responses", responses.cancel, *_RESPONSES),
    _row("GET", "/models", "models", misc.models),
    _row("GET", "/models/(?P<name>.+)", "models", misc.model),
    _row("GET", "/tcp_warming", "warming", misc.nothing, "cerebras"),
    _row("POST", "/messages", "messages", anthropic.messages, *_CLAUDE),
    _row("POST", "/messages/count_tokens", "count_tokens", anthropic.count_tokens, *_CLAUDE),
    _row("POST", "/messages/batches", "batches", batches.create, "anthropic", "custom"),
    _row("GET", "/messages/batches/(?P<id>[^/]+)", "batches", batches.retrieve, "anthropic", "custom"),
    _row("GET", "/messages/batches/(?P<id>[^/]+)/results", "batches", batches.results, "anthropic", "custom"),
    _row("POST", "/images/(generations|edits|variations)", "images", media.images),
    _row("POST", "/audio/(transcriptions|translations)", "transcription", media.transcription),
    _row("POST", "/audio/speech", "speech", media.speech),
    _row("POST", "/moderations", "moderation", media.moderation, "openai", "custom"),
    _row("POST", "/files", "files", jobs.upload, *_FILES),
    _row("GET", "/files/(?P<id>[^/]+)/content", "files", jobs.content, *_FILES),
    _row("POST", "/batches", "batch", jobs.batch, *_FILES),
    _row("GET", "/batches/(?P<id>[^/]+)", "batch", jobs.batch_state, *_FILES),
    _row("POST", "/threads", "run", jobs.thread, *_THREADS),
    _row("POST", "/threads/runs", "run", jobs.run, *_THREADS),
    _row("POST", "/threads/(?P<thread>[^/]+)/runs", "run", jobs.run, *_THREADS),
    _row("GET", "/threads/[^/]+/runs/(?P<id>[^/]+)", "run", jobs.run_state, *_THREADS),
)
_GOOGLE_PREFIX = r"/v1(beta\d?)?(/projects/[^/]+/locations/[^/]+/endpoints/openapi)?"
_GEMINI = r"/v1(alpha|beta\d?)?/(models|tunedModels)/(?P<model>[^/:]+)"
_VERTEX = r"/v1(beta\d?)?/(projects/[^/]+/locations/[^/]+/)?publishers/%s/models/(?P<model>[^/:]+)"
#: who serves Gemini's own format, and where
_GEMINIS = (("google", _GEMINI), ("vertex", _VERTEX % "google"))
#: whole paths
_WHOLE: List[Route] = [
    _row("POST", r"/model/(?P<model>.+)/(?P<verb>invoke|invoke-with-response-stream)", "invoke", bedrock.invoke,
          "bedrock"),
    _row("POST", r"/model/(?P<model>.+)/(?P<verb>converse|converse-stream)", "converse", bedrock.converse, "bedrock"),
    _row("POST", r"/model/(?P<model>.+)/count-tokens", "count_tokens", bedrock.count_tokens, "bedrock"),
    _row("POST", r"/agents/[^/]+(/agentAliases/[^/]+/sessions/[^/]+/text)?", "agent", bedrock_agents.agent, "bedrock"),
    _row("POST", r"/flows/[^/]+/aliases/[^/]+", "flow", bedrock_agents.flow, "bedrock"),
    _row("POST", r"/retrieveAndGenerate(Stream)?", "answer", bedrock_agents.answer, "bedrock"),
    _row("POST", r"/knowledgebases/[^/]+/retrieve", "retrieve", bedrock_agents.retrieve, "bedrock"),
    _row("POST", r"/rerank", "rerank", bedrock_agents.rerank, "bedrock"),
    _row("POST", r"/guardrail/[^/]+/version/[^/]+/apply", "guardrail", bedrock_agents.guardrail, "bedrock"),
    _row("POST", _VERTEX % "anthropic" + r":(?P<verb>rawPredict|streamRawPredict)", "messages", anthropic.vertex,
          "vertex"),
    _row("POST", _VERTEX % "google" + r":predict", "embeddings", gemini.predict, "vertex"),
    _row("POST", _GOOGLE_PREFIX + "/chat/completions", "chat", chat.chat, "vertex"),
    _row("GET", r"/v1beta/models", "models", misc.models, "google"),
    _row("POST", r"/v1/chat", "cohere_v1", cohere.chat_v1, "cohere"),
    _row("POST", r"/v2/chat", "cohere_v2", cohere.chat_v2, "cohere"),
    _row("POST", r"/v(?P<version>[12])/embed", "embeddings", cohere.embed, "cohere"),
    _row("POST", r"/v[12]/rerank", "rerank", cohere.rerank, "cohere"),
    _row("POST", r"/api/chat", "ollama", ollama.chat, "ollama"),
    _row("POST", r"/api/generate", "ollama", ollama.generate, "ollama"),
    _row("POST", r"/api/embed", "embeddings", ollama.embed, "ollama"),
    _row("POST", r"/api/embeddings", "embeddings", ollama.embeddings, "ollama"),
    _row("POST", r"/(generate|generate_stream|models/(?P<model>[^/]+/[^/]+))?", "tgi", others.tgi, "huggingface"),
    _row("POST", r"/hf-inference/models/(?P<model>[^/]+/[^/]+)/pipeline/feature-extraction", "embeddings",
          others.features, "huggingface"),
    _row("POST", r"/v1/((models|deployments)/(?P<model>[^/]+/[^/]+)/)?predictions", "replicate",
          replicate.create, "replicate"),
    _row("GET", r"/v1/predictions/(?P<id>[^/]+)", "replicate", replicate.retrieve, "replicate"),
    _row("GET", r"/v1/streams/(?P<id>[^/]+)", "replicate", replicate.stream, "replicate"),
    _row("POST", r"/ml/v1/(deployments/(?P<model>[^/]+)/)?text/generation(?P<stream>_stream)?", "watsonx",
          others.watsonx, "watsonx"),
    _row("POST", r"/v1/chat", "chat", chat.chat, "writer"),
    _row("POST", r"/v1/completions", "completions", others.writer, "writer"),
    _row("POST", r"/v1/rerank", "rerank", others.rerank, "voyage"),
    _row("POST", r"/api/v1/services/aigc/(text|multimodal)-generation/generation", "dashscope", others.dashscope,
          "dashscope"),
    _row("POST", r"/v1(beta\d?)?/interactions", "interactions", jobs.interaction, "google"),
    _row("GET", r"/v1(beta\d?)?/interactions/(?P<id>[^/]+)", "interactions", jobs.interaction_state, "google"),
]  # fmt: skip
for _provider, _path in _GEMINIS:
    _WHOLE += [
        _row("POST", _path + ":(?P<verb>generateContent|streamGenerateContent)", "generate", gemini.generate,
              _provider),
        _row("POST", _path + ":(embedContent|batchEmbedContents)", "embeddings", gemini.embed, _provider),
        _row("POST", _path + ":countTokens", "count_tokens", gemini.count_tokens, _provider),
        _row("GET", _path, "models", misc.model, _provider),
    ]  # fmt: skip


class Found(NamedTuple):
    """A route and the named parts of the path."""

    route: Route
    params: Mapping[str, Optional[str]]


_DEPLOYMENT = re.compile(r"/openai/deployments/(?P<deployment>[^/]+)(?P<rest>/.*)\Z")
_cache: Dict[Tuple[str, str, str], Found] = {}


def find(provider: str, method: str, path: str) -> Optional[Found]:
    """The route of a request, or None when the provider has no such path."""
    key = (provider, method, path)
    found = _cache.get(key)
    if found is None:
        found = _find(provider, method, path)
        if found is not None and method == "POST" and len(_cache) < 512:  # other paths carry ids
            _cache[key] = found
    return found


def _find(provider: str, method: str, path: str) -> Optional[Found]:
    for route in _WHOLE:
        if route.method == method and provider in route.providers:
            match = route.path.match(path)
            if match:
                return Found(route, match.groupdict())
    for prefix in PREFIXES[provider]:
        params: Dict[str, Optional[str]] = {}
        if "{deployment}" in prefix:
            match = _DEPLOYMENT.match(path)
            if not match:
                continue
            params["deployment"], rest = match.group("deployment"), match.group("rest")
        elif path.startswith(prefix + "/"):
            rest = path[len(prefix) :]
        else:
            continue
        for route in _PREFIXED:
            if route.method == method and (not route.providers or provider in route.providers):
                match = route.path.match(rest)
                if match:
                    return Found(route, {**params, **match.groupdict()})
    return None
