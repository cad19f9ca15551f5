"""Answers as CSV, for spreadsheets: what the API and the CLI give alike.

Owns columns, their order, and cells that no spreadsheet takes for a formula. Names come from outside and may begin with
`=`, `+`, `-` or `@`; such a cell gets a quote in front. Numbers are ours and stay numbers, negative ones included.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Iterable, Mapping, Sequence

from aicostguard.ledger.amounts import CHANGES, DERIVED
from aicostguard.ledger.model import MEASURES

#: the group of what is archived, where sums tell how much that is
ARCHIVED = "(archived)"
#: the column that says how many receipts at most are in no line, because they are archived
LACKING = "archived_receipts"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: what an answer may hold of percentiles, in order
_PERCENTILES = [f"{what}_{name}_ms" for what in ("latency", "ttft") for name in ("p50", "p95", "p99")]


def costs(answer: Mapping[str, Any]) -> str:
    """A line per row: groups, `cost_usd`, every sum and what follows from them; `other` is the last line.

    Without groups it is one line, the totals. Where receipts are archived that would be in some line, a last column
    says in each how many.
    """
    groups: Sequence[str] = answer["group_by"]
    totals = answer["totals"]
    columns = ["cost_usd", *MEASURES, *DERIVED, *(name for name in _PERCENTILES if name in totals)]
    if "before" in totals:
        columns += ["before_usd", "before_calls", *CHANGES[1:]]
    rows = answer["rows"] if groups else [totals]
    lines = [[name_cell(row[name]) for name in groups] + _cells(row, columns) for row in rows]
    if other := answer["other"]:
        name = f"({other['groups']} more)" if other["groups"] else ARCHIVED
        lines.append([name, *[""] * (len(groups) - 1), *_cells(other, columns)])
    if gone := answer["archived"]:
        columns = [*columns, LACKING]
        lines = [[*line, gone["receipts"]] for line in lines]
    return written([*groups, *columns], lines)


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    before = row.get("before", {})
    flat = {**row, "before_usd": before.get("cost_usd"), "before_calls": before.get("calls")}
    return ["" if flat.get(name) is None else flat[name] for name in columns]


def rows(found: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Objects as lines. Without `columns`, every key that occurs, in the order in which they do."""
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in found for name in row))
    return written(names, ([name_cell(row.get(name)) for name in names] for row in found))


def written(heading: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """CSV with a heading."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(lines)
    return out.getvalue()


def name_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, separators=(",", ":"))
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
