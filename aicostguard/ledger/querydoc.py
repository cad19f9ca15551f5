"""What the API says of its questions about cost: descriptions and shapes for the OpenAPI document.

Owns no behaviour. Parameters and measures come from the tables that the query path itself reads.
"""

from __future__ import annotations

from typing import Any, Mapping

from aicostguard.ledger import agents, apidoc, focus, query, views
from aicostguard.ledger.amounts import AVERAGES, SHARES
from aicostguard.ledger.keeping.doc import ARCHIVED, FULL
from aicostguard.ledger.model import DIMENSIONS, TIMES

FORMAT = {
    "name": "format",
    "in": "query",
    "required": False,
    "description": "`json` or `csv`; by default what the Accept header asks for. No cell begins as a formula does. "
    "Beside CSV the header `AICG-Archived` says what the answer lacks, and `AICG-Cursor` of receipts where the "
    "next page begins.",
    "schema": {"type": "string"},
}
_SEVERAL = {"type": "array", "items": {"type": "string"}}
_DECIMAL = {"type": ["string", "null"], "description": "US dollars, exact."}
_NUMBER = {"type": ["number", "null"]}
_DERIVED: dict[str, Any] = {
    "cost_per_call_usd": {**_DECIMAL, "description": "US dollars a priced call, to the nano-dollar."},
    "cache_savings_usd": {**_DECIMAL, "description": "What caches saved, in US dollars; below 0 where they cost."},
    **dict.fromkeys((*SHARES, *AVERAGES), _NUMBER),
}
_PERCENTILES = {
    **{f"{what}_{name}_ms": _NUMBER for what in ("latency", "ttft") for name in ("p50", "p95", "p99")},
    "approximate": {"type": "boolean", "description": "Percentiles are off by up to 1 %."},
}
_CHANGES = {
    "before": {"type": "object", "description": "Cost, calls and tokens of the period compared with."},
    "change_nanousd": {"type": ["integer", "null"]},
    "change_usd": _DECIMAL,
    "ratio": {**_NUMBER, "description": "Cost by cost before; null where there was none."},
}
_AMOUNTS = {**apidoc._AMOUNTS, **_DERIVED, **_PERCENTILES, **_CHANGES}
_ROW = apidoc._object({**apidoc._NAMES, **{name: {"type": "string"} for name in TIMES}, **_AMOUNTS})


EXCLUDED: list[dict[str, Any]] = [
    {
        "name": name + query.NOT,
        "in": "query",
        "required": False,
        "description": f"No receipts with this: {dimension.says}.",
        "schema": _SEVERAL,
    }
    for name, dimension in DIMENSIONS.items()
]


