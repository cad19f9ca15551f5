"""Money in the ledger: integers, never invented, never changed afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aicostguard.cli import bars, table
from aicostguard.cli.ask import Answer
from aicostguard.ledger import amounts, ingest, query
from aicostguard.ledger.model import MEASURES
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import NOW, Priced, Server, costs, envelope, epoch, receipt, take, totals


@pytest.mark.ids("X1", "C6")
def test_an_unknown_model_is_unpriced_counted_and_never_zero(store: SqliteStore) -> None:
    take(store, envelope([receipt(), receipt(model="unheard-of"), receipt(model="unheard-of")]))
    rows = {row["model"]: row for row in costs(store, group_by="model")["rows"]}
    assert rows["unheard-of"]["cost_nanousd"] is None
    assert rows["unheard-of"]["cost_usd"] is None
    assert rows["unheard-of"]["unpriced_calls"] == 2
    assert rows["gpt-4o"]["unpriced_calls"] == 0
    assert totals(store)["unpriced_calls"] == 2
    assert totals(store)["cost_nanousd"] == 330


@pytest.mark.ids("X1")
def test_the_real_price_table_prices_what_it_knows_and_nothing_else(store: SqliteStore) -> None:
    body = envelope([receipt(input_tokens=1240, output_tokens=312), receipt(model="gpt-4o-of-tomorrow-xyz")])
    ingest.accept(store, store.default_project(), body, NOW)
    rows = {row["model"]: row for row in costs(store, group_by="model")["rows"]}
    # 1,240 × $2.50 + 312 × $10 per million
    assert rows["gpt-4o"]["cost_usd"] == "0.00622"
    assert rows["gpt-4o-of-tomorrow-xyz"]["cost_usd"] is None


@pytest.mark.ids("X2", "C10")
def test_money_is_exact_where_floats_are_not(store: SqliteStore) -> None:
    prices = iter([10**8, 2 * 10**8, 1, 10**14])
    take(store, envelope([receipt()] * 4), price=lambda *_: Priced(next(prices)))
    answer = totals(store)
    assert answer["cost_nanousd"] == 100_000_300_000_001
    assert answer["cost_usd"] == "100000.300000001"
    assert 0.1 + 0.2 != 0.3


@pytest.mark.ids("X2")
@pytest.mark.parametrize(
    "nano,text", [(0, "0"), (1, "0.000000001"), (10**9, "1"), (1_500_000_000, "1.5"), (9 * 10**18, "9000000000")]
)
def test_a_nano_dollar_is_written_in_full(nano: int, text: str) -> None:
    assert query.usd(nano) == text


@pytest.mark.ids("C8")
def test_stored_cost_stays_when_prices_change(store: SqliteStore) -> None:
    body = envelope([receipt(), receipt(model="unheard-of")])
    take(store, body)
    before = costs(store, group_by="model,day")
    doubled: Any = lambda *_: Priced(10**9, "new table")  # noqa: E731
    assert take(store, body, price=doubled)["duplicate"] == 2
    assert costs(store, group_by="model,day") == before
    assert costs(store, group_by="model")["rows"] == costs(store, group_by="model")["rows"]
    take(store, envelope([receipt()], name=epoch()), price=doubled)
    assert totals(store)["cost_nanousd"] == before["totals"]["cost_nanousd"] + 10**9


@pytest.mark.ids("C7")
@pytest.mark.parametrize("cost", [-1, ingest.MAX_COST_NANOUSD + 1])
def test_a_cost_out_of_bounds_is_refused_not_stored(store: SqliteStore, cost: int) -> None:
    reply = take(store, envelope([receipt(), receipt()]), price=lambda *_: Priced(cost))
    assert [item["index"] for item in reply["refused"]] == [0, 1]
    assert totals(store)["calls"] == 0


def test_what_could_not_be_measured_is_counted_beside_the_money(store: SqliteStore) -> None:
    missing = {"provider": "openai", "model": "gpt-4o", "usage_missing": True}
    take(store, envelope([receipt(), missing, receipt(estimated=True), receipt(partial=True)]))
    answer = totals(store)
    assert (answer["calls"], answer["usage_missing_calls"], answer["estimated_calls"], answer["partial_calls"]) == (
        *(4, 1, 1, 1),
    )
    shown = table.show(Answer(costs(store, group_by="model"), False))
    for words in ("1 call without usage", "1 call with estimated", "1 call cut off", "1 call without a price", "≥ $"):
        assert words in shown, shown


@pytest.mark.parametrize(
    "nano,unpriced,shown",
    [
        (0, 0, "$0.000000"),
        (1, 0, "<$0.000001"),
        (499, 0, "<$0.000001"),
        (500, 0, "$0.000001"),
        (1_234_567_891_500, 0, "$1,234.567892"),
        (None, 1, "unpriced"),
        (2_000_000_000, 1, "≥ $2.000000"),
    ],
)
def test_a_table_rounds_half_up_to_six_decimals(nano: int | None, unpriced: int, shown: str) -> None:
    assert table.money({"cost_nanousd": nano, "unpriced_calls": unpriced}) == shown


def test_json_and_csv_carry_the_exact_amounts(server: Server, store: SqliteStore) -> None:
    server.post(envelope([receipt(feature="-x"), receipt(model="unheard-of")]))
    answer = Answer(costs(store, group_by="feature,model"), False)
    assert json.loads(table.as_json(answer)) == answer.body
    lines = table.as_csv(answer).splitlines()
    assert lines[0].startswith("feature,model,cost_usd,cost_nanousd,calls,")
    assert lines[1].startswith("'-x,gpt-4o,0.00000033,330,1,")
    assert lines[2].startswith(",unheard-of,,,1,1,")


@pytest.mark.parametrize(
    "text,shown", [("9.999999999", "$9.999999999"), ("0.0000004", "$0.0000004"), ("1234", "$1,234.00")]
)
def test_what_a_budget_has_spent_is_not_rounded(text: str, shown: str) -> None:
    assert bars._amount({"spent_usd": text}, "spent", "usd") == shown


@pytest.mark.parametrize("share,shown", [(0.999, "99%"), (1.0, "100%"), (0.29, "29%"), (0.004, "0%"), (12.5, "1,250%")])
def test_a_budget_is_at_100_percent_when_nothing_is_left(share: float, shown: str) -> None:
    assert bars._bar({"utilization": share, "state": "warning"}).plain.split()[-1] == shown


def test_a_share_is_nothing_or_all_only_when_it_is() -> None:
    sums = {**dict.fromkeys(MEASURES, 0), "calls": 10**7}
    assert amounts.amounts({**sums, "unpriced_calls": 1})["unpriced_share"] == 1e-7
    assert amounts.amounts({**sums, "estimated_calls": 10**7 - 1})["estimated_share"] == 0.9999999
    assert amounts.amounts({**sums, "estimated_calls": 10**7})["estimated_share"] == 1.0
    assert amounts.amounts(sums)["estimated_share"] == 0.0
    was = {**sums, "cost_nanousd": 10**9}
    assert amounts.changed({**sums, "cost_nanousd": 1}, was)["ratio"] == 1e-9
