"""`TrackedClient` and the questions: the provider's own response, and a file that users' SQL reads."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import runpy
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

import aicostguard
from aicostguard import (
    TrackedClient,
    auto,
    check_cost_alert,
    cost_by_feature,
    daily_cost_by_model,
    latency_percentiles,
    ledger,
    tracked,
)
from aicostguard import receipt as receipt_module
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.ledger.errors import LedgerError
from aicostguard.simulator import Billed, Simulator
from tests.ledger.support import NOW, envelope, epoch, receipt, serving, wait_for

anthropic = pytest.importorskip("anthropic")
openai = pytest.importorskip("openai")
ROOT = Path(__file__).resolve().parents[2]
ASKED: list[Any] = [{"role": "user", "content": "Summarize this doc"}]
MODEL = "claude-sonnet-4-6"


@pytest.fixture
def ai(sim: Simulator, place: Path) -> Iterator[TrackedClient]:
    with TrackedClient(api_key="k", base_url=sim.urls["anthropic"]) as client:
        yield client


def rows(db: sqlite3.Connection, what: str = "model, feature, input_tokens, output_tokens, cost_usd") -> list[Any]:
    return db.execute(f"SELECT {what} FROM requests ORDER BY timestamp, id").fetchall()


def cost_of(billed: Billed) -> float:
    """What the provider's own count costs, in dollars."""
    made = receipt_module.build(billed.provider, billed.model, billed.usage, {})[0]
    return aicostguard.CostTracker().record(aicostguard.TokenUsage.of(made)) or 0.0


