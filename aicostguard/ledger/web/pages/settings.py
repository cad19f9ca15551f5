"""Settings: who you are here, the project's programs, and where to set what."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response

from aicostguard.ledger.access import places
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, roles
from aicostguard.ledger.web.view import View


class Tab(NamedTuple):
    """A part of the settings; `manages` is for those who may change things."""

    name: str
    path: str
    label: str
    says: str
    manages: bool = False


TABS = (
    Tab("settings", "/settings", "Project", "Who you are here."),
    Tab("keys", "/settings/keys", "Keys", "What programs and tools send with.", True),
    Tab("people", "/settings/people", "People", "Who may look at this project, and who may change it.", True),
    Tab("prices", "/settings/prices", "Prices", "Prices of your own, aliases, discounts; models without a price."),
    Tab("retention", "/settings/retention", "Retention", "How long single receipts stay."),
    Tab("audit", "/settings/audit", "Audit log", "Who changed what, when, from where.", True),
)


def tabs(view: View) -> list[Tab]:
    """Those that whoever looks may open."""
    return [tab for tab in TABS if view.may_manage or not tab.manages]


def whole(view: View) -> bool:
    """Whether somebody decides for the whole ledger: by that reach, or because there is but one project."""
    if view.principal.may("manage", LEDGER):
        return True
    return view.may_manage and len(view.site.door.store.look(places.projects)) == 1


def show(view: View) -> Response:
    principal = view.principal
    wider = [reach for reach in (ORGANISATION, LEDGER) if principal.held.get(reach)]
    return view.show(
        "settings.html",
        tabs=tabs(view),
        roles=roles(principal.scopes),
        reach=wider[-1] if wider else "project",
        version=view.site.store.book.source if view.site.store.book is not None else "",
    )
