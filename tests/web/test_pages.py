"""Pages in a browser: their figures are the ledger's, they are found by keyboard and phone, and nothing is refused."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Callable
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from aicostguard import ledger
from aicostguard.ledger.api import create_app
from aicostguard.ledger.sqlite import SqliteStore, sums
from aicostguard.ledger.web import cut, words
from aicostguard.ledger.web.pages import overview
from tests.ledger.support import Server, envelope, receipt, take, wait_for
from tests.web import filled
from tests.web.conftest import Site, Tab, axe

Open = Callable[..., Tab]
PAGES = ["/", "/receipts"]


def tiles(shown: Tab) -> dict[str, str]:
    """What the tiles of the first screen say, by their names."""
    names = shown.page.locator(".tile dt").all_inner_texts()
    return dict(zip(names, shown.page.locator(".tile dd").all_inner_texts()))


def titles(shown: Tab, within: str) -> list[str]:
    """The exact amounts behind the rounded ones of a table's rows."""
    return [str(one.get_attribute("title")) for one in shown.page.locator(f"{within} .cost > [title^='$']").all()]


@pytest.mark.ids("Z10", "A32")
def test_the_tiles_say_what_the_api_says(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/?since=30d")
    month = full.api("/v1/costs?since=month")["totals"]
    today = full.api("/v1/costs?since=today")["totals"]
    whole = full.api("/v1/costs?since=30d")["totals"]
    said = tiles(shown)
    assert words.money(month["cost_nanousd"]) in said["This month"]
    assert words.money(today["cost_nanousd"]) in said["Today"]
    assert str(whole["unpriced_calls"]) in said["Unpriced calls"]
    assert words.share(whole["unpriced_share"]) in said["Unpriced calls"]
    assert str(whole["usage_missing_calls"]) in said["Unmeasured calls"]
    assert words.share(whole["estimated_share"]) in said["Estimated"]
    budget = next(one for one in full.api("/v1/budgets")["budgets"] if one["name"] == "everything")
    assert words.share(budget["utilization"]) in said["Budget used"]
    assert shown.wrong == []


@pytest.mark.parametrize(
    "asked",
    ["since=30d&group_by=feature", "since=7d&group_by=model&order=-calls", "since=month&group_by=team&model!=o3"],
)
def test_the_breakdown_is_the_answer_of_the_api(full: Site, tab: Open, asked: str) -> None:
    shown = tab(full).goto("/?" + asked)
    # As the page does: on the first of a month its rows are, above all, those of the month before.
    answer = full.api(f"/v1/costs?limit=12&compare=previous&{asked}")
    name = answer["group_by"][0]
    rows = shown.page.locator("table.rows tbody tr:not(.rest)")
    assert [one.split("\t")[0] for one in rows.all_inner_texts()] == [row[name] for row in answer["rows"]]
    exact = [f"${row['cost_usd']}" for row in answer["rows"] if row["cost_usd"] is not None]
    assert titles(shown, "table.rows tbody") == exact
    assert titles(shown, "table.rows tfoot") == [f"${answer['totals']['cost_usd']}"]


def test_what_it_says_of_the_rest_adds_up(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/?since=30d&group_by=feature&limit=3")
    answer = full.api("/v1/costs?since=30d&group_by=feature&limit=3")
    assert titles(shown, "tr.rest") == [f"${answer['other']['cost_usd']}"]
    assert f"{answer['other']['groups']} more" in shown.page.inner_text("tr.rest")


def test_the_run_rate_and_the_forecast_follow_from_the_days(store: SqliteStore, server: Server) -> None:
    from tests.ledger.support import envelope, receipt, take

    for days in range(10):
        take(
            store,
            envelope(
                [receipt(input_tokens=1000 * (days + 1), output_tokens=0)],
                ago_ms=days * filled.DAY,
                name=f"01TEST{days:020d}",
            ),
        )
    shown = server.get("/").raw.decode()
    rate = sum(3 * 1000 * (days + 1) for days in range(1, 8)) // 7
    assert tile(shown, "Run rate") == rate
    now = datetime.now(timezone.utc)
    following = (now.replace(day=28, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=4)).replace(day=1)
    so_far = server.get("/v1/costs?since=month").body["totals"]["cost_nanousd"]
    expected = so_far + rate * ((following - now) / timedelta(days=1))
    # Between both looks some seconds passed, each of which is worth less than a nano-dollar here.
    assert tile(shown, "Forecast") == pytest.approx(expected, abs=30)


def test_what_is_free_is_not_new_and_little_is_not_nothing(store: SqliteStore, server: Server) -> None:
    from tests.ledger.support import envelope, receipt, take

    free = receipt(feature="free", input_tokens=0, output_tokens=0)
    take(store, envelope([free], name="01TEST" + "0" * 20, ago_ms=8 * filled.DAY))
    take(store, envelope([free, receipt(feature="born")], name="01TEST" + "1" * 20))
    shown = server.get("/?since=7d").raw.decode()
    rows = {
        name: re.search(rf"<tr><td><a[^>]*><span[^>]*>{name}</span>.*?</tr>", shown, re.DOTALL)
        for name in ("free", "born")
    }
    assert rows["free"] is not None and "±$0.00" in rows["free"].group() and ">new<" not in rows["free"].group()
    assert rows["born"] is not None and ">new<" in rows["born"].group()
    told = server.get("/v1/compare?since=7d&baseline=gpt-4o-mini").body["baseline"]
    said = re.search(r"It would have cost .*?calls", server.get("/models?since=7d&baseline=gpt-4o-mini").raw.decode())
    assert said is not None and float(told["cost_there_usd"]) < 0.005
    assert f'title="${told["cost_there_usd"]}"' in said.group() and ">$0.0<" not in said.group()


def tile(shown: str, name: str) -> int:
    """The exact amount in a tile, in nano-dollars."""
    found = re.search(rf">{name}</dt><dd><b>[^<]*<span title=\"\$([\d.]+)\"", shown)
    assert found is not None
    return int(Decimal(found.group(1)) * 10**9)


def test_a_click_filters_and_the_filter_is_taken_away(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/?since=30d&group_by=team")
    shown.page.click("table.rows a.drill:has-text('support')")
    shown.page.wait_for_url("**team=support**")
    answer = full.api("/v1/costs?since=30d&team=support")
    assert titles(shown, "table.rows tfoot") == [f"${answer['totals']['cost_usd']}"]
    shown.page.click(".filters a")
    shown.page.wait_for_url(lambda url: "support" not in url)
    whole = full.api("/v1/costs?since=30d")
    assert titles(shown, "table.rows tfoot") == [f"${whole['totals']['cost_usd']}"]


def test_the_key_slash_leads_to_the_filter(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/receipts?since=30d")
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("model!=gpt-4o")
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_url("**model%21=gpt-4o**")
    assert "gpt-4o-mini" in shown.text
    assert not [name for name in shown.page.locator("tbody td:nth-child(2)").all_inner_texts() if name == "gpt-4o"]
    shown.goto("/?where=" + quote("modle=x"))
    assert "is no filter" in shown.text


def test_downloads_are_what_is_shown(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/?since=7d&group_by=model&team=search")
    address = shown.page.get_attribute(".downloads a:text-is('JSON')", "href")
    assert address is not None
    answer = full.api(address)
    assert titles(shown, "table.rows tfoot") == [f"${answer['totals']['cost_usd']}"]
    assert answer["group_by"] == ["model"]


def test_receipts_are_listed_by_pages_and_each_has_its_own(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/receipts?since=30d&feature=review_code&limit=5")
    seen: list[str] = []
    for _ in range(2):
        seen += [str(one.get_attribute("href")) for one in shown.page.locator("table.receipts tbody a").all()]
        shown.page.click("a[rel=next]")
        shown.page.wait_for_url("**cursor=**")
    wanted = full.api("/v1/receipts?since=30d&feature=review_code&limit=10")["receipts"]
    assert seen == [f"/receipts/{row['at_ms']}/{row['epoch']}/{row['seq']}" for row in wanted]
    # One in a hundred has no usage, and so no price: which one comes first depends on the hour.
    place, first = next((place, row) for place, row in enumerate(wanted) if "price_row" in row)
    shown.goto(seen[place])
    for value in (first["model"], first["request"], first["user"], f"${first['cost_usd']}", first["price_row"]):
        assert value in shown.text
    shown.shot("receipt")
    assert shown.wrong == []
    shown.goto(seen[place][:-1] + "x")
    assert "no such receipt" in shown.text


def test_what_comes_in_appears_by_itself(single: Site, tab: Open) -> None:
    first, second = tab(single).goto("/"), tab(single).goto("/receipts?model=gpt-4o-mini")
    for shown in (first, second):
        shown.page.wait_for_selector("#live-state[data-kind=on]")
    body = {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "input_tokens": 7777,
        "output_tokens": 1,
        "feature": "<i>x"[3:],
    }
    other = {**body, "model": "gpt-4o", "input_tokens": 8888}
    # What is followed from is the moment of the first look: one that came in before it is on the page already.
    for one in (body, other):
        assert single.server.post(one, key=single.key).status == 200
    first.page.wait_for_selector("#tail >> text=8,888")
    second.page.wait_for_selector("#tail >> text=7,777")
    first.page.wait_for_selector("#tail >> text=7,777")
    assert "8,888" not in second.text, "what the filter leaves out does not come in"


def test_a_stream_ends_with_the_right_to_look(
    server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import http.client

    from aicostguard.ledger.web import tail
    from tests.ledger.support import KEY

    monkeypatch.setattr(tail, "CHECK_S", 0.0)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/tail", headers={"Authorization": f"Bearer {KEY}"})
    reply = connection.getresponse()
    assert reply.getheader("content-type", "").startswith("text/event-stream")
    assert reply.readline() == b"retry: 3000\n"
    found = store.find_key(KEY)
    assert found is not None
    store.revoke_key(found.shown, found.project_id, ledger.now_ms())
    rest = reply.read().decode()
    assert rest.endswith("event: over\ndata: {}\n\n")
    connection.close()


def test_only_so_many_may_follow(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.ledger.web import tail

    monkeypatch.setattr(tail, "MOST", 0)
    reply = server.get("/tail")
    assert reply.status == 503 and reply.headers["retry-after"] == "30"


def test_before_the_first_receipt_the_page_says_how_to_get_one(empty: Site, tab: Open) -> None:
    shown = tab(empty)
    assert "pip install aicostguard" in shown.text
    assert f"AICG_URL={empty.url} AICG_KEY={empty.key[:9]}…" in shown.text
    assert empty.key not in shown.page.content()
    shown.shot("welcome")
    assert shown.wrong == [] and axe(shown.page) == []


def test_the_page_of_the_first_receipt_comes_by_itself(tab: Open, tmp_path: Any) -> None:
    from tests.web.conftest import site

    with site(tmp_path) as fresh:
        shown = tab(fresh)
        shown.page.wait_for_selector("#waiting")
        reply = fresh.server.post(
            {"provider": "openai", "model": "gpt-4o", "input_tokens": 10, "output_tokens": 1}, key=fresh.key
        )
        assert reply.status == 200
        shown.page.wait_for_selector(".tiles")


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible_and_nothing_is_refused(full: Site, tab: Open, path: str) -> None:
    name = path.strip("/") or "overview"
    for dark in (False, True):
        shown = tab(full, dark=dark).goto(path)
        wait_for(
            lambda shown=shown: not shown.page.locator("figure[data-chart]:not([data-state])").count(), "charts", 60
        )
        assert axe(shown.page) == []
        assert shown.wrong == []
        shown.shot(f"{name}-{'dark' if dark else 'light'}")


def test_on_a_phone_the_marked_page_of_the_menu_is_seen(full: Site, tab: Open) -> None:
    shown = tab(full, phone=True).goto("/delivery")
    menu, marked = (shown.page.locator(f"nav.pages{more}").bounding_box() for more in ("", " [aria-current]"))
    assert menu and marked
    assert menu["x"] <= marked["x"]
    assert marked["x"] + marked["width"] <= menu["x"] + menu["width"]
    assert shown.page.evaluate("document.querySelector('nav.pages').scrollLeft") > 0


def test_where_nothing_is_a_browser_gets_a_page_and_a_program_what_it_reads(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/reciepts")
    assert "There is no page at this address." in shown.page.inner_text("main")
    assert shown.page.locator("nav.pages a").count() > 5
    assert shown.page.locator("nav.pages [aria-current]").count() == 0
    shown.page.click("main >> text=Overview")
    assert shown.page.url.rstrip("/") == full.url
    for path in ("/reciepts", "/v1/reciepts"):
        assert full.get(path).body["status"] == 404
    assert full.server.get("/v1/reciepts", key=full.key, Accept="text/html").body["status"] == 404
    unknown = full.server.get("/reciepts", key=None, Accept="text/html")
    assert (unknown.status, unknown.headers["location"]) == (303, "/login?next=%2Freciepts")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_figure_of_the_tiles_is_cut(full: Site, tab: Open, width: int) -> None:
    """However large: what does not fit goes on in the next line."""
    shown = tab(full).log_in()
    shown.page.set_viewport_size({"width": width, "height": 900})
    shown.goto("/")
    cut = shown.page.evaluate(
        """() => [...document.querySelectorAll(".tile")].map((tile) => {
            const figure = tile.querySelector("b");
            figure.textContent = "≈$1,755,144.76";
            const range = document.createRange();
            range.selectNodeContents(figure);
            return range.getBoundingClientRect().right - tile.getBoundingClientRect().right;
        }).filter((over) => over > 0)"""
    )
    assert cut == []


@pytest.mark.parametrize("path", [*PAGES, "/login", "/receipts?model=nothing-of-it", "/?modle=x"])
def test_pages_fit_a_phone(full: Site, tab: Open, path: str) -> None:
    shown = tab(full, phone=True).goto(path)
    wait_for(lambda: not shown.page.locator("figure[data-chart]:not([data-state])").count(), "charts", 60)
    assert shown.too_wide() <= 0
    shown.shot(f"phone-{re.sub(r'[^a-z]+', '-', path).strip('-') or 'overview'}")


def test_the_theme_is_switched_and_stays(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/receipts")

    def ground() -> str:
        return str(shown.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    shown.page.click("#theme")
    dark = ground()
    assert light != dark
    shown.goto("/receipts")
    assert ground() == dark
    assert shown.page.get_attribute("html", "data-theme") == "dark", "from the server: no page flashes white"


def test_everything_is_reached_by_keyboard(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/")
    shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.className") == "skip"
    shown.page.keyboard.press("Enter")
    assert shown.page.evaluate("document.activeElement.id") == "content"
    seen = set()
    for _ in range(60):
        shown.page.keyboard.press("Tab")
        seen.add(shown.page.evaluate("document.activeElement.textContent.trim()"))
    assert {"CSV", "review_code"} <= seen
    shown.page.focus(".who summary")
    shown.page.keyboard.press("Enter")
    assert shown.page.is_visible("text=Log out everywhere")
    shown.page.keyboard.press("Escape")
    assert not shown.page.is_visible("text=Log out everywhere")


def test_a_link_of_an_alert_shows_what_it_speaks_of(full: Site, tab: Open) -> None:
    alerts = wait_for(lambda: full.api("/v1/alerts?state=open")["alerts"], "an alert", 60)
    shown = tab(full).goto("/")
    link = shown.page.locator("section[aria-labelledby=alerts] .lines a").first
    text = link.inner_text()
    link.click()
    shown.page.wait_for_url("**since=**")
    assert text in [one["text"] for one in alerts]
    assert shown.page.locator("table.rows").count() == 1


def test_the_screen_asks_sums_and_no_receipts(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With five million receipts it takes as long as with five: by what is asked, not by the clock."""
    filled.fill(store)
    asked: list[Any] = []
    plain = store.costs

    def costs(query: Any) -> Any:
        asked.append(query)
        return plain(query)

    monkeypatch.setattr(store, "costs", costs)
    key = filled.key(store)
    # Without its lifespan: nothing runs beside the requests.
    client = TestClient(create_app(store=store), base_url="http://127.0.0.1")
    for address in ("/", "/?since=7d&group_by=model", "/?since=30d&model=gpt-4o", "/?since=90d&tz=Europe/Berlin"):
        asked.clear()
        assert client.get(address, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert 6 <= len(asked) <= 9, address
        raw = [one for one in asked for table, *_ in sums.cover_of(one) if table == "receipts"]
        assert not raw, address
        assert max(len(plain(one).rows) for one in asked) <= 1000, address


@pytest.mark.parametrize("rule", [{"per": ["user"]}, {"period": "session"}])
def test_a_budget_in_which_nobody_has_spent_yet_is_shown(store: SqliteStore, rule: dict[str, Any]) -> None:
    """So begins every period of a budget that is kept for each user."""
    take(store, envelope([receipt()]))
    headers = {"Authorization": f"Bearer {filled.key(store)}"}
    client = TestClient(create_app(store=store), base_url="http://127.0.0.1")
    made = {"name": "new", "limit_usd": 5, "match": {"feature": "quiet"}, **rule}
    assert client.post("/v1/budgets", json=made, headers=headers).status_code == 201
    for page in ("/", "/budgets", "/budgets/new"):
        shown = client.get(page, headers={**headers, "Accept": "text/html"})
        assert shown.status_code == 200, shown.text
        assert "new" in shown.text and "othing" in shown.text and "spent yet" in shown.text, page


def test_the_forecast_is_what_is_spent_and_the_rate_for_what_is_left() -> None:
    shared = {"name": "s", "per": [], "match": {}, "period": "day", "limit_usd": "9", "reach": "organisation"}
    assert overview.limit_of([shared], "day") is None, "of all projects together; the columns are of one"
    assert overview.limit_of([{"name": "a", "per": [], "match": {}, "period": "day", "limit_usd": "4.5"}], "day") == (
        "a",
        4_500_000_000,
    )
    assert (
        overview.limit_of([{"name": "a", "per": ["team"], "match": {}, "period": "day", "limit_usd": "4"}], "day")
        is None
    )
    assert (
        overview.limit_of([{"name": "a", "per": [], "match": {}, "period": "month", "limit_usd": "4"}], "day") is None
    )


def test_a_cut_answer_is_the_one_with_a_smaller_limit(full: Site) -> None:
    asked = "/v1/costs?since=30d&group_by=feature&compare=previous"
    whole, few = full.api(asked + "&limit=200"), full.api(asked + "&limit=3")
    assert cut.cut(whole, 3) == few
    assert cut.cut(whole, 200) == whole
    assert cut.extremes(few, 5) is None, "what the limit cut off might have moved most"
    found = cut.extremes(whole, 2)
    assert found is not None
    up = full.api(asked + "&order=-change&limit=2")["rows"]
    assert found[0] == [row for row in up if (row["change_nanousd"] or 0) > 0]
    down = full.api(asked + "&order=change&limit=2")["rows"]
    assert found[1] == [row for row in down if (row["change_nanousd"] or 0) < 0]


def test_quality_comes_once_the_rest_stands(full: Site, tab: Open) -> None:
    shown = tab(full).goto("/?since=30d")
    shown.page.wait_for_selector("[data-part][data-state=there]")
    models = full.api("/v1/compare?since=30d")["models"]
    scored = {one["model"]: round(one["avg_quality"], 3) for one in models if one["avg_quality"] is not None}
    assert len(scored) == 3
    rows = shown.page.locator("[data-part] tbody tr").all_inner_texts()
    assert {row.split("\t")[0]: float(row.split("\t")[1]) for row in rows} == scored
