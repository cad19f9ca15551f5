"""Single receipts: a list with pages and filters, and one receipt with all that is known of it.

Owns how the fields of a receipt are grouped for reading. The list is `GET /v1/receipts`; one receipt is the list's row
behind the place just before it.
"""

from __future__ import annotations

from typing import Any, Mapping

from starlette.responses import Response

from aicostguard.ledger import query
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DIMENSIONS, UNITS
from aicostguard.ledger.web.view import View

ROWS = 50
#: shown elsewhere on the page, or said in other words
_ELSEWHERE = ("at", "at_ms", "cost_usd", "cost_nanousd", "cache_savings_nanousd", "price_row", "unpriced_reason")
_TIMES = ("latency_ms", "ttft_ms", "received_ms", "clock_adjusted")


def show(view: View) -> Response:
    """A page of receipts, the newest first."""
    answer = view.receipts(limit=view.state.one("limit", str(ROWS)))
    return view.show("receipts.html", answer=answer, first=not view.state.one("cursor"))


def one(view: View) -> Response:
    """One receipt."""
    row = found(view)
    groups: dict[str, list[tuple[str, Any]]] = {"Labels": [], "Usage": [], "Time": [], "More": []}
    for name, value in row.items():
        if name in _ELSEWHERE:
            continue
        into = "Labels" if name in DIMENSIONS else "Usage" if name in UNITS else "Time" if name in _TIMES else "More"
        groups[into].append((name, value))
    return view.show("receipt.html", row=row, groups={name: rows for name, rows in groups.items() if rows})


def found(view: View) -> Mapping[str, Any]:
    """The receipt that the path names. Raises `Refused` (404)."""
    at_ms, epoch, seq = (view.path[name] for name in ("at_ms", "epoch", "seq"))
    if not (at_ms.isdecimal() and seq.isdecimal() and len(at_ms) < 16 and len(seq) < 16):
        raise Refused(404, "there is no such receipt")
    parameters = {"since": ["all"], "limit": ["1"], "cursor": [f"{at_ms}.{int(seq) + 1}.{epoch}"], "tz": [view.tz]}
    rows = query.receipts(view.site.store, parameters, view.principal.project_id, view.now_ms)["receipts"]
    if not rows or (rows[0]["at_ms"], rows[0]["epoch"], rows[0]["seq"]) != (int(at_ms), epoch, int(seq)):
        raise Refused(404, "there is no such receipt here, or no longer: old ones may be archived")
    return dict(rows[0])
