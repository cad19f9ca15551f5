"""Explore: any question that the ledger answers, as a chart and a table; kept under a name by whoever wants to.

Owns the shape of the table: its columns, and how many rows are written into a page; a file has them all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.responses import Response

from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DIMENSIONS, TAGS, TIMES
from aicostguard.ledger.query import MAX_GROUPS
from aicostguard.ledger.sqlite import saved
from aicostguard.ledger.web.charts import kinds
from aicostguard.ledger.web.charts.chart import Chart
from aicostguard.ledger.web.state import State
from aicostguard.ledger.web.view import View

#: what is asked until somebody asks something else
GROUPS = "day,model"
#: rows of the table; a page of more would be slow to show and to scroll
ROWS = 300
#: rows that are asked for: what is drawn over time needs more than a table
LIMITS = ("25", "100", "1000", "10000")
LIMIT = "1000"
ORDERS = {
    "-cost": "Cost, high first",
    "cost": "Cost, low first",
    "-calls": "Calls",
    "-tokens": "Tokens",
    "-unpriced_calls": "Calls without a price",
    "-cache_savings_nanousd": "Saved by caches",
}


class Column(NamedTuple):
    """A column of figures: its heading, what to order by, the key of a row, and how it is written."""

    says: str
    order: str
    key: str
    how: str = "number"


COLUMNS = (
    Column("Calls", "-calls", "calls"),
    Column("Input", "-input_tokens", "input_tokens", "short"),
    Column("from cache", "-cache_read_input_tokens", "cache_read_input_tokens", "short"),
    Column("Output", "-output_tokens", "output_tokens", "short"),
)
LATENCY = (
    Column("p50", "", "latency_p50_ms", "ms"),
    Column("p95", "", "latency_p95_ms", "ms"),
    Column("p99", "", "latency_p99_ms", "ms"),
)


def show(view: View) -> Response:
    """The page."""
    groups = view.state.one("group_by", GROUPS)
    limit = view.state.one("limit", LIMIT)
    # Time and a period before do not go together: the switch of all pages must not make an error here.
    timed = any(name in TIMES for name in groups.split(","))
    compare = None if timed else view.state.one("compare") or None
    answer = view.costs(group_by=groups, limit=limit, compare=compare)
    chosen = view.state.one("chart")
    refused: Refused | None = None
    chart: Chart | None = None
    try:
        chart = kinds.chart(answer, chosen)
    except Refused as error:
        refused, chart = error, kinds.chart(answer)
    group_by = answer["group_by"]
    return view.show(
        "explore.html",
        answer=answer,
        chart=chart,
        kinds=[("", "As it fits"), *((name, kinds.KINDS[name].says) for name in kinds.fitting(answer))],
        chosen="" if refused else chosen,
        groups=[*group_by, *[""] * (MAX_GROUPS - len(group_by))],
        choices=[("", "–"), *((name, name) for name in dict.fromkeys((*TIMES, *DIMENSIONS, *_tags(view, group_by))))],
        orders=_orders(group_by, compare is not None),
        order=view.state.one("order", "" if timed else "-cost"),
        limits=sorted({*LIMITS, limit}, key=int),
        limit=limit,
        columns=(*COLUMNS, *(LATENCY if "approximate" in answer["totals"] else ())),
        times=TIMES,
        rows=answer["rows"][:ROWS],
        more=len(answer["rows"]) - ROWS,
        comparing=compare is not None,
        without_compare=timed and bool(view.state.one("compare")),
        asked={"group_by": groups, "limit": limit, "compare": compare},
        saved=[(one.name, _address(view, one)) for one in _mine(view)],
    )


def _tags(view: View, group_by: list[str]) -> list[str]:
    """The tags that the address speaks of: which there are, only receipts know."""
    return [name for name in (*group_by, *(one.name for one in view.state.filters)) if name.startswith(TAGS)]


def _orders(group_by: list[str], comparing: bool) -> list[tuple[str, str]]:
    first = [("", f"By {group_by[0]}")] if group_by and group_by[0] in TIMES else []
    changes = [("-change", "Grown most"), ("change", "Shrunk most")] if comparing else []
    return [*first, *ORDERS.items(), *changes, *((name, f"{name}, A to Z") for name in group_by if name not in TIMES)]


def _owner(view: View) -> str:
    return f"{view.principal.kind}:{view.principal.id}"


def _mine(view: View) -> list[saved.Saved]:
    return list(view.look(saved.of, _owner(view)))


def _address(view: View, one: saved.Saved) -> str:
    return view.address(one.page, State(one.parameters))


def keep(view: View) -> Response:
    """Keep what is shown under a name."""
    given: dict[str, Any] = {**view.state.given, **view.state.own}
    name = view.form.get("name", "")
    view.site.store.change(
        lambda connection: saved.put(
            connection, view.principal.project_id, _owner(view), name, view.here, given, view.now_ms
        )
    )
    return view.go(view.link(), f"Kept as {' '.join(name.split())}.")


def forget(view: View) -> Response:
    """Remove a view that was kept."""
    name = view.form.get("name", "")
    view.site.store.change(lambda connection: saved.remove(connection, view.principal.project_id, _owner(view), name))
    return view.go(view.link(), f"{name} is removed.")
