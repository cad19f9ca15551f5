"""Amazon Bedrock's runtime: Converse, and InvokeModel for every family of models, plain and in AWS event streams.

Owns where Bedrock says what a call used: the body in the shape of the model's own maker, else the headers
`x-amzn-bedrock-*-token-count`, else the metrics in the last message of a stream. In Bedrock's own counts
`inputTokens` leaves out what was read from and written to a cache, so all input is the sum of three. The URL names
the model as it is priced there. If this is wrong, cached traffic is off by an order of magnitude. Definitions:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, …/API_runtime_InvokeModel.html
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering import anthropic, openai
from aicostguard.metering.eventstream import Message, header
from aicostguard.metering.formats import Facts, Fold, Format, RequestBody, is_error, tier
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage, inconsistent

_DOCS = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_"
#: Bedrock's own counts: our name, header, member of the trailing metrics, members of a `usage` in Converse's shape
_COUNTS: Tuple[Tuple[str, str, str, Tuple[str, ...]], ...] = (
    ("fresh", "x-amzn-bedrock-input-token-count", "inputTokenCount", ("inputTokens",)),
    ("output", "x-amzn-bedrock-output-token-count", "outputTokenCount", ("outputTokens",)),
    ("read", "x-amzn-bedrock-cache-read-input-token-count", "cacheReadInputTokenCount",
     ("cacheReadInputTokens", "cacheReadInputTokenCount")),
    ("written", "x-amzn-bedrock-cache-write-input-token-count", "cacheWriteInputTokenCount",
     ("cacheWriteInputTokens", "cacheWriteInputTokenCount")),
)  # fmt: skip
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


def exception(message: Message) -> bool:
    """True for a message that ends the stream with an error."""
    return b"xception" in message.headers and header(message.headers, b":message-type") in ("exception", "error")


def _usage(told: Mapping[str, int], hour: Optional[int] = None) -> Optional[Usage]:
    """Counts under the names of `_COUNTS` → `Usage`; None without any."""
    if not told:
        return None
    fresh, read, written = told.get("fresh"), told.get("read"), told.get("written")
    whole = (fresh or 0) + (read or 0) + (written or 0)
    return Usage(
        input_tokens=whole if fresh is not None or whole else None,
        output_tokens=told.get("output"),
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        cache_creation_1h_input_tokens=hour,
    )


def usage_of(raw: Mapping[str, Any]) -> Tuple[Optional[Usage], bool]:
    """A `TokenUsage`: `(Usage, do the parts contradict totalTokens?)`; `(None, False)` when it has no counts."""
    told: Dict[str, int] = {}
    for name, _, _, members in _COUNTS:
        for member in members:
            value = count(raw.get(member))
            if value is not None:
                told[name] = value
                break
    # Writes by how long they are kept: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CacheDetail.html
    hour: Optional[int] = None
    details = raw.get("cacheDetails")
    for detail in details if type(details) is list else []:
        kept = count(mapping(detail).get("inputTokens"))
        if kept is not None and mapping(detail).get("ttl") == "1h":
            hour = (hour or 0) + kept
    usage = _usage(told, hour)
    if usage is None:
        return None, False
    total = count(raw.get("totalTokens")) if "fresh" in told and "output" in told else None
    return usage, inconsistent(usage, total) or (hour or 0) > (usage.cache_creation_input_tokens or hour or 0)


def _told(facts: Facts) -> Dict[str, int]:
    """What the headers of a response count."""
    found: Dict[str, int] = {}
    for name, key, _, _ in _COUNTS:
        value = count(facts.header(key), digits=True)
        if value is not None:
            found[name] = value
    return found


def _served(named: object, latency: object) -> Optional[str]:
    """The tier that served. Latency-optimized inference has prices of its own, so it is one:

    https://docs.aws.amazon.com/bedrock/latest/userguide/latency-optimized-inference.html
    """
    return tier(named) or ("optimized" if latency == "optimized" else None)


def _tier_of(facts: Facts) -> Optional[str]:
    return _served(
        facts.header("x-amzn-bedrock-service-tier"), facts.header("x-amzn-bedrock-performanceconfig-latency")
    )


def address(said: Optional[str], url: Optional[str], request: RequestBody) -> Optional[str]:
    """The model's name: the response's, unless the URL names the same model more exactly.

    `global.anthropic.claude-x-20260101-v1:0` says which profile served `claude-x-20260101`, and profiles differ in
    price. A profile, router or endpoint of the user's own has a name without meaning: there the response knows better.
    """
    if said is None or url is None:
        return said or url
    own = re.escape(said)
    return url if re.search(r"(^|[/.])%s(-v\d+)?(:\d+)?(:\d+k)?\Z" % own, url) else said


# --- Converse ------------------------------------------------------------------------------------------------------


def _conversed(body: Mapping[str, Any]) -> Reading:
    """A ConverseResponse, or the metadata of a ConverseStream: both name the same members."""
    usage, mismatch = usage_of(mapping(body.get("usage")))
    router = mapping(mapping(body.get("trace")).get("promptRouter"))
    return Reading(
        model=text(router.get("invokedModelId")),
        usage=usage,
        service_tier=_served(
            mapping(body.get("serviceTier")).get("type"), mapping(body.get("performanceConfig")).get("latency")
        ),
        mismatch=mismatch,
    )


def read_converse(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A conversation's turn, whole."""
    return [] if is_error(body, "usage", "output") else [_conversed(body)]


