"""How each provider writes usage: our `Usage` on the left, the provider's key on the right.

Owns the tables for the OpenAI-style formats. A row says where a number goes and whether it is always stated
(as 0 when there is none) or only when there is something to state. A wrong row makes the simulator lie in the
same way as a wrong meter; so rows come from the provider's own definition, which is named beside them, or else as
`docs` of the provider in `metering.providers`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from aicostguard.usage import Usage

# where a chat stream carries its usage
ASKED = "in a chunk of its own at the end, when stream_options.include_usage asks for it"
ALWAYS = "in a chunk of its own at the end, always"
LAST = "in the chunk that carries the finish reason"
EACH = "in each chunk, growing"
GROQ = "in x_groq of the chunk that carries the finish reason, and as ASKED"


class Row(NamedTuple):
    """One number: field of `Usage` → dotted path in the provider's object."""

    field: str
    path: str
    always: bool = True


class Shape(NamedTuple):
    """One provider's usage object. `finish` adds what is computed from several numbers."""

    rows: Tuple[Row, ...]
    finish: Optional[Callable[[Dict[str, Any], Usage], None]] = None
    stream: str = ASKED
    #: the role stands in each delta, not only in the first
    role_in_each: bool = False
    #: the provider states what the call cost; `finish` writes it
    costed: bool = False

    @property
    def always(self) -> Tuple[str, ...]:
        """Fields that are always stated."""
        fields = tuple(row.field for row in self.rows if row.always)
        return (*fields, "reported_cost_nanousd") if self.costed else fields

    @property
    def sometimes(self) -> Tuple[str, ...]:
        """Fields that may be stated."""
        return tuple(row.field for row in self.rows if not row.always)

    def render(self, usage: Usage) -> Dict[str, Any]:
        """The provider's object for these numbers."""
        out: Dict[str, Any] = {}
        for field, path, always in self.rows:
            value = getattr(usage, field)
            if value is None and not always:
                continue
            at = out
            *parents, key = path.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[key] = value or 0
        if self.finish is not None:
            self.finish(out, usage)
        return out


def _total(out: Dict[str, Any], usage: Usage) -> None:
    out["total_tokens"] = (usage.input_tokens or 0) + (usage.output_tokens or 0)


def _openai(out: Dict[str, Any], usage: Usage) -> None:
    _total(out, usage)
    details = out["completion_tokens_details"]
    details["accepted_prediction_tokens"] = details["rejected_prediction_tokens"] = 0


def _groq(out: Dict[str, Any], usage: Usage) -> None:
    _total(out, usage)
    out.update(queue_time=0.01, prompt_time=0.002, completion_time=0.2, total_time=0.202)


