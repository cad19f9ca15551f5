"""People: who may look, who may change things, and codes by which they set a password."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from aicostguard.ledger.access.people import ROLES
from aicostguard.ledger.access.people_routes import Face
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web.pages.settings import tabs
from aicostguard.ledger.web.view import View

WORDS = {"read": "may look", "admin": "may change things"}


def show(view: View, code: dict[str, Any] | None = None) -> Response:
    """Everybody who has a role here; `code` is one that is said this once."""
    principal = view.principal
    return view.show(
        "people.html",
        tabs=tabs(view),
        people=Face(view.site.door).people(principal, {})["people"],
        code=code,
        roles=[(role, WORDS[role]) for role in ROLES],
        reaches=[reach for reach in (PROJECT, ORGANISATION, LEDGER) if principal.may("manage", reach)],
        every=principal.may("manage", LEDGER),
        here=f"{principal.organisation}/{principal.project}",
    )


def role(view: View) -> Response:
    """Give a role, or take it away. Who has no account gets one; a code for it is an operator's to make."""
    wanted = view.form.get("role", "")
    if wanted and wanted not in ROLES:
        raise Refused(422, f"must be one of {', '.join(ROLES)}, or empty to take it away", "role")
    body = {"role": wanted or None, "reach": view.form.get("reach") or PROJECT}
    done = Face(view.site.door).set_role(view.principal, body, view.form.get("email", "").strip())
    if wanted and view.principal.may("manage", LEDGER) and view.form.get("code"):
        return make_code(view)
    said = f"{done['email']} {WORDS[wanted]} now." if wanted else f"{done['email']} has no role here any more."
    return view.go(view.address("/settings/people"), said)


def make_code(view: View) -> Response:
    """A code that sets a password, once, within a day."""
    _operates(view)
    made = Face(view.site.door).code(view.principal, {}, view.form.get("email", "").strip())
    view.form = {}
    return show(view, code=made)


def switch(view: View) -> Response:
    """Disable an account, or enable it again."""
    _operates(view)
    wanted = view.form.get("disabled") == "1"
    email = view.form.get("email", "")
    Face(view.site.door).change_person(view.principal, {"disabled": wanted}, email)
    said = "is disabled: every session of it ended." if wanted else "is enabled again."
    return view.go(view.address("/settings/people"), f"{email} {said}")


def _operates(view: View) -> None:
    if not view.principal.may("manage", LEDGER):
        raise Refused(403, "an account belongs to the whole ledger: its operator makes codes (`aicg people password`)")


ACTIONS = {"role": role, "code": make_code, "switch": switch}
