"""Queries over HTTP and in the shell: shapes, CSV, and every example of docs/queries.md."""

from __future__ import annotations

import csv
import io
import re
import shlex
from typing import Any, Mapping

import pytest

from aicostguard import ledger
from aicostguard.ledger import query, views
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, DIMENSIONS, TIMES
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import ROOT, Server, aicg, costs, envelope, epoch, receipt, serving, take

DOC = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", DOC, re.M | re.S)
    return [line.split("#")[0].strip() for block in found for line in block.splitlines() if line.strip()]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    bodies = [
        receipt(feature="chat", user="ann", latency_ms=100, team="a"),
        receipt(feature="chat", user="ann", latency_ms=301),
        receipt(feature="rag", user="bob", model="o3", latency_ms=50, ttft_ms=9),
        receipt(feature="rag", user="bob", model="unheard-of"),
    ]
    take(store, envelope(bodies))
    take(store, envelope([receipt(feature="chat")], name=epoch(), ago_ms=3 * DAY_MS))
    return store


def asker(store: SqliteStore) -> views.Asker:
    return views.Asker(store, store.default_project(), ledger.now_ms())


def view(store: SqliteStore, name: str, **parameters: str) -> Any:
    return views.look(name, {key: [value] for key, value in parameters.items()}, asker(store))


@pytest.mark.ids("E09", "E11")
def test_costs_today_in_its_known_shape(filled: SqliteStore, server: Server) -> None:
    body = server.get("/costs/today").body
    assert body == {
        "date": "today",
        "total_usd": 0.0,
        "models": [
            {"model": "gpt-4o", "calls": 2, "cost": 0.0, "avg_latency_ms": 200.5},
            {"model": "o3", "calls": 1, "cost": 0.0, "avg_latency_ms": 50.0},
            {"model": "unheard-of", "calls": 1, "cost": None, "avg_latency_ms": None},
        ],
    }
    assert server.get("/costs/today", key=None).status == 401


@pytest.mark.ids("ACC:E10", "ACC:A21")
def test_features_in_their_known_shape(filled: SqliteStore, server: Server) -> None:
    assert server.get("/costs/feature?days=7").body == [
        {"feature": "chat", "calls": 3, "cost": 0.0},
        {"feature": "rag", "calls": 2, "cost": 0.0},
    ]
    assert server.get("/costs/feature?days=2").body[0]["calls"] == 2
    assert server.get("/costs/feature?days=0").body["field"] == "days"


@pytest.mark.ids("D08", "D09", "ACC:D10", "E05", "E06", "E07", "E08")
def test_every_known_view_has_its_shape(filled: SqliteStore) -> None:
    by_day = view(filled, "daily_spend_by_model")
    assert [row["model"] for row in by_day] == ["gpt-4o", "o3", "unheard-of", "gpt-4o"]
    assert by_day[0] | {"date": ""} == {
        "date": "", "model": "gpt-4o", "total_cost": 6.6e-07, "total_tokens": 220, "request_count": 2,
    }  # fmt: skip
    assert view(filled, "cost_per_user") == [
        {"user_id": "ann", "total_cost": 6.6e-07, "requests": 2, "avg_cost_per_request": 3.3e-07},
        {"user_id": None, "total_cost": 3.3e-07, "requests": 1, "avg_cost_per_request": 3.3e-07},
        {"user_id": "bob", "total_cost": 3.3e-07, "requests": 2, "avg_cost_per_request": 3.3e-07},
    ]
    chat, rag = view(filled, "cost_by_feature")
    assert (chat["total_cost"], chat["daily_avg"]) == (9.9e-07, 4.95e-07)
    assert (rag["total_cost"], rag["daily_avg"]) == (3.3e-07, 3.3e-07)
    assert view(filled, "daily_cost_by_model", date="today")[0] == {
        "model": "gpt-4o", "calls": 2, "total_in": 200, "total_out": 20, "total_cost": 6.6e-07,
    }  # fmt: skip
    assert view(filled, "features", days="2")[0] == {
        "feature": "chat", "calls": 2, "total_cost": 6.6e-07, "avg_latency": 200.5,
    }  # fmt: skip
    assert view(filled, "latency_percentiles", model="gpt-4o") == {"p50": 200, "p95": 291, "p99": 299, "count": 2}
    assert view(filled, "latency_percentiles", model="nobody") is None
    spent = view(filled, "spent_today", limit="0.0000001")
    assert (spent["exceeded"], spent["unpriced_calls"]) == (True, 1)


