"""A chart without a browser: as PNG or SVG, drawn by `vl-convert-python` in a process of its own.

Owns the bounds of that process: how large a drawing may be, how long it may take, and that one is made at a time. A
drawing that fails is a `NotDrawn`, and harms nobody: who wanted it goes on without.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from typing import Any, Mapping

from aicostguard.ledger import apart
from aicostguard.ledger.apart import Cuts
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.web.charts import theme
from aicostguard.ledger.web.charts.chart import Chart

PACKAGE = "vl_convert"
MISSING = "charts are drawn by vl-convert-python: pip install 'aicostguard[dashboard]'"
FORMATS: Mapping[str, str] = {"svg": "image/svg+xml", "png": "image/png"}
#: bytes of a drawing as JSON, and seconds until it is given up
MOST_BYTES, DEADLINE_S = 6 << 20, 60.0
WIDTH = 720
SCALE = 2
#: characters of a line beneath a title
_LINE = 105
_DRAWER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "drawer.py")
#: one at a time: two would fight for the machine with the ledger itself
_turn = threading.Lock()


class NotDrawn(LedgerError):
    """There is no picture, and why."""


def able() -> bool:
    """Is the package there?"""
    return importlib.util.find_spec(PACKAGE) is not None


def draw(
    chart: Chart,
    form: str,
    *,
    look: str = "light",
    width: int = WIDTH,
    scale: float = SCALE,
    deadline_s: float = DEADLINE_S,
    cuts: Cuts | None = None,
) -> bytes:
    """The picture. Raises `NotDrawn`; blocks for a second or two, so never on a server's loop."""
    if chart.spec is None:
        raise NotDrawn(f"{chart.title}: {chart.notes[0]}")
    order = {"make": form, "spec": alone(chart, look, width), "scale": scale}
    return drawn(order, deadline_s, cuts)


def alone(chart: Chart, look: str, width: int) -> dict[str, Any]:
    """A drawing that stands without a page: with its title, what it leaves out, a ground and a size."""
    config = {**theme.config(look), "font": theme.DRAWN_FONT, "padding": 16}
    config["legend"] = {**config["legend"], "columns": max(1, width // 170)}
    notes = [line for note in chart.notes for line in _lines(note)]
    spec = {**(chart.spec or {}), "width": width, "config": config}
    return {**spec, "title": {"text": chart.title, "subtitle": notes, "limit": width}}


def _lines(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) > _LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def drawn(order: Mapping[str, Any], deadline_s: float = DEADLINE_S, cuts: Cuts | None = None) -> bytes:
    """What the process makes of an order. Raises `NotDrawn`."""
    if not able():
        raise NotDrawn(MISSING)
    text = json.dumps(order).encode()
    if len(text) > MOST_BYTES:
        raise NotDrawn(f"the drawing has {len(text):,} bytes, more than {MOST_BYTES:,}: ask for a shorter period")
    if not _turn.acquire(timeout=deadline_s):
        raise NotDrawn("other charts are being drawn; try again in a moment")
    try:
        return _run(text, deadline_s, cuts if cuts is not None else set())
    finally:
        _turn.release()


def _run(text: bytes, deadline_s: float, cuts: Cuts) -> bytes:
    try:
        done = apart.run(_DRAWER, text, deadline_s, cuts)
    except apart.Late:
        raise NotDrawn(f"the drawing was not done within {deadline_s:g} s") from None
    if done.status or not done.said:
        raise NotDrawn(f"the process that draws ended with {done.status}")
    return done.said
