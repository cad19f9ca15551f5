"""What a row of the table of providers is.

Owns the columns, and what each value in them means. Never holds a row: those are in `providers` and `native_rows`.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

#: whether `completion_tokens` holds the reasoning tokens
INCLUDED = "included"  # yes
BY_TOTAL = "by_total"  # no, when the provider's own total is prompt + completion + reasoning
REMAINDER = "remainder"  # no, and they are not named: what the total has beyond prompt + completion
SEPARATE = "separate"  # no, and the total leaves them out

#: what a host has of which no more is known than that it follows OpenAI
OPENAI_FORMATS = ("chat", "completions", "embeddings", "responses", "images", "transcription", "speech")


class Path(NamedTuple):
    """One path of a provider's own. `pattern` is searched in the path.

    Its group `model` names the model, its group `id` a response that is fetched. `format` is a row of
    `table.MODULES`, or "" for what never bills. `anywhere`: nobody else has such a path, so at a host that only
    `AICG_HOSTS` or an SDK names it tells the provider.
    """

    pattern: str
    format: str
    method: str = "POST"
    anywhere: bool = False


class Provider(NamedTuple):
    """One row. The columns behind `formats` hold for the OpenAI-shaped formats of the provider."""

    #: value of `provider` on the receipt
    name: str
    #: hosts; a `*` stands for any text
    hosts: Tuple[str, ...]
    #: formats found by the end of the path
    formats: Tuple[str, ...] = OPENAI_FORMATS
    #: on a host with other services: a path must begin with one of these to be AI
    within: Tuple[str, ...] = ()
    reasoning: str = INCLUDED
    #: members of `usage` that are input beyond `prompt_tokens`
    more_input: Tuple[str, ...] = ()
    #: where `usage` names the cost of the call, and how many of its units are one dollar
    cost: Tuple[str, ...] = ()
    cost_units: int = 1
    #: endings of paths that cost nothing here, besides those of `endpoints`
    free: Tuple[str, ...] = ()
    #: paths of the provider's own, asked before the ends of paths that `formats` stands for
    paths: Tuple[Path, ...] = ()
    #: ports that are as good as a name: who listens there at a host that nobody knows is this provider
    ports: Tuple[int, ...] = ()
    #: which label of the host names the region; None: none does
    region: Optional[int] = None
    #: families of SDKs that speak this provider's formats, also at a host that nobody knows
    sdks: Tuple[str, ...] = ()
    #: a chat stream names its usage without being asked
    tells_usage: bool = False
    #: where the provider defines its usage
    docs: str = ""
