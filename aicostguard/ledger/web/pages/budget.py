"""One budget: what stands in it, how it burns, who changed it, and changing it."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response

from aicostguard.guard.policy import ON_EXCEED, PERIODS
from aicostguard.ledger import period
from aicostguard.ledger.access.principal import ORGANISATION
from aicostguard.ledger.budgets import permitted, rule, status
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DIMENSIONS, HOUR_MS
from aicostguard.ledger.web import forms
from aicostguard.ledger.web.charts import burn
from aicostguard.ledger.web.charts.chart import Chart
from aicostguard.ledger.web.plain import budgets as plain
from aicostguard.ledger.web.view import View

#: periods that are long enough for a line
_DRAWN = ("day", "week", "month", "total")
#: what is drawn by the hour, at most so long
_HOURLY_MS = 8 * 24 * HOUR_MS
#: the scope that is drawn of a budget per label, as its labels stand in an address: `user=u-1`
OWN = ("scope",)
#: scopes and lines of the history that are shown
SCOPES, PAST = 100, 50


def show(view: View) -> Response:
    """The budget that the path names."""
    row = _row(view, "read")
    group = plain.grouped(row, view.now_ms, SCOPES)
    line = _looked_at(view, group)
    return view.show(
        "budget.html",
        row=row,
        group=group,
        drawn=line,
        chart=_burn(view, row, line),
        may_manage=view.may_manage and (row["reach"] != ORGANISATION or view.principal.may("manage", ORGANISATION)),
        past=list(plain.history(row["history"]))[:PAST],
        now=forms.of_budget(row),
        periods=PERIODS,
        exceeded=[(word, plain.EXCEEDED[word]) for word in ON_EXCEED],
    )


def _row(view: View, scope: str) -> dict[str, Any]:
    """The budget that the path names, for whoever may do this with it. Raises `Refused`: 404, 403."""
    permitted.known(view.site.store, view.principal, view.path["name"], scope)
    return dict(view.look(status.detailed, view.path["name"], view.now_ms))


def _looked_at(view: View, group: plain.Group) -> plain.Line | None:
    """The scope that the address names, or the first. Raises `Refused` (404)."""
    wanted = view.state.own.get("scope")
    if not wanted:
        return group.lines[0] if group.lines else None
    for line in group.lines:
        if line.address == wanted[0]:
            return line
    raise Refused(404, f"{wanted[0][:128]!a} is none of the scopes of this budget that are shown", "scope")


def _burn(view: View, row: dict[str, Any], line: plain.Line | None) -> Chart | None:
    """How the present period went in one scope; None for what no line tells of: receipts have no sums by tags."""
    if line is None or row["period"] not in _DRAWN or {*row["match"], *row["per"]} - set(DIMENSIONS):
        return None
    if row["reach"] == ORGANISATION:  # what can be asked for is this project's part of it
        return None
    zone = ZoneInfo(row["timezone"])
    since_ms, until_ms = rule.bounds(row["period"], row["timezone"], view.now_ms)
    ends = {"until": period.iso(until_ms, zone)} if until_ms else {}
    # One that never ends is drawn from the first receipt on.
    begins_ms = since_ms or view.site.store.first_at(view.principal.project_id) or view.now_ms
    hourly = (until_ms or view.now_ms) - begins_ms <= _HOURLY_MS
    answer = view.ask(
        since=period.iso(begins_ms, zone),
        tz=row["timezone"],
        group_by="hour" if hourly else "day",
        limit="10000",
        **ends,
        **row["match"],
        **{name: value or "" for name, value in line.scope.items()},
    )
    unit = plain.unit(row)
    scope = next(one for one in row["scopes"] if one["scope"] == line.scope)
    limit = burn.Limit(
        plain.integer(unit, row[f"limit_{unit}"]),
        [share for share in row["alert_at"] if share < 1],
        plain.integer(unit, scope[f"burn_per_hour_{unit}"]),
        burn.UNITS[unit],
    )
    of = f" of {', '.join(map(str, line.scope.values()))}" if line.scope else ""
    return burn.burn(answer, limit, now=period.iso(view.now_ms, zone), title=f"How it goes{of}")


def change(view: View) -> Response:
    """Change the rule, as it was when the form was shown."""
    name = view.path["name"]
    row = _row(view, "manage")
    if view.form.get("revision") != str(row["revision"]):
        raise Refused(409, f"{name} was changed meanwhile by {row['history'][0]['who']}: look again, and send it anew")
    with forms.told_of(forms.OF_BUDGET):
        body = {**forms.budget(view.form), "name": name}
        body.pop("spent", None)
        permitted.put(view.site.store, view.site.desk, view.principal, body)
    return view.go(view.link(), "Changed. Programs follow within half a minute.")


def adjust(view: View) -> Response:
    """Set what is spent, which is written down."""
    with forms.told_of({"limit": "spent"}):
        known = permitted.known(view.site.store, view.principal, view.path["name"], "manage").budget
        body = {**rule.written(known), "spent": view.form.get("spent", ""), "adjust": True}
        permitted.put(view.site.store, view.site.desk, view.principal, body)
    return view.go(view.link(), "Set, and written down in the history.")


def remove(view: View) -> Response:
    """Forget the budget; its history stays."""
    name = view.path["name"]
    permitted.remove(view.site.store, view.site.desk, view.principal, name)
    return view.go(view.address("/budgets"), f"The budget {name} is gone; its history stays.")


ACTIONS = {"change": change, "adjust": adjust, "remove": remove}
