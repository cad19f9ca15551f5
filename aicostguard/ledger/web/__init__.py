"""The dashboard: pages made here, our own scripts and styles, nothing of another host, no build step.

`table.PAGES` is the table of pages; everything else is done by the frame. (Nothing is imported here: alerts draw with
`web.charts`, and pages ask alerts.) To add a page:

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
3. A row in `table.PAGES`: `Page("name", "/name", "Label", name.show)`. The label puts it in the menu.
   `own=("cursor",)` names parameters of the address beside those of a query (`view.state.one("cursor")`);
   `period=False` is for pages that speak of no period; a path may hold `{parts}` (`view.path["parts"]`).
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
