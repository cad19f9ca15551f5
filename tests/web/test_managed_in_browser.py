"""The pages on which something is set, in a real browser: how they look, who can use them, and that they work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web import words
from tests.web import managed
from tests.web.conftest import Site, Tab, axe, site

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: how a picture is called → the page
PAGES = {
    "budgets": "/budgets",
    "budget": "/budgets/search",
    "budget-per-user": "/budgets/each%20user",
    "alerts": "/alerts",
    "alert-rules": "/alerts/rules",
    "alert-rule-new": "/alerts/rules?kind=spend",
    "alert-rule": "/alerts/rules/daily_spend",
    "alert-channels": "/alerts/channels",
    "delivery": "/delivery",
    "delivery-processes": "/delivery?group_by=process",
    "settings": "/settings",
    "settings-keys": "/settings/keys",
    "settings-people": "/settings/people",
    "settings-prices": "/settings/prices",
    "settings-retention": "/settings/retention",
    "settings-audit": "/settings/audit",
}
LOOKS = {"light": {}, "dark": {"dark": True}, "phone": {"phone": True}}
Open = Callable[..., Tab]


def _fill(store: SqliteStore) -> None:
    desk = managed.budgets(store)
    managed.fill(store)
    managed.alerts(store, desk)
    managed.person(store, "ada@example.com", "admin", "Ada")
    managed.person(store, "bob@example.com", "read")


@pytest.fixture(scope="module")
def managing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A ledger with something to manage."""
    with site(tmp_path_factory.mktemp("managing"), _fill) as made:
        yield made


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_looks_as_it_should_fits_and_is_accessible(tab: Open, managing: Site, look: str) -> None:
    opened = tab(managing, **LOOKS[look])
    for name, path in PAGES.items():
        opened.goto(path)
        if name == "budget":
            opened.page.wait_for_selector("figure svg, figure canvas, .nothing")
        for folded in opened.page.query_selector_all("details.folded:not([open]) > summary"):
            if folded.is_visible():
                folded.click()
        opened.page.evaluate("scrollTo(0, 0)")
        opened.shot(f"{name}-{look}")
        assert opened.too_wide() <= 0, name
        assert axe(opened.page) == [], name
        assert opened.wrong == [], name


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ("budget", "budget-per-user")])
def test_pages_without_anything_teach_what_they_are_for(tab: Open, empty: Site, name: str) -> None:
    opened = tab(empty).goto(PAGES[name])
    opened.shot(f"{name}-empty")
    assert axe(opened.page) == []
    assert opened.wrong == []


def test_a_budget_is_made_corrected_and_removed_by_keyboard_and_mouse(tab: Open, managing: Site) -> None:
    opened = tab(managing).goto("/budgets")
    page: Page = opened.page
    page.focus("#new > summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Tab")
    page.keyboard.type("lots")
    page.keyboard.press("Enter")
    page.wait_for_selector(".wrong")
    # What is wrong has the focus, is open, and says why; what was written is still there.
    assert page.evaluate("document.activeElement.name") == "limit"
    assert "'lots' cannot be used: use an amount in USD" in page.inner_text(".wrong")
    assert page.input_value("#new [name=name]") == "by keyboard"
    opened.shot("budget-refused-light")
    assert axe(page) == []
    page.fill("#new [name=limit]", "12.50")
    page.keyboard.press("Enter")
    page.wait_for_url("**/budgets/by%20keyboard")
    assert "The budget by keyboard holds from now on." in opened.text
    assert managing.api("/v1/budgets/by%20keyboard")["limit_usd"] == "12.5"
    page.click("summary:has-text('Remove it')")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("button:has-text('Remove by keyboard')")
    assert managing.get("/v1/budgets/by%20keyboard").status == 200
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("button:has-text('Remove by keyboard')")
    page.wait_for_url("**/budgets")
    assert managing.get("/v1/budgets/by%20keyboard").status == 404
    refusals = [said for said in opened.wrong if "422" not in said]  # the browser notes the answer to the wrong limit
    assert refusals == []


