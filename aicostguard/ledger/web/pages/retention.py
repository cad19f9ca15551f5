"""Retention: how long single receipts stay, and which days are in files."""

from __future__ import annotations

from starlette.responses import Response

from aicostguard.ledger.access.door import actor
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import books, retention
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, EVERY, Rule
from aicostguard.ledger.web.pages.settings import tabs
from aicostguard.ledger.web.view import View

MOST_DAYS = 36_500
#: days in files that are shown, the latest first
SHOWN = 50


def show(view: View) -> Response:
    number = view.principal.project_id
    rules = view.site.store.look(books.rules)
    kept = view.site.store.look(lambda connection: books.archives(connection, "project_id = ?", (number,)))
    first = view.site.store.first_at(number)
    own = rules.get(number)
    return view.show(
        "retention.html",
        tabs=tabs(view),
        own=own,
        general=rules.get(EVERY),
        archives=[(retention.day(item.day_ms), item) for item in kept[::-1][:SHOWN]],
        archived=sum(item.gone_rows for item in kept),
        days=len(kept),
        first=None if first is None else retention.day(first),
        now={"days": str(own.days) if own else "", "keep": own.keep if own else ARCHIVE},
    )


def change(view: View) -> Response:
    """Set the rule of this project, or take it away."""
    if not view.form.get("keep"):
        rule = None
    else:
        days, keep = view.form.get("days", "").strip(), view.form["keep"]
        if keep not in (ARCHIVE, DELETE):
            raise Refused(422, f"must be {ARCHIVE} or {DELETE}, or empty to keep everything", "keep")
        if not (days.isascii() and days.isdigit() and len(days) < 7 and 1 <= int(days) <= MOST_DAYS):
            raise Refused(422, f"{days[:20]!a} is no number of days; use 1 to {MOST_DAYS}", "days")
        if keep == DELETE and view.form.get("sure") != "yes":
            raise Refused(422, "must be ticked: what is deleted is gone for good", "sure")
        rule = Rule(int(days), keep)
    retention.set_rule(view.site.store, view.principal.project_id, rule, view.now_ms, actor(view.principal))
    said = "All receipts stay." if rule is None else f"Receipts older than {rule.days} days go within the hour."
    return view.go(view.address("/settings/retention"), said)


ACTIONS = {"change": change}
