"""OpenAI's Responses: created, streamed, in the background, and fetched again.

Owns when a response is billable. Creating one bills it, unless it was only queued; then the first retrieval
that finds it finished does. A retrieval yields a reading under the format `responses_get`, and capture bills
it only if its id is remembered as pending. If this is wrong, calls are billed twice or never.
Definition: https://developers.openai.com/api/reference/resources/responses
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

from aicostguard.metering.formats import Facts, Fold, Format, is_error, over, tier
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading

#: https://developers.openai.com/api/docs/guides/background
_UNFINISHED = ("queued", "in_progress")
_TERMINAL = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"', b'"response.cancelled"')
_TERMINAL_TYPES = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
#: items of `output` that OpenAI bills by the call: https://developers.openai.com/api/docs/pricing
_BILLED_TOOLS = ("file_search_call",)


def read_response(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A response object, whole: of a POST, of a retrieval, or inside a terminal event."""
    status = body.get("status")
    usage, mismatch = usage_of(body.get("usage"), facts)
    # Failed or cancelled before a token: `usage` is null and nothing is billed.
    if usage is None and (body.get("error") or status in ("failed", "cancelled")):
        return over(body.get("id"), facts) if status in ("failed", "cancelled") else []
    reading = Reading(
        model=text(body.get("model")),
        usage=usage,
        service_tier=tier(body.get("service_tier")),
        mismatch=mismatch,
        response_id=text(body.get("id")),
        pending=status in _UNFINISHED,
    )
    if usage is None:
        return [reading]
    searches = _searches(body)
    if searches is not None:
        usage = usage._replace(web_searches=searches)
    tools = _calls(body, _BILLED_TOOLS)
    if tools:
        usage = usage._replace(tool_calls_billed=tools)
    return [reading._replace(usage=usage), *_images(body, facts, reading)]


def _items(body: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    output = body.get("output")
    return [item for item in output if type(item) is dict] if type(output) is list else []


def _calls(body: Mapping[str, Any], kinds: Tuple[str, ...]) -> int:
    return sum(1 for item in _items(body) if item.get("type") in kinds)


def _searches(body: Mapping[str, Any]) -> Optional[int]:
    """Web searches made: the provider's own count, else the search calls in the output.

    Opening a page or looking through it costs no fee:
    https://developers.openai.com/api/docs/guides/tools-web-search
    """
    told = count(mapping(mapping(body.get("tool_usage")).get("web_search")).get("num_requests"))
    made = 0
    for item in _items(body):
        if item.get("type") == "web_search_call":
            action = mapping(item.get("action")).get("type")
            made += action in (None, "search")
    return told if told is not None else made or None


def _images(body: Mapping[str, Any], facts: Facts, main: Reading) -> List[Reading]:
    """The image tool runs another model, whose tokens are outside `usage`: a reading of its own."""
    raw = mapping(body.get("tool_usage")).get("image_gen")
    usage, mismatch = usage_of(raw, facts)
    if usage is None or not (usage.input_tokens or usage.output_tokens):
        return []
    model = ""
    tools = body.get("tools")
    for tool in tools if type(tools) is list else []:
        if mapping(tool).get("type") == "image_generation":
            model = text(mapping(tool).get("model")) or ""
    return [main._replace(model=model, usage=usage, operation="image", mismatch=mismatch)]


class ResponsesFold(Fold):
    """The events of a streamed response: the terminal one holds the response whole."""

    __slots__ = ("_first", "_last", "_error")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._first: Optional[bytes] = None
        self._last: Optional[Mapping[str, Any]] = None
        self._error = False

    def event(self, data: bytes) -> bool:
        if b'"response":' not in data:
            if b'"error"' in data and mapping(parse(data)).get("type") == "error":
                self._error = True
            return False
        if any(name in data for name in _TERMINAL):
            event = mapping(parse(data))
            if event.get("type") in _TERMINAL_TYPES and type(event.get("response")) is dict:
                self._last = event["response"]
                return True
        if self._first is None:
            self._first = data
        return False

    def unfinished(self) -> bool:
        return self._first is not None

    def readings(self) -> List[Reading]:
        if self._last is not None:
            return read_response(self._last, self.facts)
        first = mapping(mapping(parse(self._first or b"")).get("response"))
        if (self._error and not first) or is_error(first):
            return []
        reading = Reading(model=text(first.get("model")), usage=None, response_id=text(first.get("id")))
        # A background response goes on without its stream; a retrieval will tell what it cost.
        return [reading._replace(pending=first.get("background") is True)]


_MEMBERS = ("tool_usage", "status", "model", "id", "service_tier", "error")
# The image tool's model is named among the tools.
_MARKS = (b'_search_call"', b'"image_generation"')

RESPONSES = Format(
    "responses", None, "usage", _MEMBERS, _MARKS, read_response, (b'"response":', b'"error"'), None, ResponsesFold, 1,
    "https://developers.openai.com/api/reference/resources/responses",
)  # fmt: skip
RESPONSES_GET = RESPONSES._replace(name="responses_get")


def read_deleted(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Work that was taken away, of whatever kind: one that was not finished may be billed, and nobody can ask any more
    for what. The address says which."""
    return [Reading(model=None, usage=None)]


DELETED = RESPONSES._replace(name="deleted", usage="id", members=(), marks=(), read=read_deleted)

FORMATS = (RESPONSES, RESPONSES_GET, DELETED)
