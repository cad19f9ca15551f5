"""`%load_ext aicostguard.notebook`: what a cell of a notebook has cost.

    %%aicg        first line of a cell: shows what its AI calls cost
    %aicg on      every cell that makes AI calls shows it; %aicg off; %aicg alone: the whole notebook so far

Owns the magic and its display, HTML with plain text beside it. Needs no `AICG_URL`: calls are metered for display
alone where nothing is to be delivered. A call counts for the cell that is running when it ends. Nobody but `%load_ext`
imports it; `%unload_ext` takes all of it out again.

`%%aicg` is taken off a cell before it runs, instead of running the cell as a magic does: so `await`, tracebacks, other
magics and the value of the last line are what they are without it.
"""

from __future__ import annotations

import html
from typing import Any, Callable

from aicostguard import auto
from aicostguard.testing.spend import Spend, dollars, number

CELL = "%%aicg"
#: count → what is said of calls that are not exact
_DOUBTS = {
    "unpriced": "without a price",
    "usage_missing": "without usage",
    "estimated": "estimated",
    "partial": "cut short",
}


class Cost:
    """What some calls have cost, as Jupyter and a terminal show it."""

    def __init__(self, spend: Spend, what: str) -> None:
        self.spend, self.what = spend, what

    def _parts(self) -> list[str]:
        spend, counts = self.spend, self.spend.as_dict()
        if spend.calls == 0:
            return ["no AI call"]
        cost = dollars(spend.priced_nanousd)
        if spend.unpriced:
            cost = "unpriced" if spend.unpriced == spend.calls else cost + " and more"
        doubts = [f"{counts[name]} {says}" for name, says in _DOUBTS.items() if counts[name]]
        return [
            cost,
            number(spend.calls, "call"),
            f"{spend.input_tokens:,} tokens in, {spend.output_tokens:,} out",
            ", ".join(name.partition(":")[2] for name in sorted(spend.models)),
            *([", ".join(doubts)] if doubts else []),
        ]

    def __repr__(self) -> str:
        return f"{self.what}: " + " · ".join(self._parts())

    def _repr_html_(self) -> str:
        cost, *rest = (html.escape(part) for part in self._parts())
        shown = " · ".join([f"<b>{cost}</b>", *rest])
        return f'<div style="font-size: 90%; opacity: 0.8">{html.escape(self.what)}: {shown}</div>'


class Meter:
    """What was spent, in all and by the cell that runs, and when it is shown."""

    def __init__(self) -> None:
        self.total, self.cell = Spend(), Spend()
        self.every = self.this = False
        self._stop: Callable[[], None] | None = auto.observe(self._came)

    def _came(self, receipt: Any) -> None:
        self.total.add(receipt)
        self.cell.add(receipt)

    def begin(self, info: Any) -> None:
        """A cell begins."""
        self.cell = Spend()
        self.this = _marked((info.raw_cell or "").splitlines())

    def end(self, _: Any) -> None:
        """A cell has ended."""
        if self.this or (self.every and self.cell.calls):
            from IPython.display import display

            display(Cost(self.cell, "This cell"))  # type: ignore[no-untyped-call]
        self.this = False

    def magic(self, line: str) -> Cost | None:
        """%aicg: what the notebook has cost so far. %aicg on, %aicg off: whether every cell says so by itself."""
        word = line.strip()
        if word in ("on", "off"):
            self.every = word == "on"
            return None
        if word:
            raise ValueError(f"%aicg {word}: write %aicg on, %aicg off, or %aicg for what the notebook has cost")
        return Cost(self.total, "This notebook" if self._stop else "AICG_DISABLED is set; this notebook")

    def close(self) -> None:
        """Listen no more."""
        if self._stop is not None:
            self._stop()


def _marked(lines: list[str]) -> bool:
    return bool(lines) and lines[0].strip() == CELL


def _taken_off(lines: list[str]) -> list[str]:
    """A cell without its first line, where that is ours."""
    return lines[1:] if _marked(lines) else lines


_loaded: dict[int, Meter] = {}


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext` calls."""
    if id(shell) in _loaded:
        return
    meter = _loaded[id(shell)] = Meter()
    shell.register_magic_function(meter.magic, "line", "aicg")
    shell.input_transformers_cleanup.insert(0, _taken_off)
    shell.events.register("pre_run_cell", meter.begin)
    shell.events.register("post_run_cell", meter.end)


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext` calls."""
    meter = _loaded.pop(id(shell), None)
    if meter is None:
        return
    shell.events.unregister("pre_run_cell", meter.begin)
    shell.events.unregister("post_run_cell", meter.end)
    shell.input_transformers_cleanup.remove(_taken_off)
    shell.magics_manager.magics["line"].pop("aicg", None)
    meter.close()
