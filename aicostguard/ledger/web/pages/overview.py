"""The first screen."""

from __future__ import annotations

from starlette.responses import Response

from aicostguard.ledger.web.view import View


def show(view: View) -> Response:
    """Where the money goes, at a glance."""
    return view.show("overview.html", answer=view.costs(group_by=view.state.one("group_by", "feature")))
