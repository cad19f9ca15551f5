"""Google's interactions: created, streamed, in the background, and fetched again; and decisions, which count the same.

Owns the arithmetic of their usage. All input is `total_input_tokens` (which holds what was cached) plus the tokens
of tool results; all output is `total_output_tokens` plus the thoughts. One in the background is pending until
a poll finds its usage. Definition: https://ai.google.dev/api/interactions-api (Usage)
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.formats import Facts, Fold, Format, is_error, over, tier
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage, inconsistent

_UNFINISHED = ("queued", "in_progress", "requires_continuation")
#: list of `{modality, tokens}` → modality → field
_BY_MODALITY: Dict[str, Dict[str, str]] = {
    "input_tokens_by_modality": {
        "audio": "input_audio_tokens", "image": "input_image_tokens", "video": "input_video_tokens",
    },
    "tool_use_tokens_by_modality": {
        "audio": "input_audio_tokens", "image": "input_image_tokens", "video": "input_video_tokens",
    },
    "cached_tokens_by_modality": {"audio": "cache_read_audio_tokens"},
    "output_tokens_by_modality": {"audio": "output_audio_tokens", "image": "output_image_tokens"},
}  # fmt: skip
#: tiers with prices of their own: https://ai.google.dev/gemini-api/docs/pricing
_TIERS = ("flex", "priority", "deferred")


def usage_of(raw: Mapping[str, Any]) -> Tuple[Optional[Usage], bool]:
    """`(Usage, do the parts contradict total_tokens?)`; `(None, False)` when there are no counts."""
    prompt, tools = count(raw.get("total_input_tokens")), count(raw.get("total_tool_use_tokens"))
    answer, thoughts = count(raw.get("total_output_tokens")), count(raw.get("total_thought_tokens"))
    found: Dict[str, int] = {}
    if prompt is not None or tools is not None:
        found["input_tokens"] = (prompt or 0) + (tools or 0)
    if answer is not None or thoughts is not None:
        found["output_tokens"] = (answer or 0) + (thoughts or 0)
    if not found:
        return None, False
    for field, value in (
        ("cache_read_input_tokens", raw.get("total_cached_tokens")),
        ("reasoning_output_tokens", thoughts),
    ):
        number = count(value)
        if number is not None:
            found[field] = number
    for key, fields in _BY_MODALITY.items():
        rows = raw.get(key)
        for row in rows if type(rows) is list else []:
            modality = text(mapping(row).get("modality")) or ""
            number, part = count(mapping(row).get("tokens")), fields.get(modality.lower())
            if part is not None and number is not None:
                found[part] = found.get(part, 0) + number
    tallies = raw.get("grounding_tool_count")
    for tally in tallies if type(tallies) is list else []:
        number = count(mapping(tally).get("count"))
        if number:
            field = "web_searches" if mapping(tally).get("type") == "google_search" else "tool_calls_billed"
            found[field] = found.get(field, 0) + number
    usage = Usage(**found)
    whole = (
        count(raw.get("total_tokens")) if usage.input_tokens is not None and usage.output_tokens is not None else None
    )
    return usage, inconsistent(usage, whole)


def read_interaction(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """An interaction, whole: of a POST, of a poll, or inside the last event. One that failed without usage is free."""
    usage, mismatch = usage_of(mapping(body.get("usage")))
    status = body.get("status")
    if usage is None and (is_error(body, "steps", "outputs", "answers") or status in ("failed", "cancelled")):
        return over(body.get("id"), facts) if status in ("failed", "cancelled") else []
    served = tier(body.get("service_tier"))
    return [
        Reading(
            # An agent is told instead of a model.
            model=text(body.get("model")) or text(body.get("agent")),
            usage=usage,
            service_tier=served if served in _TIERS else None,
            mismatch=mismatch,
            response_id=text(body.get("id")),
            pending=status in _UNFINISHED,
        )
    ]


class InteractionFold(Fold):
    """The events of a stream: `interaction.created`, steps, and `interaction.completed`, which holds the usage."""

    __slots__ = ("_first", "_last", "_error")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._first: Optional[bytes] = None
        self._last: Optional[Mapping[str, Any]] = None
        self._error = False

    def event(self, data: bytes) -> bool:
        if b'"interaction"' not in data:
            if b'"error"' in data and mapping(parse(data)).get("event_type") == "error":
                self._error = True
            return False
        event = mapping(parse(data))
        kind, interaction = text(event.get("event_type")) or "", event.get("interaction")
        if type(interaction) is dict and kind.startswith("interaction.complete"):
            self._last = interaction
            return True
        if self._first is None and type(interaction) is dict:
            self._first = data
        return False

    def unfinished(self) -> bool:
        return self._first is not None

    def readings(self) -> List[Reading]:
        if self._last is not None:
            return read_interaction(self._last, self.facts)
        first = mapping(mapping(parse(self._first or b"")).get("interaction"))
        if self._error and not first:
            return []
        reading = Reading(text(first.get("model")) or text(first.get("agent")), None, response_id=text(first.get("id")))
        asked = mapping(parse(self.facts.request() or b""))
        # In the background it goes on without its stream; a poll will tell what it cost.
        return [reading._replace(pending=asked.get("background") is True and bool(reading.response_id))]


INTERACTIONS = Format(
    "interactions", None, "usage", ("status", "model", "agent", "id", "service_tier", "error"), (), read_interaction,
    (b'"interaction"', b'"error"'), b"[DONE]", InteractionFold, 1, "https://ai.google.dev/api/interactions-api",
)  # fmt: skip
INTERACTIONS_GET = INTERACTIONS._replace(name="interactions_get")

FORMATS = (INTERACTIONS, INTERACTIONS_GET)