def _entry(summary: str, says: str, answer: Any, parameters: list[dict[str, Any]], *errors: int) -> dict[str, Any]:
    content = {"application/json": {"schema": answer}, "text/csv": {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "description": says,
        "tags": ["costs"],
        "responses": {
            200: {"description": "The answer.", "content": content},
            **apidoc._errors(401, 403, *errors, 422, 503),
        },
        "openapi_extra": {**apidoc._KEY_NEEDED, "parameters": [*parameters, FORMAT]},
    }


GET_COSTS = _entry(
    "What did it cost?",
    "Sums over a period, grouped and filtered. Rows and `other` (what `limit` cut off) add up to `totals`. Calls "
    "without a price or without usage are counted beside the money, never as zero.",
    apidoc._object(
        {
            "since": {"type": "string"},
            "until": {"type": "string"},
            "tz": {"type": "string"},
            "group_by": _SEVERAL,
            "rows": {"type": "array", "items": _ROW},
            "other": {"oneOf": [apidoc._object({"groups": {"type": "integer"}, **_AMOUNTS}), {"type": "null"}]},
            "totals": apidoc._object(_AMOUNTS),
            "archived": ARCHIVED,
            "full": FULL,
            "compared_with": apidoc._object({"since": {"type": "string"}, "until": {"type": "string"}}),
        }
    ),
    [*apidoc._parameters(*query.PARAMETERS, own=query.PARAMETERS), *EXCLUDED],
)
_WHOLE = {"type": ["integer", "null"]}
_SUMS = apidoc._object({"cost_usd": _DECIMAL, **dict.fromkeys(agents.SUMMED, _WHOLE)})
_NAME = {"type": ["string", "null"]}
GET_AGENTS = _entry(
    "Who called whom, and what it cost",
    "Agents as a tree of any depth, its lines in order, the dearest branch first: `direct` is what an agent's own "
    "calls cost as called from there, `delegated` all below it, `total` both. Each cost is on one line: the totals of "
    "depth 0, `unnamed` (calls of no agent) and `other` (of too many names) add up to `totals`. What an agent of "
    "several callers handed on stands once, under the nearest agent that every way to it leads through; its other "
    "lines are `elsewhere`. `gathered` is a line without calls of its own: for all callers, or for one who made none.",
    apidoc._object(
        {
            **{name: {"type": "string"} for name in ("since", "until", "tz")},
            "agents": {
                "type": "array",
                "items": apidoc._object(
                    {
                        "agent": {**_NAME, "description": "Null: calls of `called_by` that name no agent."},
                        "called_by": {**_NAME, "description": "The line that it stands under; null at the top."},
                        "depth": {"type": "integer", "minimum": 0},
                        **dict.fromkeys(("direct", "delegated", "total"), _SUMS),
                        "callers": {"type": "array", "items": _NAME, "description": "All; null: called by no agent."},
                        "elsewhere": {"type": "boolean"},
                        "gathered": {"type": "boolean"},
                    }
                ),
            },
            "unnamed": _SUMS,
            "other": {"oneOf": [_SUMS, {"type": "null"}]},
            "totals": apidoc._object(_AMOUNTS),
            "archived": ARCHIVED,
            "full": FULL,
        }
    ),
    [*apidoc._parameters(*agents.PARAMETERS, own=agents.PARAMETERS), *EXCLUDED],
)
GET_FOCUS = _entry(
    "What calls cost, as FOCUS has it",
    "Rows of the FinOps Open Cost and Usage Specification 1.2: a UTC day, provider, model, operation, tier and region, "
    "and a set of the labels in `tags`. Costs are US dollars, exact; calls without a price have none, and "
    "`x_UnpricedCalls` counts them. Read from receipts: of a period of which some are archived or deleted it "
    "is refused.",
    apidoc._object(
        {
            "focus": {"const": focus.VERSION},
            "since": {"type": "string"},
            "until": {"type": "string"},
            "rows": {
                "type": "array",
                "items": apidoc._object({name: {"type": ["string", "integer", "null"]} for name in focus.COLUMNS}),
            },
            "unpriced_calls": {"type": "integer"},
        }
    ),
    [*apidoc._parameters(*focus.PARAMETERS, own=focus.PARAMETERS), *EXCLUDED],
)
GET_RECEIPTS = _entry(
    "The receipts behind a figure",
    "Single receipts of a period, newest first, each with its cost, its price row and its time, in pages: ask again "
    "with the `cursor` of the answer while there is one. What comes in meanwhile moves no page.",
    apidoc._object(
        {
            "receipts": {"type": "array", "items": {"type": "object"}},
            "cursor": {"type": ["string", "null"]},
            "archived": ARCHIVED,
        }
    ),
    [*apidoc._parameters(*query.OF_RECEIPTS, own=query.OF_RECEIPTS), *EXCLUDED],
)
GET_RECEIPTS["tags"] = ["receipts"]


def _of_view(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": default is None,
            "description": "Required." if default is None else f"Default {default}.",
            "schema": {"type": "string"},
        }
        for name, default in parameters.items()
    ]


_ALL = {name: default for view in views.VIEWS.values() for name, default in view.parameters.items()}
GET_VIEW = _entry(
    "A question with a name",
    "\n\n".join(f"`{name}`: {view.make.__doc__}" for name, view in views.VIEWS.items()),
    {},
    [
        {"name": "name", "in": "path", "required": True, "schema": {"enum": list(views.VIEWS)}},
        *[{**item, "required": False, "description": "Where the view has it."} for item in _of_view(_ALL)],
    ],
    404,
)
KNOWN = {
    name: _entry(says, str(views.VIEWS[name].make.__doc__), {}, _of_view(views.VIEWS[name].parameters))
    for name, says in (("costs_today", "Today by model"), ("feature_costs", "Days by feature"))
}
