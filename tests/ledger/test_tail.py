"""`aicg tail`: what comes in is shown, once, in a second or two; it ends when it is told to."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from aicostguard import ledger
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, aicg, command, envelope, environment, epoch, receipt, serving, take, wait_for


class Tail:
    """`aicg tail` as a process, and the lines it has printed so far."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.process = subprocess.Popen(
            command("tail", *arguments),
            env=environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.said: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.said))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        lines.extend(iter(stream.readline, ""))  # type: ignore[attr-defined]

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(10)
        self.close()
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def tailing(*arguments: str, **env: str) -> Iterator[Tail]:
    tail = Tail(*arguments, **env)
    try:
        yield tail
    finally:
        tail.close()


def test_it_follows_a_file_that_others_write_to(store: SqliteStore) -> None:
    name = epoch()
    take(store, envelope([receipt(feature=f"old{n}") for n in range(3)], first=0, name=name, ago_ms=1000))
    with tailing("--db", store.path, "-n", "2", "--where", "host=a", "--where", "host=") as tail:
        wait_for(lambda: len(tail.lines) == 2, "what was there", 30)
        take(store, envelope([receipt(feature="other")], first=3, name=name, host="b"))
        take(store, envelope([receipt(feature="new", user="u-1")], first=4, name=name, host="a"))
        # Hours late, as from a spool: it shows when it comes.
        take(store, envelope([receipt(feature="late")], first=5, name=name, ago_ms=9 * 3_600_000))
        # And what an agent leaves in the file itself.
        with contextlib.closing(sqlite3.connect(store.path)) as connection:
            body = json.dumps(envelope([receipt(feature="inbox")], first=6, name=name)).encode()
            connection.execute("INSERT INTO inbox (received_ms, envelope) VALUES (?, ?)", (NOW, body))
            connection.commit()
        wait_for(lambda: len(tail.lines) == 5, "three more", 30)
        assert tail.stop() == 0
    features = [part[8:] for line in tail.lines for part in line.split("  ") if part.startswith("feature=")]
    assert [feature.strip() for feature in features] == ["old1", "old2", "new", "late", "inbox"]
    assert tail.said == []
    assert "gpt-4o  100 in  10 out  $0.00000033  feature=new  user=u-1  host=a" in tail.lines[2]


def test_it_follows_a_server_through_its_restart(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    name = epoch()
    with contextlib.ExitStack() as running:
        first = contextlib.ExitStack()
        first.enter_context(serving(store, port))
        tail = running.enter_context(tailing("--json", "-n", "0", AICG_URL=f"http://127.0.0.1:{port}", AICG_KEY=KEY))
        wait_for(lambda: _one_more(store, name) and tail.lines, "the start of the command", 30)
        first.close()
        wait_for(lambda: tail.said, "word of the ledger being gone", 30)
        last = [_one_more(store, name) for _ in range(3)][-1]
        running.enter_context(serving(store, port))
        wait_for(lambda: json.loads(tail.lines[-1])["seq"] == last, "what came meanwhile", 30)
        assert tail.stop() == 0
    store.close()
    seqs = [json.loads(line)["seq"] for line in tail.lines]
    assert seqs == list(range(seqs[0], last + 1))
    assert len(tail.said) == 1
    assert "trying on" in tail.said[0]


def _one_more(store: SqliteStore, name: str) -> int:
    """Store the next receipt of a process; its seq."""
    sources = store.sources(store.default_project())
    seq = sources[0].max_seq + 1 if sources else 0
    take(store, envelope([receipt()], first=seq, name=name))
    time.sleep(0.1)
    return seq


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--where", "nope=1"), 2, "--where"),
        (("--tz", "Nowhere/Land"), 2, "tz"),
        (("--db", "/nowhere/ledger.db"), 1, "there is no ledger"),
    ],
)
def test_what_cannot_be_followed_is_said(
    store: SqliteStore, arguments: tuple[str, ...], status: int, words: str
) -> None:
    given = arguments if "--db" in arguments else ("--db", store.path, *arguments)
    done = aicg("tail", *given)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
