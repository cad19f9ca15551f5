"""Keys: made, shown once, replaced, revoked."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT, ROLES
from aicostguard.ledger.access.routes import Face
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web.pages.settings import tabs
from aicostguard.ledger.web.view import View

#: what a key is for → the roles it needs
USES = (
    ("ingest", "Programs: send receipts, ask for room in budgets"),
    ("read", "Tools: ask for costs and budgets"),
    ("admin", "Everything, changes included"),
)
GRACES = (("0s", "at once"), ("1h", "in an hour"), ("1d", "in a day"), ("7d", "in a week"))
EXPIRIES = (("", "never"), ("30d", "in 30 days"), ("90d", "in 90 days"), ("365d", "in a year"))


def show(view: View, made: dict[str, Any] | None = None) -> Response:
    """All keys of the project; `made` is one that is said this once."""
    listed = Face(view.site.door).keys(view.principal, {})["keys"]
    return view.show(
        "keys.html",
        tabs=tabs(view),
        keys=[key for key in listed if key["state"] == "in force"],
        over=[key for key in listed if key["state"] != "in force"][::-1],
        made=made,
        uses=USES,
        graces=GRACES,
        expiries=EXPIRIES,
        reaches=[reach for reach in (PROJECT, ORGANISATION, LEDGER) if view.principal.may("manage", reach)],
    )


def create(view: View) -> Response:
    form, role = view.form, view.form.get("role", "")
    if role not in ROLES:
        raise Refused(422, f"must be one of {', '.join(ROLES)}", "role")
    body: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "roles": [role],
        "reach": form.get("reach") or PROJECT,
        **({"expires_in": form["expires_in"]} if form.get("expires_in") else {}),
    }
    if per_minute := form.get("per_minute", "").strip():
        if not (per_minute.isascii() and per_minute.isdigit() and len(per_minute) < 9):
            raise Refused(422, "must be a whole number of requests, or empty", "per_minute")
        body["per_minute"] = int(per_minute)
    return _once(view, Face(view.site.door).add_key(view.principal, body))


def rotate(view: View) -> Response:
    body = {"grace": view.form.get("grace") or "0s"}
    return _once(view, Face(view.site.door).rotate_key(view.principal, body, _named(view)))


def revoke(view: View) -> Response:
    gone = Face(view.site.door).revoke_key(view.principal, {}, _named(view))
    return view.go(view.address("/settings/keys"), f"The key {gone['key']}… is revoked, from the next request on.")


def _named(view: View) -> str:
    name = view.form.get("key", "")
    if not name or name.startswith("aicg_"):  # a form names keys by their id, never by themselves
        raise Refused(422, "must be the id of a key", "key")
    return name


def _once(view: View, made: dict[str, Any]) -> Response:
    view.form = {}
    return show(view, made=made)


ACTIONS = {"create": create, "rotate": rotate, "revoke": revoke}
