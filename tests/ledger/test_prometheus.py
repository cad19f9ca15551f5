"""A real Prometheus reads what calls cost: what the docs recommend to ask gives what the ledger itself says."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard.ledger import repricing
from aicostguard.ledger.repricing import Scope
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.pricing import Price
from tests.ledger.support import NOW, ROOT, Server, envelope, epoch, receipt, wait_for
from tests.ledger.watched import DEPLOY, asked, at_noon, costs, watching

BOARD = json.loads((DEPLOY / "grafana.json").read_text())


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    at_noon(monkeypatch)


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[str]:
    with watching(server, tmp_path) as address:
        wait_for(lambda: asked(address, "aicg_counted_since_seconds"), "the first scrape", 60)
        yield address


def total(address: str, expression: str, **more: str) -> int:
    """What an expression adds up to, in nano-dollars."""
    return sum(round(float(row["value"][1]) * 10**9) for row in asked(address, expression, **more))


def cost(store: SqliteStore) -> int:
    return int(costs(store)["totals"]["cost_nanousd"] or 0)


def recommended() -> str:
    """The expression that docs/operations.md tells people to use."""
    found = re.search(r"```text\n(sum by .+?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.mark.ids("Z9", "E20")
def test_what_the_docs_recommend_is_what_the_ledger_says(server: Server, store: SqliteStore, prometheus: str) -> None:
    def scraped() -> str:
        """Wait until all of the ledger is in it; the moment of that."""
        counter, gauge = "aicg_cost_dollars_total", "aicg_today_cost_dollars"
        wait_for(lambda: total(prometheus, counter) == total(prometheus, gauge) == cost(store), "a scrape", 60)
        return repr(float(asked(prometheus, f"max(timestamp({counter}))")[0]["value"][1]))

    server.post(envelope([receipt(feature="ask"), receipt(feature="sum", input_tokens=10**6)], name=epoch()))
    before, first = cost(store), scraped()
    time.sleep(0.2)  # so that the second moment is another scrape's
    more = [receipt(feature="ask"), receipt(feature="new", model="gpt-4o-mini", input_tokens=777)]
    server.post(envelope(more, name=epoch()))
    last = scraped()
    came = cost(store) - before
    offset = f"offset {round((float(last) - float(first)) * 1000)}ms"
    expression = recommended()
    assert expression.count("offset 1h") == 1
    assert total(prometheus, expression.replace("offset 1h", offset), time=last) == came > 0
    by_feature = {
        row["metric"].get("feature", ""): round(float(row["value"][1]) * 10**9)
        for row in asked(prometheus, expression.replace("offset 1h", offset), time=last)
    }
    assert by_feature == {"ask": 330, "sum": 0, "new": 3 * 787}, "also a feature that was not there before"

    def cheap(asked: Any, at_ms: int) -> Price:
        return Price(1, "cheap@2026-11-29", None)

    repricing.reprice(store, Scope(1, 0, 2 * NOW, unpriced_only=False), cheap, "test", NOW, apply=True)
    assert cost(store) == 4
    wait_for(lambda: total(prometheus, "aicg_today_cost_dollars") == 4, "the gauge to follow", 60)
    assert total(prometheus, "aicg_cost_dollars_total") == before + came, "and the counter is no less"
    assert asked(prometheus, "resets(aicg_cost_dollars_total[1h]) > 0") == []


def _expressions() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel["targets"]]


@pytest.mark.ids("E20")
def test_every_panel_of_the_dashboard_shows_something(server: Server, store: SqliteStore, prometheus: str) -> None:
    rule = {"name": "cap", "limit_usd": "2.5", "period": "month"}
    assert server.ask("POST", "/v1/budgets", json.dumps(rule).encode()).status == 201
    sent = [receipt(feature="ask", team="search"), receipt(model="unheard-of", estimated=True)]
    server.post(envelope(sent, name=epoch()))
    wait_for(lambda: total(prometheus, "aicg_cost_dollars_total") == cost(store), "a scrape", 60)
    for title, expression in _expressions():
        plain = expression.replace("$organisation", ".*").replace("$project", ".*")
        assert "$" not in plain, (title, "a variable that is not there")
        found = asked(prometheus, plain)
        assert found and all(float(row["value"][1]) >= 0 for row in found), (title, plain)
    for name, wanted in (("Today", 330), ("This month", 330), ("Without a price", 10**9)):
        (expression,) = [text for title, text in _expressions() if title == name]
        assert total(prometheus, expression.replace("$organisation", ".*").replace("$project", ".*")) == wanted, name


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) and BOARD["uid"] and BOARD["schemaVersion"]
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24 and panel["title"]
        assert all(target["datasource"]["uid"] == "${source}" for target in panel["targets"])
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["source", "organisation", "project"]


@pytest.mark.ids("E20")
def test_the_rules_about_money_fire(server: Server, prometheus: str) -> None:
    rules = (DEPLOY / "prometheus-rules.yml").read_text()
    expressions = dict(re.findall(r"alert: (\w+)\n\s+expr: (.+)", rules))
    rule = {"name": "cap", "limit_usd": "0.0000003", "period": "month"}
    assert server.ask("POST", "/v1/budgets", json.dumps(rule).encode()).status == 201
    assert asked(prometheus, expressions["BudgetNearlySpent"]) == []
    server.post(envelope([receipt(), receipt(model="unheard-of")], name=epoch()))
    for name in ("BudgetNearlySpent", "CallsWithoutPrice"):
        wait_for(lambda name=name: asked(prometheus, expressions[name]), name, 60)
    assert asked(prometheus, expressions["SpendIsNotTold"]) == []
