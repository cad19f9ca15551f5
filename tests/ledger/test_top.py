"""`aicg top`: what costs money right now, as text, as JSON, and on a terminal until a key is pressed."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from aicostguard import ledger
from aicostguard.cli import top, topshown
from aicostguard.ledger import query
from aicostguard.ledger.model import DAY_MS, HOUR_MS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, Server, aicg, command, costs, envelope, environment, receipt, take

pytestmark = pytest.mark.ids("D08")


def come(store: SqliteStore, rows: list[Any], first: int = 1, ago_s: int = 0) -> None:
    """Receipts of this moment, or so long ago: the suite may have begun long before."""
    now = int(time.time() * 1000)
    take(store, envelope(rows, first=first, sent_at=now, at=[now - ago_s * 1000] * len(rows)), received_ms=now)


@pytest.fixture
def busy(store: SqliteStore) -> SqliteStore:
    """Two features in the last minutes, one of them without a price; one twenty minutes ago."""
    come(store, [receipt(feature="old")] * 2, first=101, ago_s=1200)
    come(store, [receipt(feature="chat", agent="planner")] * 3 + [receipt(feature="odd", model="unheard-of")])
    return store


def told(*arguments: str, **env: str) -> Any:
    done = aicg("top", "--json", *arguments, **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_says_what_the_ledger_says(busy: SqliteStore, server: Server) -> None:
    seen = told("--db", busy.path)
    assert list(seen["by"]) == ["feature", "model", "agent"]
    rows = {row["name"]: row for row in seen["by"]["feature"]}
    for row in costs(busy, since="today", group_by="feature")["rows"]:
        assert rows[row["feature"]]["today"]["calls"] == row["calls"]
        assert rows[row["feature"]]["today"]["cost_nanousd"] == row["cost_nanousd"]
    calls = {name: row["window"]["calls"] for name, row in rows.items() if row["window"]["calls"]}
    assert calls == {"chat": 3, "odd": 1}
    assert [row["name"] for row in seen["by"]["feature"]][:2] == ["chat", "odd"]
    assert rows["odd"]["window"]["cost_nanousd"] is None
    assert rows["chat"]["window"]["cost_nanousd"] == seen["window"]["cost_nanousd"] == 3 * 330
    assert seen["today"]["unpriced_calls"] == 1
    over_http = told(AICG_URL=f"http://127.0.0.1:{server.port}", AICG_KEY=KEY)
    assert over_http["by"] == seen["by"]
    only = told("--db", busy.path, "--where", "feature=odd", "--by", "provider")
    assert only["today"]["calls"] == 1 and list(only["by"]) == ["provider"]


def test_who_is_cut_off_in_one_period_has_what_it_cost_in_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more names than are asked for, one that is dear today and cheap in the window, and one that is neither."""
    noon = NOW - NOW % DAY_MS + 12 * HOUR_MS
    many = [receipt(feature=f"n{number:02d}", input_tokens=1000 + number) for number in range(top.ROWS + 5)]
    cheap = receipt(feature="dear", input_tokens=1, output_tokens=0)
    earlier = [receipt(feature="dear", input_tokens=10**6), *(receipt(feature=f"m{n:02d}") for n in range(top.ROWS))]
    for rows, ago_ms in ((many, 60_000), ([cheap], 60_000), (earlier, 6 * HOUR_MS)):
        body = envelope(rows, name=f"01TOP{len(rows):021d}", sent_at=noon, at=[noon - ago_ms] * len(rows))
        take(store, body, received_ms=noon)
    monkeypatch.setattr(ledger, "now_ms", lambda: noon)
    at: Any = SimpleNamespace(alerts=lambda most: {"alerts": []}, every=lambda: {"budgets": []})

    def asker(what: str, asked: Any) -> Any:
        return query.run(store, query.parse(asked, store.default_project(), noon))

    seen = top.picture(asker, at, {}, ("feature",), 10)
    rows = {row["name"]: row for row in seen["by"]["feature"]}
    assert (rows["dear"]["window"]["calls"], rows["dear"]["window"]["cost_nanousd"]) == (1, 3)
    assert (rows["dear"]["today"]["calls"], rows["dear"]["today"]["cost_nanousd"]) == (2, 3 * (10**6 + 10) + 3)
    for place in range(5, top.ROWS + 5):
        assert rows[f"n{place:02d}"]["today"] == rows[f"n{place:02d}"]["window"]
    names = 2 * top.ROWS + 5 + 1
    assert seen["more"]["feature"] == names - len(rows) > 0
    assert f"({names - topshown.PLAIN_ROWS} more)" in topshown.plain(seen)


