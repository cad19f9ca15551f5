"""Hugging Face's text-generation-inference, and the tasks beside it.

Owns `details`, which a request asks for: `generated_tokens` is all output, of every sequence that was made;
`input_length`, or the list of the prompt's tokens, is the input, where the server gives one of them. A task that
is no text generation answers without counts. Definition: https://huggingface.github.io/text-generation-inference/
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.values import count, mapping, parse
from aicostguard.usage import Reading, Usage


def usage_of(details: Mapping[str, Any]) -> Optional[Usage]:
    """The counts of one answer's `details`."""
    output = count(details.get("generated_tokens"))
    if output is None:
        return None
    others = details.get("best_of_sequences")
    for sequence in others if type(others) is list else []:
        output += count(mapping(sequence).get("generated_tokens")) or 0
    prefill = details.get("prefill")
    length = count(details.get("input_length"))
    if length is None and type(prefill) is list and prefill:
        length = len(prefill)
    return Usage(input_tokens=length, output_tokens=output)


def _last(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    usage = usage_of(mapping(event.get("details")))
    return None if usage is None else Reading(None, usage)


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """One answer."""
    if is_error(body, "generated_text", "details"):
        return []
    return [_last(body, facts) or Reading(None, None)]


def read_array(body: bytes, facts: Facts) -> List[Reading]:
    """Several answers; also vectors, labels and the like, which hold no counts and are not parsed."""
    if b'"generated_tokens"' not in body:
        return [Reading(None, None)]
    answers = parse(body)
    usages = [usage_of(mapping(mapping(item).get("details"))) for item in answers if item] if answers else []
    found = [usage for usage in usages if usage is not None]
    if not found:
        return [Reading(None, None)]
    inputs = [usage.input_tokens for usage in found]
    # The sum of what only some of them say would be no one's input.
    known = [number for number in inputs if number is not None]
    return [
        Reading(
            None,
            Usage(
                input_tokens=sum(known) if len(known) == len(inputs) else None,
                output_tokens=sum(usage.output_tokens or 0 for usage in found),
            ),
        )
    ]


TGI = Format(
    "tgi", None, "details", ("error", "generated_text"), (), read, (b'"generated_tokens"', b'"error"'), b"[DONE]",
    single(_last), 1, "https://huggingface.github.io/text-generation-inference/", array=read_array,
)  # fmt: skip

FORMATS = (TGI,)