class ConverseFold(Fold):
    """The messages of a turn: the last, `metadata`, holds the usage; all others are passed over unread."""

    __slots__ = ("_metadata", "_failed")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._metadata: Mapping[str, Any] = {}
        #: how many messages came before an exception
        self._failed: Optional[int] = None

    def message(self, message: Message) -> bool:
        if exception(message):
            self._failed = message.before
        elif header(message.headers, b":event-type") == "metadata":
            self._metadata = mapping(parse(message.payload))
        return bool(self._metadata)

    def unfinished(self) -> bool:
        return not self._metadata

    def readings(self) -> List[Reading]:
        # `messageStart` comes first and says nothing: an exception behind it alone came before the first token.
        if not self._metadata and self._failed is not None and self._failed <= 1:
            return []
        return [_conversed(self._metadata)]


# --- InvokeModel ---------------------------------------------------------------------------------------------------


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
    own = _usage(told)
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
        service_tier=_tier_of(facts) or reading.service_tier,
        mismatch=reading.mismatch or other or (usage is not None and inconsistent(usage)),
    )


def read_invoke(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """What a model answered, whole, in its maker's shape."""
    told = _told(facts)
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
    usage = _no_output(_filled(Usage(**flat) if flat else None, _told(facts)))
    return [] if usage is None and is_error(body, *_VECTORS) else [Reading(None, usage, service_tier=_tier_of(facts))]


def _in_headers(facts: Facts) -> bool:
    return "fresh" in _told(facts)


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
        return self._claude is not None and self._claude.unfinished()

    def readings(self) -> List[Reading]:
        if self._running:
            _flat(mapping(parse(self._running)), self._flat)
        told: Dict[str, int] = {}
        for name, _, member, _ in _COUNTS:
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


CONVERSE = Format(
    "converse", None, "usage", ("serviceTier", "performanceConfig"), (b'"promptRouter"',), read_converse,
    (), None, ConverseFold, 0, _DOCS + "TokenUsage.html",
    wanted=(b"metadata", b"xception"), model=address,
)  # fmt: skip
INVOKE = Format(
    "bedrock_invoke", None, "usage", ("model", "type", "id"), (), read_invoke,
    (), None, InvokeFold, 0, _DOCS + "InvokeModel.html",
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

FORMATS = (CONVERSE, INVOKE, VECTORS)
