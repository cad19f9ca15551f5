"""Bedrock's InvokeModel, for every family of models, plain and in AWS event streams.

Owns where an invocation says what it used: the body in the shape of the model's own maker, else the headers
`x-amzn-bedrock-*-token-count`, else the metrics in the last message of a stream. The arithmetic of Bedrock's own counts
is `bedrock`'s. If this is wrong, a family of models has counts of another's shape, or none.
Definition: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering import anthropic, openai
from aicostguard.metering.bedrock import COUNTS, DOCS, address, exception, summed, tier_of, told_by, usage_of
from aicostguard.metering.eventstream import Message
from aicostguard.metering.formats import Facts, Fold, Format, is_error, tier
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage, inconsistent

_METRICS = "amazon-bedrock-invocationMetrics"
#: counts at the top level of a body or an event, by family: Meta's and Amazon Titan's
_FLAT: Dict[str, str] = {
    "prompt_token_count": "input_tokens",
    "generation_token_count": "output_tokens",
    "inputTextTokenCount": "input_tokens",
    "totalOutputTextTokenCount": "output_tokens",
}
#: members that only a response with vectors has
_VECTORS = ("embedding", "embeddings", "embeddingsByType")
#: members of which an answer has one, whoever made the model; a body with an `error` and none of them is no answer
_SUBSTANCE = (
    "choices", "completion", "completions", "content", "generation", "generations", "images", "message", "output",
    "outputs", "results", "text", *_VECTORS,
)  # fmt: skip
#: an event of an invocation's stream can matter only if one of these is in it …
_NEEDLES = (b'"message_', b'"usage"', b"invocationMetrics", b'"error"')
#: … or it is the last with one of these: Meta's models count up in every event
_RUNNING = (b"oken_count", b"TokenCount")


def _flat(body: Mapping[str, Any], found: Dict[str, int]) -> None:
    for key, field in _FLAT.items():
        value = count(body.get(key))
        if value is not None:
            found[field] = value


def _completions(body: Mapping[str, Any], found: Dict[str, int]) -> None:
    """Amazon Titan's output: one count a result."""
    results = body.get("results")
    counts = [count(mapping(result).get("tokenCount")) for result in results] if type(results) is list else []
    known = [number for number in counts if number is not None]
    if known:
        found["output_tokens"] = sum(known)


def _pictures(body: Mapping[str, Any]) -> int:
    """Images made: Amazon's and Stability's `images`, the older `artifacts`. A filtered one is null."""
    for key in ("images", "artifacts"):
        made = body.get(key)
        if type(made) is list:
            return sum(1 for picture in made if picture)
    return 0


def _family(raw: Mapping[str, Any], flat: Mapping[str, int], facts: Facts) -> Tuple[Optional[Usage], bool]:
    """Usage in the shape of whoever made the model."""
    if "prompt_tokens" in raw or "completion_tokens" in raw:
        return openai.usage_of(raw, facts)
    if raw:
        return usage_of(raw)
    return (Usage(**flat), False) if flat else (None, False)


def _filled(usage: Optional[Usage], told: Mapping[str, int]) -> Optional[Usage]:
    """What the body left out, from Bedrock's own counts."""
    own = summed(told)
    if usage is None or own is None:
        return usage or own
    if usage.input_tokens is None:
        usage = usage._replace(
            input_tokens=own.input_tokens,
            cache_read_input_tokens=own.cache_read_input_tokens,
            cache_creation_input_tokens=own.cache_creation_input_tokens,
        )
    return usage if usage.output_tokens is not None else usage._replace(output_tokens=own.output_tokens)


def _main(reading: Reading, told: Mapping[str, int], facts: Facts, alone: bool) -> Reading:
    """The reading with what headers or metrics add; a mismatch where they count another output than the body."""
    usage = _filled(reading.usage, told)
    output = told.get("output")
    other = alone and usage is not None and output is not None and usage.output_tokens != output
    return reading._replace(
        usage=usage,
        service_tier=tier_of(facts) or reading.service_tier,
        mismatch=reading.mismatch or other or (usage is not None and inconsistent(usage)),
    )