@pytest.mark.ids("E07")
def test_a_percentile_is_rounded_once(store: SqliteStore) -> None:
    take(store, envelope([receipt(latency_ms=ms) for ms in [100] * 10 + [101, 102]]))
    assert costs(store, exact="1")["totals"]["latency_p95_ms"] == 101.45
    assert view(store, "latency_percentiles", model="gpt-4o")["p95"] == 101  # by way of 101.5 it was 102


@pytest.mark.ids("E14")
def test_tags_are_asked_for_like_dimensions(filled: SqliteStore, server: Server) -> None:
    sent = [{"tier": "gold", "a.b-c": "x"}, {"tier": "free"}, {"other": "gold"}]
    take(filled, envelope([receipt(tags=tags) for tags in sent], name=epoch()))
    grouped = "/v1/costs?since=2d&group_by=tags.tier&order=tags.tier"
    body = server.get(grouped).body
    assert [(row["tags.tier"], row["calls"]) for row in body["rows"]] == [(None, 5), ("free", 1), ("gold", 1)]
    assert [row["tags.tier"] for row in rows_of(server.get(grouped + "&format=csv").raw.decode())] == [
        "",
        "free",
        "gold",
    ]
    for one in ("tags.tier=gold", "tags.a.b-c=x"):
        assert server.get("/v1/costs?since=2d&" + one).body["totals"]["calls"] == 1
    assert server.get("/v1/costs?since=2d&tags.tier!=gold&tags.a.b-c=").body["totals"]["calls"] == 6
    assert [row["tags"]["tier"] for row in server.get("/v1/receipts?tags.tier=free").body["receipts"]] == ["free"]
    for wrong in ("group_by=tags.", "tags.=1", "tags.a%22b=1", "tags=1", "group_by=tags.%27"):
        assert server.get(f"/v1/costs?{wrong}").status == 422, wrong
    told = aicg("costs", "--db", filled.path, "--by", "tags.tier", "--where", "tags.tier!=free", "--csv").stdout
    assert [row["tags.tier"] for row in rows_of(told)] == ["", "gold"]
    assert "tags.NAME" in aicg("costs", "--db", filled.path, "--where", "tags.=1").stderr


@pytest.mark.parametrize(
    "name,parameters,status,field",
    [
        ("nope", {}, 404, "name"),
        ("features", {"weeks": "1"}, 422, "weeks"),
        ("features", {"days": "-1"}, 422, "days"),
        ("latency_percentiles", {}, 422, "model"),
        ("spent_today", {"limit": "nan"}, 422, "limit"),
        ("daily_cost_by_model", {"date": "x"}, 422, "date"),
        ("daily_cost_by_model", {"date": "7d"}, 422, "date"),
        ("daily_cost_by_model", {"date": "all"}, 422, "date"),
        ("daily_cost_by_model", {"date": "2026-02-30"}, 422, "date"),
        ("daily_cost_by_model", {"date": "2026-03-12T05:00"}, 422, "date"),
        ("cost_per_user", {"tz": "Mars"}, 422, "tz"),
    ],
)
def test_a_view_refuses_what_it_does_not_know(
    store: SqliteStore, name: str, parameters: Mapping[str, str], status: int, field: str
) -> None:
    with pytest.raises(Refused) as refused:
        view(store, name, **parameters)
    assert (refused.value.status, refused.value.field) == (status, field)


