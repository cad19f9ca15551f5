"""Answers of the ledger, made by hand, for tests of what is drawn of them."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from aicostguard.ledger.amounts import amounts, changed
from aicostguard.ledger.model import MEASURES

DAY = ("2026-11-01T00:00:00+00:00", "2026-11-02T00:00:00+00:00")
NOVEMBER = ("2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00")


def sums(usd: float = 0.0, calls: int = 1, **more: int) -> dict[str, int]:
    """The sums of some calls that cost so much together."""
    return {**dict.fromkeys(MEASURES, 0), "cost_nanousd": round(usd * 1e9), "calls": calls, **more}


def row(names: Mapping[str, str | None], usd: float = 0.0, before: float | None = None, **more: int) -> dict[str, Any]:
    its = sums(usd, **more)
    told = {**names, **amounts(its)}
    return told if before is None else {**told, **changed(its, sums(before, calls=int(before > 0)))}


def answer(
    group_by: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    period: tuple[str, str] = NOVEMBER,
    rest: Mapping[str, int] | None = None,
    groups: int = 0,
) -> dict[str, Any]:
    """As `query.run` gives it; `rest` is what a limit cut off, of so many groups."""
    known = [dict(one) for one in rows]
    added = {name: sum(one[name] or 0 for one in (*known, *([rest] if rest else ()))) for name in MEASURES}
    return {
        "since": period[0],
        "until": period[1],
        "tz": "UTC",
        "group_by": list(group_by),
        "rows": known,
        "other": None if rest is None else {"groups": groups, **amounts(rest)},
        "totals": amounts(added),
        "archived": None,
        "full": None,
    }
