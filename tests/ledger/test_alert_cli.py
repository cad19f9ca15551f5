"""`aicg alerts`, every command of docs/alerts.md, and one alert all the way through `aicg serve`."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger import ingest
from aicostguard.ledger.access import places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.alerts import readings
from aicostguard.ledger.alerts.today import check_cost_alert
from aicostguard.ledger.questions import daily_cost_by_model
from tests.ledger.alerting import Town, priced, receiving
from tests.ledger.support import ROOT, aicg, envelope, epoch, receipt, served, wait_for

app = pytest.importorskip("aicostguard.cli.app")
pytest.importorskip("apprise")
DOC = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AICG_URL", "AICG_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AICG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AICG_ALERT_PRIVATE", "127.0.0.1")
    return tmp_path / "ledger.db"


def spent(place: Path, usd: float) -> None:
    store = ledger.open_ledger(str(place))
    try:
        Town(store, ledger.now_ms()).spend(usd)
    finally:
        store.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = app.run(["alerts", *arguments])
    return code, capsys.readouterr().out


def test_every_command_of_the_docs_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spent(place, 150)
    assert said(capsys, "check")[0] == 3
    ran = []
    with receiving() as receiver:
        for block in re.findall(r"```sh\n(.*?)```", DOC, re.S):
            for line in block.splitlines():
                words = shlex.split(line.replace("https://hooks.example.com", receiver.url), comments=True)
                assert words[:2] == ["aicg", "alerts"], line
                code, out = said(capsys, *words[2:])
                assert code == (3 if words[2:] == ["check"] else 0), (line, out)
                ran.append((words[2:], out))
        assert len(receiver.requests) == 1
    assert len(ran) == 27
    told = {" ".join(words[:2]): out for words, out in ran}
    assert "hourly_spend" in told["rules"]
    assert "acknowledged" in told["ack 1"]
    assert "taken" in told["test"]
    assert "•" in told["channels"] and "Token" not in told["channels"]


@pytest.mark.ids("A30")
def test_the_snippet_of_the_docs_takes_what_is_genuine_and_nothing_else(place: Path) -> None:
    snippet = re.search(r"```python\n(.*?)```", DOC, re.S)
    assert snippet is not None
    found: dict[str, Any] = {}
    exec(snippet.group(1), found)
    from aicostguard.ledger.alerts import target, webhook

    with receiving() as receiver:
        for now in (time.time(), time.time() - 301):
            webhook.post(receiver.url, "s" * 20, "k", b'{"a": 1}', now, target.networks("127.0.0.1"), set())
    (fresh, body, _), (old, _, _) = receiver.requests
    fresh, old = ({"AICG-Timestamp": h["aicg-timestamp"], "AICG-Signature": h["aicg-signature"]} for h in (fresh, old))
    assert found["genuine"](fresh, body, "s" * 20)
    assert not found["genuine"](fresh, body + b" ", "s" * 20)
    assert not found["genuine"](fresh, body, "t" * 20)
    assert not found["genuine"](old, body, "s" * 20), "a replay"
    later = {**fresh, "AICG-Timestamp": str(int(fresh["AICG-Timestamp"]) + 1)}
    assert not found["genuine"](later, body, "s" * 20)


def test_what_could_not_be_looked_at_or_sent_is_an_exit_code(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[readings.Reading]:
        raise RuntimeError("broken")

    ledger.open_ledger(str(place)).close()
    with monkeypatch.context() as patch:
        patch.setitem(readings.READERS, "spend", broken)
        assert said(capsys, "check")[0] == 1
    assert said(capsys, "check")[0] == 0
    with receiving() as receiver:
        assert said(capsys, "channels", "add", "ops", receiver.url)[0] == 0
        assert said(capsys, "test", "ops")[0] == 0
        receiver.answer = lambda number: (410, {})
        assert said(capsys, "test", "ops")[0] == 1


def test_tables_json_and_exit_codes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "check") == (0, "Nothing fires.\n")
    spent(place, 150)
    code, out = said(capsys, "check", "--json")
    assert code == 3
    rows = json.loads(out)["alerts"]
    assert {row["rule"] for row in rows} == {"hourly_spend", "single_request", "rate_spike"}
    code, out = said(capsys)
    assert code == 0
    assert "Hourly spend $150.00 exceeds threshold" in out
    assert "firing" in out
    assert json.loads(said(capsys, "rules", "daily_spend", "--json")[1])["threshold"] == "500"
    assert json.loads(said(capsys, "list", "--state", "open", "--limit", "1", "--json")[1])["cursor"]
    for wrong in (
        ["add", "x"],
        ["add", "x", "--threshold", "much"],
        ["add", "x", "--threshold", "1", "--match", "team"],
        ["edit", "daily_spend", "--window-minutes", "5"],
        ["snooze", "1"],
        ["channels", "add", "x", "nowhere"],
        ["list", "--state", "burning"],
    ):
        assert said(capsys, *wrong)[0] == 2, wrong
    for missing in (["rules", "none"], ["remove", "none"], ["ack", "99"], ["channels", "log", "none"]):
        assert said(capsys, *missing)[0] == 1, missing
    assert said(capsys, "channels", "add", "ops", "http://127.0.0.1:9/x")[0] == 0
    assert said(capsys, "test", "ops")[0] == 1, "nobody is there"


def test_rules_from_the_start_come_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rules() -> dict[str, Any]:
        found = json.loads(said(capsys, "rules", "--json")[1])["rules"]
        return {row["name"]: (row["kind"], row["threshold"], row["enabled"]) for row in found}

    spent(place, 1)
    whole = rules()
    for change in (["remove", "daily_spend"], ["remove", "rate_spike"], ["edit", "hourly_spend", "--threshold", "7"]):
        assert said(capsys, *change)[0] == 0
    assert len(rules()) == len(whole) - 2
    assert said(capsys, "restore", "rate_spike")[0] == 0
    assert len(rules()) == len(whole) - 1
    assert said(capsys, "restore")[0] == 0
    assert {**rules(), "hourly_spend": whole["hourly_spend"]} == whole != rules(), "what is there stays as it is"
    assert said(capsys, "restore", "hourly_spend")[0] == 0
    assert rules() == whole
    assert said(capsys, "restore", "nobody's")[0] == 2


def test_a_file_that_nobody_serves_is_looked_at_and_told_of_by_hand(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spent(place, 1)
    with receiving() as receiver:
        assert said(capsys, "channels", "add", "ops", receiver.url)[0] == 0
        spent(place, 150)
        assert said(capsys, "check", "--send")[0] == 3
        assert said(capsys, "check", "--send")[0] == 3
        assert sorted(body["rule"] for body in receiver.bodies) == ["hourly_spend", "rate_spike", "single_request"]


@pytest.mark.ids("E16", "A30", "D16")
def test_a_runaway_is_told_all_the_way_through_a_served_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From receipts sent to a process, to the signed message at a receiver; also after that process was killed."""
    from tests.ledger import support

    plain = support.environment
    monkeypatch.setattr(support, "environment", lambda **more: plain(AICG_ALERT_PRIVATE="localhost", **more))
    with receiving() as receiver:
        with served(tmp_path, "--public-url", "https://costs.example") as (process, server):
            key = (tmp_path / "ledger.key").read_text().strip()
            at = ("--url", f"http://127.0.0.1:{server.port}", "--key", key)
            made = aicg("alerts", "channels", "add", "ops", receiver.url, *at)
            assert (made.returncode, "secret  whsec_" in made.stdout) == (0, True), made.stderr
            sent = time.monotonic()
            for _ in range(10):  # two million input tokens of gpt-4o are five dollars
                rows = [receipt(input_tokens=1_000_000, output_tokens=0)] * 2
                assert server.post(envelope(rows, name=epoch()), key=key).status == 200
            wait_for(lambda: "rate_spike" in [body["rule"] for body in receiver.bodies], "the message", 55)
            assert time.monotonic() - sent < 60
            process.kill()
            process.wait(10)
        told = len(receiver.requests)
        (spike,) = [body for body in receiver.bodies if body["rule"] == "rate_spike"]
        assert spike["text"].startswith("Spend rate: $")
        assert spike["alerts"][0]["url"].startswith("https://costs.example/?since=")
        with served(tmp_path) as (_, server):
            found = json.loads(server.get("/v1/alerts?state=open", key=key).raw)["alerts"]
            assert "rate_spike" in [row["rule"] for row in found]
            wait_for(lambda: server.get("/v1/alerts/channels", key=key).body["channels"][0]["waiting"] == 0, "quiet")
        again = [body["id"] for body in receiver.bodies]
        assert len(set(again)) == len(again) == told, "nothing is told twice"


