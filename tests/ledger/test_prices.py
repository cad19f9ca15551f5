"""The ledger prices by its own table and terms, wherever it prices, and refuses to with a file that has a mistake."""

from __future__ import annotations

import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Dict

import pytest

from aicostguard import ledger, pricing
from aicostguard.ledger import prices, refresh
from aicostguard.ledger.prices import BadPrices
from tests.ledger.support import NOW, aicg, answering, costs, envelope, receipt, served

OWN = {"provider": "corp", "model": "llama-70b", "input_per_million": 1, "output_per_million": 2}
CALL = receipt(provider="corp", model="llama-70b")


def terms(path: Path, **more: Any) -> Path:
    path.write_text(json.dumps({"version": 1, "prices": [{**OWN, **more}]}), "utf-8")
    return path


def key(folder: Path) -> str:
    return (folder / "ledger.key").read_text("utf-8").strip()


def into_inbox(path: Path, body: Dict[str, Any]) -> None:
    store = ledger.open_ledger(str(path))
    store.change(
        lambda connection: connection.execute(
            "INSERT INTO inbox (received_ms, envelope) VALUES (?, ?)", (NOW, json.dumps(body).encode())
        )
    )
    store.close()


@pytest.mark.ids("E04", "C8")
def test_a_file_beside_the_ledger_prices_what_comes_in_by_every_way(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    terms(tmp_path / "prices.json", **{"from": "2026-01-01"})
    with served(tmp_path) as (_, server):
        assert server.post(CALL, key=key(tmp_path)).status == 200
        body = server.get("/v1/costs?since=all&group_by=model", key=key(tmp_path)).body
    assert body["totals"]["cost_nanousd"] == 120_000
    into_inbox(path, envelope([CALL], name="01INBOX00000000000000000AA"))
    store = ledger.open_ledger(str(path))
    assert costs(store)["totals"]["cost_nanousd"] == 240_000
    rows = store.receipts(ledger.query.Query(store.default_project(), 0, 2 * NOW))
    assert {row["price_row"] for row in rows} == {"own:corp/llama-70b@2026-01-01"}
    store.close()


@pytest.mark.ids("E04")
def test_a_file_named_at_the_start_is_remembered_and_forgotten(tmp_path: Path) -> None:
    path, own = tmp_path / "ledger.db", terms(tmp_path / "elsewhere.json")
    with served(tmp_path, "--prices", str(own)) as (_, server):
        assert str(own) in server.greeting
        assert server.post(CALL, key=key(tmp_path)).status == 200
    into_inbox(path, envelope([CALL], name="01INBOX00000000000000000AA"))
    shown = json.loads(aicg("costs", "--db", str(path), "--since", "all", "--json").stdout)
    assert shown["totals"]["cost_nanousd"] == 240_000
    with served(tmp_path) as (_, server):
        assert str(own) in server.greeting
    with served(tmp_path, "--no-prices") as (_, server):
        assert str(own) not in server.greeting
        assert server.post(CALL, key=key(tmp_path)).status == 200
    shown = json.loads(aicg("costs", "--db", str(path), "--since", "all", "--json").stdout)
    assert (shown["totals"]["cost_nanousd"], shown["totals"]["unpriced_calls"]) == (240_000, 1)


@pytest.mark.ids("C7")
def test_a_mistake_in_the_file_stops_the_start_with_line_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    own = terms(tmp_path / "prices.json", input_per_milion=1)
    wanted = re.escape(f"{own}:1: prices[0].input_per_milion: is not known; did you mean input_per_million?")
    with pytest.raises(BadPrices, match=wanted):
        ledger.open_ledger(str(path))
    for verb in (("serve", "--port", "0"), ("costs",)):
        done = aicg(*verb, "--db", str(path))
        assert done.returncode == 1 and re.search(wanted, done.stderr), (verb, done.stderr)
    terms(own)
    terms(tmp_path / "prices.yaml")
    with pytest.raises(BadPrices, match="are both there"):
        ledger.open_ledger(str(path))


def test_a_remembered_file_that_is_gone_is_named_with_the_way_out(tmp_path: Path) -> None:
    path, own = tmp_path / "ledger.db", terms(tmp_path / "elsewhere.json")
    ledger.open_ledger(str(path), own=str(own)).close()
    own.unlink()
    with pytest.raises(BadPrices, match="--no-prices"):
        ledger.open_ledger(str(path))
    ledger.open_ledger(str(path), own="").close()
    ledger.open_ledger(str(path)).close()


def table(**head: Any) -> Dict[str, Any]:
    data: Dict[str, Any] = json.loads((Path(pricing.__file__).parent / "data" / "prices.json").read_text("utf-8"))
    return {**data, "version": "9.9", "date": "2027-01-01", **head}


@pytest.mark.ids("C7", "C8")
def test_a_newer_table_is_taken_and_the_one_before_it_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    data = table()
    data["books"]["openai"]["models"]["gpt-4o"]["prices"].append(["2026-11-29", {"input": "1", "output": "4"}])
    data["books"]["openai"]["models"]["gpt-99"] = {"prices": [[None, {"input": "1", "output": "2"}]]}
    data["books"]["openai"]["names"]["gpt-99"] = "gpt-99"
    done = refresh.install(path, json.dumps(data), "new.json")
    assert (done.replaced, done.new, done.gone, done.moved) == (True, 1, 0, 1)
    assert "9.9" in done.now and "9.9" not in done.before
    book = prices.book(path, None)
    assert book.price(receipt(model="gpt-99"), NOW).cost_nanousd == 120_000
    # what was charged before the new row is charged again
    assert book.price(receipt(), NOW - 30 * 86_400_000).cost_nanousd == 350_000
    assert not refresh.install(path, json.dumps(data), "new.json").replaced
    later = {**data, "version": "9.10", "date": "2027-02-01"}
    assert refresh.install(path, json.dumps(later), "new.json").replaced
    assert "9.9" in prices.read_table(str(tmp_path / refresh.BEFORE)).source
    with pytest.raises(BadPrices, match="--older takes it anyway"):
        refresh.install(path, json.dumps(data), "old.json")
    assert refresh.install(path, json.dumps(data), "old.json", older=True).replaced


@pytest.mark.ids("C7")
@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_table_is_in_force_whenever_this_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    path, real = str(tmp_path / "ledger.db"), os.replace
    refresh.install(path, json.dumps(table()), "new.json")
    left = [killed_at]

    def replace(source: Any, target: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        refresh.install(path, json.dumps(table(version="9.10", date="2027-02-01")), "newer.json")
    assert "9.9" in prices.book(path, None).source


@pytest.mark.ids("C7")
def test_what_is_no_web_server_is_refused() -> None:
    with answering(b"SSH-2.0-OpenSSH\r\n") as url, pytest.raises(BadPrices, match="cannot be read"):
        refresh.fetch(url + "/prices.json")


def broken() -> Dict[str, str]:
    negative, short, odd = table(), table(), table(schema=2)
    negative["books"]["openai"]["models"]["gpt-4o"]["prices"][0][1]["input"] = "-1"
    short["books"] = {"openai": short["books"]["openai"]}
    whole = json.dumps(table())
    return {
        "negative": json.dumps(negative),
        "cut off": whole[: len(whole) // 2],
        "fewer books": json.dumps(short),
        "another schema": json.dumps(odd),
        "a page": "<html>not found</html>",
        "a list": "[]",
        "no books": '{"schema": 1}',
        "empty": "",
    }


@pytest.mark.ids("C7")
@pytest.mark.parametrize("kind", sorted(broken()))
def test_a_broken_table_is_refused_and_the_one_in_force_stays(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "ledger.db")
    with pytest.raises(BadPrices, match="nothing was changed"):
        refresh.install(path, broken()[kind], "there")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ids("C7")
def test_the_command_takes_a_file_a_url_and_the_installed_source(tmp_path: Path) -> None:
    path, new = tmp_path / "ledger.db", tmp_path / "new.json"
    new.write_text(json.dumps(table()), "utf-8")
    at = ("--db", str(path))
    done = aicg("price", "update", "--from", str(new), *at)
    assert done.returncode == 0 and "9.9" in done.stdout, done.stderr
    body = json.dumps(table(version="9.10", date="2027-02-01")).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/prices.json" else 404)
            self.end_headers()
            self.wfile.write(body if self.path == "/prices.json" else b"no")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        report = json.loads(aicg("price", "update", "--from", url + "/prices.json", *at, "--json").stdout)
        assert report["replaced"] and "9.10" in report["now"]
        gone = aicg("price", "update", "--from", url + "/nothing", *at)
        assert gone.returncode == 1 and "404" in gone.stderr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    broken_file = tmp_path / "broken.json"
    broken_file.write_text("{", "utf-8")
    refused = aicg("price", "update", "--from", str(broken_file), *at)
    assert refused.returncode == 1 and "nothing was changed" in refused.stderr
    assert "9.10" in prices.book(str(path), None).source
    # offline, from the installed package: here it is the one that this release was compiled from
    installed = aicg("price", "update", "--older", "--db", str(tmp_path / "other" / "ledger.db"))
    assert installed.returncode == 0 and "in force already" in installed.stdout, installed.stderr


def test_explain_shows_each_term_with_row_source_and_reason(tmp_path: Path) -> None:
    at = ("--db", str(tmp_path / "ledger.db"))
    asked = (
        "price",
        "explain",
        "claude-opus-4-6",
        "--tokens",
        "in=1000,out=100,cached=400,written_1h=0",
        "--region",
        "us",
    )
    report = json.loads(aicg(*asked, "--at", "2026-11-22", *at, "--json").stdout)
    assert report["row"] == "anthropic:claude-opus-4-6@2026-03-13*1.1"
    assert [(term["term"], term["units"], term["nanousd"]) for term in report["terms"]] == [
        ("input", 600, 3_300_000),
        ("cache_read", 400, 220_000),
        ("output", 100, 2_750_000),
    ]
    assert report["cost_usd"] == "0.00627" and report["source"].startswith("genai-prices ")
    shown = aicg(*asked, *at)
    assert "$5 per 1M tokens *1.1" in shown.stdout and "anthropic:claude-opus-4-6" in shown.stdout
    unknown = aicg("price", "explain", "gpt-99", *at)
    assert unknown.returncode == 1 and "no price for model gpt-99" in unknown.stdout
    history = aicg("price", "explain", "o3", "--tokens", "in=1000000", "--prices", "aegis-2026-03", *at)
    assert "own:o3@2026-03-01" in history.stdout and "$10.00" in history.stdout
    for wrong in ("in", "in=x", "prompts=1", "in=-1"):
        assert aicg("price", "explain", "gpt-4o", "--tokens", wrong, *at).returncode == 2, wrong
    own = terms(tmp_path / "prices.json")
    mine = aicg("price", "explain", "llama-70b", "--provider", "corp", "--tokens", "in=1000,out=1", *at)
    assert "own:corp/llama-70b@undated" in mine.stdout and own.name in mine.stdout