def today() -> str:
    """The UTC day. A test that asks for it before and after shows nothing when midnight came between."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def fill(place: Path, receipts: list[dict[str, Any]], ago_ms: int = 0) -> None:
    """Calls that have happened, at three nano-dollars a token."""
    from tests.ledger.support import take

    store = ledger.open_ledger(str(place))
    try:
        take(store, envelope(receipts, name=epoch(), ago_ms=ago_ms))
    finally:
        store.close()


@pytest.mark.ids("E01", "E02", "A06", "A24")
def test_a_call_gives_the_providers_response_and_a_row(ai: TrackedClient, sim: Simulator, place: Path) -> None:
    answer = ai.create(model=MODEL, messages=ASKED, max_tokens=64, feature="summarize")
    assert type(answer) is anthropic.types.Message
    (billed,) = sim.billed()
    assert billed.usage is not None
    assert answer.usage.output_tokens == billed.usage.output_tokens
    assert rows(ai.db) == [
        (MODEL, "summarize", billed.usage.input_tokens, billed.usage.output_tokens, round(cost_of(billed), 6))
    ]
    assert place.exists()
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.ids("E02")
def test_the_view_has_the_sources_columns_and_cannot_be_written(ai: TrackedClient) -> None:
    ai.create(MODEL, ASKED, max_tokens=64)
    db = ai.db
    assert isinstance(db, sqlite3.Connection)
    found = db.execute("SELECT * FROM requests")
    assert [column[0] for column in found.description] == [
        *("id", "timestamp", "model", "feature", "input_tokens", "output_tokens", "latency_ms", "cost_usd")
    ]
    (row,) = found.fetchall()
    assert [type(value) for value in row] == [int, str, str, str, int, int, float, float]
    assert row[3] == "default"
    with pytest.raises(sqlite3.OperationalError):
        db.execute("DELETE FROM requests")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM receipts")
    with sqlite3.connect(ai._book.path) as other, pytest.raises(sqlite3.OperationalError, match="because it is a view"):
        other.execute("INSERT INTO requests (model) VALUES ('x')")
    other.close()


@pytest.mark.ids("E02", "E11")
def test_users_sql_compares_times_as_sqlite_writes_them(ai: TrackedClient, place: Path) -> None:
    hour = 3_600_000
    for ago in (1, 30, 24 * 40):
        fill(place, [receipt(latency_ms=ago)], ago_ms=ago * hour)
    query = "SELECT latency_ms FROM requests WHERE timestamp >= datetime('now', ?) ORDER BY timestamp"
    # An ISO text with a T in it would be later than any moment of its own day.
    for since, wanted in (("-24 hours", [1.0]), ("-29 hours", [1.0]), ("-31 hours", [30.0, 1.0])):
        assert [row[0] for row in ai.db.execute(query, (since,))] == wanted
    (first,) = ai.db.execute("SELECT timestamp FROM requests WHERE latency_ms = 1").fetchone()
    moment = datetime.datetime.fromisoformat(first).replace(tzinfo=datetime.timezone.utc)
    age = datetime.datetime.now(datetime.timezone.utc) - moment
    assert datetime.timedelta(minutes=59) < age < datetime.timedelta(hours=2)


@pytest.mark.ids("E03", "E05")
def test_a_model_without_a_price_is_counted_and_never_zero(ai: TrackedClient, capsys: Any) -> None:
    ai.create("claude-from-tomorrow", ASKED, max_tokens=64)
    ((day, *row),) = rows(ai.db, "substr(timestamp, 1, 10), model, cost_usd")
    assert row == ["claude-from-tomorrow", None]
    (row,) = daily_cost_by_model(ai.db, day)
    assert (row["calls"], row["total_cost"]) == (1, None)
    assert capsys.readouterr().out == "claude-from-tomorrow          1 calls  unpriced\n"


@pytest.mark.ids("E01")
def test_streams_async_clients_and_other_sdks_are_written_down_alike(sim: Simulator, place: Path) -> None:
    with TrackedClient(api_key="k", base_url=sim.urls["anthropic"]) as claude:
        stream = claude.create(MODEL, ASKED, max_tokens=64, feature="streamed", stream=True)
        assert isinstance(stream, anthropic.Stream)
        assert rows(claude.db) == [], "it is not known yet what it bills"
        assert [event.type for event in stream][-1] == "message_stop"
        stream.close()

        async def main() -> Any:
            async with openai.AsyncOpenAI(api_key="k", base_url=sim.base_url("openai")) as client:
                with TrackedClient(place, client=client) as gpt:
                    answer = await gpt.create("gpt-4o", ASKED, feature="awaited")
                    assert rows(gpt.db, "model, feature") == [(MODEL, "streamed"), ("gpt-4o", "awaited")]
                    return answer

        answer = asyncio.run(main())
        assert type(answer).__name__ == "ChatCompletion"
        billed = [(row.model, row.usage and row.usage.input_tokens) for row in sim.billed()]
        assert rows(claude.db, "model, input_tokens") == billed
        claude.client.close()


@pytest.mark.ids("E01", "A35")
def test_two_clients_keep_two_books_and_the_programs_ledger_gets_both(sim: Simulator, tmp_path: Path) -> None:
    seen: list[Any] = []
    stop = auto.observe(seen.append)
    assert stop is not None
    own = openai.OpenAI(api_key="k", base_url=sim.base_url("openai"))
    with (
        TrackedClient(tmp_path / "a.db", api_key="k", base_url=sim.urls["anthropic"]) as a,
        TrackedClient(tmp_path / "b.db", client=own) as b,
    ):
        a.create(MODEL, ASKED, max_tokens=64, feature="one")
        with aicostguard.labels(request="r-7", user="u-1"):
            b.create("gpt-4o", ASKED)
        own.chat.completions.create(model="gpt-4o", messages=ASKED)  # not through a tracked client
        assert rows(a.db, "model, feature") == [(MODEL, "one")]
        assert rows(b.db, "model, feature") == [("gpt-4o", "default")]
        kept = b.db.execute("SELECT request, user FROM receipts").fetchall()
    own.close()
    a.client.close()
    assert kept == [("r-7", "u-1")]
    assert [(row["provider"], row.get("request")) for row in seen] == [
        *(("anthropic", None), ("custom", "r-7"), ("custom", None))
    ]
    stop()


def test_a_request_label_is_kept_whole_and_one_that_has_no_room_is_cut_and_counted(ai: TrackedClient) -> None:
    before = health.notes.get("tracked_request_cut", 0)
    for length, cut in ((110, 0), (128, 1)):
        with aicostguard.labels(request="r" * length):
            ai.create(MODEL, ASKED, max_tokens=64)
        (kept,) = ai.db.execute("SELECT request FROM receipts ORDER BY at_ms DESC, seq DESC LIMIT 1").fetchone()
        assert len(kept) == length if not cut else 110 <= len(kept) < length
        assert health.notes.get("tracked_request_cut", 0) - before == cut


@pytest.mark.ids("E01")
def test_the_feature_around_a_call_holds_where_the_call_names_none(ai: TrackedClient) -> None:
    with aicostguard.feature("outer"):
        ai.create(MODEL, ASKED, max_tokens=8)
        ai.create(MODEL, ASKED, max_tokens=8, feature="inner")
    assert rows(ai.db, "feature") == [("outer",), ("inner",)]


@pytest.mark.ids("E12")
def test_a_call_does_not_wait_for_the_file(ai: TrackedClient) -> None:
    locked = sqlite3.connect(ai._book.path, isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    done = threading.Event()
    calling = threading.Thread(target=lambda: (ai.create(MODEL, ASKED, max_tokens=8), done.set()))
    calling.start()
    assert done.wait(60), "the call returns while nobody can write"
    locked.execute("COMMIT")
    locked.close()
    calling.join()
    wait_for(lambda: len(rows(ai.db)) == 1, "the row", 30)


@pytest.mark.ids("E02")
def test_who_reads_the_file_alone_sees_calls_soon(ai: TrackedClient) -> None:
    reader = sqlite3.connect(ai._book.path)
    ai.create(MODEL, ASKED, max_tokens=8)
    wait_for(lambda: reader.execute("SELECT count(*) FROM requests").fetchone() == (1,), "the row", 30)
    reader.close()


def test_a_forked_child_writes_calls_of_its_own(ai: TrackedClient) -> None:
    ai.create(MODEL, ASKED, max_tokens=8, feature="parent")
    assert len(rows(ai.db)) == 1
    pid = os.fork()
    if not pid:
        good = False
        try:
            ai.create(MODEL, ASKED, max_tokens=8, feature="child")
            good = rows(ai.db, "feature") == [("parent",), ("child",)]
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert rows(ai.db, "feature") == [("parent",), ("child",)]


def test_core_receipts_have_their_six_keys_and_still_find_their_book(
    sim: Simulator, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICG_RECEIPT", "core")
    state.core = True
    with TrackedClient(api_key="k", base_url=sim.urls["anthropic"]) as ai, aicostguard.labels(user="u"):
        ai.create(MODEL, ASKED, max_tokens=8, feature="f")
        assert ai.db.execute("SELECT feature, user, request FROM receipts").fetchall() == [("f", None, None)]
        ai.client.close()


def test_switched_off_it_makes_calls_and_keeps_nothing(
    sim: Simulator, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AICG_DISABLED", "1")
    with TrackedClient(api_key="k", base_url=sim.urls["anthropic"]) as ai:
        assert ai.create(MODEL, ASKED, max_tokens=8).role == "assistant"
        assert rows(ai.db) == []
        ai.client.close()


def test_a_dropped_client_ends_its_threads(sim: Simulator, place: Path) -> None:
    before = set(threading.enumerate())
    ai = TrackedClient(api_key="k", base_url=sim.urls["anthropic"])
    ai.create(MODEL, ASKED, max_tokens=8)
    sender = ai._book._delivery._worker
    ai.client.close()
    del ai
    # What delivery starts is no `Thread`, and Python lists it for ever.
    started = [thread for thread in threading.enumerate() if thread.name.startswith("aicg-") and thread not in before]
    wait_for(lambda: not any(thread.is_alive() for thread in started), "the end of its threads", 30)
    assert sender is not None
    assert not sender.alive
    assert len(tracked._books) == 0


@pytest.mark.parametrize(
    "given, kind, says",
    [
        ({"client": object()}, TypeError, "client: object has neither messages.create nor chat.completions.create"),
        ({"client": object(), "api_key": "k"}, TypeError, "client: it is built already, so api_key cannot"),
        ({"db_path": 7, "api_key": "k"}, TypeError, "int"),
    ],
)
def test_what_cannot_be_a_client_is_said(place: Path, given: dict[str, Any], kind: Any, says: str) -> None:
    with pytest.raises(kind, match=says):
        TrackedClient(**given)


def test_another_programs_file_is_left_alone(place: Path) -> None:
    with sqlite3.connect(place) as other:
        other.execute("CREATE TABLE requests (id INTEGER PRIMARY KEY)")
    other.close()
    with pytest.raises(LedgerError, match="it is another program's SQLite file"):
        TrackedClient(api_key="k")
    with sqlite3.connect(place) as other:
        assert other.execute("SELECT name, sql FROM sqlite_master").fetchall() == [
            ("requests", "CREATE TABLE requests (id INTEGER PRIMARY KEY)")
        ]
    other.close()


@pytest.mark.ids("E05", "E06", "E07", "E08")
def test_questions_print_the_sources_lines_and_give_the_rows(
    place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "now_ms", lambda: NOW)  # when the calls were made, whatever the hour is by now
    monkeypatch.setattr("aicostguard.ledger.alerts.today.now_ms", lambda: NOW)
    fill(place, [receipt(latency_ms=100 * n, feature="chat", input_tokens=10**8) for n in range(1, 5)])
    fill(place, [receipt(model="unheard-of", feature="chat"), receipt(model="o3")])
    day = daily_cost_by_model(place)
    assert day[0] == {
        "model": "gpt-4o", "calls": 4, "total_in": 4 * 10**8, "total_out": 40, "total_cost": 1.20000012,
    }  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "gpt-4o                        4 calls  $1.20",
        "o3                            1 calls  $0.00",
        "unheard-of                    1 calls  unpriced",
    ]
    assert [row["feature"] for row in cost_by_feature(place, days=7)] == ["chat", None]
    assert capsys.readouterr().out.splitlines() == [
        "chat                     5 calls  $1.20  (1 unpriced)  avg 250ms",
        "(none)                   1 calls  $0.00",
    ]
    assert latency_percentiles(place, "gpt-4o", hours=24) == {"p50": 250, "p95": 385, "p99": 397, "count": 4}
    assert latency_percentiles(place, "o3") is None
    assert daily_cost_by_model(place, datetime.date(2020, 1, 1)) == []
    told: list[str] = []
    assert check_cost_alert(place, daily_limit=1.0, send=told.append) == pytest.approx(1.20000045)
    assert told == ["⚠️ Daily AI spend: $1.20 exceeds $1.0 limit"]


@pytest.mark.ids("E08")
def test_the_alert_counts_what_still_lies_in_the_inbox(place: Path) -> None:
    from aicostguard.config import Settings
    from aicostguard.delivery import Delivery

    ledger.open_ledger(str(place)).close()
    day = today()
    delivery = Delivery(Settings(url=f"sqlite:///{place}", spool="off", state_dir=str(place.parent / "s")))
    delivery.submit({"provider": "openai", "model": "gpt-4o", "input_tokens": 10**6, "output_tokens": 0})
    assert delivery.shutdown(30)
    assert check_cost_alert(place) == 2.5 or day != today()


@pytest.mark.parametrize(
    "ask, says",
    [
        (lambda db: cost_by_feature(db, days=0), "days: 0 must be a whole number from 1 to 400"),
        (lambda db: latency_percentiles(db, "m", hours=True), "hours: True must be"),
        (lambda db: daily_cost_by_model(db, "the ides"), "date: 'the ides' is not"),
        (lambda db: daily_cost_by_model(7), "db: must be a connection, a path or None, not int"),
    ],
)
def test_a_wrong_question_names_what_is_wrong(place: Path, ask: Any, says: str) -> None:
    ledger.open_ledger(str(place)).close()
    with pytest.raises((ValueError, TypeError), match=says):
        ask(place)


def test_a_connection_without_a_file_and_a_file_that_is_not_there_are_said(place: Path) -> None:
    memory = sqlite3.connect(":memory:")
    with pytest.raises(ValueError, match="this connection has no file"):
        daily_cost_by_model(memory)
    memory.close()
    with pytest.raises(LedgerError, match="there is no ledger"):
        daily_cost_by_model(place)
    assert not place.exists()


@pytest.mark.ids("ACC:E10", "E09", "E21")
def test_the_server_over_the_same_file_answers_in_the_sources_shapes(ai: TrackedClient) -> None:
    day = today()
    ai.create(MODEL, ASKED, max_tokens=64, feature="summarize")
    (cost,) = rows(ai.db, "cost_usd")[0]
    store = ledger.open_ledger(ai._book.path)
    try:
        with serving(store) as server:
            told = server.get("/costs/today").body
            (feature,) = server.get("/costs/feature?days=7").body
    finally:
        store.close()
    assert set(told) == {"date", "total_usd", "models"}
    if day == today():
        (model,) = told["models"]
        assert (model["model"], model["calls"], model["cost"]) == (MODEL, 1, round(cost, 4))
    assert feature == {"feature": "summarize", "calls": 1, "cost": round(cost, 4)}


@pytest.mark.ids("E22")
def test_the_sources_example_runs_and_prints_its_line(sim: Simulator, place: Path) -> None:
    day = today()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "cost_dashboard" / "summarize.py")],
        env={**os.environ, "ANTHROPIC_BASE_URL": sim.urls["anthropic"]},
        cwd=place.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (billed,) = sim.billed()
    line = f"{'claude-sonnet-4-5':25s}     1 calls  ${cost_of(billed):.2f}\n"
    assert done.stdout == line or day != today()
    with sqlite3.connect(place) as left:
        assert rows(left, "feature") == [("summarize",)], "taken in before the program ended"
    left.close()
    assert health.faults == {}


@pytest.mark.ids("E09", "ACC:E10")
def test_the_sources_dashboard_answers_from_the_file_and_says_what_has_no_price(
    ai: TrackedClient, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = today()
    ai.create(MODEL, ASKED, max_tokens=64, feature="summarize")
    ai.create("claude-unheard-of", ASKED, max_tokens=64, feature="summarize")
    assert len(rows(ai.db)) == 2  # taken in
    monkeypatch.chdir(place.parent)
    dashboard = runpy.run_path(str(ROOT / "examples" / "cost_dashboard" / "dashboard.py"))
    try:
        told, (feature,) = dashboard["today_costs"](), dashboard["feature_costs"]()
    finally:
        dashboard["db"].close()
    assert (feature["feature"], feature["calls"], feature["unpriced"]) == ("summarize", 2, 1)
    if day == today():
        assert told["unpriced"] == 1
        assert {row["model"]: row["cost"] for row in told["models"]}["claude-unheard-of"] is None
        assert told["total_usd"] == round(feature["cost"], 2)


BOTH = (
    """
import os, sys
import anthropic
import aicostguard.auto
from aicostguard import TrackedClient

client = anthropic.Anthropic(api_key="k", base_url=sys.argv[1])
asked = {"model": "%s", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
with TrackedClient("own.db", client=client) as tracked:
    for _ in range(3):
        tracked.create(**asked)
    for _ in range(2):
        client.messages.create(**asked)
client.close()
"""
    % MODEL
)


@pytest.mark.ids("E8")
def test_beside_a_ledger_neither_file_misses_what_the_other_has(sim: Simulator, tmp_path: Path) -> None:
    """Each is told how many receipts are its own: of five, three are in both."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AICG_URL": f"sqlite:///{tmp_path}/main.db",
        "AICG_STATE_DIR": str(tmp_path / "state"),
        "AICG_HOSTS": sim.hosts_setting(),
    }
    subprocess.run([sys.executable, "-c", BOTH, sim.urls["anthropic"]], env=environ, cwd=tmp_path, check=True)
    for name, number in (("main.db", 5), ("own.db", 3)):
        ledger.open_ledger(str(tmp_path / name)).close()
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as db:
            assert db.execute("SELECT received, generated, ended FROM epochs").fetchall() == [(number,) * 3], name
