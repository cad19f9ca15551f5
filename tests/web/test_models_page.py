"""Models and agents: the pages' figures are the API's, and what is not known is not drawn."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from aicostguard.ledger.web.pages.agents import tree
from tests.web.conftest import Site, Tab, axe
from tests.web.drawn import data, drawn, nano
from tests.web.rows import row

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


def test_agents_stand_under_who_called_them_and_all_adds_up(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/agents?since=30d"))
    rows = full.api("/v1/costs?since=30d&group_by=parent_agent,agent&limit=10000")["rows"]
    costs = {one["agent"]: one["cost_nanousd"] for one in rows}
    lines = {line.name: line for line in tree(rows)}
    assert lines["researcher"].delegated_nanousd == costs["ranker"] + costs["reader"]
    assert lines["researcher"].total_nanousd == costs["researcher"] + costs["ranker"] + costs["reader"]
    assert lines["ranker"].depth == 1 and lines["writer"].depth == 0
    names = shown.page.locator("td.tree .name").all_inner_texts()
    assert names == [line.name for line in tree(rows)]
    titles = shown.page.locator("tr:has(.name:text-is('researcher')) td:nth-child(3) [title^='$']").first.get_attribute(
        "title"
    )
    assert titles is not None and nano(titles) == lines["researcher"].delegated_nanousd
    assert axe(shown.page) == [] and shown.wrong == []
    shown.shot("agents")


def edge(parent: str | None, agent: str | None, usd: float, **more: int) -> dict[str, Any]:
    return row({"parent_agent": parent, "agent": agent}, usd, **more)


def told(edges: list[dict[str, Any]]) -> list[tuple[str | None, int, float, float]]:
    return [
        (one.name, one.depth, (one.direct["cost_nanousd"] or 0) / 1e9, one.delegated_nanousd / 1e9)
        for one in tree(edges)
    ]


@pytest.mark.ids("B19")
def test_total_is_direct_plus_delegated_at_any_depth() -> None:
    edges = [edge(None, "a", 1), edge("a", "b", 2), edge("b", "c", 4), edge("a", "d", 8), edge(None, None, 99)]
    assert told(edges) == [("a", 0, 1, 14), ("d", 1, 8, 0), ("b", 1, 2, 4), ("c", 2, 4, 0)]


def test_whoever_is_called_by_several_stands_under_each_and_says_so() -> None:
    lines = tree([edge(None, "a", 1), edge(None, "b", 1), edge("a", "c", 2), edge("b", "c", 3), edge("c", "d", 5)])
    under = [(line.name, line.depth, line.direct["cost_nanousd"], line.shared, line.elsewhere) for line in lines]
    assert under == [
        ("b", 0, 10**9, False, False),
        ("c", 1, 3 * 10**9, True, False),
        ("d", 2, 5 * 10**9, False, False),
        ("a", 0, 10**9, False, False),
        ("c", 1, 2 * 10**9, True, True),
    ]


def test_circles_end_and_nobody_is_lost() -> None:
    assert {name for name, *_ in told([edge("a", "b", 1), edge("b", "a", 2)])} == {"a", "b"}
    assert told([edge("ghost", "b", 1)])[0][:2] == ("ghost", 0), "a caller that made no call itself"
    chain = [edge(str(n) if n else None, str(n + 1), 1) for n in range(200)]
    assert len(tree(chain)) > 30
    assert told([edge("x", "x", 1)])


def test_what_has_no_price_is_no_zero() -> None:
    (line,) = tree([edge(None, "a", 0, calls=2, unpriced_calls=2)])
    assert line.total_nanousd is None
    top, _ = tree([edge(None, "a", 1), edge("a", "b", 0, calls=3, unpriced_calls=3)])
    assert (top.total_nanousd, top.delegated_unpriced) == (10**9, 3)
