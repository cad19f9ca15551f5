"""Anthropic's messages, at Anthropic, on Vertex, on Bedrock and behind gateways.

Owns the arithmetic of Anthropic's `usage`: `input_tokens` there leaves out cache reads and writes, so all
input is the sum of three; `output_tokens` holds thinking. If the sum is wrong, cached traffic is off by an
order of magnitude. Definition: https://platform.claude.com/docs/en/api/messages (usage)
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from aicostguard.metering.formats import Facts, Fold, Format, is_error, tier
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage, inconsistent

#: steps that run beside the message and are left out of the top level of `usage`; an advisor is another model.
#: https://platform.claude.com/docs/en/build-with-claude/compaction, …/agents-and-tools/tool-use/advisor-tool
_SIDE_STEPS = ("compaction", "advisor_message")
#: https://platform.claude.com/docs/en/build-with-claude/data-residency: what is no place
_NO_PLACE = ("not_available", "global", "")


def usage_of(raw: Mapping[str, Any]) -> Optional[Usage]:
    """One `usage` object, or one of its `iterations`; None when it has no counts."""
    fresh, output = count(raw.get("input_tokens")), count(raw.get("output_tokens"))
    read = count(raw.get("cache_read_input_tokens"))
    split = mapping(raw.get("cache_creation"))
    five, hour = count(split.get("ephemeral_5m_input_tokens")), count(split.get("ephemeral_1h_input_tokens"))
    written = count(raw.get("cache_creation_input_tokens"))
    if written is None and (five is not None or hour is not None):
        written = (five or 0) + (hour or 0)
    if fresh is None and output is None and read is None and written is None:
        return None
    total = None if fresh is None and not read and not written else (fresh or 0) + (read or 0) + (written or 0)
    thinking = count(mapping(raw.get("output_tokens_details")).get("thinking_tokens"))
    searches = count(mapping(raw.get("server_tool_use")).get("web_search_requests"))
    return Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        cache_creation_1h_input_tokens=hour,
        reasoning_output_tokens=thinking,
        web_searches=searches,
    )


def _mismatch(usage: Optional[Usage]) -> bool:
    if usage is None:
        return False
    hour, written = usage.cache_creation_1h_input_tokens, usage.cache_creation_input_tokens
    return inconsistent(usage) or (hour is not None and written is not None and hour > written)


def _served(raw: Mapping[str, Any]) -> Optional[str]:
    named = tier(raw.get("service_tier"))
    # Fast mode has prices of its own: https://platform.claude.com/docs/en/build-with-claude/fast-mode
    return named or ("fast" if raw.get("speed") == "fast" else None)


def _region(raw: Mapping[str, Any]) -> Optional[str]:
    place = text(raw.get("inference_geo"))
    return None if place is None or place.lower() in _NO_PLACE else place.lower()


def readings_of(message: Mapping[str, Any], raw: Mapping[str, Any]) -> List[Reading]:
    """The message's own reading, and one for each step beside it."""
    usage = usage_of(raw)
    main = Reading(
        model=text(message.get("model")),
        usage=usage,
        service_tier=_served(raw),
        region=_region(raw),
        mismatch=_mismatch(usage),
        response_id=text(message.get("id")),
    )
    readings = [main]
    steps = raw.get("iterations")
    for step in steps if type(steps) is list else []:
        if mapping(step).get("type") not in _SIDE_STEPS:
            continue
        beside = usage_of(step)
        if beside is not None:
            readings.append(
                main._replace(model=text(step.get("model")) or main.model, usage=beside, mismatch=_mismatch(beside))
            )
    return readings


def read_message(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A message, whole."""
    if body.get("type") == "error" or is_error(body, "usage", "content", "completion"):
        return []
    return readings_of(body, mapping(body.get("usage")))


class MessageFold(Fold):
    """The events of a streamed message.

    `message_start` holds the usage so far, and every `message_delta` the cumulative figures that changed: what a
    delta names replaces what was known. https://platform.claude.com/docs/en/build-with-claude/streaming
    """

    __slots__ = ("_message", "_usage", "_error", "_content", "_open")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._message: Mapping[str, Any] = {}
        self._usage: Dict[str, Any] = {}
        self._error = False
        self._content = False
        #: a message began and its final figures have not come: `message_start` counts one output token
        self._open = False

    def event(self, data: bytes) -> bool:
        event = mapping(parse(data))
        kind = event.get("type")
        if kind == "message_start":
            self._message = mapping(event.get("message"))
            self._overlay(self._message.get("usage"))
            self._open = True
        elif kind == "message_delta":
            self._overlay(event.get("usage"))
            self._open = False
        elif kind == "error":
            self._error = True
        elif kind is None and text(event.get("completion")) is not None:
            self._content = True
        return kind == "message_stop"

    def _overlay(self, raw: object) -> None:
        for key, value in mapping(raw).items():
            if value is not None:
                self._usage[key] = value

    def unfinished(self) -> bool:
        return self._open

    def readings(self) -> List[Reading]:
        if self._error and not self._message and not self._content and usage_of(self._usage) is None:
            return []
        return readings_of(self._message, self._usage)


class CompleteFold(Fold):
    """The events of a streamed text completion. The last one has a `stop_reason`."""

    __slots__ = ("_model", "_id", "_content", "_over")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._model: Optional[str] = None
        self._id: Optional[str] = None
        self._content = False
        self._over = False

    def event(self, data: bytes) -> bool:
        if self._content and b'"stop_reason":null' in data:
            return False
        event = mapping(parse(data))
        if text(event.get("model")) is not None:
            self._content = True
            self._model, self._id = text(event.get("model")), text(event.get("id"))
            self._over = text(event.get("stop_reason")) is not None
        return self._over

    def unfinished(self) -> bool:
        return not self._over

    def readings(self) -> List[Reading]:
        return [Reading(self._model, None, response_id=self._id)] if self._content else []


MESSAGES = Format(
    "messages", None, "usage", ("model", "id", "type"), (), read_message,
    (b'"message_', b'"error"'), None, MessageFold, 1,
    "https://platform.claude.com/docs/en/api/messages",
)  # fmt: skip

#: the text completions of Claude 2, which never named a usage: https://platform.claude.com/docs/en/api/completions
COMPLETE = MESSAGES._replace(
    name="complete",
    needles=(b'"completion"', b'"error"'),
    fold=CompleteFold,
    docs="https://platform.claude.com/docs/en/api/completions",
)

FORMATS = (MESSAGES, COMPLETE)
