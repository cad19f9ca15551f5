"""Agent and ledger together, both real: however a receipt comes, it counts once, and a hole is named.

Processes with a spool deliver to a ledger behind a real socket, which goes away, loses replies, is restored from an
older copy, and gets the same spool from two machines at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard import ledger
from aicostguard.ledger import deliveries
from aicostguard.ledger.model import HOUR_MS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, ROOT, serving, totals, wait_for

_PROGRAM = """
import os, sys, time
from aicostguard.config import load
from aicostguard.delivery import Delivery
delivery = Delivery(load(os.environ))
def submit(count):
    for _ in range(count):
        delivery.submit({"provider": "openai", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1})
"""


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(port: int, state: Path, code: str, **more: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    environ.update(PYTHONPATH=str(ROOT), AICG_URL=f"http://127.0.0.1:{port}", AICG_KEY=KEY, AICG_STATE_DIR=str(state))
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM + code],
        env={**environ, **more},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _run(port: int, state: Path, code: str, **more: str) -> str:
    process = _start(port, state, code, **more)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


def _books(store: SqliteStore, hours: int = 0) -> dict[str, Any]:
    now = ledger.now_ms() + hours * HOUR_MS
    asked = deliveries.parse({"group_by": ["process"]}, store.default_project(), now)
    return deliveries.run(store, asked, now)


@pytest.fixture
def down(tmp_path: Path) -> Iterator[tuple[int, SqliteStore]]:
    """A port on which no ledger answers yet, and the ledger that will."""
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    yield _port(), store
    store.close()


_LEAVE_IN_SPOOL = "submit(1200); delivery.shutdown(1)"
#: empties the spool of whoever was here before
_RESEND = """
submit(1)
limit = time.monotonic() + 20
while time.monotonic() < limit and any(
    name.endswith((".open", ".claim", ".seg"))
    for _, _, names in os.walk(os.path.join(os.environ["AICG_STATE_DIR"], "spool")) for name in names
):
    delivery.flush(1); time.sleep(0.05)
delivery.flush(5)
"""


@pytest.mark.ids("E7", "Z4")
def test_two_machines_that_resend_one_spool_at_once_count_once(down: tuple[int, SqliteStore], tmp_path: Path) -> None:
    port, store = down
    _run(port, tmp_path / "a", _LEAVE_IN_SPOOL)
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # a machine that was cloned
    assert totals(store)["calls"] == 0
    with serving(store, port):
        both = [_start(port, tmp_path / name, _RESEND) for name in ("a", "b")]
        assert [process.wait(60) for process in both] == [0, 0]
        for process in both:
            process.communicate()
        wait_for(lambda: totals(store)["calls"] >= 1202, "everything", 10)
    books = _books(store)
    assert totals(store)["calls"] == 1202
    assert (books["totals"]["duplicates"], books["totals"]["missing"]) == (1200, 0)
    assert sorted(row["received"] for row in books["rows"]) == [1, 1, 1200]


@pytest.mark.ids("E7", "Z4")
def test_two_processes_of_one_machine_share_what_a_third_left(down: tuple[int, SqliteStore], tmp_path: Path) -> None:
    port, store = down
    _run(port, tmp_path / "a", _LEAVE_IN_SPOOL)
    with serving(store, port):
        both = [_start(port, tmp_path / "a", _RESEND) for _ in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        for process in both:
            process.communicate()
        wait_for(lambda: totals(store)["calls"] >= 1202, "everything", 10)
    books = _books(store)
    assert (totals(store)["calls"], books["totals"]["duplicates"], books["totals"]["missing"]) == (1202, 0, 0)


class _Loses:
    """A proxy that hands requests on and, for the first `lost` of them, closes before the reply comes back."""

    def __init__(self, port: int, lost: int) -> None:
        self._to = port
        self._lost = lost
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            while True:
                request = b""
                while b"\r\n\r\n" not in request:
                    part = connection.recv(65536)
                    if not part:
                        return
                    request += part
                head, _, body = request.partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(65536)
                with socket.create_connection(("127.0.0.1", self._to)) as ledger_side:
                    ledger_side.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
                    reply = b""
                    while part := ledger_side.recv(65536):
                        reply += part
                self.requests += 1
                if self.requests <= self._lost:
                    return  # committed, and nobody hears of it
                connection.sendall(reply)
                return

    def close(self) -> None:
        self._listener.close()


@pytest.mark.ids("E7", "Z4")
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_a_reply_lost_after_the_commit_makes_duplicates_and_no_second_count(
    down: tuple[int, SqliteStore], tmp_path: Path, mode: str
) -> None:
    port, store = down
    with serving(store, port), contextlib.closing(_Loses(port, lost=2)) as between:
        code = "submit(3)\nfor _ in range(40):\n    if delivery.flush(2): break\n    time.sleep(0.1)"
        _run(between.port, tmp_path / "a", code, AICG_MODE=mode)
        wait_for(lambda: totals(store)["calls"] >= 3, "everything", 10)
    books = _books(store)
    assert totals(store)["calls"] == 3
    assert books["totals"]["duplicates"] >= 2
    assert (books["totals"]["missing"], books["totals"]["ended"]) == (0, 1)


@pytest.mark.ids("Z4")
def test_a_restored_backup_is_filled_by_the_spool_and_the_rest_is_reported(
    down: tuple[int, SqliteStore], tmp_path: Path
) -> None:
    port, store = down
    copy = tmp_path / "copy.db"
    code = """
