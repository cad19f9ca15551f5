"""What somebody does with budgets, for API and pages: each step asks first whether they may.

Owns that a budget of the whole organisation is seen and set only by a role that reaches it, and whose a new budget is.
If this is wrong, a project reads what others spend, or lifts their limit.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from aicostguard.ledger.access import names
from aicostguard.ledger.access.principal import ORGANISATION, PROJECT, Principal
from aicostguard.ledger.budgets import book, given, owner
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.sqlite import SqliteStore

#: whose a budget can be
REACHES = (PROJECT, ORGANISATION)


def sees(who: Principal) -> bool:
    """Whether somebody may know what the organisation spends."""
    return who.may("read", ORGANISATION)


def known(store: SqliteStore, who: Principal, name: str, scope: str) -> Kept:
    """The budget of a name, for whoever may do this (`read`, `manage`) with it. Raises `Refused`: 404, 403."""
    kept = store.look(lambda connection: book.need(connection, who.project_id, name))
    owner.need(who, kept.owner, scope, name)
    return kept


def put(store: SqliteStore, desk: Desk, who: Principal, body: Mapping[str, Any]) -> tuple[str, bool]:
    """Set the budget that a body states; gives its name, and whether it is new. Raises `Refused`: 403, 422.

    `reach` says whose it is; without it that of the budget that there is stays, and a new one is the project's.
    """
    wanted = body.get("reach")
    if wanted is not None:
        names.one_of(wanted, REACHES, "reach")
    rest = {name: value for name, value in body.items() if name != "reach"}
    name = body.get("name")
    kept = None
    if isinstance(name, str):
        kept = store.look(lambda connection: book.find(connection, who.project_id, name))
    of = kept.owner if kept is not None and wanted is None else owner.of(who, wanted or PROJECT)
    owner.need(who, of, "manage", str(name))
    stated, spent, adjust = given.read_put(rest, None if kept is None else kept.budget)
    return stated.name, desk.put(of, stated, who.who, spent, adjust)


def remove(store: SqliteStore, desk: Desk, who: Principal, name: str) -> None:
    """Forget a budget. Raises `Refused`: 404, 403."""
    desk.remove(known(store, who, name, "manage").owner, name, who.who)


def rebuild(store: SqliteStore, desk: Desk, who: Principal, wanted: Sequence[str]) -> list[Kept]:
    """Count anew: what is named, or all that somebody may set. Raises `Refused`: 404, 403."""
    for name in wanted:
        known(store, who, name, "manage")
    return desk.rebuild(who.project_id, wanted, who.who, who.may("manage", ORGANISATION))
