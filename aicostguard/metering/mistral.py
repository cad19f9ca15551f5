"""Mistral's own paths: documents, conversations with agents, moderation; and xAI's deferred completions.

Owns what they count beyond OpenAI's shapes. Pages of documents have no key on a receipt, so a document is billed
without figures: shown as such, never as zero.
"""

from __future__ import annotations

from typing import Any, List, Mapping

from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.media import ImageFold, _LastFold
from aicostguard.metering.openai import CompletionFold, read_completion, usage_of
from aicostguard.metering.values import count, mapping, text
from aicostguard.usage import Reading

#: connectors that are billed by the call, and what a receipt calls them: https://mistral.ai/pricing
_SEARCHES = ("web_search", "web_search_premium")


def read_ocr(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A document read: billed by the page (`usage_info.pages_processed`). https://docs.mistral.ai/api/ (ocr)"""
    if is_error(body, "usage_info", "pages"):
        return []
    return [Reading(text(body.get("model")), None)]


def _conversation(raw: object, model: object, facts: Facts) -> Reading:
    """Usage of agents: `connector_tokens` are input beyond `prompt_tokens`, and the total counts them.

    https://docs.mistral.ai/api/ (ConversationUsageInfo)
    """
    told = dict(mapping(raw))
    extra = count(told.get("connector_tokens"))
    if extra and count(told.get("prompt_tokens")) is not None:
        told["prompt_tokens"] += extra
    usage, mismatch = usage_of(told, facts)
    for name, value in mapping(told.get("connectors")).items():
        number = count(value)
        if number and usage is not None:
            field = "web_searches" if name in _SEARCHES else "tool_calls_billed"
            usage = usage._replace(**{field: (getattr(usage, field) or 0) + number})
    return Reading(text(model), usage, mismatch=mismatch)


def read_conversation(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """One turn of a conversation, whole."""
    if is_error(body, "usage", "outputs"):
        return []
    return [_conversation(body.get("usage"), body.get("model"), facts)]


class ConversationFold(_LastFold):
    """`conversation.response.started`, deltas, `conversation.response.done`."""

    __slots__ = ()
    ENDING = "conversation.response.done"

    def one(self, event: Mapping[str, Any]) -> Reading:
        return _conversation(event.get("usage"), event.get("model"), self.facts)


def read_moderation(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A classification: usage where the host names it."""
    if is_error(body, "results", "usage"):
        return []
    usage, mismatch = usage_of(body.get("usage"), facts)
    if usage is not None and usage.output_tokens is None:
        usage = usage._replace(output_tokens=0)
    return [Reading(text(body.get("model")), usage, mismatch=mismatch)]


def read_deferred(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A deferred completion, polled: an empty body until it is there. https://docs.x.ai/docs/guides/deferred-chat-completions"""
    return read_completion(body, facts) if body.get("choices") or body.get("usage") else []


_DOCS = "https://docs.mistral.ai/api/"

OCR = Format("ocr", None, "usage_info", ("model", "error"), (), read_ocr, (b'"error"',), None, ImageFold, 0, _DOCS)
CONVERSATION = Format(
    "conversation", None, "usage", ("model", "error"), (), read_conversation,
    (b'.done"', b'"error"'), b"[DONE]", ConversationFold, 1, _DOCS,
)  # fmt: skip
MODERATION = Format(
    "moderation",
    "moderation",
    "usage",
    ("model", "error"),
    (),
    read_moderation,
    (b'"error"',),
    None,
    ImageFold,
    0,
    _DOCS,
)
DEFERRED = Format(
    "deferred", None, "usage", ("model", "id", "service_tier", "choices"), (), read_deferred, (b'_tokens"',), b"[DONE]",
    CompletionFold, 0, "https://docs.x.ai/docs/guides/deferred-chat-completions",
)  # fmt: skip

FORMATS = (OCR, CONVERSATION, MODERATION, DEFERRED)
