"""Labels that are full, in plain words: which, since when, whose they are, and what to do about it. Pure.

Owns sentences. When a label is full is decided in `sqlite.room`.
"""

from __future__ import annotations

from typing import Sequence

from aicostguard.ledger import period
from aicostguard.ledger.sqlite.room import Filled
from aicostguard.ledger.web import words
from aicostguard.ledger.web.plain.deliveries import WARN, Said, counted


def facts(found: Sequence[Filled]) -> list[Said]:
    """One for each label; of several days, the latest first, it is the first that is told of."""
    by_label: dict[str, list[Filled]] = {}
    for one in found:
        by_label.setdefault(one.day.dimension, []).append(one)
    return [_fact(label, days) for label, days in by_label.items()]


def _fact(label: str, days: Sequence[Filled]) -> Said:
    last = days[0].day
    calls = sum(one.calls for one in days)
    when = f"on {period.day(last.start_ms)}"
    if len(days) > 1:
        when = f"on {words.number(len(days))} days, last {when}"
    whose = f", first from service {last.service}" if last.service else ""
    what = " × ".join(label.split(","))
    ids = "" if "," in label else " If it holds ids, send these as request or session, which have no sums."
    return Said(
        WARN,
        f"{what} had more than {counted(last.names, 'value')} {when}{whose}: {counted(calls, 'call')} "
        f"{'stands' if calls == 1 else 'stand'} under (other).",
        f"No receipt is lost, every total is right, and a filter on a value is exact.{ids} For more room: "
        f"aicg labels {label} --most {min(1_000_000, max(2, 2 * last.names))}",
    )
