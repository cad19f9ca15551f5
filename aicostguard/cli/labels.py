"""`aicg labels`: which labels have too many different values, and how many a day's sums have room for.

Owns the options and the text. What they mean is `ledger.keeping.labels`.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from typing import Any

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, access, ask, options
from aicostguard.ledger.keeping import labels as of_labels
from aicostguard.ledger.model import MOST_NAMES

#: full days that are shown to people; JSON has all
SHOWN = 30
_DB = options.DB_AS_SERVED


@click.command(short_help=VERBS["labels"])
@click.argument("dimension", required=False)
@click.option("--most", type=int, help="Different values of DIMENSION that the sums of a day have room for.")
@click.option("--default", "general", is_flag=True, help="Take the bound of DIMENSION away again.")
@click.option("--project", help="Name or number of a project. Default: every project without a bound of its own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_DB
def labels(
    dimension: str | None, most: int | None, general: bool, project: str | None, as_json: bool, path: str | None
) -> int:
    """Which labels have more different values a day than there is room for in the sums, since when, and whose they are.

    DIMENSION with --most sets how many there may be: user, feature, team, … or a pair like feature,model. What comes
    beyond it is summed up as (other); receipts keep the true value, and a filter on a value stays exact.
    """
    if dimension is None and (most is not None or general or project is not None):
        raise click.UsageError(f"name the dimension: one of {', '.join(MOST_NAMES)}")
    if dimension is not None and (most is None) != general:
        raise click.UsageError(f"say what {dimension} is bounded to: --most N, or --default")
    with ask.opened(path) as store:
        if dimension is not None:
            of_labels.set_bound(store, project, dimension, most, ledger.now_ms(), access.operator())
        found = of_labels.shown(store)
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if as_json else _told(found))
    return 0


def _told(found: dict[str, Any]) -> str:
    lines = []
    for item in found["full"][:SHOWN]:
        since = datetime.fromtimestamp(item["since_ms"] / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")
        lines.append(
            f"{item['day']}  {item['dimension']} of project {item['project']}: more than {item['values']:,} values, "
            f"full since {since} UTC, by service {item['service'] or '(not said)'}"
        )
    if len(found["full"]) > SHOWN:
        lines.append(f"and {len(found['full']) - SHOWN:,} more: --json has all")
    lines = lines or ["No day is full: every value has sums of its own."]
    lines.append("Room for values a day: " + _bounds(found["bounds"]))
    lines += [f"  project {name}: {_bounds(most)}" for name, most in found["of_projects"].items()]
    return "\n".join(lines) + "\n"


def _bounds(most: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in most.items())