def test_what_is_less_than_can_be_shown_is_not_shown_as_nothing() -> None:
    sums = {"calls": 1, "unpriced_calls": 0, "tokens": 1}
    assert topshown.money({**sums, "cost_nanousd": 999}) == "<$0.000001"
    assert topshown.money({**sums, "cost_nanousd": 1000}) == "$0.000001"
    assert topshown.money({**sums, "cost_nanousd": 0}) == "$0.00"


def test_a_pipe_gets_one_picture(busy: SqliteStore) -> None:
    aicg("budgets", "add", "everything", "--usd", "5", "--period", "day", "--db", busy.path)
    done = aicg("top", "--db", busy.path, "--minutes", "1")
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert "4.0 calls/min" in head and head.endswith("! 1 without a price")
    assert "\x1b" not in done.stdout
    assert [line.split()[0] for line in lines if line.startswith(("chat", "odd", "planner", "everything"))] == [
        "chat",
        "odd",
        "planner",
        "everything",
    ]
    assert [line.split()[1] for line in lines if line.startswith("odd")] == ["unpriced"]


def test_nothing_yet_and_what_cannot_be_asked(store: SqliteStore) -> None:
    done = aicg("top", "--db", store.path, "--once")
    assert done.returncode == 0
    assert "No calls today. `aicg diagnose` says" in done.stdout
    for arguments, said in (
        (("--by", "colour"), "'colour': up to 4 of provider"),
        (("--every", "0"), "not in the range"),
        (("--where", "colour=red"), "'colour=red': use NAME=VALUE"),
    ):
        done = aicg("top", "--db", store.path, *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("size", [(200, 50), (140, 24), (80, 24), (50, 14), (40, 8)], ids=str)
def test_a_picture_fits_its_terminal(busy: SqliteStore, size: Any) -> None:
    aicg("budgets", "add", "everything", "--usd", "5", "--period", "day", "--db", busy.path)
    come(busy, [receipt(feature=f"f{number}", model=f"m{number}", agent=f"a{number}") for number in range(60)], 300)
    seen = told("--db", busy.path)
    out = io.StringIO()
    console = Console(width=size[0], height=size[1], file=out)
    console.print(topshown.screen(seen, "", console.size))
    lines = out.getvalue().splitlines()
    assert len(lines) <= size[1] and max(map(len, lines)) <= size[0]
    assert lines[-1].strip() == "q ends" and "calls/min"[:3] in lines[0]
    assert any(line.startswith("chat") for line in lines)
    assert any(line.startswith("everything") for line in lines) == (size[1] >= 14)


class Screen:
    """`aicg top` on a terminal of its own."""

    def __init__(self, *arguments: str, rows: int = 24, columns: int = 100) -> None:
        self.here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = environment(TERM="xterm-256color")
        self.process = subprocess.Popen(
            command("top", *arguments), env=env, stdin=there, stdout=there, stderr=there, close_fds=True
        )
        os.close(there)
        self.text = ""

    def until(self, words: str, seconds: float = 60.0) -> None:
        limit = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < limit, "%r never came: %r" % (words, self.text[-2000:])
            self._read()

    def _read(self) -> None:
        if select.select([self.here], [], [], 0.2)[0]:
            try:
                self.text += os.read(self.here, 65536).decode("utf-8", "replace")
            except OSError:  # the other end is closed
                time.sleep(0.05)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
            os.close(self.here)

    def end(self, keys: bytes = b"") -> int:
        if keys:
            os.write(self.here, keys)
        limit = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < limit:
            self._read()
        self.process.kill()
        code = self.process.wait(10)
        os.close(self.here)
        return code


@pytest.fixture(params=[(24, 140), (12, 50)], ids=["wide", "narrow"])
def size(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_on_a_terminal_it_goes_on_until_q(busy: SqliteStore, size: Any, request: pytest.FixtureRequest) -> None:
    shown = Screen("--db", busy.path, "--every", "0.5", rows=size[0], columns=size[1])
    request.addfinalizer(shown.close)
    shown.until("gpt-4o")
    shown.until("q ends")
    come(busy, [receipt(feature="fresh")], first=5)
    shown.until("fresh")
    assert "\x1b[?1049h" in shown.text  # a screen of its own, so that the terminal is as it was afterwards
    assert shown.end(b"q") == 0
    assert "Traceback" not in shown.text
    assert shown.text.rstrip().endswith(("\x1b[?25h", "\x1b[?1049l"))
