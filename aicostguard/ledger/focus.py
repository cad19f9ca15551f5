"""What calls cost, as FOCUS has it: the FinOps Open Cost and Usage Specification, version 1.2.

Owns which of its columns are filled with what. https://focus.finops.org/focus-specification/v1-2/

A row is what one provider's model cost on one UTC day, for one tier, region and kind of operation, and for one set of
the labels that are asked for as tags. Costs are ours, from the tokens that the provider billed and the prices in force,
one's own included; an invoice may differ, and `aicg price reconcile` says by how much. FOCUS allows no cost to be
unknown: calls without a price stand in a row with no cost, and `x_UnpricedCalls` counts them. A column whose name
begins with `x_` is our own, as the specification wants it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.ledger import query
from aicostguard.ledger.access import places
from aicostguard.ledger.amounts import usd
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import ASKED, DAY_MS, TIMES, Query, known
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.sqlite.billed import billed

VERSION = "1.2"
#: labels that stand in `Tags` unless others are asked for
TAGS = "feature,team"
#: rows at most: more are refused, for a bill that ends early is a wrong one
MOST = 200_000
#: what a row is of, before its tags
_GROUPS = ("day", "provider", "model", "operation", "service_tier", "region")
#: measures of tokens → our own column
_TOKENS = {
    "input_tokens": "x_InputTokens",
    "output_tokens": "x_OutputTokens",
    "cache_read_input_tokens": "x_CacheReadInputTokens",
    "cache_creation_input_tokens": "x_CacheCreationInputTokens",
    "reasoning_output_tokens": "x_ReasoningOutputTokens",
}
#: counts of calls → our own column
_CALLS = {
    "calls": "x_Calls",
    "unpriced_calls": "x_UnpricedCalls",
    "usage_missing_calls": "x_UsageMissingCalls",
    "estimated_calls": "x_EstimatedCalls",
    "partial_calls": "x_PartialCalls",
}
_MEASURES = ("cost_nanousd", *_CALLS, *_TOKENS)
#: the columns of the specification that apply, in its order. What is between whoever pays and the provider
#: (commitments, capacity, prices by the unit) and what has no such thing (resources, zones) is left out, as it wants
#: that. `ChargeClass` and `InvoiceId` have to be there, and are empty: nothing here corrects an invoice, or is one.
_OF_FOCUS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "RegionName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
)
#: all columns, ours behind those of the specification
COLUMNS = (
    *_OF_FOCUS,
    "x_Model",
    "x_Operation",
    "x_ServiceTier",
    *_CALLS.values(),
    *_TOKENS.values(),
)
#: parameter → what it means, beside filters by label
PARAMETERS: Mapping[str, str] = {
    "since": query.PARAMETERS["since"] + " In UTC, as all of FOCUS is.",
    "until": query.PARAMETERS["until"],
    "tags": f"Labels that stand in `Tags`, each set of them a row of its own: of {', '.join(ASKED)}, separated by "
    f"commas. Default {TAGS}; empty for none.",
}


class _Account(NamedTuple):
    """Whose bill it is: an organisation of the ledger, and its project."""

    organisation: str
    project: str


def export(store: SqliteStore, parameters: query.Parameters, project_id: int, now_ms: int) -> dict[str, Any]:
    """What `GET /v1/focus` says: `{focus, since, until, rows, unpriced_calls}`; a row has all of `COLUMNS`.

    Amounts are US dollars as exact decimals, times are UTC. Raises `Refused` (422), also for a period of which receipts
    are no longer here, and for more than `MOST` rows.
    """
    for name in query.PARAMETERS:
        if name in parameters and name not in PARAMETERS:
            raise Refused(422, "does not apply to FOCUS, whose rows are by UTC day", name)
    labels = _labels(parameters.get("tags", ()))
    asked = query.parse({k: v for k, v in parameters.items() if k != "tags"}, project_id, now_ms)
    asked = asked._replace(group_by=(*_GROUPS, *labels))
    # One more than may be, to know whether there are.
    found, gone = store.look(lambda connection: billed(connection, asked, _MEASURES, MOST + 1))
    lacking = query.lacking(gone)
    if lacking is not None:
        raise Refused(
            422,
            f"{lacking['receipts']} receipts of {lacking['first_day']} to {lacking['last_day']} are archived or "
            "deleted, and this is read from receipts: bring back what is archived (aicg archive restore), or begin "
            "later",
            "since",
        )
    if len(found) > MOST:
        raise Refused(422, f"makes more than {MOST} rows: take fewer labels, or a shorter period", "tags")
    place = store.look(lambda connection: places.project(connection, project_id))
    account = _Account(place.organisation, place.name)
    return {
        "focus": VERSION,
        "since": _time(asked.since_ms),
        "until": _time(asked.until_ms),
        "rows": [_row(account, labels, asked, values, sums) for values, sums in found],
        "unpriced_calls": sum(sums["unpriced_calls"] for _, sums in found),
    }


def _labels(given: Sequence[str]) -> tuple[str, ...]:
    if len(given) > 1:
        raise Refused(422, "may be given once", "tags")
    names = tuple(name.strip() for name in (given[0] if given else TAGS).split(",") if name.strip())
    for name in names:
        if not known(name) or name in (*TIMES, *_GROUPS):
            choices = ", ".join(name for name in ASKED if name not in _GROUPS)
            raise Refused(422, f"{name[:64]!a} is no label that a row can be told apart by; use {choices}", "tags")
    if len(set(names)) < len(names):
        raise Refused(422, "names a label twice", "tags")
    return names


def _row(
    account: _Account, labels: Sequence[str], asked: Query, values: Sequence[Any], sums: Mapping[str, int]
) -> dict[str, Any]:
    day, provider, model, operation, tier, region = values[: len(_GROUPS)]
    start = datetime.fromtimestamp(day / 1000, UTC)
    first = start.replace(day=1)
    cost = usd(sums["cost_nanousd"])
    tokens = sums["input_tokens"] + sums["output_tokens"]
    # What has no tokens (images, speech) is counted by the call.
    quantity, unit = (tokens, "Tokens") if tokens else (sums["calls"], "Requests")
    named = zip(labels, values[len(_GROUPS) :])
    filled = {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        **dict.fromkeys(("BillingAccountId", "BillingAccountName"), account.organisation),
        "BillingAccountType": "Organisation",
        "BillingCurrency": "USD",
        "BillingPeriodStart": _said(first),
        "BillingPeriodEnd": _said(first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)),
        "ChargeCategory": "Usage",
        "ChargeDescription": _described(model, operation, tier, sums),
        "ChargeFrequency": "Usage-Based",
        # Nothing outside the period that was asked for is in a row.
        "ChargePeriodStart": _time(max(day, asked.since_ms)),
        "ChargePeriodEnd": _time(min(day + DAY_MS, asked.until_ms)),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), quantity),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit", "SkuMeter"), unit),
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceName"), provider),
        "PricingCategory": "Other" if tier else "Standard",
        **dict.fromkeys(("RegionId", "RegionName"), region or None),
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SkuId": f"{provider}/{model}",
        "SubAccountId": f"{account.organisation}/{account.project}",
        "SubAccountName": account.project,
        "SubAccountType": "Project",
        "Tags": json.dumps({name: value for name, value in named if value}, separators=(",", ":")),
        "x_Model": model,
        "x_Operation": operation or "chat",
        "x_ServiceTier": tier or None,
        **{column: sums[name] for name, column in (*_CALLS.items(), *_TOKENS.items())},
    }
    return {name: filled.get(name) for name in COLUMNS}


def _described(model: str, operation: str, tier: str, sums: Mapping[str, int]) -> str:
    what = f"{model}, {operation or 'chat'}" + (f", {tier}" if tier else "")
    lacking = sums["unpriced_calls"]
    return what + (f"; {lacking} of {sums['calls']} calls have no price and are in no cost" if lacking else "")


def _time(at_ms: int) -> str:
    return _said(datetime.fromtimestamp(at_ms // 1000, UTC))


def _said(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
