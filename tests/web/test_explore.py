"""Explore: any question as a chart and a table, whose figures are the API's; in a real browser, under its policy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from aicostguard import ledger
from tests.web import filled as filling
from tests.web.conftest import Site, Tab, amounts, axe, site
from tests.web.drawn import bars, data, drawn, marks, nano

Open = Callable[..., Tab]


def query(tab: Tab) -> dict[str, list[str]]:
    return parse_qs(urlsplit(tab.page.url).query, keep_blank_values=True)


def whole(tab: Tab) -> str | None:
    """The exact amount of the last line."""
    return tab.page.locator("tr.sum .cost [title^='$']").get_attribute("title")


def away(tab: Tab, old: str) -> dict[str, list[str]]:
    """Once the page is another one: its parameters."""
    tab.page.wait_for_url(lambda url: url != old)
    tab.page.wait_for_load_state()
    return query(tab)


@pytest.mark.ids("A32", "E19")
def test_a_chart_is_drawn_without_eval_and_says_what_the_api_says(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore"))
    assert shown.wrong == [], "nothing is refused by the policy"
    answer = full.api("/v1/costs?group_by=day,model&limit=1000")
    found = data(shown, "explore")
    priced = [one["cost"] for one in found if one["cost"].startswith("$")]
    assert sum(map(nano, priced)) == answer["totals"]["cost_nanousd"]
    assert len(found) == len(answer["rows"]) == marks(shown, "explore")
    cells = shown.page.locator("tbody tr:not(.sum, .rest) td:nth-child(3)").all_inner_texts()
    assert len(cells) == len(answer["rows"])
    titles = shown.page.locator("tbody tr .cost > [title^='$']").evaluate_all("all => all.map(one => one.title)")
    exact = [f"${row['cost_usd']}" for row in [*answer["rows"], answer["totals"]] if row["cost_usd"] is not None]
    assert titles == exact
    assert axe(shown.page) == []
    shown.shot("explore")


def test_a_mark_becomes_a_filter_and_the_names_of_rows_too(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore?group_by=feature&since=30d"))
    first = full.api("/v1/costs?group_by=feature&since=30d")["rows"][0]
    old = shown.page.url
    bars(shown, "explore").first.click()
    asked = away(shown, old)
    assert asked["feature"] == [first["feature"]] and asked["group_by"] == ["feature"]
    assert whole(shown) == f"${first['cost_usd']}"
    old = shown.page.url
    shown.page.locator(".filters li a").first.click()
    assert "feature" not in away(shown, old)
    old = shown.page.url
    shown.page.locator("tbody a.drill").nth(1).click()
    assert len(away(shown, old)["feature"]) == 1


def test_a_stretch_that_is_dragged_over_becomes_the_period(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore?group_by=day,model&since=30d&compare=previous"))
    old = shown.page.url
    box = shown.page.locator("figure svg .layer_0_marks").first.bounding_box()
    assert box is not None
    height = box["y"] + box["height"] * 0.3
    shown.page.mouse.move(box["x"] + box["width"] * 0.2, height)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + box["width"] * 0.5, height, steps=5)
    shown.page.mouse.up()
    asked = away(shown, old)
    days = [one[0] for one in (asked["since"], asked["until"])]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in days) and days[0] < days[1]
    told = full.api(f"/v1/costs?group_by=day,model&since={days[0]}&until={days[1]}")
    assert 5 < len({row["day"] for row in told["rows"]}) < 15
    assert whole(shown) == f"${told['totals']['cost_usd']}"
    assert "compare" not in asked


def test_the_legend_chooses_and_the_pointer_tells_the_exact_amount(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore?group_by=day,team&since=30d"))
    every = marks(shown, "explore")
    old = shown.page.url
    shown.page.locator("figure svg .role-legend-label text").first.click()
    shown.page.wait_for_timeout(200)
    name = shown.page.locator("figure svg .role-legend-label text").first.text_content()
    chosen = [one for one in data(shown, "explore") if one["s"] == name]
    assert marks(shown, "explore") == len(chosen) < every and shown.page.url == old
    bars(shown, "explore").nth(3).hover()
    shown.page.wait_for_selector(".chart-tip:not([hidden])")
    told = shown.page.locator(".chart-tip").inner_text()
    assert any(one["cost"] in told and one["when"] in told for one in chosen), told
    shown.shot("explore-tip")
    shown.page.mouse.move(2, 2)
    assert shown.page.locator(".chart-tip").is_hidden()


def test_it_is_drawn_anew_in_the_dark_and_on_a_phone(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore"))
    ground = "getComputedStyle(document.querySelector('figure .plot svg')).backgroundColor"
    assert shown.page.evaluate(ground) == "rgb(255, 255, 255)"
    shown.page.click("#theme")
    until = 200
    while shown.page.evaluate(ground) != "rgb(22, 27, 33)" and until:
        until -= 1
        shown.page.wait_for_timeout(50)
    assert until
    shown.shot("explore-dark")
    assert axe(shown.page) == []
    shown.page.set_viewport_size({"width": 390, "height": 844})
    until = 200
    # While it is drawn anew there is none to be seen.
    while ((shown.page.locator("figure .plot svg").bounding_box() or {}).get("width") or 999) > 390 and until:
        until -= 1
        shown.page.wait_for_timeout(50)
    assert until and shown.too_wide() == 0
    shown.shot("explore-phone")
    assert shown.wrong == []


def test_a_chart_is_saved_as_a_picture(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore?group_by=team"))
    for form, begins in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with shown.page.expect_download() as saved:
            shown.page.click(f"[data-save={form}]")
        assert saved.value.suggested_filename == f"explore.{form}"
        assert Path(saved.value.path()).read_bytes().startswith(begins)
    assert shown.wrong == []


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ("group_by=feature&compare=previous&since=7d", "What moved, by feature"),
        ("group_by=model&latency=1", "Latency by model"),
        ("group_by=model&chart=tokens", "Token classes by model"),
        ("group_by=hour&since=24h", "Spend by hour"),
        ("group_by=week,team,model&since=90d", "Spend by week, team and model"),
        ("group_by=user,model&limit=25", "Spend by user and model"),
    ],
)
def test_each_question_has_its_chart(full: Site, tab: Open, asked: str, title: str) -> None:
    shown = drawn(tab(full).goto(f"/explore?{asked}"))
    assert shown.page.locator("figure h2").inner_text() == title
    assert shown.wrong == [] and shown.too_wide() == 0
    shown.shot("explore-" + re.sub(r"\W+", "-", title.lower()))


def test_the_form_asks_and_its_state_is_the_address(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore?team=search"))
    old = shown.page.url
    shown.page.select_option("select[name=group_by] >> nth=1", "feature")
    asked = away(shown, old)
    assert asked["team"] == ["search"] and [one for one in asked["group_by"] if one] == ["day", "feature"]
    old = shown.page.url
    shown.page.select_option("select[name=order]", "-calls")
    assert away(shown, old)["order"] == ["-calls"]
    calls = [
        int(one.replace(",", "")) for one in shown.page.locator("tbody tr:not(.sum) td:nth-child(4)").all_inner_texts()
    ]
    assert calls == sorted(calls, reverse=True)
    with shown.page.expect_download() as saved:
        shown.page.click(".downloads a:has-text('CSV')")
    lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("day,feature,cost_usd") and len(lines) - 1 == len(calls)


def test_what_does_not_fit_is_said_or_left_out(full: Site, tab: Open) -> None:
    shown = drawn(tab(full).goto("/explore?compare=previous"))
    assert "Time is compared with nothing" in shown.text
    shown = drawn(shown.goto("/explore?group_by=team&chart=latency"))
    assert shown.page.locator("figure h2").inner_text() == "Spend by team"
    assert full.get("/explore?group_by=nonsense").status == 422


def test_views_are_kept_for_whoever_keeps_them(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/explore?group_by=team&since=7d&model!=gpt-4o&chart=bars")
    shown.page.click("summary:has-text('Keep this view')")
    shown.page.fill("input[name=name]", "Teams <b>without</b> 4o")
    shown.page.click(".kept .sheet button")
    shown.page.wait_for_selector(".chip")
    assert "Kept as Teams <b>without</b> 4o." in shown.text
    shown.goto("/explore")
    shown.page.click(".chip a")
    shown.page.wait_for_url(re.compile("group_by=team"))
    assert query(shown) == {"group_by": ["team"], "since": ["7d"], "model!": ["gpt-4o"], "chart": ["bars"]}
    shown.shot("explore-kept")
    other = tab(full, key=full.other).goto("/explore")
    assert other.page.locator(".chip").count() == 0, "another key, another project: nothing of it"
    shown.page.click(".chip button")
    shown.page.wait_for_selector(".said:has-text('is removed')")
    assert shown.page.locator(".chip").count() == 0


@pytest.mark.parametrize("path", ["/explore", "/models", "/agents"])
def test_where_nothing_was_called_it_is_said(empty: Site, tab: Open, path: str) -> None:
    shown = drawn(tab(empty).goto(path))
    assert amounts(shown.text) == [] and len(shown.text) > 60
    assert shown.wrong == [] and axe(shown.page) == []
    shown.shot(f"empty{path.replace('/', '-')}")


@pytest.mark.parametrize("path", ["/explore", "/models", "/agents"])
def test_one_receipt_is_enough(single: Site, tab: Open, path: str) -> None:
    shown = drawn(tab(single).goto(path))
    assert shown.wrong == []
    shown.shot(f"single{path.replace('/', '-')}")


def test_ten_thousand_rows_with_long_names_are_shown_and_said(tab: Open, tmp_path: Path) -> None:
    def many(store: Any) -> None:
        receipt = {"provider": "openai", "model": "gpt-4o", "input_tokens": 900, "output_tokens": 40, "latency_ms": 700}
        long = "somebody-with-a-name-that-goes-on-and-on-and-does-not-end-before-the-edge-of-any-window-"
        now_ms = ledger.now_ms()
        rows = [(now_ms - 1000, {**receipt, "user": f"{long}{number:05}"}) for number in range(10_100)]
        filling.send(store, store.default_project(), rows, "01TESTMANY000000000000000A")

    with site(tmp_path, many) as made:
        shown = drawn(tab(made).goto("/explore?group_by=user&limit=10000"))
        assert "9,700 rows more are in the chart and in the CSV." in shown.text
        assert "100 more groups" in shown.text and "other (10,088)" in [one["n"] for one in data(shown, "explore")]
        assert shown.page.locator("tbody tr").count() == 302 and shown.too_wide() == 0
        shown.shot("explore-ten-thousand")
        shown = drawn(shown.goto("/explore?group_by=day,user&limit=10000"))
        assert len(data(shown, "explore")) == 10
        assert "100 more groups with $" in shown.text
        assert shown.wrong == []


def test_a_limit_that_is_no_choice_stays_chosen(single: Site) -> None:
    page = single.get("/explore?group_by=user&limit=300").raw.decode()
    assert re.findall(r'<option value="(\d+)"( selected)?', page[page.index('name="limit"') :])[:5] == [
        ("25", ""), ("100", ""), ("300", " selected"), ("1000", ""), ("10000", ""),
    ]  # fmt: skip


def test_the_screen_stays_light(full: Site, tab: Open) -> None:
    shown = tab(full)
    sizes: dict[str, Any] = {}

    def note(response: Any) -> None:
        sizes[response.url] = int(response.headers.get("content-length", "0") or 0)

    shown.page.on("response", note)
    drawn(shown.goto("/explore"))
    library = next(url for url in sizes if "/charts/vega-" in url)
    assert 100_000 < sizes[library] < 450_000
    assert 0 < sum(sizes.values()) < 1_500_000
    name = urlsplit(library).path
    reply = full.get(name)
    assert "immutable" in reply.headers["cache-control"] and full.get("/charts/vega-other.js").status == 404
