"""FOCUS: rows that add up to what is asked otherwise, columns as the specification has them, nothing unsaid."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger import focus, query
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import retention
from aicostguard.ledger.keeping.books import ARCHIVE, DELETE, Rule
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import NOW, aicg, costs, envelope, receipt, serving, take

#: noon of the last day of a year (UTC) that ended half a month ago or before: the next month is one of the next year
YEAR = (datetime.fromtimestamp(NOW / 1000, timezone.utc) - timedelta(days=15)).year
DECEMBER = int(datetime(YEAR - 1, 12, 31, 12, tzinfo=timezone.utc).timestamp() * 1000)
LAST, FIRST = f"{YEAR - 1}-12-31", f"{YEAR}-01-01"
ALL: dict[str, list[str]] = {"since": ["all"]}
#: what the specification (1.2) wants to be there in every row and never empty
MANDATORY = (
    "BilledCost",
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
)


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    """Two days at the turn of a year: teams, a tier, a region, embeddings, speech, a call without a price."""
    ago = NOW - DECEMBER
    first = [
        receipt(feature="ask", team="search"),
        receipt(feature="ask", team="search", input_tokens=7),
        receipt(feature="ask", team="sales", service_tier="batch", region="eu-west-1"),
        receipt(provider="azure", feature="ask", team="search"),
        receipt(model="unheard-of", feature="ask", team="search"),
        receipt(model="text-embedding-3-small", operation="embeddings", output_tokens=0),
    ]
    second = [
        receipt(feature="ask", team="search", tags={"tier": "gold"}, estimated=True),
        {"provider": "openai", "model": "tts-1", "operation": "audio", "characters": 9, "input_tokens": 0},
    ]
    take(store, envelope(first, name="01FOCUS" + "0" * 18 + "1", ago_ms=ago, service="web"))
    take(store, envelope(second, name="01FOCUS" + "0" * 18 + "2", ago_ms=ago - DAY_MS))
    return store


def exported(store: SqliteStore, **parameters: str) -> dict[str, Any]:
    asked = {**ALL, **{name: [value] for name, value in parameters.items()}}
    return focus.export(store, asked, store.default_project(), ledger.now_ms())


def money(rows: list[dict[str, Any]], column: str = "BilledCost") -> int:
    return sum(int(Decimal(row[column]) * 10**9) for row in rows)


@pytest.mark.ids("Z9")
def test_rows_add_up_to_what_the_query_path_says(filled: SqliteStore) -> None:
    for parameters in ({}, {"tags": ""}, {"tags": "tags.tier,service"}, {"team": "search"}, {"model!": "gpt-4o"}):
        answer = exported(filled, **parameters)
        asked = {name: value for name, value in parameters.items() if name != "tags"}
        totals = costs(filled, **asked)["totals"]
        rows = answer["rows"]
        for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
            assert money(rows, column) == totals["cost_nanousd"]
        for measure, column in {
            "calls": "x_Calls", "unpriced_calls": "x_UnpricedCalls", "estimated_calls": "x_EstimatedCalls",
            "input_tokens": "x_InputTokens", "output_tokens": "x_OutputTokens",
        }.items():  # fmt: skip
            assert sum(row[column] for row in rows) == totals[measure]
        assert answer["unpriced_calls"] == totals["unpriced_calls"]
    assert costs(filled)["totals"]["calls"] == 8
    days = costs(filled, group_by="day,provider,model")["rows"]
    assert len(exported(filled, tags="")["rows"]) == len(days) + 1  # the batch tier is a row of its own


@pytest.mark.ids("Z9")
def test_a_row_is_what_the_specification_wants(filled: SqliteStore) -> None:
    rows = exported(filled)["rows"]
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:00:00Z")
    for row in rows:
        assert tuple(row) == focus.COLUMNS
        assert all(row[name] not in (None, "") for name in MANDATORY)
        assert {name for name in row if not name[0].isupper()} == {name for name in row if name.startswith("x_")}
        assert all(moment.fullmatch(row[name]) for name in row if name.endswith(("PeriodStart", "PeriodEnd")))
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert isinstance(json.loads(row["Tags"]), dict)
        assert row["ChargeClass"] is row["InvoiceId"] is None
    december, january = rows[0], rows[-1]
    assert (december["BillingPeriodStart"], december["BillingPeriodEnd"]) == (
        f"{YEAR - 1}-12-01T00:00:00Z", f"{FIRST}T00:00:00Z",
    )  # fmt: skip
    assert (january["BillingPeriodStart"], january["ChargePeriodEnd"]) == (
        f"{FIRST}T00:00:00Z", f"{YEAR}-01-02T00:00:00Z",
    )  # fmt: skip
    batch = next(row for row in rows if row["x_ServiceTier"])
    assert (batch["PricingCategory"], batch["RegionId"], batch["x_ServiceTier"]) == ("Other", "eu-west-1", "batch")
    assert batch["Tags"] == '{"feature":"ask","team":"sales"}' and batch["SkuId"] == "openai/gpt-4o"
    assert (batch["BillingAccountId"], batch["SubAccountId"]) == ("default", "default/default")
    asked = next(row for row in rows if row["x_Calls"] == 2)
    assert (asked["ConsumedQuantity"], asked["ConsumedUnit"], asked["x_Operation"]) == (127, "Tokens", "chat")
    spoken = next(row for row in rows if row["x_Model"] == "tts-1")
    assert (spoken["ConsumedQuantity"], spoken["PricingUnit"], spoken["x_Operation"]) == (1, "Requests", "audio")


def test_a_call_without_a_price_is_said_and_no_part_of_a_cost(filled: SqliteStore) -> None:
    row = next(row for row in exported(filled)["rows"] if row["x_Model"] == "unheard-of")
    assert (row["BilledCost"], row["x_UnpricedCalls"]) == ("0", 1)
    assert row["ChargeDescription"] == "unheard-of, chat; 1 of 1 calls have no price and are in no cost"


def test_a_period_within_a_day_is_the_charge_period(filled: SqliteStore) -> None:
    rows = exported(filled, since=f"{LAST}T06:00:00", until=f"{LAST}T18:00:00")["rows"]
    assert {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows} == {
        (f"{LAST}T06:00:00Z", f"{LAST}T18:00:00Z")
    }
    assert {row["BillingPeriodEnd"] for row in rows} == {f"{FIRST}T00:00:00Z"}


def test_tags_are_the_labels_that_are_asked_for(filled: SqliteStore) -> None:
    assert {row["Tags"] for row in exported(filled, tags="")["rows"]} == {"{}"}
    tagged = [json.loads(row["Tags"]) for row in exported(filled, tags="tags.tier, service")["rows"]]
    assert {"tags.tier": "gold"} in tagged and {"service": "web"} in tagged and {} in tagged


@pytest.mark.parametrize(
    "parameters, field, says",
    [
        ({"tz": "Europe/Berlin"}, "tz", "by UTC day"),
        ({"limit": "5"}, "limit", "does not apply"),
        ({"group_by": "team"}, "group_by", "does not apply"),
        ({"tags": "prompt"}, "tags", "'prompt' is no label"),
        ({"tags": "model"}, "tags", "'model' is no label"),
        ({"tags": "day"}, "tags", "'day' is no label"),
        ({"tags": "team,team"}, "tags", "names a label twice"),
        ({"since": "soon"}, "since", "soon"),
        ({"colour": "red"}, "colour", "is not a parameter"),
    ],
)
def test_what_is_asked_wrongly_is_refused_by_name(
    filled: SqliteStore, parameters: dict[str, str], field: str, says: str
) -> None:
    with pytest.raises(Refused, match=re.escape(says)) as caught:
        exported(filled, **parameters)
    assert (caught.value.field, caught.value.status) == (field, 422)


def test_a_bill_that_would_end_early_is_refused(filled: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(exported(filled)["rows"])
    monkeypatch.setattr(focus, "MOST", whole)
    assert len(exported(filled)["rows"]) == whole
    monkeypatch.setattr(focus, "MOST", whole - 1)
    with pytest.raises(Refused, match=f"more than {whole - 1} rows") as caught:
        exported(filled)
    assert caught.value.field == "tags"


@pytest.mark.parametrize("keep", [ARCHIVE, DELETE])
def test_of_receipts_that_are_gone_there_is_no_bill(filled: SqliteStore, keep: str) -> None:
    recent = (datetime.fromtimestamp(NOW / 1000, timezone.utc) - timedelta(days=1)).date().isoformat()
    retention.set_rule(filled, None, Rule(10, keep), NOW, Actor("test"))
    retention.run(filled, NOW)
    with pytest.raises(Refused, match=f"8 receipts of {LAST} to {FIRST} are archived or deleted.*archive restore"):
        exported(filled)
    assert exported(filled, since=recent)["rows"] == []


@pytest.mark.ids("Z9")
def test_over_http_and_at_the_command_line_it_is_the_same(filled: SqliteStore, tmp_path: Path) -> None:
    rows = exported(filled)["rows"]
    with serving(filled) as server:
        answer = server.get("/v1/focus?since=all").body
        assert (answer["focus"], answer["rows"]) == ("1.2", rows)
        reply = server.get("/v1/focus?since=all&format=csv")
        assert 'filename="focus.csv"' in reply.headers["content-disposition"]
        refused = server.get("/v1/focus?since=all&tags=prompt")
        assert (refused.status, refused.body["field"]) == (422, "tags")
        assert server.get("/v1/focus", key=None).status == 401
    lines = list(csv.DictReader(io.StringIO(reply.raw.decode())))
    assert [tuple(line) for line in lines] == [focus.COLUMNS] * len(rows)
    assert lines == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    done = aicg("focus", "--since", "all", "--db", filled.path)
    assert (done.returncode, done.stdout.encode()) == (0, reply.raw)
    assert done.stderr == "aicg: 1 calls have no price: they stand with no cost, counted in x_UnpricedCalls\n"
    told = aicg("focus", "--since", "all", "--tags", "", "--where", "model!=unheard-of", "--json", "--db", filled.path)
    assert (told.returncode, told.stderr) == (0, "")
    assert money(json.loads(told.stdout)["rows"]) == money(rows)
    assert query.DEFAULT_SINCE in aicg("focus", "--help").stdout
