"""OpenAI's formats and all that follow them: chat completions, completions, embeddings, Responses.

Owns the arithmetic of `usage` in OpenAI's shape. Providers' differences are columns of `providers.PROVIDERS`,
never branches on a name here. `prompt_tokens` holds cached and written tokens and `completion_tokens` holds
reasoning unless the provider's row says otherwise. If this is wrong, most receipts are.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.counts import Counts, Shape
from aicostguard.metering.formats import Facts, Fold, Format, is_error, tier
from aicostguard.metering.provider import BY_TOTAL, INCLUDED, REMAINDER, SEPARATE
from aicostguard.metering.values import count, mapping, nano_dollars, parse, text
from aicostguard.usage import Reading, Usage, inconsistent

#: member of `usage` → field. Chat: https://developers.openai.com/api/reference/resources/chat (CompletionUsage);
#: Responses: …/resources/responses (ResponseUsage)
_TOP: Dict[str, str] = {
    "prompt_tokens": "input_tokens",
    "input_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "output_tokens": "output_tokens",
    "total_tokens": "total",
    # https://api-docs.deepseek.com/api/create-chat-completion: hit + miss = prompt_tokens
    "prompt_cache_hit_tokens": "cache_read_input_tokens",
    # https://platform.claude.com/docs/en/api/openai-sdk; also https://platform.moonshot.ai/docs/api/chat
    "cached_tokens": "cache_read_input_tokens",
    # https://docs.perplexity.ai/getting-started/pricing (sonar-deep-research)
    "reasoning_tokens": "reasoning_output_tokens",
    "num_search_queries": "web_searches",
    # https://docs.x.ai/docs/guides/live-search: billed by source
    "num_sources_used": "search_units",
}
#: member of `prompt_tokens_details` or `input_tokens_details` → field
_INPUT_DETAILS: Dict[str, str] = {
    "cached_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
    "audio_tokens": "input_audio_tokens",
    "image_tokens": "input_image_tokens",
    "video_tokens": "input_video_tokens",
    # https://docs.perplexity.ai/api-reference/agent-post
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_creation_input_tokens": "cache_creation_input_tokens",
    # LiteLLM's name for the tokens written
    "cache_creation_tokens": "cache_creation_input_tokens",
}
#: member of `completion_tokens_details` or `output_tokens_details` → field
_OUTPUT_DETAILS: Dict[str, str] = {
    "reasoning_tokens": "reasoning_output_tokens",
    "audio_tokens": "output_audio_tokens",
    "image_tokens": "output_image_tokens",
}
#: object inside `usage` → what its members are
_DETAILS: Dict[str, Dict[str, str]] = {
    "prompt_tokens_details": _INPUT_DETAILS,
    "input_tokens_details": _INPUT_DETAILS,
    # https://dev.writer.com/api-reference/completion-api/chat-completion; also OpenAI's runs of assistants,
    # https://developers.openai.com/api/reference/resources/beta/subresources/threads
    "prompt_token_details": _INPUT_DETAILS,
    "completion_tokens_details": _OUTPUT_DETAILS,
    "output_tokens_details": _OUTPUT_DETAILS,
    # Realtime: https://developers.openai.com/api/reference/resources/realtime (RealtimeResponseUsage); transcripts:
    # …/resources/audio/subresources/transcriptions
    "input_token_details": _INPUT_DETAILS,
    "output_token_details": _OUTPUT_DETAILS,
    # https://openrouter.ai/docs/use-cases/usage-accounting
    "server_tool_use_details": {"web_search_requests": "web_searches"},
    "server_tool_use": {"web_search_requests": "web_searches"},
    # https://docs.x.ai/docs/guides/tools/overview
    "server_side_tool_usage_details": {"web_search_calls": "web_searches"},
    "cached_tokens_details": {"audio_tokens": "cache_read_audio_tokens"},
}


_counts = Counts(_TOP, _DETAILS)

#: formats without output of their own
_INPUT_ONLY = ("embeddings", "rerank", "dashscope_embeddings", "dashscope_rerank")


def usage_of(raw: object, facts: Facts) -> Tuple[Optional[Usage], bool]:
    """`(Usage, do the parts contradict the provider's own total?)`; `(None, False)` when there are no counts."""
    if type(raw) is not dict or not raw:
        return None, False
    found = _counts.of(raw)
    rules = facts.rules
    total = found.pop("total", None)
    if facts.format in _INPUT_ONLY:
        if total is not None and "input_tokens" not in found and total >= found.get("output_tokens", 0):
            # Voyage, Jina and DashScope give the total alone: https://docs.voyageai.com/reference/embeddings-api
            found["input_tokens"] = total - found.get("output_tokens", 0)
        if "input_tokens" in found:
            found.setdefault("output_tokens", 0)
    if rules.reasoning != INCLUDED:
        total = _add_reasoning(found, total, rules.reasoning)
    for key in rules.more_input:
        extra = count(raw.get(key))
        if extra and "input_tokens" in found:
            found["input_tokens"] += extra
            total = None
    if rules.cost:
        cost = _cost(raw, facts)
        if cost is not None:
            found["reported_cost_nanousd"] = cost
    if not _OTHERWISE.keys().isdisjoint(raw):
        for key, take in _OTHERWISE.items():
            if key in raw:
                take(raw[key], found)
    if not found:
        return None, False
    usage = Usage(**found)
    # A total without one of its sides says nothing about the other.
    whole = total if usage.input_tokens is not None and usage.output_tokens is not None else None
    return usage, inconsistent(usage, whole)


def shape_of(raw: Mapping[str, Any]) -> Optional[Shape]:
    """Where the counts of such a `usage` stand; None where it holds what is no plain count.

    Learnt anew: what is known here is of whichever provider sent these members first.
    """
    return Counts(_TOP, _DETAILS).shape(raw) if _OTHERWISE.keys().isdisjoint(raw) else None


def _add_reasoning(found: Dict[str, int], total: Optional[int], rule: str) -> Optional[int]:
    """Make `output_tokens` all output where the completion leaves reasoning out; the total that still holds."""
    reasoning = found.get("reasoning_output_tokens") or 0
    if "output_tokens" not in found:
        return total
    if rule == SEPARATE:
        found["output_tokens"] += reasoning
        return None if reasoning else total
    if total is None:
        return None
    gap = total - found.get("input_tokens", 0) - found["output_tokens"]
    if gap <= 0:
        return total
    if rule == BY_TOTAL and gap == reasoning:
        found["output_tokens"] += gap
    elif rule == REMAINDER and (not reasoning or gap == reasoning):
        found["output_tokens"] += gap
        found["reasoning_output_tokens"] = gap
    return total


def _audio_seconds(value: object, found: Dict[str, int]) -> None:
    """Mistral's length of audio input: https://docs.mistral.ai/api/ (UsageInfo)"""
    seconds = count(value)
    if seconds is not None:
        found["audio_ms"] = seconds * 1000