for line in sys.stdin:
    submit(10)
    print(delivery.flush(float(line)), flush=True)
"""
    process = _start(port, tmp_path / "a", code)
    assert process.stdin is not None
    assert process.stdout is not None

    def say(seconds: str) -> bool:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(seconds + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip() == "True"

    with serving(store, port):
        assert say("10")
        with contextlib.closing(sqlite3.connect(store.path)) as live, contextlib.closing(sqlite3.connect(copy)) as kept:
            live.backup(kept)
        assert say("10")  # after the backup: taken, acknowledged, and gone with the restore
        assert totals(store)["calls"] == 20
    assert not say("0.5")  # while no ledger answers
    restored = ledger.open_ledger(str(copy))
    try:
        assert totals(restored)["calls"] == 10
        with serving(restored, port):
            wait_for(lambda: say("10"), "a flush that delivers", 30)
            process.stdin.close()
            assert process.wait(30) == 0
            process.stdout.close()
        row = _books(restored, hours=2)["rows"][0]
        assert row["state"] == "ended"
        assert row["gaps"] == [[10, 19]]
        assert (row["missing"], row["lost"], row["known_lost"], row["waiting"]) == (10, 10, 0, 0)
        assert row["received"] == row["expected"] - 10 == totals(restored)["calls"]
    finally:
        restored.close()


@pytest.mark.ids("E8", "Z4")
def test_an_end_without_a_word_is_told_from_a_clean_one(down: tuple[int, SqliteStore], tmp_path: Path) -> None:
    port, store = down
    with serving(store, port):
        _run(port, tmp_path / "a", "submit(5)", AICG_SERVICE="clean")
        _run(port, tmp_path / "b", "submit(5); delivery.flush(5)", AICG_SERVICE="clean")
        killed = _start(
            port, tmp_path / "c", "submit(5); delivery.flush(5); os.kill(os.getpid(), 9)", AICG_SERVICE="killed"
        )
        assert killed.wait(30) == -9
        killed.communicate()
        child = "submit(5); delivery.flush(5)\npid = os.fork()\nif not pid: submit(2); sys.exit()\nos.waitpid(pid, 0)"
        _run(port, tmp_path / "d", child, AICG_SERVICE="clean")
    books = _books(store, hours=2)
    states = sorted((row["service"], row["state"], row["received"], row["lost"]) for row in books["rows"])
    assert states == [
        *([("clean", "ended", 2, 0)] + [("clean", "ended", 5, 0)] * 3),
        ("killed", "silent", 5, 0),
    ]


@pytest.mark.ids("E8", "Z4")
def test_a_file_as_destination_has_the_same_books(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for service, end in (("clean", ""), ("killed", "; delivery.flush(5); os.kill(os.getpid(), 9)")):
        process = _start(0, tmp_path / "state", f"submit(5){end}", AICG_URL=f"sqlite:///{path}", AICG_SERVICE=service)
        process.communicate(timeout=60)
    store = ledger.open_ledger(str(path))
    try:
        states = sorted((row["service"], row["state"], row["received"]) for row in _books(store, hours=2)["rows"])
        assert states == [("clean", "ended", 5), ("killed", "silent", 5)]
        assert all(not row["clock_wrong"] for row in _books(store)["rows"])
    finally:
        store.close()
