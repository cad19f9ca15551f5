"""Trouble with the file: a WAL that lies, a device that is read-only, a lock that stays, a kill at any instant."""

from __future__ import annotations

import http.client
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.errors import Busy, Corrupt, Refused
from aicostguard.ledger.sqlite import SqliteStore, copying, hold, salvage, wal, writer
from tests.ledger.support import (
    KEY,
    aicg,
    costs,
    envelope,
    epoch,
    leaves,
    receipt,
    served,
    serving,
    take,
    totals,
)


def _with_wal(folder: Path, commits: int) -> Path:
    """A ledger as a kill leaves it: what was acknowledged is in its WAL alone."""
    live, path = folder / "live.db", folder / "ledger.db"
    ledger.open_ledger(str(live)).close()
    store = ledger.open_ledger(str(live))
    for turn in range(commits):
        take(store, envelope([receipt()] * 10, first=1 + turn * 10))
    for end in ("", "-wal"):
        shutil.copy(f"{live}{end}", f"{path}{end}")
    store.close()
    return path


def _frames(path: Path) -> int:
    return (Path(f"{path}-wal").stat().st_size - 32) // 4120


def _flip(path: Path, place: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    return bytes(content)


# The WAL


def test_what_only_the_wal_holds_is_there_after_a_kill(tmp_path: Path) -> None:
    path = _with_wal(tmp_path, 8)
    assert wal.damage(str(path), 10) is None
    store = ledger.open_ledger(str(path), check=True)
    assert totals(store)["calls"] == 80
    store.close()


@pytest.mark.parametrize("place", ["header", "first frame", "middle"])
def test_a_damaged_wal_is_refused_before_sqlite_forgets_it(tmp_path: Path, place: str) -> None:
    path = _with_wal(tmp_path, 8)
    beside = Path(f"{path}-wal")
    at = {"header": 18, "first frame": 32 + 24 + 100, "middle": 32 + _frames(path) // 2 * 4120 + 500}[place]
    damaged, before = _flip(beside, at), path.read_bytes()
    with pytest.raises(Corrupt, match="WAL is damaged"):
        ledger.open_ledger(str(path), check=True)
    started = aicg("serve", "--port", "0", "--db", str(path))
    assert started.returncode == 1
    for words in (str(path), "WAL", "aicg restore", "aicg salvage"):
        assert words in started.stderr
    assert (beside.read_bytes(), path.read_bytes()) == (damaged, before), "SQLite would have deleted it"
    store = ledger.open_ledger(str(tmp_path / "rest.db"))
    taken = salvage.salvage(str(path), store).taken
    store.close()
    assert (beside.read_bytes(), path.read_bytes()) == (damaged, before)
    assert taken % 10 == 0, "whole commits"
    assert (0 < taken < 80) == (place == "middle")


def test_a_transaction_torn_at_the_end_of_the_wal_was_never_acknowledged(tmp_path: Path) -> None:
    path = _with_wal(tmp_path, 8)
    beside = Path(f"{path}-wal")
    content = beside.read_bytes()
    for cut in (1000, 4120, 5000):
        beside.write_bytes(content[:-cut])
        assert wal.damage(str(path), 10) is None
    beside.write_bytes(content[:-2000] + bytes(2000))
    assert wal.damage(str(path), 10) is None
    store = ledger.open_ledger(str(path), check=True)
    assert totals(store)["calls"] == 70
    store.close()


def test_a_file_cut_to_nothing_beside_its_wal_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    path = _with_wal(tmp_path, 3)
    path.write_bytes(b"")
    with pytest.raises(Corrupt, match="it was cut"):
        ledger.open_ledger(str(path), check=True)
    assert Path(f"{path}-wal").stat().st_size > 0


# Salvage


@pytest.mark.ids("Z4")
def test_salvage_takes_over_all_that_can_be_read_once(tmp_path: Path) -> None:
    path, new = tmp_path / "ledger.db", tmp_path / "new.db"
    store = ledger.open_ledger(str(path))
    name = epoch()
    for turn in range(20):
        body = [receipt(feature=f"f{n % 9}", team="é", tags={"a": "b"}, streamed=True) for n in range(300)]
        take(store, envelope(body, first=turn * 300, name=name, service="shop", counters={"generated": 6001}))
    take(store, receipt(feature="bare"), idempotency_key="k")
    store.add_key(KEY, "test", ("ingest",), store.default_project(), 1)
    take(store, envelope([receipt(nope=1)], first=6000, name=name, ended=True))
    whole = totals(store)
    (ended,) = [source.ended for source in store.sources(store.default_project())]
    assert ended > 0
    store.close()
    sound, beside = path.read_bytes(), sorted(tmp_path.iterdir())
    done = aicg("salvage", str(path), "--db", str(new))
    assert done.returncode == 0, done.stderr
    assert "6,001 receipts taken over" in done.stdout
    assert [found for found in sorted(tmp_path.iterdir()) if not found.name.startswith("new.db")] == beside
    store = ledger.open_ledger(str(new))
    assert totals(store) == whole
    (source,) = store.sources(store.default_project())
    assert (source.received, source.refused, source.missing) == (6000, 1, 0)
    assert (source.counters["generated"], source.ended) == (6001, ended)
    assert take(store, receipt(feature="bare"), idempotency_key="k")["duplicate"] == 1
    with pytest.raises(Refused, match="another body"):
        take(store, receipt(feature="other"), idempotency_key="k")
    assert store.find_key(KEY) is not None
    store.close()

    pages = leaves(path, "receipts")
    content = bytearray(sound)
    spoiled = random.Random(4).sample(pages[2:-2], 3)
    for page in spoiled:
        content[(page - 1) * 4096 : page * 4096] = b"\x55" * 4096
    path.write_bytes(content)
    damaged = path.read_bytes()
    store = ledger.open_ledger(str(tmp_path / "rest.db"))
    saved = salvage.salvage(str(path), store)
    assert path.read_bytes() == damaged
    per_page = 6001 / len(pages)
    assert saved.damage
    assert 6001 - 3 * 2 * per_page < saved.taken < 6001
    assert totals(store)["calls"] == saved.taken
    assert salvage.salvage(str(path), store).taken == 0, "once is enough"
    (source,) = store.sources(store.default_project())
    assert source.missing == 6001 - saved.taken, "what was lost is known"
    store.close()
    path.write_bytes(sound)
    store = ledger.open_ledger(str(tmp_path / "rest.db"))
    assert salvage.salvage(str(path), store).taken == 6001 - saved.taken
    assert totals(store) == whole
    store.close()


def test_salvage_brings_back_what_a_restore_put_aside(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    name = epoch()
    for first in (0, 100):
        store = ledger.open_ledger(str(path))
        take(store, envelope([receipt()] * 100, first=first, name=name))
        store.close()
        if first == 0:
            copying.backup(str(path), str(copy))
    kept = copying.restore(str(copy), str(path), replace=True).kept
    assert kept is not None
    done = aicg("salvage", kept, "--db", str(path), "--json")
    assert done.returncode == 0, done.stderr
    store = ledger.open_ledger(str(path))
    assert totals(store)["calls"] == 200
    assert [source.missing for source in store.sources(store.default_project())] == [0]
    store.close()


def test_salvage_of_nothing_useful_says_so(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("dear diary, " * 1000)
    for source in (text, tmp_path / "none.db"):
        done = aicg("salvage", str(source), "--db", str(tmp_path / "new.db"))
        assert done.returncode == 1
        assert str(source) in done.stderr
        assert "Traceback" not in done.stderr
    ledger.open_ledger(str(tmp_path / "new.db")).close()
    same = aicg("salvage", str(tmp_path / "new.db"), "--db", str(tmp_path / "new.db"))
    assert "the ledger itself" in same.stderr


# Read-only, locked, open twice


def test_a_file_that_turns_read_only_acknowledges_nothing_and_still_answers(tmp_path: Path) -> None:
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    with serving(store) as server:
        assert server.post(envelope([receipt()])).status == 200
        store.change(lambda connection: connection.execute("PRAGMA query_only = ON"))
        reply = server.post(envelope([receipt()], first=2))
        assert reply.status == 503, reply
        assert int(reply.headers["retry-after"]) > 0
        assert "ledger.db" in reply.body["error"]
        assert server.get("/v1/costs?since=24h").body["totals"]["calls"] == 1
        store._writer._connection.execute("PRAGMA query_only = OFF")
        assert server.post(envelope([receipt()], first=2)).body["accepted"] == 1
        assert totals(store)["calls"] == 2
    store.close()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux, to make writes of another process fail")
def test_a_device_that_fails_acknowledges_nothing_and_is_used_again_once_it_works(tmp_path: Path) -> None:
    with served(tmp_path) as (process, server):
        key = (tmp_path / "ledger.key").read_text().strip()
        assert server.post(envelope([receipt()]), key=key).status == 200
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        body = envelope([receipt(feature=f"f{n}") for n in range(300)], first=2)
        reply = server.post(body, key=key)
        assert reply.status == 503, reply
        assert int(reply.headers["retry-after"]) > 0
        assert "the system's log" in reply.body["error"]
        assert server.get("/v1/costs?since=24h", key=key).body["totals"]["calls"] == 1
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert server.post(body, key=key).body == {"accepted": 300, "duplicate": 0, "refused": []}
        assert server.get("/v1/costs?since=24h", key=key).body["totals"]["calls"] == 301


def test_a_start_on_a_read_only_device_is_one_clear_sentence(small_disk: Path) -> None:
    ledger.open_ledger(str(small_disk / "ledger.db")).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    started = aicg("serve", "--port", "0", "--db", str(small_disk / "ledger.db"))
    assert started.returncode == 1
    assert str(small_disk) in started.stderr
    assert "--db" in started.stderr
    assert "Traceback" not in started.stderr


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.ledger.sqlite import file

    monkeypatch.setattr(file, "BUSY_MS", 300)
    monkeypatch.setattr(hold, "PATIENCE_S", 0.5)
    monkeypatch.setattr(writer, "PATIENCE_S", 1.0)


def test_a_lock_that_stays_is_a_503_in_bounded_time(tmp_path: Path, impatient: None) -> None:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    with serving(store) as server:
        assert server.post(envelope([receipt()])).status == 200
        stranger = sqlite3.connect(path, isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        reply = server.post(envelope([receipt()], first=2))
        assert time.monotonic() - began < 5
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) > 0
        assert server.get("/v1/costs?since=24h").body["totals"]["calls"] == 1, "readers do not wait"
        stranger.execute("ROLLBACK")
        stranger.close()
        assert server.post(envelope([receipt()], first=2)).body["accepted"] == 1
    store.close()


def test_a_process_that_was_stopped_with_the_writers_lock_holds_nobody_up_for_ever(
    tmp_path: Path, impatient: None
) -> None:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    other = writer.FairLock(str(path))
    with other.held():
        began = time.monotonic()
        with pytest.raises(Busy, match="try again"):
            take(store, envelope([receipt()]))
        store.close()
        assert time.monotonic() - began < 5, "not even a stop waits for it"
    other.close()


def test_a_start_during_a_restore_waits_and_then_says_why_not(tmp_path: Path, impatient: None) -> None:
    path = tmp_path / "ledger.db"
    alone = hold.Hold(str(path))
    assert alone.alone()
    with pytest.raises(Busy, match="being restored"):
        ledger.open_ledger(str(path))
    alone.close()
    ledger.open_ledger(str(path)).close()


def test_two_servers_on_one_file_share_it_and_say_so(tmp_path: Path) -> None:
    with served(tmp_path) as (_, one), served(tmp_path) as (_, two):
        assert "another process has this file open" not in one.greeting
        assert "another process has this file open" in two.greeting
        key = (tmp_path / "ledger.key").read_text().strip()
        name, replies = epoch(), []

        def send(server: Any) -> None:
            for turn in range(12):
                replies.append(server.post(envelope([receipt()] * 10, first=turn * 10, name=name), key=key))

        threads = [threading.Thread(target=send, args=(server,)) for server in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {reply.status for reply in replies} == {200}
        assert sum(reply.body["accepted"] for reply in replies) == 120
        for server in (one, two):
            assert server.get("/v1/costs?since=24h", key=key).body["totals"]["calls"] == 120


# Kill


class _Sender(threading.Thread):
    """Sends envelopes of its own epoch until the server is gone; resends the one that was not answered."""

    def __init__(self, number: int, rng: random.Random) -> None:
        super().__init__()
        self.name_of_epoch = "01KILL%020d" % number
        self.acknowledged = 0
        self.unanswered = 0
        self._rng = rng
        self.server: Any = None
        self.key = ""
        #: called at the very moment at which so many envelopes were acknowledged
        self.then: Any = None
        self.after = 0

    def run(self) -> None:
        try:
            while True:
                size = self.unanswered or self._rng.randrange(1, 60)
                self.unanswered = size
                body = envelope([receipt()] * size, first=self.acknowledged, name=self.name_of_epoch)
                reply = self.server.post(body, key=self.key, zipped=size % 2 == 0)
                assert reply.status == 200, reply
                self.acknowledged += size
                self.unanswered = 0
                self.after -= 1
                if self.after == 0:
                    self.then()
        except (OSError, http.client.HTTPException):
            pass


def _again(sender: _Sender, number: int, rng: random.Random) -> _Sender:
    new = _Sender(number, rng)
    new.acknowledged, new.unanswered = sender.acknowledged, sender.unanswered
    return new


@pytest.mark.ids("Z4", "E7")
@pytest.mark.parametrize("seed", [int(os.environ.get("AICG_TEST_SEED", "1"))])
def test_kill_9_at_any_instant_loses_nothing_acknowledged_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    kills = int(os.environ.get("AICG_TEST_KILLS", "4"))
    rng = random.Random(seed)
    senders = [_Sender(number, rng) for number in range(4)]
    for kill in range(kills):
        with served(tmp_path) as (process, server):
            key = (tmp_path / "ledger.key").read_text().strip()
            senders = [_again(sender, number, rng) for number, sender in enumerate(senders)]
            if kill % 2 == 0:  # right behind an acknowledgement, before anything can happen that should have before it
                senders[0].after, senders[0].then = rng.randrange(1, 12), process.kill
            for sender in senders:
                sender.server, sender.key = server, key
                sender.start()
            if kill % 2:
                time.sleep(rng.random() * 0.5)
                process.kill()
            for sender in senders:
                sender.join()
        store = ledger.open_ledger(str(tmp_path / "ledger.db"), check=True)
        by_epoch = {source.epoch: source for source in store.sources(store.default_project())}
        for sender in senders:
            if not sender.acknowledged:
                continue
            source = by_epoch[sender.name_of_epoch]
            assert source.missing == 0, (seed, kill)
            stored = source.received
            assert sender.acknowledged <= stored <= sender.acknowledged + sender.unanswered, (seed, kill)
        _books_balance(store)
        store.close()
    assert sum(sender.acknowledged for sender in senders) > 0


def _books_balance(store: SqliteStore) -> None:
    connection = sqlite3.connect(store.path)
    try:
        raw = connection.execute("SELECT count(*), sum(cost_nanousd), sum(input_tokens) FROM receipts").fetchone()
        once = connection.execute("SELECT count(DISTINCT epoch || ':' || seq) FROM receipts").fetchone()[0]
    finally:
        connection.close()
    found = costs(store)["totals"]
    assert (found["calls"], found["cost_nanousd"] or 0, found["input_tokens"]) == tuple(value or 0 for value in raw)
    assert once == raw[0]
