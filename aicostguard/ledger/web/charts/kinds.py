"""Which charts an answer of the ledger can be drawn as, and which one it is drawn as unless somebody chooses.

Owns that table, for the page on which any question is asked and for the command line.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import TIMES
from aicostguard.ledger.web.charts import bars, models, spend
from aicostguard.ledger.web.charts.chart import Chart

Answer = Mapping[str, Any]


class Kind(NamedTuple):
    """A way to draw: how it is called, what draws, and of which answers."""

    says: str
    draw: Callable[[Answer], Chart]
    fits: Callable[[Answer], bool]


def _timed(answer: Answer) -> bool:
    return any(name in TIMES for name in answer["group_by"])


def _named(answer: Answer) -> bool:
    return bool(answer["group_by"]) and not _timed(answer)


#: the first that fits is the one
KINDS: Mapping[str, Kind] = {
    "time": Kind("Over time", spend.spend, _timed),
    "moved": Kind("What moved", bars.moved, lambda answer: _named(answer) and "compared_with" in answer),
    "latency": Kind("Latency", models.latency, lambda answer: _named(answer) and "approximate" in answer["totals"]),
    "bars": Kind("Bars", bars.breakdown, _named),
    "tokens": Kind("Token classes", bars.tokens, _named),
}


def fitting(answer: Answer) -> list[str]:
    """The names of the kinds that an answer can be drawn as."""
    return [name for name, kind in KINDS.items() if kind.fits(answer)]


def chart(answer: Answer, name: str = "") -> Chart | None:
    """The chart of an answer, or None where nothing is grouped by. Raises `Refused` (422) for one that does not fit."""
    names = fitting(answer)
    if name and name not in names:
        known = ", ".join(names) or "none without a group_by"
        raise Refused(422, f"{name[:40]!a} does not go with this question; these do: {known}", "chart")
    return KINDS[name or names[0]].draw(answer) if names else None
