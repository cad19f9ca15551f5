"""Amazon Bedrock's own counts, and Converse, plain and in AWS event streams.

Owns the arithmetic of these counts, whether a body, headers or metrics hold them: `inputTokens` leaves out what was
read from and written to a cache, so all input is the sum of three. The URL names the model as it is priced there.
If this is wrong, cached traffic is off by an order of magnitude. What InvokeModel answers is read by `bedrock_invoke`.
Definition: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.eventstream import Message, header
from aicostguard.metering.formats import Facts, Fold, Format, RequestBody, is_error, tier
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage, inconsistent

DOCS = "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_"
#: Bedrock's own counts: our name, header, member of the trailing metrics, members of a `usage` in Converse's shape
COUNTS: Tuple[Tuple[str, str, str, Tuple[str, ...]], ...] = (
    ("fresh", "x-amzn-bedrock-input-token-count", "inputTokenCount", ("inputTokens",)),
    ("output", "x-amzn-bedrock-output-token-count", "outputTokenCount", ("outputTokens",)),
    ("read", "x-amzn-bedrock-cache-read-input-token-count", "cacheReadInputTokenCount",
     ("cacheReadInputTokens", "cacheReadInputTokenCount")),
    ("written", "x-amzn-bedrock-cache-write-input-token-count", "cacheWriteInputTokenCount",
     ("cacheWriteInputTokens", "cacheWriteInputTokenCount")),
)  # fmt: skip


def exception(message: Message) -> bool:
    """True for a message that ends the stream with an error."""
    return b"xception" in message.headers and header(message.headers, b":message-type") in ("exception", "error")


def summed(told: Mapping[str, int], hour: Optional[int] = None) -> Optional[Usage]:
    """Counts under the names of `COUNTS` → `Usage`; None without any."""
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
    for name, _, _, members in COUNTS:
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
    usage = summed(told, hour)
    if usage is None:
        return None, False
    total = count(raw.get("totalTokens")) if "fresh" in told and "output" in told else None
    return usage, inconsistent(usage, total) or (hour or 0) > (usage.cache_creation_input_tokens or hour or 0)


def told_by(facts: Facts) -> Dict[str, int]:
    """What the headers of a response count."""
    found: Dict[str, int] = {}
    for name, key, _, _ in COUNTS:
        value = count(facts.header(key), digits=True)
        if value is not None:
            found[name] = value
    return found


def _served(named: object, latency: object) -> Optional[str]:
    """The tier that served. Latency-optimized inference has prices of its own, so it is one:

    https://docs.aws.amazon.com/bedrock/latest/userguide/latency-optimized-inference.html
    """
    return tier(named) or ("optimized" if latency == "optimized" else None)


def tier_of(facts: Facts) -> Optional[str]:
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


CONVERSE = Format(
    "converse", None, "usage", ("serviceTier", "performanceConfig"), (b'"promptRouter"',), read_converse,
    (), None, ConverseFold, 0, DOCS + "TokenUsage.html",
    wanted=(b"metadata", b"xception"), model=address,
)  # fmt: skip

FORMATS = (CONVERSE,)
