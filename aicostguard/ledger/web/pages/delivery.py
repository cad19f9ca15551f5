"""Delivery: is everything here, what is not, why, and what to do about it; and labels that sums have no room for."""

from __future__ import annotations

from starlette.responses import Response

from aicostguard.ledger import deliveries
from aicostguard.ledger.sqlite import room
from aicostguard.ledger.web.plain import deliveries as plain
from aicostguard.ledger.web.plain import labels
from aicostguard.ledger.web.view import View

#: what is shown of a long list
ROWS = "200"
PERIODS = (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("all", "All"))
BY = (
    ("host,service", "Hosts and services"),
    ("host", "Hosts"),
    ("service,environment,release", "Services"),
    ("process", "Processes"),
)


def show(view: View) -> Response:
    """What came of every host and process that was heard within the period."""
    given = {name: list(values) for name, values in view.state.given.items()}
    since, by = view.state.one("since", "7d"), view.state.one("group_by", BY[0][0])
    asked = deliveries.parse(
        {**given, "since": [since], "group_by": [by], "limit": [ROWS]}, view.principal.project_id, view.now_ms
    )
    answer = deliveries.run(view.site.store, asked, view.now_ms)
    totals = answer["totals"]
    full = view.site.store.look(lambda connection: room.filled(connection, view.principal.project_id, asked.since_ms))
    return view.show(
        "delivery.html",
        answer=answer,
        verdict=plain.verdict(totals) if totals["processes"] else None,
        facts=plain.facts(totals),
        full=labels.facts(full),
        rows=[(row, plain.level(row), plain.facts(row)) for row in answer["rows"]],
        since=since,
        by=by,
        periods=PERIODS,
        views=BY,
        states=plain.STATES,
        processes=plain.processes,
        skew=plain.skew,
        gaps=plain.gaps,
    )
