"""What tests ask of charts in a browser."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.web.conftest import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Locator

_WAITING = (
    "[...document.querySelectorAll('figure[data-chart] .plot')]"
    ".filter(plot => !plot.closest('figure').dataset.state).length"
)


def drawn(tab: Tab) -> Tab:
    """Once every chart of the page is drawn. (`wait_for_function` would need `unsafe-eval`.)"""
    until = time.monotonic() + 120
    while tab.page.evaluate(_WAITING):
        assert time.monotonic() < until, "a chart is not drawn"
        tab.page.wait_for_timeout(50)
    states = tab.page.evaluate(
        "[...document.querySelectorAll('figure[data-chart] .plot')].map(plot => plot.closest('figure').dataset.state)"
    )
    assert set(states) <= {"drawn"}, states
    return tab


def data(tab: Tab, name: str) -> list[dict[str, Any]]:
    """The values that a chart draws, as they stand in the page."""
    found: list[dict[str, Any]] = tab.page.evaluate(
        "name => JSON.parse(document.querySelector(`figure[data-chart=${name}] script`).textContent).data.values", name
    )
    return found


def marks(tab: Tab, name: str) -> int:
    """How many bars a chart shows now."""
    return bars(tab, name).count()


def bars(tab: Tab, name: str) -> Locator:
    """The bars of a chart that has layers; what is dragged over lies in others."""
    return tab.page.locator(f"figure[data-chart={name}] svg .layer_0_marks path")


def nano(text: str) -> int:
    """An exact amount of a tooltip."""
    return int(Decimal(text.strip("≈ ").removeprefix("$")) * 10**9)
