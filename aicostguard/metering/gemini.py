"""Google's Gemini: generateContent, its streams, and embeddings, at the Gemini API and on Vertex.

Owns the arithmetic of `usageMetadata`. All input is prompt (which holds cached content) plus the prompt
tokens of tool results; all output is candidates plus thoughts. Snapshots of a stream are cumulative: the last
one is the usage, never the sum. Definition: https://ai.google.dev/api/generate-content#UsageMetadata
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.formats import Facts, Fold, Format, is_error, tier
from aicostguard.metering.values import count, mapping, parse, parse_from, text
from aicostguard.usage import Reading, Usage, inconsistent

#: https://ai.google.dev/api/generate-content#Modality; integers where enums were asked for as numbers
_MODALITIES: Dict[object, str] = {
    "IMAGE": "image", "VIDEO": "video", "AUDIO": "audio",
    2: "image", 3: "video", 4: "audio",
}  # fmt: skip
#: details → modality → field; a modality without a field is only a part of the whole
_DETAILS: Dict[str, Dict[str, str]] = {
    "promptTokensDetails": {
        "audio": "input_audio_tokens", "image": "input_image_tokens", "video": "input_video_tokens",
    },
    "toolUsePromptTokensDetails": {
        "audio": "input_audio_tokens", "image": "input_image_tokens", "video": "input_video_tokens",
    },
    "cacheTokensDetails": {"audio": "cache_read_audio_tokens"},
    "candidatesTokensDetails": {"audio": "output_audio_tokens", "image": "output_image_tokens"},
}  # fmt: skip
#: https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#TrafficType
_TRAFFIC: Dict[str, str] = {
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "PROVISIONED_THROUGHPUT": "provisioned_throughput",
}
#: tiers with prices of their own, in `serviceTier` or the header: https://ai.google.dev/gemini-api/docs/priority-inference
_TIERS = ("flex", "priority")
_TRAFFIC_NUMBERS = {2: "PROVISIONED_THROUGHPUT", 3: "ON_DEMAND_PRIORITY", 4: "ON_DEMAND_FLEX"}


def _count(value: object) -> Optional[int]:
    return count(value, digits=True)


def usage_of(raw: Mapping[str, Any]) -> Tuple[Optional[Usage], bool]:
    """`(Usage, do the parts contradict totalTokenCount?)`; `(None, False)` when there are no counts."""
    prompt, tool_use = _count(raw.get("promptTokenCount")), _count(raw.get("toolUsePromptTokenCount"))
    candidates, thoughts = _count(raw.get("candidatesTokenCount")), _count(raw.get("thoughtsTokenCount"))
    total = _count(raw.get("totalTokenCount"))
    found: Dict[str, int] = {}
    if prompt is not None or tool_use is not None:
        found["input_tokens"] = (prompt or 0) + (tool_use or 0)
    if candidates is not None or thoughts is not None:
        found["output_tokens"] = (candidates or 0) + (thoughts or 0)
    elif total is not None and total == found.get("input_tokens"):
        # Protobuf leaves zeros out: the total says that nothing was generated.
        found["output_tokens"] = 0
    if thoughts is not None:
        found["reasoning_output_tokens"] = thoughts
    cached = _count(raw.get("cachedContentTokenCount"))
    if cached is not None:
        found["cache_read_input_tokens"] = cached
    for key, fields in _DETAILS.items():
        rows = raw.get(key)
        for row in rows if type(rows) is list else []:
            modality = mapping(row).get("modality")
            field = fields.get(_MODALITIES.get(modality, "")) if isinstance(modality, (str, int)) else None
            number = _count(mapping(row).get("tokenCount"))
            if field and number is not None:
                found[field] = found.get(field, 0) + number
    if not found:
        return None, False
    usage = Usage(**found)
    whole = total if usage.input_tokens is not None and usage.output_tokens is not None else None
    return usage, inconsistent(usage, whole)


def served(raw: Mapping[str, Any], facts: Facts) -> Optional[str]:
    traffic = raw.get("trafficType")
    if type(traffic) is int:
        traffic = _TRAFFIC_NUMBERS.get(traffic)
    if type(traffic) is str and traffic in _TRAFFIC:
        return _TRAFFIC[traffic]
    named = tier(raw.get("serviceTier")) or tier(facts.header("x-gemini-service-tier"))
    return named if named in _TIERS else None


def queries(body: Mapping[str, Any]) -> int:
    """Google searches made to ground the answer: https://ai.google.dev/gemini-api/docs/google-search"""
    made = 0
    candidates = body.get("candidates")
    for candidate in candidates if type(candidates) is list else []:
        queries = mapping(mapping(candidate).get("groundingMetadata")).get("webSearchQueries")
        made += len(queries) if type(queries) is list else 0
    return made


def _reading(body: Mapping[str, Any], facts: Facts, searches: int) -> Reading:
    raw = mapping(body.get("usageMetadata"))
    usage, mismatch = usage_of(raw)
    if usage is not None and searches:
        usage = usage._replace(web_searches=searches)
    return Reading(
        model=text(body.get("modelVersion")),
        usage=usage,
        service_tier=served(raw, facts),
        mismatch=mismatch,
        response_id=text(body.get("responseId")),
    )


