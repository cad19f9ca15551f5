"""Which pages there are, and how the dashboard gets into the ledger's application.

Owns the table; `web` says how a page is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from fastapi import FastAPI

from aicostguard.ledger.access.door import Door
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web import assets, frame, library, login, managing, tail
from aicostguard.ledger.web.charts import bundle
from aicostguard.ledger.web.pages import agents, explore, models, overview, receipts
from aicostguard.ledger.web.view import Page, Site

if TYPE_CHECKING:
    from aicostguard.ledger.access.oidc import Provider

#: in the order of the menu
PAGES = (
    Page("overview", "/", "Overview", overview.show),
    Page("quality", "/parts/quality", "", overview.quality),
    Page(
        "explore",
        "/explore",
        "Explore",
        explore.show,
        own=("chart",),
        actions={"keep": explore.keep, "forget": explore.forget},
        acts="read",
    ),
    Page("models", "/models", "Models", models.show, own=("score", "per", "baseline")),
    Page("agents", "/agents", "Agents", agents.show),
    Page("receipts", "/receipts", "Receipts", receipts.show, own=("cursor",), since="7d"),
    Page("receipt", "/receipts/{at_ms}/{epoch}/{seq}", "", receipts.one),
    *managing.PAGES,
)


def add(
    app: FastAPI,
    store: SqliteStore,
    desk: Desk,
    watch: Watch,
    door: Door,
    provider: Provider | None,
    drain: Callable[[SqliteStore], int],
    now_ms: Callable[[], int],
) -> None:
    """Add the dashboard to the ledger's application."""
    files = assets.Assets()
    charts = bundle.Bundle(bundle.folder())
    site = Site(store, desk, watch, door, now_ms, drain, provider, files, frame.environment(), charts)
    assets.add(app, files)
    library.add(app, charts)
    login.add(app, site, PAGES)
    tail.add(app, site, PAGES)
    frame.add(app, site, PAGES)