def _tools_invoked(value: object, found: Dict[str, int]) -> None:
    """Tools of Perplexity's Agent API, by name, with how often each was invoked."""
    for name, details in mapping(value).items():
        number = count(mapping(details).get("invocation"))
        if number is not None:
            field = "web_searches" if name in ("web_search", "search_web") else "tool_calls_billed"
            found[field] = found.get(field, 0) + number


#: members of `usage` that are no plain count of a field
_OTHERWISE: Dict[str, Callable[[object, Dict[str, int]], None]] = {
    "prompt_audio_seconds": _audio_seconds,
    "tool_calls_details": _tools_invoked,
}


def _cost(raw: Mapping[str, Any], facts: Facts) -> Optional[int]:
    value: Any = raw
    for key in facts.rules.cost:
        value = mapping(value).get(key)
    cost = nano_dollars(value, facts.rules.cost_units)
    if cost is not None and raw.get("is_byok") is True:
        # With the user's own key at OpenRouter `cost` is the fee alone; the model's price stands beside it.
        upstream = nano_dollars(mapping(raw.get("cost_details")).get("upstream_inference_cost"))
        cost += upstream or 0
    return cost


def _reading(body: Mapping[str, Any], raw: object, facts: Facts) -> Reading:
    usage, mismatch = usage_of(raw, facts)
    # Mistral names the tier inside `usage`; the others beside it.
    served = body.get("service_tier") or (raw.get("service_tier") if type(raw) is dict else None)
    return Reading(
        model=_model(body),
        usage=usage,
        service_tier=None if served is None else tier(served),
        mismatch=mismatch,
        # Embeddings are never fetched again, and their id would have to be looked for in a large body.
        response_id=None if facts.format == "embeddings" else text(body.get("id")),
    )


def _model(body: Mapping[str, Any]) -> Optional[str]:
    """The model; watsonx calls it `model_id`: https://cloud.ibm.com/apidocs/watsonx-ai#text-chat"""
    model = body.get("model")
    return model if type(model) is str and model else text(body.get("model_id"))


