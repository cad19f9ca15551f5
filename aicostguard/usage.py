"""What a provider says one call used: the values that flow from metering to receipt, price and budget.

Owns `Usage` and `Reading`. Never holds text of a request or a response. If the meaning of a field here
drifts, every number downstream is wrong while looking right.

The names are those of the OpenTelemetry GenAI conventions. `input_tokens` is *all* input (cached and
written included) and `output_tokens` is *all* output (reasoning included); every other token field is
a part of one of them. `None` means that the provider did not say; it is never the same as 0.
"""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple, Optional

#: token fields that are parts of `input_tokens`
INPUT_PARTS = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "input_video_tokens",
)
#: token fields that are parts of `output_tokens`
OUTPUT_PARTS = ("reasoning_output_tokens", "output_audio_tokens", "output_image_tokens")


class Usage(NamedTuple):
    """Counts of one billed response. Units: tokens, unless the name says otherwise."""

    input_tokens: Optional[int] = None
    output_tokens: Optional[int] = None
    cache_read_input_tokens: Optional[int] = None
    cache_creation_input_tokens: Optional[int] = None
    #: part of `cache_creation_input_tokens` that is kept for an hour
    cache_creation_1h_input_tokens: Optional[int] = None
    reasoning_output_tokens: Optional[int] = None
    input_audio_tokens: Optional[int] = None
    #: part of both `cache_read_input_tokens` and `input_audio_tokens`
    cache_read_audio_tokens: Optional[int] = None
    output_audio_tokens: Optional[int] = None
    input_image_tokens: Optional[int] = None
    output_image_tokens: Optional[int] = None
    input_video_tokens: Optional[int] = None
    web_searches: Optional[int] = None
    tool_calls_billed: Optional[int] = None
    search_units: Optional[int] = None
    characters: Optional[int] = None
    #: milliseconds of audio
    audio_ms: Optional[int] = None
    images: Optional[int] = None
    #: milliseconds of video
    video_ms: Optional[int] = None
    requests_billed: Optional[int] = None
    #: what the provider itself says the call cost, in nano-dollars
    reported_cost_nanousd: Optional[int] = None


class Reading(NamedTuple):
    """One billed response as the meter read it: what becomes one receipt.

    `usage` is None when the response is billable but names no tokens (`usage_missing` on the receipt).
    `response_id` is the provider's id of the response, used inside the process to bill a response that is
    fetched again only once; it is never sent. `pending` marks a response that is not finished (a queued
    background response): not a receipt yet, but its ids have to be remembered.
    `mismatch` says that the parts do not add up to the provider's own total; such a receipt is marked
    estimated, because nobody can tell which of the two is right.
    """

    model: Optional[str]
    usage: Optional[Usage]
    provider: Optional[str] = None
    operation: Optional[str] = None
    service_tier: Optional[str] = None
    region: Optional[str] = None
    streamed: bool = False
    partial: bool = False
    mismatch: bool = False
    response_id: Optional[str] = None
    pending: bool = False
    #: another id under which the same response can be met (a stream of its own)
    also: Optional[str] = None
    #: it has ended, and bills nothing: no receipt, but whoever remembers its id need not wait any more
    void: bool = False


# C code picks the parts and finds the largest: this runs on the caller's thread, for every response.
_input_parts = itemgetter(*(Usage._fields.index(name) for name in INPUT_PARTS))
_output_parts = itemgetter(*(Usage._fields.index(name) for name in OUTPUT_PARTS))


def inconsistent(usage: Usage, reported_total: Optional[int] = None) -> bool:
    """True when a part exceeds its whole, or input + output is not the provider's own total."""
    whole_in, whole_out = usage[0], usage[1]
    if reported_total is not None and (whole_in or 0) + (whole_out or 0) != reported_total:
        return True
    if not any(usage[2:]):  # no parts, as in most
        return False
    if whole_in is not None and max(filter(None, _input_parts(usage)), default=0) > whole_in:
        return True
    return whole_out is not None and max(filter(None, _output_parts(usage)), default=0) > whole_out
