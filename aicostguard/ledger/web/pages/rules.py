"""Alert rules: the list, new ones, and one of them."""

from __future__ import annotations

from typing import Any, Mapping
from urllib.parse import quote

from starlette.responses import Response

from aicostguard.ledger.alerts import rule
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web import forms
from aicostguard.ledger.web.plain import rules as plain
from aicostguard.ledger.web.view import View

#: key of a rule → the words it may be
CHOICES: Mapping[str, tuple[str, ...]] = {
    "period": rule.PERIODS,
    "action": tuple(rule.ACTIONS),
    "measure": tuple(rule.UNITS),
    "comparison": rule.COMPARISONS,
    "once_per": rule.PERIODS,
}
#: keys that few people change
RARE = ("clear", "hold_s", "once_per", "min_usd", "min_calls", "window_minutes", "timezone")


def show(view: View) -> Response:
    """All rules of the project; with `kind` in the address a form for a new one."""
    kind = view.form.get("kind") or view.state.one("kind")
    if kind and kind not in rule.SORTS:
        raise Refused(422, f"must be one of {', '.join(rule.SORTS)}", "kind")
    return view.show(
        "rules.html",
        rules=[(row, plain.says(row)) for row in view.office.rules()["rules"]],
        kinds=plain.KINDS,
        sorts=rule.SORTS,
        kind=kind,
        **_fields(view, kind, forms.new_rule(kind) if kind else {}),
    )


def _fields(view: View, kind: str, now: Mapping[str, str]) -> dict[str, Any]:
    """What the form needs to know."""
    keys = [name for name in rule.keys(kind) if name not in ("kind", *forms.BOXES)] if kind else []
    return {
        "now": now,
        "often": [name for name in keys if name not in RARE],
        "rare": [name for name in keys if name in RARE],
        "fields": plain.FIELDS,
        "choices": CHOICES,
        "unit": rule.unit_of(kind, now.get("measure")) if kind else "",
        "channels": [item["name"] for item in view.office.channels()["channels"]],
    }


def create(view: View) -> Response:
    kind = view.form.get("kind", "")
    if kind not in rule.SORTS:
        raise Refused(422, f"must be one of {', '.join(rule.SORTS)}", "kind")
    with forms.told_of(forms.OF_RULE):
        made = view.office.add_rule({**forms.alert_rule(view.form, kind), "kind": kind})
    return view.go(view.address("/alerts/rules"), f"The rule {made['name']} is looked at from now on.")


def switch(view: View) -> Response:
    """On or off."""
    wanted = view.form.get("enabled") == "1"
    name = view.form.get("name", "")
    view.office.change_rule(name, {"enabled": wanted})
    return view.go(view.address("/alerts/rules"), f"The rule {name} is {'on' if wanted else 'off'}.")


def show_one(view: View) -> Response:
    """The rule that the path names."""
    row = view.office.one_rule(view.path["name"])
    if "unreadable" in row:
        raise Refused(422, row["unreadable"], "rule")
    return view.show(
        "rule.html", row=row, says=plain.says(row), kind=row["kind"], **_fields(view, row["kind"], forms.of_rule(row))
    )


def save(view: View) -> Response:
    row = view.office.one_rule(view.path["name"])
    if view.form.get("changed_at") != row["changed_at"]:
        raise Refused(409, f"{row['name']} was changed meanwhile by {row['changed_by']}: look again, and send it anew")
    with forms.told_of(forms.OF_RULE):
        made = view.office.change_rule(row["name"], forms.alert_rule(view.form, row["kind"]))
    return view.go(view.address(f"/alerts/rules/{quote(made['name'])}"), "Saved. The rule is looked at anew.")


def remove(view: View) -> Response:
    view.office.remove_rule(view.path["name"])
    return view.go(view.address("/alerts/rules"), f"The rule {view.path['name']} is gone; its history stays.")


ACTIONS = {"create": create, "switch": switch}
ACTIONS_ONE = {"save": save, "remove": remove}