def test_a_budgets_burn_is_drawn_to_what_is_spent(tab: Open, managing: Site) -> None:
    opened = tab(managing).goto("/budgets/search")
    opened.page.wait_for_selector("figure svg")
    # From the first of the month to its end, whenever that is looked at: a month's days stand below.
    drawn = opened.page.text_content("figure svg") or ""
    assert re.search(r"01 [A-Z][a-z]{2}.*01 [A-Z][a-z]{2}", drawn, re.DOTALL)
    opened.goto("/budgets/everything")
    opened.page.wait_for_selector("figure svg")
    kept = managing.api("/v1/budgets/everything")
    assert re.sub(r"\s+", " ", opened.page.inner_text(".figures")).startswith("Spent $")
    said = opened.page.get_attribute("figure .plot", "aria-label") or ""
    assert f"${float(kept['spent_usd']):,.2f} of $400.00 spent" in said
    assert opened.wrong == []


def test_a_budget_per_label_is_drawn_for_the_scope_that_is_clicked(tab: Open, managing: Site) -> None:
    opened = tab(managing).goto("/budgets/each%20user")
    opened.page.wait_for_selector("figure svg")
    scopes = {one["scope"]["user"]: one for one in managing.api("/v1/budgets/each%20user")["scopes"]}
    first = opened.page.inner_text("tbody tr >> nth=0 >> a")
    # A minute past midnight there is one.
    user = next((name for name in scopes if name not in first), next(iter(scopes)))
    opened.page.click(f"tbody a:has-text('{user}')")
    opened.page.wait_for_selector(f"h2:has-text('How it goes of {user}')")
    opened.page.wait_for_selector("figure svg")
    said = opened.page.get_attribute("figure .plot", "aria-label") or ""
    spent = words.money(round(float(scopes[user]["spent_usd"]) * 1e9))
    assert f"{spent} of $1.00 spent" in said
    assert (
        opened.page.get_attribute("tbody a[aria-current]", "href") == f"/budgets/each%20user?scope=user%3D{user}#goes"
    )
    opened.shot("budget-of-a-user-light")
    assert axe(opened.page) == []
    opened.goto("/budgets/each%20user?scope=user%3Dnobody")
    assert "is none of the scopes" in opened.text
    opened.goto("/budgets/nightly%20jobs%20of%20the%20data%20platform:%20all%20of%20them")
    if "Nothing in this period" in opened.text:  # some minutes past midnight
        return
    opened.page.wait_for_selector("figure svg")
    assert "of 5M tokens spent" in (opened.page.get_attribute("figure .plot", "aria-label") or "")
    opened.shot("budget-of-tokens-light")


def test_an_alert_is_looked_after_with_a_click(tab: Open, managing: Site) -> None:
    opened = tab(managing).goto("/alerts")
    (row,) = managing.api("/v1/alerts?rule=daily_spend&state=open")["alerts"]
    opened.page.click(f"[aria-label='Acknowledge alert {row['id']}']")
    opened.page.wait_for_selector(".said")
    (after,) = managing.api("/v1/alerts?rule=daily_spend&state=open")["alerts"]
    assert after["state"] == "acknowledged"
    opened.page.click("a:has-text('Daily spend')  >> nth=-1")
    opened.page.wait_for_load_state()
    assert "since=" in opened.page.url


def test_a_key_is_copied_and_is_gone_after_that(tab: Open, managing: Site) -> None:
    opened = tab(managing).goto("/settings/keys")
    page: Page = opened.page
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("summary:has-text('New key')")
    page.fill("[name=name]", "copied")
    page.click("button:has-text('Make the key')")
    page.wait_for_selector("#secret")
    opened.shot("settings-key-made-light")
    key: Any = page.inner_text("#secret")
    page.click("button:has-text('Copy')")
    page.wait_for_selector("button:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == key
    assert managing.get("/v1/whoami", key=key).status == 200
    opened.goto("/settings/keys")
    assert key not in page.content()


def test_a_reader_has_nothing_to_press(tab: Open, managing: Site) -> None:
    import json

    made = managing.server.ask(
        "POST", "/v1/keys", json.dumps({"name": "looks", "roles": ["read"]}).encode(), key=managing.key
    )
    opened = tab(managing, key=made.body["secret"])
    for name in ("budgets", "budget", "alerts", "alert-rules", "alert-channels", "settings-prices"):
        opened.goto(PAGES[name])
        assert opened.page.query_selector_all("main form[method=post], main button:not(figure button)") == [], name
    opened.goto("/settings")
    assert "Audit log" not in opened.text
