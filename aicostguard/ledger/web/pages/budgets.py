"""Budgets: what is gone or will be soonest first, new ones, and what happens to calls that cannot be counted."""

from __future__ import annotations

from typing import Mapping
from urllib.parse import quote

from starlette.responses import Response

from aicostguard.guard.policy import ON_EXCEED, PERIODS, Policy
from aicostguard.ledger.access.principal import ORGANISATION
from aicostguard.ledger.budgets import given, permitted, status
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web import forms
from aicostguard.ledger.web.plain import budgets as plain
from aicostguard.ledger.web.view import View

#: setting of a policy → what is asked, and what each word means
POLICY: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "on_unpriced": (
        "A call whose model has no price",
        {"allow": "goes through", "warn": "goes through with a warning", "block": "is refused"},
    ),
    "on_unknown_bound": (
        "A call of which nobody knows how much it may use",
        {
            "observed": "counts as the mean of those so far",
            "max": "counts as the most that the model can write",
            "refuse": "is refused",
        },
    ),
    "on_store_failure": (
        "While the ledger cannot be reached",
        {"open": "programs go on within what was left", "closed": "programs stop when what they were lent is used"},
    ),
}


def show(view: View) -> Response:
    """All budgets that hold for the project."""
    groups = plain.listed(view.budgets(), view.now_ms)
    policy = {**Policy()._asdict(), **view.look(status.policy)}
    return view.show(
        "budgets.html",
        groups=groups,
        apart=[(row["name"], plain.says(row), plain.EXCEEDED[row["on_exceed"]]) for row in view.budgets(apart=True)],
        wide=view.principal.may("manage", ORGANISATION),
        new=forms.NEW_BUDGET,
        periods=PERIODS,
        exceeded=[(word, plain.EXCEEDED[word]) for word in ON_EXCEED],
        asked=POLICY,
        policy=policy,
    )


def create(view: View) -> Response:
    """Make one. A name that is taken is refused: whoever makes a budget does not mean to change another."""
    body = forms.budget(view.form)
    name = str(body["name"])
    if any(row["name"] == name for row in (*view.budgets(), *view.budgets(apart=True))):
        raise Refused(422, f"is taken: there is a budget {name!a} already; change that one, or choose another", "name")
    with forms.told_of(forms.OF_BUDGET):
        permitted.put(view.site.store, view.site.desk, view.principal, {**body, "reach": view.form.get("reach")})
    return view.go(view.address(f"/budgets/{quote(name)}"), f"The budget {name} holds from now on.")


def settle(view: View) -> Response:
    """Change what of the policy is no budget."""
    wanted = given.read_settings({name: view.form.get(name) for name in POLICY})
    view.site.desk.set_policy(view.principal.project_id, wanted, view.principal.who)
    return view.go(view.address("/budgets"), "Programs follow within half a minute.")


ACTIONS = {"create": create, "policy": settle}
