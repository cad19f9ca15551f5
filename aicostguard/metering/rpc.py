"""Calls over gRPC: which methods are AI, and what their messages say of usage.

Owns the table of methods by their full name; the service's package names the provider, whatever the host. Messages come
as they are on the wire, and are read by `protobuf`, by the field numbers of the published definitions. Counts are then
put under the names they have in JSON, so that the arithmetic is that of `openai` and `gemini`. Pure. If a number here
is wrong, a provider's calls are counted wrongly, and only over gRPC.

xAI: https://github.com/xai-org/xai-proto. Gemini and Vertex: https://github.com/googleapis/googleapis, under
google/ai/generativelanguage and google/cloud/aiplatform.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from aicostguard.metering import protobuf
from aicostguard.metering.endpoints import UNRECOGNISED, Endpoint
from aicostguard.metering.formats import Facts
from aicostguard.metering.protobuf import Fields
from aicostguard.metering.providers import rules
from aicostguard.usage import Reading, Usage

#: what a message says of usage: counts, do they contradict each other, the tier that served
Counted = Tuple[Optional[Usage], bool, Optional[str]]
Names = Mapping[int, str]


class Method(NamedTuple):
    """One method. The numbers are those of the fields of its response, 0 where there is none."""

    counts: Callable[[Fields, Facts], Counted]
    usage: int
    model: int
    id: int = 0
    operation: Optional[str] = None
    #: where the service tier is, outside of usage
    tier: int = 0
    #: fields that lead to the queries of a search, from the response on
    queries: Tuple[int, ...] = ()
    #: field of the request that names the model
    asked: int = 0
    #: (field of the status, its value when it is done, field of the response): what is fetched later
    deferred: Tuple[int, ...] = ()
    #: how many of these the response holds are images
    images: int = 0
    #: a method that serves more than AI: what the asked model has to contain
    only: str = ""
    #: the response as a whole, where it is no message with a usage
    whole: Optional[Callable[[Fields], List[Reading]]] = None


_XAI_USAGE: Names = {
    1: "completion_tokens", 2: "prompt_tokens", 3: "total_tokens", 8: "num_sources_used", 11: "cost_in_usd_ticks",
}  # fmt: skip
_XAI_TIERS = {2: "priority"}
#: ServerSideTool, https://docs.x.ai/docs/guides/tools/overview: a search of the web; what else is billed by the call
_XAI_SEARCH = (1,)
_XAI_TOOLS = (2, 3, 6, 8)


def _xai(found: Fields, facts: Facts) -> Counted:
    """SamplingUsage. A count that is 0 is not on the wire."""
    from aicostguard.metering.openai import usage_of

    raw: Dict[str, Any] = dict.fromkeys(("completion_tokens", "prompt_tokens", "total_tokens"), 0)
    for at, name in _XAI_USAGE.items():
        value = protobuf.number(found, at)
        if value is not None:
            raw[name] = value
    raw["prompt_tokens_details"] = {
        "cached_tokens": protobuf.number(found, 7) or 0,
        "image_tokens": protobuf.number(found, 5) or 0,
    }
    raw["completion_tokens_details"] = {"reasoning_tokens": protobuf.number(found, 6) or 0}
    usage, mismatch = usage_of(raw, facts)
    tools = protobuf.numbers(found, 9)
    if usage is not None and tools:
        usage = usage._replace(
            web_searches=sum(tool in _XAI_SEARCH for tool in tools) or None,
            tool_calls_billed=sum(tool in _XAI_TOOLS for tool in tools) or None,
        )
    return usage, mismatch, None


def _gemini(scalars: Names, details: Names) -> Callable[[Fields, Facts], Counted]:
    """UsageMetadata, whose field numbers differ between the two services."""

    def counts(found: Fields, facts: Facts) -> Counted:
        from aicostguard.metering.gemini import served, usage_of

        raw: Dict[str, Any] = {}
        for at, name in scalars.items():
            value = protobuf.number(found, at)
            if value is not None:
                raw[name] = value
        for at, name in details.items():
            rows = protobuf.messages(found, at)
            raw[name] = [{"modality": protobuf.number(r, 1), "tokenCount": protobuf.number(r, 2) or 0} for r in rows]
        usage, mismatch = usage_of(raw)
        return usage, mismatch, served(raw, facts)

    return counts


_studio = _gemini(
    {1: "promptTokenCount", 2: "candidatesTokenCount", 3: "totalTokenCount", 4: "cachedContentTokenCount",
     8: "toolUsePromptTokenCount", 10: "thoughtsTokenCount"},
    {5: "promptTokensDetails", 6: "cacheTokensDetails", 7: "candidatesTokensDetails", 9: "toolUsePromptTokensDetails"},
)  # fmt: skip
_vertex = _gemini(
    {1: "promptTokenCount", 2: "candidatesTokenCount", 3: "totalTokenCount", 5: "cachedContentTokenCount",
     8: "trafficType", 13: "toolUsePromptTokenCount", 14: "thoughtsTokenCount"},
    {9: "promptTokensDetails", 10: "cacheTokensDetails", 11: "candidatesTokensDetails",
     12: "toolUsePromptTokensDetails"},
)  # fmt: skip


def _no_counts(found: Fields, facts: Facts) -> Counted:
    return None, False, None


def _input_only(found: Fields, facts: Facts) -> Counted:
    tokens = protobuf.number(found, 1)
    return (None if tokens is None else Usage(input_tokens=tokens, output_tokens=0)), False, None


def _predictions(found: Fields) -> List[Reading]:
    """Text embeddings on Vertex: every prediction names its own tokens, as in JSON."""
    from aicostguard.metering.gemini import read_predict

    rows = [protobuf.value_of(row) for row in found.get(1, ()) if isinstance(row, bytes)]
    facts = Facts("vertex_predict", rules("vertex"), _no_header)
    return read_predict({"predictions": rows}, facts)


_CHAT = Method(_xai, usage=9, model=6, id=1, tier=15, asked=2)
_SAMPLE = Method(_xai, usage=9, model=6, id=1)
_STUDIO = Method(_studio, usage=3, model=4, id=5, queries=(1, 9, 5), asked=1)
_VERTEX = Method(_vertex, usage=4, model=11, id=13, queries=(2, 7, 1), asked=5)

#: service → provider, and method → row; None: a method that bills nothing
SERVICES: Dict[str, Tuple[str, Dict[str, Optional[Method]]]] = {
    "xai_api.Chat": (
        "xai",
        {
            "GetCompletion": _CHAT,
            "GetCompletionChunk": _CHAT._replace(usage=6, model=4, tier=12),
            "StartDeferredCompletion": None,
            # A result can be fetched once: https://docs.x.ai/docs/guides/deferred-chat-completions
            "GetDeferredCompletion": _CHAT._replace(deferred=(2, 1, 1), asked=0),
            "GetStoredCompletion": None,
            "DeleteStoredCompletion": None,
        },
    ),
    "xai_api.Sample": (
        "xai",
        {"SampleText": _SAMPLE, "SampleTextStreaming": _SAMPLE},
    ),
    "xai_api.Embedder": (
        "xai",
        {"Embed": Method(_no_counts, usage=3, model=4, id=1, operation="embeddings")},
    ),
    "xai_api.Image": (
        "xai",
        {"GenerateImage": Method(_xai, usage=3, model=2, operation="image", images=1)},
    ),
    "xai_api.Tokenize": ("xai", {"TokenizeText": None}),
}
for _version in ("v1", "v1beta", "v1alpha"):
    SERVICES["google.ai.generativelanguage.%s.GenerativeService" % _version] = (
        "google",
        {
            "GenerateContent": _STUDIO,
            "StreamGenerateContent": _STUDIO,
            "EmbedContent": Method(_no_counts, usage=0, model=0, operation="embeddings", asked=1),
            "BatchEmbedContents": Method(_no_counts, usage=0, model=0, operation="embeddings", asked=1),
            "CountTokens": None,
        },
    )
for _version in ("v1", "v1beta1"):
    SERVICES["google.cloud.aiplatform.%s.PredictionService" % _version] = (
        "vertex",
        {
            "GenerateContent": _VERTEX,
            "StreamGenerateContent": _VERTEX,
            "EmbedContent": Method(_input_only, usage=2, model=0, operation="embeddings", asked=1),
            "Predict": Method(_no_counts, usage=0, model=0, asked=1, only="/publishers/", whole=_predictions),
            "CountTokens": None,
        },
    )


class Rpc:
    """One call being read: its request and messages as they are on the wire. Keeps no message."""

    def __init__(self, endpoint: Endpoint, method: Method, streamed: bool) -> None:
        self.endpoint = endpoint
        self._method = method
        self._streamed = streamed
        self._facts = Facts(endpoint.format, rules(endpoint.provider), _no_header)
        self._asked: Optional[str] = None
        self._region: Optional[str] = None
        self._model: Optional[str] = None
        self._id: Optional[str] = None
        self._tier: Optional[str] = None
        self._usage: Optional[Fields] = None
        self._searches = 0
        self._images = 0
        self._seen = False
        self._whole: Optional[List[Reading]] = None

    def asked(self, data: bytes) -> None:
        """The request."""
        if self._method.asked:
            named = protobuf.text(protobuf.fields(data) or {}, self._method.asked)
            if named is not None:
                parts = named.split("/")
                self._asked = named
                if "locations" in parts[:-1]:
                    self._region = parts[parts.index("locations") + 1]

    def told(self, data: bytes) -> None:
        """A message of the answer. In a stream later counts replace earlier ones: each is the sum so far."""
        method = self._method
        found = protobuf.fields(data)
        if found is None:
            return
        if method.deferred:
            status, done, at = method.deferred
            if protobuf.number(found, status) != done:
                return
            found = protobuf.message(found, at) or {}
        self._seen = True
        if method.whole is not None:
            self._whole = method.whole(found)
            return
        self._usage = protobuf.message(found, method.usage) or self._usage
        self._model = protobuf.text(found, method.model) or self._model
        self._id = protobuf.text(found, method.id) or self._id
        self._tier = _XAI_TIERS.get(protobuf.number(found, method.tier) or 0) or self._tier
        if method.queries:
            self._searches = max(self._searches, _queries(found, method.queries))
        if method.images:
            self._images += len(found.get(method.images, ()))

    def readings(self, partial: bool) -> List[Reading]:
        """What the messages so far bill."""
        method = self._method
        if not self._seen or (method.only and method.only not in (self._asked or "")):
            return []
        model = self._model or (self._asked or "").rpartition("/")[2] or None
        extra = {"streamed": self._streamed, "partial": partial, "region": self._region}
        if self._whole is not None:
            return [reading._replace(model=model, **extra) for reading in self._whole]  # type: ignore[arg-type]
        usage: Optional[Usage] = None
        mismatch, tier = False, self._tier
        if self._usage is not None:
            usage, mismatch, named = method.counts(self._usage, self._facts)
            tier = tier or named
        if usage is not None and self._searches:
            usage = usage._replace(web_searches=self._searches)
        if self._images:
            usage = (usage or Usage())._replace(images=self._images)
        reading = Reading(model, usage, None, method.operation, tier, mismatch=mismatch, response_id=self._id)
        return [reading._replace(**extra)]  # type: ignore[arg-type]


def _queries(found: Fields, path: Tuple[int, ...]) -> int:
    here = [found]
    for at in path[:-1]:
        here = [inner for each in here for inner in protobuf.messages(each, at)]
    return sum(len(each.get(path[-1], ())) for each in here)


def _no_header(name: str) -> Optional[str]:
    return None


class Found(NamedTuple):
    """A method that bills."""

    endpoint: Endpoint
    method: Method


def find(path: str) -> Union[Found, object, None]:
    """What a method is, by its full name `/package.Service/Method`: a row; None; `UNRECOGNISED` at a known service."""
    service, _, name = path.lstrip("/").partition("/")
    known = SERVICES.get(service)
    if known is None:
        return None
    provider, methods = known
    if name not in methods:
        return UNRECOGNISED
    method = methods[name]
    return None if method is None else Found(Endpoint(provider, "rpc"), method)
