"""Alerts: what fires now, what did, and who looks after it."""

from __future__ import annotations

from typing import Any, Mapping

from starlette.responses import Response

from aicostguard.ledger.alerts import status
from aicostguard.ledger.web import forms
from aicostguard.ledger.web.plain import rules as plain
from aicostguard.ledger.web.view import View

#: parameters of the page, as those of `GET /v1/alerts`
OWN = ("rule", "kind", "budget", "cursor")
#: minutes → how long that is
SNOOZES = (("60", "1 hour"), ("240", "4 hours"), ("1440", "1 day"), ("10080", "1 week"))
OPEN, PAST = 200, 50


def show(view: View) -> Response:
    """Open ones first, then the history."""
    asked = {name: view.state.one(name) for name in OWN if view.state.one(name)}
    kept = {name: value for name, value in asked.items() if name != "cursor"}
    past = view.office.alerts({**asked, "state": "resolved", "limit": str(PAST)})
    now = _told(view, {**kept, "state": "open", "limit": str(OPEN)})
    return view.show(
        "alerts.html",
        now=plain.lines(plain.open_first(now["alerts"]), view.shows),
        more_now=now["cursor"],
        past=plain.lines(past["alerts"], view.shows),
        cursor=past["cursor"],
        asked=kept,
        snoozes=SNOOZES,
        channels=view.office.channels()["channels"],
    )


def _told(view: View, given: Mapping[str, str]) -> dict[str, Any]:
    asked = status.parse(given, view.now_ms)
    return dict(view.look(status.alerts, asked, view.site.watch.settings.public_url))


def ack(view: View) -> Response:
    """Somebody looks after it."""
    told = [view.office.ack(number) for number in forms.counts(view.form, "id")]
    return view.go(view.link(), f"Acknowledged: {told[0]['text']}")


def snooze(view: View) -> Response:
    """Nothing of it for a while."""
    for number in forms.counts(view.form, "id"):
        view.office.snooze(number, {"minutes": view.form.get("minutes", "")})
    return view.go(view.link(), "Snoozed. It is told again if it still fires then.")


def check(view: View) -> Response:
    """Look at every rule now."""
    found = view.office.check()
    faults = f" {len(found['faults'])} rules could not be looked at." if found["faults"] else ""
    return view.go(view.link(), f"All rules were looked at: {len(found['alerts'])} open.{faults}")


ACTIONS = {"ack": ack, "snooze": snooze, "check": check}
