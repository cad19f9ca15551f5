"""`aicg price reconcile`: the exports of providers beside the ledger, by day and model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Callable

import pytest

pytest.importorskip("fastapi")
from aicostguard.cli import main
from aicostguard.ledger import reconciling
from tests.cli import desk

#: 12 March 2026, 00:00 UTC
DAY_S = 1_773_273_600
Export = Callable[..., str]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """A folder with the ledger "little", and a function that writes an export there."""
    desk.fill(tmp_path / "ledger.db", "little")

    def write(name: str, content: Any) -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


def openai(*results: dict[str, Any], start: int = DAY_S, length: int = 86_400, more: bool = False) -> dict[str, Any]:
    """A page of one bucket."""
    bucket = {"object": "bucket", "start_time": start, "end_time": start + length, "results": list(results)}
    return {"object": "page", "data": [bucket], "has_more": more, "next_page": "p" if more else None}


def used(model: str | None, calls: int, tokens: int, output: int) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result", "model": model, "num_model_requests": calls,
        "input_tokens": tokens, "input_cached_tokens": 0, "output_tokens": output,
    }  # fmt: skip


def cost(item: str | None, usd: float, currency: str = "usd") -> dict[str, Any]:
    amount = {"value": usd, "currency": currency}
    return {"object": "organization.costs.result", "amount": amount, "line_item": item}


def told(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> dict[str, Any]:
    assert main(["price", "reconcile", *arguments, "--json", "--db", str(tmp_path / "ledger.db")]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> str:
    assert main(["price", "reconcile", *arguments, "--db", str(tmp_path / "ledger.db")]) == 2
    return capsys.readouterr().err


@pytest.mark.ids("Z6")
def test_openais_usage_and_cost_agree(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usage = export("usage.json", openai(used("gpt-4o", 1, 1240, 312)))
    billed = export("costs.json", openai(cost("gpt-4o, input", 0.0031), cost("gpt-4o, output", 0.00312)))
    report = told(capsys, tmp_path, usage, billed)
    (row,) = report["rows"]
    assert (row["day"], row["model"], row["says"]) == ("2026-03-12", "gpt-4o", "agrees")
    assert row["theirs_cost_nanousd"] == row["ours_cost_nanousd"] == 6_220_000
    assert [row["difference_" + name] for name in ("calls", "input_tokens", "output_tokens")] == [0, 0, 0]
    assert (report["since"], report["until"], report["agree"]) == ("2026-03-12", "2026-03-13", 1)


@pytest.mark.ids("Z6")
def test_what_differs_is_said_and_checked(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usage = export("usage.json", openai(used("gpt-4o", 3, 1340, 312), used("gpt-5", 2, 10, 5)))
    report = told(capsys, tmp_path, usage)
    assert [(row["model"], row["says"]) for row in report["rows"]] == [("gpt-4o", "differs"), ("gpt-5", "only theirs")]
    row = report["rows"][0]
    assert (row["difference_calls"], row["difference_input_tokens"], row["difference_cost_nanousd"]) == (-2, -100, None)
    where = ["--db", str(tmp_path / "ledger.db")]
    assert main(["price", "reconcile", usage, "--check", *where]) == 1
    printed = capsys.readouterr().out
    assert "-100" in printed and "not in the ledger" in printed and "0 of 2 rows agree" in printed
    near = export("near.json", openai(used("gpt-4o", 1, 1250, 312)))
    assert main(["price", "reconcile", near, "--check", *where]) == 1
    assert main(["price", "reconcile", near, "--check", "--tolerance", "0.8", *where]) == 0
    assert main(["price", "reconcile", near, "--check", "--tolerance", "0.79", *where]) == 1


@pytest.mark.ids("Z6")
def test_a_name_without_its_version_meets_ours(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = told(capsys, tmp_path, export("usage.json", openai(used("gpt-4o-2024-08-06", 1, 1240, 312))))
    assert [(row["model"], row["says"]) for row in report["rows"]] == [("gpt-4o-2024-08-06", "agrees")]
    two = openai(used("gpt-4o-2024-08-06", 1, 1240, 312), used("gpt-4o-2024-05-13", 1, 1, 1))
    said = [row["says"] for row in told(capsys, tmp_path, export("usage.json", two))["rows"]]
    assert sorted(said) == ["only ours", "only theirs", "only theirs"], "which of the two it was is not guessed"


@pytest.mark.ids("Z6")
def test_anthropics_usage_and_cost(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = "claude-3-5-haiku-20241022"
    bucket = {"starting_at": "2026-03-12T00:00:00Z", "ending_at": "2026-03-13T00:00:00Z"}
    counts = {"model": model, "uncached_input_tokens": 500, "cache_read_input_tokens": 200, "output_tokens": 95}
    counts["cache_creation"] = {"ephemeral_1h_input_tokens": 100, "ephemeral_5m_input_tokens": 30}
    usage = {"data": [{**bucket, "results": [counts]}], "has_more": False}
    cents = {"amount": "0.01815", "currency": "USD", "cost_type": "tokens", "model": model}
    search = {"amount": "1", "currency": "USD", "cost_type": "web_search", "model": None}
    billed = {"data": [{**bucket, "results": [cents, search]}], "has_more": False}
    report = told(capsys, tmp_path, export("usage.json", usage), export("cost.json", billed))
    row, other = report["rows"]
    # 830 in and 95 out at 150 nano-dollars, out fourfold
    assert (row["says"], row["theirs_cost_nanousd"], row["ours_input_tokens"]) == ("agrees", 181_500, 830)
    assert row["theirs_calls"] is row["difference_calls"] is None, "what is not said is compared with nothing"
    assert (other["model"], other["says"], other["theirs_cost_nanousd"]) == ("web_search", "only theirs", 10_000_000)


@pytest.mark.ids("Z6")
def test_a_day_without_a_zone_is_that_of_utc_wherever_this_runs(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        counts = {"model": "claude-3-5-haiku-20241022", "uncached_input_tokens": 1, "output_tokens": 1}
        bucket = {"starting_at": "2026-03-12T00:00:00", "ending_at": "2026-03-13T00:00:00", "results": [counts]}
        text = json.dumps({"data": [bucket], "has_more": False})
        assert [line.day for line in reconciling.read({"usage.json": text}).lines] == ["2026-03-12"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.ids("Z6")
def test_a_plain_csv_of_anybody(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "day,model,calls,cost_usd\n2026-03-12,gpt-4o,1,0.00622\n2026-03-11,in-house-7b,1,\n"
    report = told(capsys, tmp_path, export("bill.csv", text), "--provider", "openai")
    assert [(row["model"], row["says"]) for row in report["rows"]] == [("in-house-7b", "agrees"), ("gpt-4o", "agrees")]
    assert report["rows"][0]["ours_cost_nanousd"] is None and report["unpriced_calls"] == 1
    main(
        ["price", "reconcile", str(tmp_path / "bill.csv"), "--provider", "openai", "--db", str(tmp_path / "ledger.db")]
    )
    assert "without a price, which are in no amount: 1" in capsys.readouterr().out


@pytest.mark.ids("Z6")
def test_a_cost_that_the_ledger_does_not_know_agrees_with_none(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heading = "day,model,provider,calls,cost_usd\n2026-03-11,in-house-7b,openai,"
    for said in (",1.50", "1,1.50", ","):  # the last row says nothing that could agree
        export("ours.csv", heading + said + "\n")
        (row,) = told(capsys, tmp_path, str(tmp_path / "ours.csv"))["rows"]
        assert row["ours_calls"] and row["ours_cost_nanousd"] is None and row["says"] == "differs"
    export("ours.csv", heading + f"{row['ours_calls']},\n")
    (row,) = told(capsys, tmp_path, str(tmp_path / "ours.csv"))["rows"]
    assert row["says"] == "agrees"


@pytest.mark.ids("Z6")
def test_a_page_that_is_missing_is_said(export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usage = openai(used("gpt-4o", 1, 1240, 312), more=True)
    rest = openai(used("in-house-7b", 1, 200, 20), start=DAY_S - 86_400)
    assert told(capsys, tmp_path, export("one.json", usage))["more_pages"] is True
    assert told(capsys, tmp_path, export("both.json", [usage, usage, rest]))["more_pages"] is False
    assert main(["price", "reconcile", export("one.json", usage), "--check", "--db", str(tmp_path / "ledger.db")]) == 1
    assert "more pages" in capsys.readouterr().out


@pytest.mark.ids("Z6")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (openai(used(None, 1, 2, 3)), "data[0].results[0]: names no model; ask with group_by=model"),
        (openai(cost(None, 1.5)), "names no line_item; ask with group_by=line_item"),
        (openai(cost("gpt-4o", 1.5, "eur")), "'eur' is not USD"),
        (openai(used("gpt-4o", 1, -2, 3)), "results[0].input_tokens: -2 must be a whole number"),
        (openai(used("gpt-4o", 1, 2, 3), length=604_800), "longer than a UTC day; ask with bucket_width=1d"),
        (openai(used("gpt-4o", 1, 2, 3), start=DAY_S + 3600), "longer than a UTC day"),
        ({"data": "x"}, "no list `data`"),
        ({"data": [], "has_more": False}, "holds no usage and no cost"),
        ("{", "is not JSON"),
        ("when,what\n", "needs a heading with day, model"),
        ("day,model,calls\n12.3.2026,gpt-4o,1\n", "line 2: '12.3.2026' is no day"),
        ("day,model,calls\n2026-03-12,gpt-4o,1\n", "line 2: whose it is is not said: --provider"),
        ("day,model,provider,calls\n2026-03-12,gpt-4o,openai,many\n", "line 2: 'many' is no number"),
        ("day,model,provider,calls\n2026-03-12,gpt-4o,openai,1.5\n", "line 2.calls: 1.5 must be a whole number"),
        ("day,model,provider,calls\n2026-03-12,gpt-4o,openai,1e999999999\n", "line 2: '1e999999999' is no number"),
        ("day,model,provider,cost_usd\n2026-03-12,gpt-4o,openai,1e-999999999\n", "line 2: '1e-999999999' is no number"),
    ],
)
def test_what_cannot_be_read_is_refused(
    content: Any, says: str, export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, tmp_path, export("export", content))
    assert says in said and "export" in said