def read_generate(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A GenerateContentResponse, whole."""
    if is_error(body, "usageMetadata", "candidates"):
        return []
    return [_reading(body, facts, queries(body))]


def read_array(body: bytes, facts: Facts) -> List[Reading]:
    """A stream asked for without `alt=sse`: one JSON array, an element a chunk, possibly cut off."""
    source = body.decode("utf-8", "replace")
    fold = GenerateFold(facts)
    at = source.find("[") + 1
    while at > 0:
        while source[at : at + 1] and source[at] in " \t\r\n,":
            at += 1
        element, at = parse_from(source, at)
        if at > 0:
            fold.take(mapping(element))
    return [reading._replace(streamed=True) for reading in fold.readings()]


class GenerateFold(Fold):
    """The chunks of a stream. Each carries a cumulative snapshot, so only the last is kept."""

    __slots__ = ("_last", "_parsed", "_searches", "_error")

    #: how many chunks that may hold usage are kept: a tool's arguments may hold the same key
    KEPT = 4

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._last: List[bytes] = []
        self._parsed: Mapping[str, Any] = {}
        self._searches = 0
        self._error = False

    def event(self, data: bytes) -> bool:
        if b'"webSearchQueries"' in data:
            # Grounding metadata is repeated, not added to, in later chunks.
            self._searches = max(self._searches, queries(mapping(parse(data))))
        if b'"usageMetadata"' in data:
            self._last.append(data)
            if len(self._last) > self.KEPT:
                del self._last[0]
        elif b'"error"' in data and is_error(mapping(parse(data)), "candidates"):
            self._error = True
        return False

    def take(self, chunk: Mapping[str, Any]) -> None:
        """One chunk that is parsed already."""
        self._searches = max(self._searches, queries(chunk))
        if usage_of(mapping(chunk.get("usageMetadata")))[0] is not None:
            self._parsed = chunk
        elif is_error(chunk, "candidates"):
            self._error = True

    def readings(self) -> List[Reading]:
        for data in reversed(self._last):
            if self._parsed:
                break
            self.take(mapping(parse(data)))
        if self._error and not self._parsed:
            return []
        return [_reading(self._parsed, self.facts, self._searches)]


def read_embeddings(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """embedContent and batchEmbedContents. The Gemini API names usage for newer models only."""
    if is_error(body, "embedding", "embeddings"):
        return []
    raw = mapping(body.get("usageMetadata"))
    usage, mismatch = usage_of(raw)
    if usage is not None and usage.output_tokens is None:
        usage = usage._replace(output_tokens=0)
    return [Reading(model=None, usage=usage, service_tier=served(raw, facts), mismatch=mismatch)]


def read_predict(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """`:predict`: text embeddings, each of which names its own tokens, and images, which bill by the image.

    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api, …/imagen-api (an
    image that was filtered stands there without its bytes, and is free)
    """
    if is_error(body, "predictions"):
        return []
    predictions = body.get("predictions")
    tokens: Optional[int] = None
    embeddings = False
    images = 0
    for prediction in predictions if type(predictions) is list else []:
        row = mapping(prediction).get("embeddings")
        embeddings = embeddings or type(row) is dict
        images += any(mapping(prediction).get(key) for key in ("bytesBase64Encoded", "gcsUri"))
        number = _count(mapping(mapping(row).get("statistics")).get("token_count"))
        if number is not None:
            tokens = (tokens or 0) + number
    usage = Usage(input_tokens=tokens, output_tokens=0) if tokens is not None else None
    characters = _count(mapping(body.get("metadata")).get("billableCharacterCount"))
    if usage is not None and characters is not None:
        usage = usage._replace(characters=characters)
    if images and usage is None:
        return [Reading(model=None, usage=Usage(images=images), operation="image")]
    return [Reading(model=None, usage=usage, operation="embeddings" if embeddings else None)]


_MEMBERS = ("modelVersion", "responseId")
_DOCS = "https://ai.google.dev/api/"

GENERATE = Format(
    "generate", None, "usageMetadata", _MEMBERS, (b'"webSearchQueries"',), read_generate,
    (b'"usageMetadata"', b'"webSearchQueries"'), None, GenerateFold, 1, _DOCS + "generate-content#UsageMetadata",
    read_array,
)  # fmt: skip
EMBEDDINGS = Format(
    "gemini_embeddings", "embeddings", "usageMetadata", (), (), read_embeddings,
    (b'"usageMetadata"',), None, GenerateFold, 1, _DOCS + "embeddings",
)  # fmt: skip
PREDICT = EMBEDDINGS._replace(
    name="vertex_predict",
    operation=None,
    usage="metadata",
    members=("predictions",),
    read=read_predict,
    docs="https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api",
)

FORMATS = (GENERATE, EMBEDDINGS, PREDICT)
