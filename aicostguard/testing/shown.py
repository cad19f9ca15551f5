"""The summary of a run as text: the dearest tests, and what all of it cost."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from aicostguard.testing.spend import Spend, dollars, number

Line = Tuple[str, Optional[Dict[str, bool]]]
#: what stands beside a cost, because it is not, or may not be, all of it
MARKS = (("unpriced", "without a price"), ("estimated", "estimated"), ("partial", "partial"))


def summary(rows: Mapping[str, Mapping[str, Any]], outside: Spend, total: Spend, top: int) -> Iterator[Line]:
    """`(line, markup)`; the heading has None for markup."""
    yield "what AI calls cost", None
    if not total.calls:
        yield "no test made an AI call that was billed", {}
        return
    dearest = sorted(rows.items(), key=lambda row: (-row[1]["priced_nanousd"], -row[1]["calls"], row[0]))
    yield "%14s %6s %10s %10s  %s" % ("cost", "calls", "in", "out", "test"), {"bold": True}
    for node, row in dearest[:top]:
        yield _line(row, node), {}
    rest = Spend()
    for _, row in dearest[top:]:
        rest.merge(row)
    if rest.calls:
        yield _line(rest.as_dict(), "%s more" % number(len(dearest) - top, "test")), {}
    if outside.calls:
        yield _line(outside.as_dict(), "outside tests"), {}
    yield _line(total.as_dict(), "all"), {"bold": True}
    for reason in total.reasons:
        yield "no price: %s" % reason, {"yellow": True}


def _line(row: Mapping[str, Any], name: str) -> str:
    notes = ["%d %s" % (row[key], words) for key, words in MARKS if row[key]]
    cost = dollars(row["priced_nanousd"]) if row["calls"] > row["unpriced"] else "unpriced"
    shown = "%14s %6d %10d %10d  %s" % (cost, row["calls"], row["input_tokens"], row["output_tokens"], name)
    return shown + ("  (%s)" % ", ".join(notes) if notes else "")