@pytest.mark.ids("E08", "E11")
def test_check_cost_alert_speaks_in_the_sources_words(place: Path) -> None:
    lines: list[str] = []
    with pytest.raises(sqlite3.OperationalError):
        check_cost_alert(str(place))
    assert not place.exists(), "asking makes no ledger"
    spent(place, 50)
    assert check_cost_alert(daily_limit=50.0, send=lines.append) == 50.0
    assert lines == [], "reaching the limit is allowed"
    spent(place, 11.2)
    assert check_cost_alert(str(place), send=lines.append) == 61.2
    connection = sqlite3.connect(place)
    assert check_cost_alert(connection, "60", send=lines.append) == 61.2
    connection.close()
    assert lines == [
        "⚠️ Daily AI spend: $61.20 exceeds $50.0 limit",
        "⚠️ Daily AI spend: $61.20 exceeds $60 limit",
    ]
    other = ledger.open_ledger(str(place))
    try:
        at_ms = ledger.now_ms()
        second = other.change(lambda c: places.add_project(c, 1, "other", Actor("test"), at_ms)).id
        body = envelope([receipt(input_tokens=100_000, output_tokens=0)], at=[at_ms], sent_at=at_ms)
        assert ingest.accept(other, second, body, at_ms, price=priced)["accepted"] == 1
    finally:
        other.close()
    lines.clear()
    assert check_cost_alert(str(place), send=lines.append) == 61.2, "the first project's day, as everywhere"
    assert sum(row["total_cost"] for row in daily_cost_by_model(str(place))) == 61.2
    assert lines == ["⚠️ Daily AI spend: $61.20 exceeds $50.0 limit"]
    with pytest.raises(ValueError, match="daily_limit: 'much' is no amount"):
        check_cost_alert(str(place), "much")
