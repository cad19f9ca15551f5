"""A long answer of the query path cut where a page wants it, without asking again.

Owns how the rest is summed up: as the query path does it, so that rows and rest still add up to the totals. Pure.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from aicostguard.ledger.amounts import amounts, changed
from aicostguard.ledger.model import MEASURES

_BEFORE = ("cost_nanousd", "calls", "unpriced_calls", "input_tokens", "output_tokens")


def cut(answer: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """The answer that a smaller `limit` would have given."""
    rows, gone = answer["rows"][:limit], answer["rows"][limit:]
    if not gone:
        return dict(answer)
    totals = answer["totals"]
    rest = _less(totals, rows, MEASURES)
    groups = len(gone) + (answer["other"]["groups"] if answer["other"] else 0)
    other = {"groups": groups, **amounts(rest)}
    if "before" in totals:
        other.update(changed(rest, _less(totals["before"], [row["before"] for row in rows], _BEFORE)))
    return {**answer, "rows": rows, "other": other}


def _less(whole: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, int]:
    """Sums without those of some rows. The cost of calls that all lack a price is told as null and adds nothing."""
    return {name: (whole[name] or 0) - sum(part[name] or 0 for part in parts) for name in names}


def extremes(answer: Mapping[str, Any], most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Rows that cost most more, and most less, than before; None if an answer lacks rows that might be among them."""
    if answer["other"]:
        return None
    by_change = sorted(answer["rows"], key=lambda row: row["change_nanousd"] or 0)
    up = [row for row in by_change[::-1][:most] if (row["change_nanousd"] or 0) > 0]
    down = [row for row in by_change[:most] if (row["change_nanousd"] or 0) < 0]
    return up, down
