"""`--chart FILE`: what a table says, as a picture.

Owns the file: it is written whole or not at all.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Mapping

import click

from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.web.charts import draw, kinds


def ending(path: str | None) -> str:
    """`svg` or `png`, by the file's name. Before anything is asked: a wrong name must not cost the answer."""
    found = Path(path or "x.svg").suffix.lower().lstrip(".")
    if found not in draw.FORMATS:
        raise click.BadParameter(f"{path!r} must end with .svg or .png", param_hint="--chart")
    return found


def write(answer: Mapping[str, Any], path: str, form: str) -> None:
    """Draw an answer of `GET /v1/costs`. Raises `LedgerError`."""
    chart = kinds.chart(answer)
    if chart is None:
        raise LedgerError("--chart needs something to tell apart: --by day, --by model, …")
    picture = draw.draw(chart, form)
    beside = f"{path}.{os.getpid()}"
    try:
        with open(beside, "xb") as file:
            file.write(picture)
        os.replace(beside, path)
    except OSError as error:
        Path(beside).unlink(missing_ok=True)
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None
    sys.stderr.write(f"{chart.title}: {path}\n")
