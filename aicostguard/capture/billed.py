"""What one reading of a call says on its receipt.

Owns which key each part of a reading goes under, and what is noted and told of a reading that says too little. Pure but
for that. If it is wrong, a receipt says another thing than the provider did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from aicostguard import receipt
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.usage import Reading

if TYPE_CHECKING:
    from aicostguard.capture.call import Call

_ASK_FOR_IT = (
    " OpenAI-style chat streams report it when asked: stream_options={'include_usage': True}, or "
    "AICG_STREAM_USAGE=request%s."
)

#: the part of a `Reading` that says more than what every receipt has, and how it looks where it says nothing
_BESIDE = slice(Reading._fields.index("operation"), Reading._fields.index("mismatch") + 1)
_NOTHING_BESIDE = Reading(None, None)[_BESIDE]


def receipt_of(call: Call, reading: Reading, now: float) -> receipt.Receipt:
    """The receipt of what was read at `now`."""
    more: Dict[str, Any] = {
        **call.labels,
        "latency_ms": max(0, round((now - call.started) * 1000)),  # a virtual machine may set its clock back
        "feature": call.feature,
    }
    if reading[_BESIDE] != _NOTHING_BESIDE:
        _beside(call, reading, more)
    if call.logical is not None and call.logical.attempts > 1:
        more["attempts"] = call.logical.attempts
    if reading.usage is None:
        more["usage_missing"] = True
        _missing(call, reading)
    provider = reading.provider or call.endpoint.provider
    made, replaced = receipt.build(provider, reading.model, reading.usage, more, state.salt)
    if replaced:
        health.note("replaced", replaced)
    return made


def _beside(call: Call, reading: Reading, more: Dict[str, Any]) -> None:
    """What a reading says beside model and usage. Only what says something: each key costs the caller a look."""
    if reading.operation is not None:
        more["operation"] = reading.operation
    if reading.service_tier is not None:
        more["service_tier"] = reading.service_tier
    if reading.region is not None:
        more["region"] = reading.region
    if reading.streamed:
        more["streamed"] = True
        if call.first is not None:
            more["ttft_ms"] = max(0, round((call.first - call.started) * 1000))
    if reading.partial:
        more["partial"] = True
    if call.cut is not None:
        more["estimated"] = True
    if reading.mismatch:
        more["estimated"] = True
        health.note("mismatch")


def _missing(call: Call, reading: Reading) -> None:
    health.note("usage_missing")
    if reading.streamed and not reading.partial:
        # Cleaned, as on the receipt: a warning goes to logs and to the status file.
        site = receipt.clean_label(call.feature, state.salt)[0] or "this program"
        # Other formats have nothing to ask with.
        hint = _ASK_FOR_IT % (" (which could not ask here)" if state.ask else "") if _could_ask(call) else ""
        # Whether the estimate succeeds is known later, on another thread.
        known = "an estimate at best" if call.may_be_estimated else "not known"
        health.warn(
            "stream-without-usage:%s:%s" % (call.endpoint.provider, site),
            "aicostguard: a stream from %s in %s carried no usage, so its cost is %s.%s"
            % (call.endpoint.provider, site, known, hint),
        )


def _could_ask(call: Call) -> bool:
    return call.endpoint.format in ("chat", "completions", "watsonx_chat")
