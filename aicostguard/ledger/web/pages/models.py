"""Models beside each other: quality against cost, latency, token classes, and the same traffic on one of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from starlette.responses import Response

from aicostguard.ledger import comparing
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web.charts import bars, models
from aicostguard.ledger.web.view import View

#: models in the table; more are in the file
ROWS = "100"
#: what `GET /v1/compare` does not take
_NOT_OURS = ("group_by", "order", "compare", "latency")


def show(view: View) -> Response:
    """The page."""
    baseline = view.state.one("baseline")
    asked = {name: value for name, value in view.asked(limit=ROWS).items() if name not in _NOT_OURS}
    refused: Refused | None = None
    try:
        found = _compare(view, {**asked, **({"baseline": [baseline]} if baseline else {})})
    except Refused as error:
        # A baseline without a price, or too much to price again: the rest of the page is as true as before.
        if error.field != "baseline":
            raise
        refused, found = error, _compare(view, asked)
    answer = view.costs(group_by="model", latency="1", limit=ROWS, order="-cost", compare=None)
    scores = models.scores(found)
    score = view.state.one("score") or (scores[0] if scores else "")
    per = view.state.one("per", "call")
    if per not in models.PRICES:
        raise Refused(422, f"must be one of {', '.join(models.PRICES)}", "per")
    return view.show(
        "models.html",
        found=found,
        quality=models.quality(found, score, per=per),
        spend=bars.breakdown(answer),
        latency=models.latency(answer),
        first_token=models.latency(answer, of="ttft"),
        tokens=bars.tokens(answer),
        scores=scores,
        score=score,
        per=per,
        prices=[(name, price.says) for name, price in models.PRICES.items()],
        baselines=[("", "–"), *((name, name) for name in _named(found))],
        baseline=baseline,
        refused=refused,
        rows=[
            (one, one["quality"].get(score), _nano(one["cost_per_call_usd"]), _nano(one["cost_per_token_usd"], 10**6))
            for one in found["models"]
        ],
        kept={name: view.state.one(name) or None for name in ("score", "baseline")},
    )


def _compare(view: View, parameters: dict[str, list[str]]) -> dict[str, Any]:
    return comparing.compare(view.site.store, parameters, view.principal.project_id, view.now_ms)


def _nano(text: str | None, times: int = 1) -> int | None:
    """So many times an exact amount, for the eye."""
    return None if text is None else round(Decimal(text) * times * 10**9)


def _named(found: dict[str, Any]) -> list[str]:
    return [one["model"] for one in found["models"] if one["model"]]
