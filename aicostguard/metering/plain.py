"""Answers whose `model` and `usage` say all, by counts that are taken as they are.

Owns the rule which endpoints give such answers, and which shapes of `usage` need no arithmetic but the proof that they
add up: what the long way (`read_body`, `Meter`) makes of one of these is known before. If it lets another through, that
one's receipt is wrong.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple

from aicostguard.metering.counts import Shape
from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.provider import SEPARATE
from aicostguard.metering.providers import rules
from aicostguard.metering.table import MODULES, form


class Plain(NamedTuple):
    """One such endpoint."""

    #: what of a large body is wanted: arguments of `scan.members`
    wanted: Tuple[str, Tuple[str, ...], Tuple[bytes, ...]]
    #: what tells the pieces of a stream that matter, once so many events at its start are over
    marks: Tuple[bytes, ...]
    head: int

    def shape(self, usage: Mapping[str, Any]) -> Optional[Shape]:
        """Where the counts of such a `usage` stand; None where more than counts matters in it."""
        from aicostguard.metering.openai import shape_of

        return shape_of(usage)


def plain(endpoint: Endpoint) -> Optional[Plain]:
    """None for an endpoint whose answers need a closer look, each of them."""
    if not endpoint.bills or MODULES.get(endpoint.format) != "openai":
        return None
    row, provider = form(endpoint.format), rules(endpoint.provider)
    if row is None or row.operation is not None or provider.reasoning == SEPARATE:
        return None
    # Another rule for reasoning finds nothing to do where input and output are the total.
    if provider.more_input or provider.cost or row.sentinel is None:
        return None
    return Plain((row.usage, row.members, row.marks), (*row.needles, row.sentinel), row.head)
