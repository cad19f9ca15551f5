"""The audit log."""

from __future__ import annotations

from starlette.responses import Response

from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT
from aicostguard.ledger.access.routes import Face
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web.pages.settings import tabs
from aicostguard.ledger.web.plain import audit as plain
from aicostguard.ledger.web.view import View

LINES = 100
OWN = ("before", "reach")
SINCE = (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("all", "All"))


def show(view: View) -> Response:
    """The newest first."""
    reaches = [reach for reach in (PROJECT, ORGANISATION, LEDGER) if view.principal.may("manage", reach)]
    reach, since = view.state.one("reach", PROJECT), view.state.one("since", "all")
    if reach not in reaches:
        raise Refused(403, f"you may read the log of the {' and the '.join(reaches)}", "reach")
    given = {"limit": str(LINES + 1), "since": since, "reach": reach}
    if before := view.state.one("before"):
        given["before"] = before
    entries = Face(view.site.door).audit(view.principal, given)["entries"]
    lines = list(plain.lines(entries[:LINES]))
    return view.show(
        "audit.html",
        tabs=tabs(view),
        lines=lines,
        more=str(lines[-1].id) if len(entries) > LINES else "",
        reach=reach,
        reaches=reaches,
        since=since,
        periods=SINCE,
        before=before,
    )
