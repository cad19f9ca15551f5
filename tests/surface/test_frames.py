"""`aicostguard.query`: the same rows from a file and over HTTP, and each column with the type that it has."""

from __future__ import annotations

import datetime
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Iterator
from zoneinfo import ZoneInfo

import pytest

import aicostguard
from aicostguard import ledger
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.receipt import MAX_NANOUSD
from tests.ledger.support import KEY, Priced, Server, envelope, epoch, receipt, serving, take

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

DAY = 86_400_000


@pytest.fixture
def store(place: Path) -> Iterator[SqliteStore]:
    opened = ledger.open_ledger(str(place))
    take(opened, envelope([receipt(latency_ms=100, feature="chat", streamed=True)], name=epoch()))
    take(opened, envelope([receipt(model="unheard-of"), receipt(tags={"tier": "gold"})], name=epoch(), ago_ms=2 * DAY))
    yield opened
    opened.close()


@pytest.fixture
def server(store: SqliteStore) -> Iterator[Server]:
    with serving(store) as running:
        yield running


@pytest.mark.parametrize("way", ["file", "http", "environment"])
def test_costs_have_money_twice_and_null_where_nothing_is_known(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    at: dict[str, Any] = {}
    if way == "file":
        at = {"db": place}
    elif way == "http":
        at = {"url": f"http://127.0.0.1:{server.port}", "key": KEY}
    else:
        monkeypatch.setenv("AICG_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("AICG_KEY", KEY)
    answer = aicostguard.query(since="30d", group_by="model", **at)
    frame = answer.pandas()
    assert list(frame["model"]) == ["gpt-4o", "unheard-of"]
    assert str(frame["model"].dtype) == "string"
    assert (str(frame["cost_nanousd"].dtype), str(frame["calls"].dtype)) == ("Int64", "Int64")
    assert (str(frame["cost_usd"].dtype), str(frame["latency_avg_ms"].dtype)) == ("Float64", "Float64")
    assert frame["cost_nanousd"][0] == 660
    assert frame["cost_nanousd"][1] is pandas.NA
    assert frame["cost_usd"][0] == 6.6e-07
    assert frame["cost_usd"][1] is pandas.NA
    assert frame["calls"].sum() == answer.totals["calls"] == 3
    other = answer.polars()
    assert (other.schema["cost_nanousd"], other.schema["cost_usd"]) == (polars.Int64, polars.Float64)
    assert other["cost_nanousd"].to_list() == [660, None]
    assert other.columns == list(frame.columns)


@pytest.mark.parametrize("by", ["feature", None])
def test_the_period_before_has_columns_of_its_own(store: SqliteStore, place: Path, by: str | None) -> None:
    take(store, envelope([receipt(feature="chat")] * 2, name=epoch(), ago_ms=4 * DAY))
    answer = aicostguard.query(db=place, since="3d", feature="chat", group_by=by, compare="previous")
    frame, other = answer.pandas(), answer.polars()
    assert other.columns == list(frame.columns)
    for name in ("before_nanousd", "before_calls", "change_nanousd"):
        assert str(frame[name].dtype) == "Int64" and other.schema[name] == polars.Int64
    assert frame["before_calls"].to_list() == [row["before"]["calls"] for row in answer.rows] == [2]
    assert frame["change_nanousd"].to_list() == other["change_nanousd"].to_list() == [330 - 660]
    assert frame["before_nanousd"].sum() == 660 and frame["before_usd"].sum() == pytest.approx(6.6e-07)
    assert str(frame["ratio"].dtype) == "Float64"


def test_days_know_their_zone(store: SqliteStore, place: Path) -> None:
    answer = aicostguard.query(db=place, since="30d", group_by=["day,model"], tz="Europe/Berlin")
    frame = answer.pandas()
    assert str(frame["day"].dtype) == "datetime64[ms, Europe/Berlin]"
    zone = ZoneInfo("Europe/Berlin")
    told = [datetime.date.fromisoformat(row["day"]) for row in answer.rows]
    assert [stamp.to_pydatetime() for stamp in frame["day"]] == [
        datetime.datetime.combine(day, datetime.time(), zone) for day in told
    ]
    assert answer.polars().schema["day"] == polars.Datetime("ms", "Europe/Berlin")
    assert answer.polars()["day"].to_list() == [stamp.to_pydatetime() for stamp in frame["day"]]
    months = aicostguard.query(db=place, since="30d", group_by="month").pandas()
    assert set(months["month"].dt.day) == {1}


@pytest.mark.ids("E17")
def test_what_a_user_costs_over_months(store: SqliteStore, place: Path) -> None:
    for days, user in ((1, "ann"), (40, "ann"), (75, "ann"), (75, "bob")):
        take(store, envelope([receipt(user=user)], name=epoch(), ago_ms=days * DAY))
    frame = aicostguard.query(db=place, since="100d", group_by="month,user").polars()
    trend = frame.filter(polars.col("user") == "ann").sort("month")
    assert trend["month"].is_sorted()
    assert trend["calls"].sum() == 3
    assert trend.height >= 2, "40 days lie in two months at least"
    assert trend["cost_nanousd"].sum() == 3 * 330
    assert frame.filter(polars.col("user") == "bob")["cost_nanousd"].to_list() == [330]


def test_receipts_come_in_pages_and_whole(
    server: Server, store: SqliteStore, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aicostguard.frames.MAX_LIMIT", 2)
    for at in ({"db": place}, {"url": f"http://127.0.0.1:{server.port}", "key": KEY}):
        answer = aicostguard.query("receipts", since="30d", **at)  # type: ignore[arg-type]
        assert answer.other is None
        frame = answer.pandas()
        assert len(frame) == 3
        assert str(frame["at"].dtype) == "datetime64[ms, UTC]"
        assert (str(frame["streamed"].dtype), str(frame["input_tokens"].dtype)) == ("boolean", "Int64")
        assert frame["streamed"][0]
        assert frame["streamed"][1] is pandas.NA
        assert sorted(frame["tags"].dropna()) == ["tier=gold"]
        assert frame["cost_nanousd"].sum() == 660
        assert answer.polars().height == 3
        cut = aicostguard.query("receipts", since="30d", limit=2, **at)  # type: ignore[arg-type]
        assert (len(cut.rows), cut.other) == (2, {"more": True})


def test_money_is_exact_beyond_what_a_float_holds(store: SqliteStore, place: Path) -> None:
    dear = [receipt(model="dear")] * 999
    take(store, envelope(dear, name=epoch()), price=lambda _receipt, _at: Priced(MAX_NANOUSD - 1))
    (row,) = aicostguard.query(db=place, since="30d", model="dear").rows  # no group: one row, of everything
    frame = aicostguard.query(db=place, since="30d", model="dear").pandas()
    exact = 999 * (MAX_NANOUSD - 1)
    assert int(float(exact)) != exact
    assert int(frame["cost_nanousd"][0]) == exact == int(Decimal(row["cost_usd"]) * 10**9)
    assert aicostguard.query(db=place, since="30d", model="dear").polars()["cost_nanousd"][0] == exact


@pytest.mark.parametrize("what", ["costs", "receipts"])
def test_no_rows_have_columns_all_the_same(place: Path, what: str) -> None:
    ledger.open_ledger(str(place)).close()
    answer = aicostguard.query(what, db=place, since="7d", **({"group_by": "day,model"} if what == "costs" else {}))
    frame = answer.pandas()
    assert len(frame) == 0
    assert str(frame["cost_nanousd"].dtype) == "Int64"
    assert answer.polars().schema["cost_usd"] == polars.Float64
    assert str(frame["day" if what == "costs" else "at"].dtype) == "datetime64[ms, UTC]"


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"what": "prices"}, "what: 'prices' must be costs or receipts"),
        ({"limit": 0}, "limit: 0 must be a whole number from 1 on"),
        ({"since": "the ides"}, "since: "),
        ({"colour": "red"}, "colour: "),
    ],
)
def test_a_wrong_question_names_what_is_wrong(place: Path, asked: dict[str, Any], says: str) -> None:
    ledger.open_ledger(str(place)).close()
    with pytest.raises(ValueError, match=says):
        aicostguard.query(db=place, **asked)


def test_where_nothing_is_is_said(place: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger at"):
        aicostguard.query(db=place)
    with pytest.raises(LedgerError, match="needs a key"):
        aicostguard.query(url="http://127.0.0.1:1")


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_missing_library_is_named_with_its_remedy(
    store: SqliteStore, place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    answer = aicostguard.query(db=place)
    with pytest.raises(ImportError, match=rf"needs {name}: pip install 'aicostguard\[frames\]'"):
        getattr(answer, name)()
