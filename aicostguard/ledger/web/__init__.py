"""The dashboard: pages made here, our own scripts and styles, nothing of another host, no build step.

`PAGES` is the table of pages; everything else is done by the frame. To add a page:

1. `pages/NAME.py` with `show(view) -> Response`. It asks by `view.ask(group_by="model", since="7d")` (just that),
   `view.costs(group_by="model")` (the address's own parameters, those changed), `view.receipts()`, `view.budgets()`,
   `view.office` (alerts), `view.look(job, …)` (a read of the store with this project's id), and ends with
   `return view.show("NAME.html", rows=…)`. What it asks is what a JSON route asks: no SQL in a page. A `LedgerError`
   is raised on: the frame shows it. `view.now_ms` is one moment for the whole page.
2. `templates/NAME.html`: `{% extends "layout.html" %}{% block content %}…{% endblock %}`. Everything is escaped.
   Filters (`words.FILTERS`): `nano|money`, `n|number`, `n|short`, `ratio|share`, `ratio|change`, `x|ms`,
   `iso|time(view.tz)`, `iso|ago(now_ms)`, `value|name`. Macros (`parts.html`, there in every block): `parts.cost(row)`
   (money with ≈, and what has no price), `parts.moved(row)`, `parts.bar(part, whole)`, `parts.drill("model", value)`,
   `parts.input(…)`, `parts.select(…)`, `parts.empty(title)`, `parts.downloads("/v1/costs", {})`. No inline script or
   style, no `style=`: the browser refuses them. Widths are attributes of an SVG. In a list of rows, wide tables stand
   in `<div class="scroll" tabindex="0" role="region" aria-label="…">`.
3. A row in `PAGES`: `Page("name", "/name", "Label", name.show)`. The label puts it in the menu. `own=("cursor",)` names
   parameters of the address beside those of a query (`view.state.one("cursor")`); `period=False` is for pages that
   speak of no period; a path may hold `{parts}` (`view.path["parts"]`).
4. Links: `view.link(group_by="team")` (this page, changed), `view.to("/receipts", model="gpt-4o")` (another page, same
   period and filters), `view.address("/budgets")` (another, nothing kept), `view.api("/v1/costs", "csv")` (download).
5. Forms: `<form method="post" action="{{ view.link() }}">{{ parts.form("create") }}…` and `actions={"create": create}`
   in the row. `create(view)` reads `view.form["field"]`, does it with the authority of `view.principal` (the frame has
   checked that it may `manage`, or what `acts=` says) and answers `view.go(view.address("/name"), "Budget made.")`.
   Raise `Refused(422, "must be …", "field")`: the page is shown again with it, `view.form` as it was sent.
6. Scripts: ES modules in `assets/`, included in `{% block scripts %}` by
   `<script type="module" src="{{ view.site.assets.url("name.js") }}"></script>`; they import each other by `./name.js`.
   Data for a script: `<script type="application/json" id="…">{{ value|tojson }}</script>`. On `document`, the event
   `themed` says that colours have changed; `data-filter` is the field that the key `/` goes to.
7. Charts: a function of `charts` (`spend.spend(answer)`, `bars.breakdown`, …, `burn.burn`) makes one of an answer; the
   template has `{% block head %}{{ charts.head() }}{% endblock %}` and `{{ charts.figure(chart, "file-name") }}`. A
   mark filters the page, a dragged stretch of time becomes its period. `burn.spark(nanos)` is a small line as SVG.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from fastapi import FastAPI

from aicostguard.ledger.access.door import Door
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web import assets, frame, library, login, tail
from aicostguard.ledger.web.charts import bundle
from aicostguard.ledger.web.pages import overview, receipts
from aicostguard.ledger.web.view import Page, Site

if TYPE_CHECKING:
    from aicostguard.ledger.access.oidc import Provider

#: in the order of the menu
PAGES = (
    Page("overview", "/", "Overview", overview.show),
    Page("receipts", "/receipts", "Receipts", receipts.show, own=("cursor",), since="7d"),
    Page("receipt", "/receipts/{at_ms}/{epoch}/{seq}", "", receipts.one),
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