def _models_of(body: Mapping[str, Any], facts: Facts, main: Reading) -> List[Reading]:
    """One reading a model where Groq's compound systems name several and their sum is the total.

    https://console.groq.com/docs/compound (usage_breakdown)
    """
    rows = mapping(body["usage_breakdown"]).get("models")
    if type(rows) is not list or len(rows) < 2 or main.usage is None:
        return [main]
    readings = []
    for row in rows:
        usage, mismatch = usage_of(mapping(row).get("usage"), facts)
        if usage is None:
            return [main]
        readings.append(main._replace(model=text(mapping(row).get("model")), usage=usage, mismatch=mismatch))
    for field in ("input_tokens", "output_tokens"):
        if sum(getattr(r.usage, field) or 0 for r in readings) != getattr(main.usage, field):
            return [main]
    return readings


def read_completion(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Chat completion, completion or embeddings, whole."""
    raw = body.get("usage")
    if not raw and (
        is_error(body, "usage", "choices", "data") or ("request_id" in body and "choices" not in body and raw is None)
    ):
        # The second: xAI has put the completion off, https://docs.x.ai/docs/guides/deferred-chat-completions
        return []
    reading = _reading(body, raw, facts)
    return _models_of(body, facts, reading) if "usage_breakdown" in body else [reading]


class CompletionFold(Fold):
    """A stream of chat completion or completion chunks.

    Usage may stand in every chunk, in a middle one, in one with choices, in the last one with no choices, or
    nowhere. The chunks that may hold it are kept as bytes and parsed at the end, from the last one backwards:
    a provider that repeats it in every chunk costs no parse a chunk.
    """

    __slots__ = ("_candidates", "_final", "_head", "_seen", "_error")

    #: how many chunks that may hold usage are kept
    KEPT = 8

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._candidates: List[bytes] = []
        self._final: Optional[Mapping[str, Any]] = None
        self._head: List[bytes] = []
        self._seen = 0
        self._error = False

    def event(self, data: bytes) -> bool:
        self._seen += 1
        if b'_tokens"' not in data:
            if b'"error"' in data and is_error(mapping(parse(data)), "choices"):
                self._error = True
            elif len(self._head) < self.KEPT:
                self._head.append(data)
            return False
        # `"choices":[]` beside usage is the chunk that OpenAI sends last; Azure opens with one that has no usage.
        if self._seen > 1 and (b'"choices":[]' in data or b'"choices": []' in data):
            chunk = mapping(parse(data))
            if chunk.get("choices") == [] and usage_of(_chunk_usage(chunk), self.facts)[0] is not None:
                self._final = chunk
                return True
        self._candidates.append(data)
        if len(self._candidates) > self.KEPT:
            del self._candidates[0]
        return False

    def readings(self) -> List[Reading]:
        chunk = self._final
        if chunk is not None:
            return self._named(chunk)
        for data in reversed(self._candidates):
            chunk = mapping(parse(data))
            if usage_of(_chunk_usage(chunk), self.facts)[0] is not None:
                return self._named(chunk)
        if self._error and not self._candidates and not any(b'"choices"' in data for data in self._head):
            return []
        return self._named({})

    def _named(self, chunk: Mapping[str, Any]) -> List[Reading]:
        """The reading of the chunk with usage; model and id from the first chunks where it has none."""
        reading = _reading(chunk, _chunk_usage(chunk), self.facts)
        if reading.model is None or reading.response_id is None:
            for data in self._head + self._candidates:
                first = mapping(parse(data))
                reading = reading._replace(
                    model=reading.model or _model(first),
                    response_id=reading.response_id or text(first.get("id")),
                    service_tier=reading.service_tier or tier(first.get("service_tier")),
                )
                if reading.model is not None:
                    break
        return _models_of(chunk, self.facts, reading) if "usage_breakdown" in chunk else [reading]


def _chunk_usage(chunk: Mapping[str, Any]) -> object:
    """`usage`, or Groq's older place for it: https://console.groq.com/docs/text-chat#streaming"""
    return chunk.get("usage") or mapping(chunk.get("x_groq")).get("usage")


_DOCS = "https://developers.openai.com/api/reference/resources/"
_MEMBERS = ("model", "id", "service_tier")

CHAT = Format(
    "chat", None, "usage", _MEMBERS, (b'"usage_breakdown"',), read_completion,
    (b'_tokens"',), b"[DONE]", CompletionFold, 3,
    _DOCS + "chat",
)  # fmt: skip
COMPLETIONS = CHAT._replace(name="completions", docs=_DOCS + "completions")
# No marks: a body of embeddings is large, and even a search through it is felt.
EMBEDDINGS = CHAT._replace(
    name="embeddings", operation="embeddings", members=("model",), marks=(), docs=_DOCS + "embeddings"
)

FORMATS = (CHAT, COMPLETIONS, EMBEDDINGS)
