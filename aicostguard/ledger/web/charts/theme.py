"""How charts look: colours and type, for light and dark, as data.

Owns the palette. The colours of series are of middle lightness, so that the same ones hold on both grounds, and can be
told apart by who does not see red or green (they differ in lightness and in blue against yellow). A name keeps its
colour from one chart to the next as far as the palette allows.
"""

from __future__ import annotations

import zlib
from typing import Any, Mapping, Sequence

PALETTE = (
    "#3b76c4",
    "#e0912f",
    "#2f9e8f",
    "#c25b8a",
    "#8a6fd1",
    "#b3a12c",
    "#58a6dd",
    "#a8623a",
    "#6b8f3c",
    "#d4706a",
)
#: what is summed up, and what stands in the background
OTHER = "#8b929c"
#: more than before, less than before
UP, DOWN = "#d4691e", "#2f8f9e"
LIMIT = "#c93a3a"
#: for one series alone
ACCENT = PALETTE[0]
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif'
#: comes with the package that draws, so that a picture is the same on a machine without fonts
DRAWN_FONT = "Liberation Sans"

#: theme → text, softer text, lines of the grid, ground
_GROUNDS: Mapping[str, tuple[str, str, str, str]] = {
    "light": ("#1a2027", "#56616d", "#e6e9ed", "#ffffff"),
    "dark": ("#e5e9ed", "#9da8b3", "#2c343d", "#161b21"),
}
THEMES = tuple(_GROUNDS)


def config(theme: str) -> dict[str, Any]:
    """Vega-Lite's `config` of a theme."""
    text, soft, grid, ground = _GROUNDS[theme]
    return {
        # Marks are hidden from screen readers: the picture has a description, and the table beside it each figure.
        "aria": False,
        "background": ground,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": soft,
            "labelFontSize": 12,
            "labelPadding": 6,
            "titleColor": soft,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "gridColor": grid,
            "domainColor": grid,
            "tickColor": grid,
            "domain": False,
            "ticks": False,
        },
        "axisY": {"labelLimit": 220},
        "legend": {
            "labelColor": text,
            "labelFontSize": 12,
            "labelLimit": 150,
            "title": None,
            "orient": "top",
            "direction": "horizontal",
            "symbolType": "square",
            "symbolSize": 90,
            "columnPadding": 14,
            "rowPadding": 4,
            "offset": 8,
        },
        "title": {"color": text, "subtitleColor": soft, "anchor": "start", "fontSize": 14, "subtitleFontSize": 12},
        "text": {"color": text, "fontSize": 12},
        "rule": {"color": soft},
        "range": {"category": list(PALETTE)},
        # The halo keeps a text readable that lies on bars or on a line.
        "style": {
            "quiet": {"fill": soft},
            "halo": {"fill": ground, "stroke": ground, "strokeWidth": 4, "strokeJoin": "round"},
        },
    }


def colours(names: Sequence[str]) -> list[str]:
    """A colour for each name; within a palette's length all different."""
    taken: dict[int, str] = {}
    out = []
    for name in names:
        slot = zlib.crc32(name.encode("utf-8", "replace")) % len(PALETTE)
        if len(taken) < len(PALETTE):
            while slot in taken:
                slot = (slot + 1) % len(PALETTE)
        taken[slot] = name
        out.append(PALETTE[slot])
    return out