def read_invoke(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """What a model answered, whole, in its maker's shape."""
    told = told_by(facts)
    raw = mapping(body.get("usage"))
    if anthropic.usage_of(raw) is not None or body.get("type") in ("message", "completion", "error"):
        readings = anthropic.read_message(body, facts)
        return [_main(each, told, facts, len(readings) == 1) if not at else each for at, each in enumerate(readings)]
    flat: Dict[str, int] = {}
    _flat(body, flat)
    _completions(body, flat)
    usage, mismatch = _family(raw, flat, facts)
    usage = _filled(usage, told)
    if usage is None and is_error(body, *_SUBSTANCE):
        return []
    operation = None
    made = _pictures(body)
    if made:
        operation, usage = "image", (usage or Usage())._replace(images=made)
    elif any(key in body for key in _VECTORS):
        operation, usage = "embeddings", _no_output(usage)
    elif _ranked(body.get("results")):
        operation, usage = "rerank", _no_output(usage)
    main = Reading(text(body.get("model")), usage, operation=operation, mismatch=mismatch)
    return [_main(main._replace(service_tier=tier(body.get("service_tier"))), told, facts, not operation)]


def _ranked(results: object) -> bool:
    return type(results) is list and bool(results) and "relevance_score" in mapping(results[0])


def _no_output(usage: Optional[Usage]) -> Optional[Usage]:
    if usage is None or usage.input_tokens is None or usage.output_tokens is not None:
        return usage
    return usage._replace(output_tokens=0)


def read_vectors(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Vectors: the headers alone tell, and the large body is left unread."""
    flat: Dict[str, int] = {}
    _flat(body, flat)
    usage = _no_output(_filled(Usage(**flat) if flat else None, told_by(facts)))
    return [] if usage is None and is_error(body, *_VECTORS) else [Reading(None, usage, service_tier=tier_of(facts))]


def _in_headers(facts: Facts) -> bool:
    return "fresh" in told_by(facts)


def inner(payload: bytes) -> Optional[bytes]:
    """The event inside a chunk: JSON whose `bytes` are the model's own, in base64; None for anything else."""
    if payload.startswith(b'{"bytes":"'):
        # As the service writes it. A slice is a tenth of a parse.
        coded: Any = payload[10 : payload.find(b'"', 10)]
    else:
        coded = mapping(parse(payload)).get("bytes")
    if not isinstance(coded, (str, bytes)):
        return None
    try:
        return a2b_base64(coded)
    except ValueError:
        return None


class InvokeFold(Fold):
    """The chunks of one invocation, each an event in the shape of whoever made the model; the last carries metrics."""

    __slots__ = ("_claude", "_raw", "_flat", "_running", "_metrics", "_model", "_seen", "_failed")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._claude: Optional[anthropic.MessageFold] = None
        self._raw: Mapping[str, Any] = {}
        self._flat: Dict[str, int] = {}
        #: the last event that counts so far: unread until the end
        self._running = b""
        self._metrics: Mapping[str, Any] = {}
        self._model: Optional[str] = None
        self._seen = False
        self._failed = False

    def message(self, message: Message) -> bool:
        if exception(message):
            self._failed = True
            return False
        data = inner(message.payload)
        return data is not None and self.event(data)

    def event(self, data: bytes) -> bool:
        first = not self._seen
        for needle in _NEEDLES:
            if needle in data:
                break
        else:
            self._seen = True
            if not first:
                if _RUNNING[0] in data or _RUNNING[1] in data:
                    self._running = data
                return False
        event = mapping(parse(data))
        kind = event.get("type")
        if type(kind) is str and (kind == "error" or kind.startswith("message_")):
            self._claude = self._claude or anthropic.MessageFold(self.facts)
            self._claude.event(data)
        elif event.get("error") and not event.get("choices"):
            self._failed = True
        else:
            self._seen = True
        self._model = self._model or text(event.get("model"))
        self._raw = mapping(event.get("usage") or mapping(event.get("metadata")).get("usage")) or self._raw
        _flat(event, self._flat)
        self._metrics = mapping(event.get(_METRICS))
        if self._metrics:
            self._running = b""
        return bool(self._metrics)

    def unfinished(self) -> bool:
        if self._claude is not None:
            return self._claude.unfinished()
        # The last chunk carries the metrics: what failed before it has counts of a beginning.
        return self._failed and not self._metrics

    def readings(self) -> List[Reading]:
        if self._running:
            _flat(mapping(parse(self._running)), self._flat)
        told: Dict[str, int] = {}
        for name, _, member, _ in COUNTS:
            value = count(self._metrics.get(member))
            if value is not None:
                told[name] = value
        if self._claude is not None:
            readings = self._claude.readings()
        else:
            usage, mismatch = _family(self._raw, self._flat, self.facts)
            if usage is None and not told and self._failed and not self._seen:
                return []
            readings = [Reading(self._model, usage, mismatch=mismatch)]
        return [
            _main(each, told, self.facts, len(readings) == 1) if not at else each for at, each in enumerate(readings)
        ]


INVOKE = Format(
    "bedrock_invoke", None, "usage", ("model", "type", "id"), (), read_invoke,
    (), None, InvokeFold, 0, DOCS + "InvokeModel.html",
    wanted=(b"chunk", b"xception"), model=address,
)  # fmt: skip
VECTORS = INVOKE._replace(
    name="bedrock_embeddings",
    operation="embeddings",
    usage="inputTextTokenCount",
    members=(),
    read=read_vectors,
    bodiless=_in_headers,
)

FORMATS = (INVOKE, VECTORS)