def test_no_day_of_a_view_is_cut_off(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_MOST", "4")
    for ago in range(5):
        take(store, envelope([receipt(feature=name, model=name) for name in "ab"], name=epoch(), ago_ms=ago * DAY_MS))
    found = view(store, "cost_by_feature")
    assert [row["daily_avg"] * 5 == pytest.approx(row["total_cost"]) for row in found] == [True, True]
    assert len(view(store, "daily_spend_by_model")) == 10


def test_csv_is_what_json_is(filled: SqliteStore, server: Server) -> None:
    path = "/v1/costs?since=7d&group_by=feature&limit=1&latency=1"
    body = server.get(path).body
    for reply in (server.get(path + "&format=csv"), server.get(path, Accept="text/csv")):
        assert reply.headers["content-type"].startswith("text/csv")
        first, other = rows_of(reply.raw.decode())
        assert (first["feature"], other["feature"]) == ("chat", "(1 more)")
        for name in ("cost_usd", "calls", "cache_savings_nanousd", "latency_p95_ms", "latency_avg_ms"):
            assert first[name] == str(body["rows"][0][name])
        assert other["calls"] == str(body["other"]["calls"])
    assert server.get(path, Accept="text/csv, application/json").body == body
    assert server.get("/v1/costs?format=xml").body["field"] == "format"
    assert rows_of(server.get("/v1/receipts?since=7d&limit=2&format=csv").raw.decode())[0]["provider"] == "openai"
    assert rows_of(server.get("/v1/views/cost_per_user?format=csv").raw.decode())[0]["user_id"] == "ann"
    compared = "/v1/costs?since=1d&group_by=feature&compare=previous&format=csv"
    assert rows_of(server.get(compared).raw.decode())[0]["before_calls"] == "0"


@pytest.mark.parametrize("name", ["-1+1", "@SUM(A1)", "-cmd", "- x"])
def test_no_cell_is_a_formula(store: SqliteStore, server: Server, name: str) -> None:
    label = re.sub(r"[^\w.:/@ -]", ".", name)
    take(store, envelope([receipt(feature=label, user=label)]))
    for path in ("/v1/costs?group_by=feature&format=csv", "/v1/receipts?format=csv", "/v1/views/features?format=csv"):
        assert rows_of(server.get(path).raw.decode())[0]["feature"] == "'" + label


def test_every_request_of_the_document_is_answered(filled: SqliteStore) -> None:
    requests = [line.removeprefix("GET ") for line in blocks("http")]
    assert len(requests) > 15
    with serving(filled) as server:
        for path in requests:
            assert server.get(path).status == 200, path


def test_every_command_of_the_document_runs(filled: SqliteStore) -> None:
    commands = blocks("sh")
    assert len(commands) > 5
    for line in commands:
        done = aicg(*shlex.split(line)[1:], "--db", filled.path)
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout


def test_the_document_names_every_parameter_dimension_and_view() -> None:
    for name in (*query.PARAMETERS, *DIMENSIONS, *TIMES, *views.VIEWS):
        assert f"`{name}`" in DOC, name


def test_the_table_shows_changes_and_percentiles(filled: SqliteStore) -> None:
    asked = ("costs", "--db", filled.path, "--since", "2d", "--by", "feature", "--compare", "previous", "--latency")
    shown = aicg(*asked).stdout.splitlines()
    assert shown[0].split()[-9:] == ["change", "p50", "ms", "p95", "ms", "p99", "ms", "first", "token", "p95"][-9:]
    assert "+100.0 %" in shown[1] and "≈" in shown[1]
    assert any(line.startswith("before: ") for line in shown)
    assert "NAME!=VALUE" in aicg("costs", "--db", filled.path, "--where", "prompt!=x").stderr


def test_what_is_documented_of_a_row_is_what_a_row_has(filled: SqliteStore, server: Server) -> None:
    document = server.get("/docs/openapi.json").body
    schema = document["paths"]["/v1/costs"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    (row, *_) = costs(filled, group_by="feature", since="7d", compare="previous", latency="1")["rows"]
    assert set(row) <= set(schema["properties"]["rows"]["items"]["properties"])
    assert {"/v1/views/{name}", "/costs/today", "/costs/feature"} <= set(document["paths"])