def _deepseek(out: Dict[str, Any], usage: Usage) -> None:
    _total(out, usage)
    out["prompt_cache_miss_tokens"] = (usage.input_tokens or 0) - (usage.cache_read_input_tokens or 0)
    out["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_input_tokens or 0}


def _xai(out: Dict[str, Any], usage: Usage) -> None:
    # completion_tokens leaves reasoning out, total_tokens counts it: docs.x.ai, consumption and rate limits
    _total(out, usage)
    out["completion_tokens"] -= usage.reasoning_output_tokens or 0
    out["prompt_tokens_details"].update(text_tokens=out["prompt_tokens"], audio_tokens=0, image_tokens=0)
    out["completion_tokens_details"].update(audio_tokens=0, accepted_prediction_tokens=0, rejected_prediction_tokens=0)
    out["num_sources_used"] = 0
    out["cost_in_usd_ticks"] = (usage.reported_cost_nanousd or 0) * 10  # a tick is 1e-10 USD


def _openrouter(out: Dict[str, Any], usage: Usage) -> None:
    _total(out, usage)
    out["cost"] = (usage.reported_cost_nanousd or 0) / 1e9
    out["is_byok"] = False
    out["cost_details"] = {"upstream_inference_cost": None}


def _perplexity(out: Dict[str, Any], usage: Usage) -> None:
    _total(out, usage)
    total = usage.reported_cost_nanousd or 0
    fee = min(total, 5_000_000)
    given = min(total - fee, 1_000 * (usage.input_tokens or 0))
    out["search_context_size"] = "low"
    out["cost"] = {
        "input_tokens_cost": given / 1e9,
        "output_tokens_cost": (total - fee - given) / 1e9,
        "request_cost": fee / 1e9,
        "total_cost": total / 1e9,
    }


_IN = Row("input_tokens", "prompt_tokens")
_OUT = Row("output_tokens", "completion_tokens")


def _cached(always: bool) -> Row:
    return Row("cache_read_input_tokens", "prompt_tokens_details.cached_tokens", always)


def _reasoning(always: bool) -> Row:
    return Row("reasoning_output_tokens", "completion_tokens_details.reasoning_tokens", always)


#: https://platform.openai.com/docs/api-reference/chat/object
OPENAI = Shape(
    (
        _IN,
        _OUT,
        _cached(True),
        Row("input_audio_tokens", "prompt_tokens_details.audio_tokens"),
        Row("cache_creation_input_tokens", "prompt_tokens_details.cache_write_tokens", False),
        _reasoning(True),
        Row("output_audio_tokens", "completion_tokens_details.audio_tokens"),
    ),
    _openai,
)
_PLAIN = Shape((_IN, _OUT), _total)

#: chat completions by provider; who is not named speaks as OpenAI does
CHAT: Dict[str, Shape] = {
    "openai": OPENAI,
    "azure": OPENAI,
    "bedrock": OPENAI,  # its OpenAI-compatible path
    "vercel": OPENAI,
    "custom": OPENAI,
    "google": _PLAIN,  # its OpenAI-compatible path
    "vertex": _PLAIN,
    "cohere": _PLAIN,  # its compatibility path
    # usage of streams stands in x_groq: https://console.groq.com/docs/api-reference
    "groq": Shape((_IN, _OUT, _cached(False), _reasoning(False)), _groq, GROQ),
    # https://docs.mistral.ai/api, prompt caching: prompt_tokens_details.cached_tokens
    "mistral": Shape((_IN, _OUT, _cached(False)), _total, LAST),
    "together": _PLAIN._replace(stream=LAST, role_in_each=True),
    "fireworks": Shape((_IN, _OUT, _cached(False)), _total, LAST),
    "cerebras": Shape((_IN, _OUT, _cached(True), _reasoning(False)), _total, LAST),
    # https://api-docs.deepseek.com/api/create-chat-completion
    "deepseek": Shape(
        (_IN, _OUT, Row("cache_read_input_tokens", "prompt_cache_hit_tokens"), _reasoning(False)), _deepseek, LAST
    ),
    "xai": Shape((_IN, _OUT, _cached(True), _reasoning(True)), _xai, LAST, costed=True),
    # https://openrouter.ai/docs/use-cases/usage-accounting
    "openrouter": Shape(
        (
            _IN,
            _OUT,
            _cached(True),
            Row("cache_creation_input_tokens", "prompt_tokens_details.cache_write_tokens", False),
            Row("input_audio_tokens", "prompt_tokens_details.audio_tokens"),
            _reasoning(True),
        ),
        _openrouter,
        ALWAYS,
        costed=True,
    ),
    "huggingface": _PLAIN,
    "ollama": _PLAIN,
    "voyage": _PLAIN,
    "dashscope": _PLAIN,
    # https://docs.ai21.com/reference/jamba-1-6-api-ref
    "ai21": _PLAIN._replace(stream=LAST),
    # https://docs.z.ai/api-reference/llm/chat-completion
    "zai": Shape((_IN, _OUT, _cached(False), _reasoning(False)), _total, LAST),
    "zhipuai": Shape((_IN, _OUT, _cached(False), _reasoning(False)), _total, LAST),
    # https://dev.writer.com/api-reference/completion-api/chat-completion
    "writer": Shape(
        (
            _IN,
            _OUT,
            Row("cache_read_input_tokens", "prompt_token_details.cached_tokens", False),
            _reasoning(False),
        ),
        _total,
    ),
    # https://docs.perplexity.ai/api-reference/chat-completions-post
    "perplexity": Shape((_IN, _OUT, Row("web_searches", "num_search_queries", False)), _perplexity, EACH, True, True),
}

#: https://platform.openai.com/docs/api-reference/responses/object; reasoning is inside output for every provider
RESPONSES = Shape(
    (
        Row("input_tokens", "input_tokens"),
        Row("cache_read_input_tokens", "input_tokens_details.cached_tokens"),
        Row("cache_creation_input_tokens", "input_tokens_details.cache_write_tokens"),
        Row("output_tokens", "output_tokens"),
        Row("reasoning_output_tokens", "output_tokens_details.reasoning_tokens"),
    ),
    _total,
)
COMPLETIONS = _PLAIN
EMBEDDINGS = Shape((_IN,), _total)
#: Mistral states completion_tokens for embeddings too
EMBEDDINGS_MISTRAL = Shape((_IN, _OUT), _total)
