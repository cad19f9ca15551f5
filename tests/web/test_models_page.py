"""Models and agents: the pages' figures are the API's, and what is not known is not drawn."""

from __future__ import annotations

from typing import Callable

import pytest

from aicostguard.ledger.agents import dearest
from aicostguard.ledger.web.pages.overview import AGENTS
from tests.web.conftest import Site, Tab, axe
from tests.web.drawn import data, drawn, nano

Open = Callable[..., Tab]


@pytest.mark.ids("A32", "A34", "E19")
def test_models_stand_beside_each_other_as_the_api_has_them(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/models?baseline=gpt-4o-mini"))
    told = full.api("/v1/compare?since=30d&baseline=gpt-4o-mini&limit=100")
    assert shown.wrong == []
    names = shown.page.locator("tbody td:first-child").all_inner_texts()
    assert names == [one["model"] for one in told["models"]]
    scored = {one["model"]: one for one in told["models"] if one["quality"] and one["cost_per_call_usd"]}
    points = {one["n"]: one for one in data(shown, "quality")}
    assert points.keys() == scored.keys() and len(points) >= 3
    for name, point in points.items():
        assert point["q"] == scored[name]["quality"]["accuracy"]["mean"]
        assert point["cost"] == f"${scored[name]['cost_per_call_usd']}"
    bars = {one["n"]: one["cost"] for one in data(shown, "spend-by-model")}
    assert all(nano(bars[one["model"]]) == one["cost_nanousd"] for one in told["models"] if one["cost_usd"])
    p50 = {one["n"]: one["ms"] for one in data(shown, "latency") if one["p"] == "p50"}
    assert p50 == {one["model"]: one["latency_p50_ms"] for one in told["models"]}
    saved = told["baseline"]["saved_nanousd"]
    assert ("more paid" if saved < 0 else "saved") in shown.page.locator(".said-big").inner_text()
    assert f"{told['baseline']['calls_left_out']} calls are left out" in shown.text
    assert axe(shown.page) == [] and shown.too_wide() == 0
    shown.shot("models")


def test_a_baseline_that_has_no_price_spoils_nothing_else(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/models?baseline=house-model-7b"))
    assert "baseline" in shown.page.locator(".refused").inner_text()
    assert shown.page.locator("tbody tr").count() > 5


@pytest.mark.parametrize("path", ["/models", "/agents"])
def test_in_the_dark_on_a_phone(full: Site, tab: Open, path: str) -> None:
    shown = drawn(tab(full, phone=True, dark=True).goto(path))
    assert shown.too_wide() == 0 and shown.wrong == [] and axe(shown.page) == []
    shown.shot(f"{path[1:]}-phone-dark")


def test_on_a_phone_the_tree_shows_what_each_agent_cost(full: Site, tab: Open) -> None:
    shown = drawn(tab(full, phone=True).goto("/agents"))
    region = shown.page.locator("[aria-label='Tree of agents']")
    assert region.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    assert shown.page.locator("td.tree + td.n").first.is_visible()


@pytest.mark.ids("A32", "B19")
def test_agents_stand_under_who_called_them_and_all_adds_up(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/agents?since=30d"))
    told = full.api("/v1/agents?since=30d")
    lines = shown.page.locator("tr:has(td.tree)")
    assert lines.count() == len(told["agents"]) > 6
    for at, line in enumerate(told["agents"]):
        cells = lines.nth(at).locator("td")
        assert cells.nth(0).locator(".name").inner_text() == line["agent"]
        level = cells.nth(0).locator(".hidden").all_inner_texts()
        assert level == ([f"level {line['depth'] + 1}:"] if line["depth"] else [])
        for column, part in ((1, "direct"), (2, "delegated"), (3, "total")):
            exact = cells.nth(column).locator("[title^='$']").all()
            assert [nano(str(one.get_attribute("title"))) for one in exact] == (
                [line[part]["cost_nanousd"]] if line[part]["calls"] else []
            ), (line["agent"], part)
    tops = sum(line["total"]["cost_nanousd"] or 0 for line in told["agents"] if line["depth"] == 0)
    assert tops + told["unnamed"]["cost_nanousd"] == full.api("/v1/costs?since=30d")["totals"]["cost_nanousd"]
    assert axe(shown.page) == [] and shown.wrong == []
    shown.shot("agents")


def test_the_first_screen_has_the_dearest_agents_at_any_depth(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/?since=30d")
    lines = full.api("/v1/agents?since=30d")["agents"]
    card = shown.page.locator("section[aria-labelledby=agents]")
    names = card.locator("td.tree .name").all_inner_texts()
    wanted = dearest(lines, AGENTS)
    assert names == [line["agent"] for line in wanted]
    assert max(line["depth"] for line in wanted) >= 2, "an agent of an agent of an agent"
    # Each figure is in sight, however long a name is.
    region = card.locator(".scroll")
    assert region.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    totals = card.locator("td:nth-child(4) [title^='$']").all()
    assert [nano(str(one.get_attribute("title"))) for one in totals] == [one["total"]["cost_nanousd"] for one in wanted]
