"""Backup and restore: whole, verified, in one step; what was there is kept; nothing doubles afterwards."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.errors import Busy, Corrupt, Full, LedgerError, Newer, NotWritable
from aicostguard.ledger.sqlite import contents, copying, schema
from tests.ledger.support import aicg, envelope, environment, epoch, leaves, receipt, served, take, totals


def _filled(path: Path, calls: int, *, name: str | None = None, first: int = 0) -> None:
    store = ledger.open_ledger(str(path))
    take(store, envelope([receipt(feature=f"f{n % 7}") for n in range(calls)], first=first, name=name or epoch()))
    store.close()


def _contents(path: Path) -> contents.Contents:
    connection = sqlite3.connect(path)
    try:
        return contents.read(connection)
    finally:
        connection.close()


def _calls(path: Path) -> int:
    store = ledger.open_ledger(str(path), create=False)
    try:
        return int(totals(store)["calls"])
    finally:
        store.close()


def _spoiled(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096, 2):
        content[page * 4096 : page * 4096 + 4096] = b"\x55" * 4096
    path.write_bytes(content)
    return bytes(content)


# Backup


@pytest.mark.ids("Z4")
def test_a_backup_while_agents_write_is_one_moment_of_the_ledger(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with served(tmp_path) as (_, server):
        key = (tmp_path / "ledger.key").read_text().strip()
        name, sent, stop = epoch(), [0], threading.Event()

        def send() -> None:
            while not stop.is_set():
                body = envelope([receipt()] * 20, first=sent[0] + 1, name=name)
                assert server.post(body, key=key).status == 200
                sent[0] += 20

        for _ in range(10):
            assert server.post(envelope([receipt()] * 500, name=epoch()), key=key).status == 200
        sender = threading.Thread(target=send)
        sender.start()
        try:
            before = sent[0]
            made = aicg("backup", str(target), "--db", str(tmp_path / "ledger.db"), "--json")
            after = sent[0] + 20
        finally:
            stop.set()
            sender.join()
        assert made.returncode == 0, made.stderr
        report = json.loads(made.stdout)
        assert 5000 + before <= report["receipts"] <= 5000 + after
        assert report["sums_agree"]
        assert (report["receipts"] - 5000) % 20 == 0, "no half of a commit"
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.glob("copy.db*")) == ["copy.db"], "one file, nothing left beside it"
    assert _contents(target).receipts == report["receipts"]
    connection = sqlite3.connect(target)
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    connection.close()


def test_a_backup_replaces_only_when_told_and_only_by_a_whole_one(tmp_path: Path) -> None:
    path, target = tmp_path / "ledger.db", tmp_path / "backups" / "copy.db"
    target.parent.mkdir()
    _filled(path, 10)
    copying.backup(str(path), str(target))
    first = target.read_bytes()
    with pytest.raises(NotWritable, match="--force"):
        copying.backup(str(path), str(target))
    assert aicg("backup", str(target), "--db", str(path)).returncode == 1
    _filled(path, 600)
    whole = path.read_bytes()
    _spoiled(path)
    with pytest.raises(Corrupt, match="damaged"):
        copying.backup(str(path), str(target), replace=True)
    assert target.read_bytes() == first, "a backup that fails leaves the old one"
    path.write_bytes(whole)
    done = aicg("backup", str(target), "--db", str(path), "--force")
    assert done.returncode == 0, done.stderr
    assert "610 receipts" in done.stdout
    assert _contents(target).receipts == 610
    assert os.listdir(target.parent) == ["copy.db"]


def test_a_backup_into_a_folder_is_named_after_the_moment(tmp_path: Path) -> None:
    path, folder = tmp_path / "ledger.db", tmp_path / "backups"
    folder.mkdir()
    _filled(path, 3)
    made = copying.backup(str(path), str(folder))
    assert Path(made.path).parent == folder
    assert Path(made.path).name.startswith("ledger-20")


def test_a_backup_is_never_written_over_a_ledger(tmp_path: Path) -> None:
    path, other = tmp_path / "ledger.db", tmp_path / "other.db"
    _filled(path, 3)
    with pytest.raises(NotWritable, match="the ledger itself"):
        copying.backup(str(path), str(path), replace=True)
    store = ledger.open_ledger(str(other))
    with pytest.raises(NotWritable, match="in use as a ledger"):
        copying.backup(str(path), str(other), replace=True)
    store.close()
    with pytest.raises(NotWritable, match="cannot be read"):
        copying.backup(str(tmp_path / "none.db"), str(tmp_path / "copy.db"))
    assert not (tmp_path / "none.db").exists()


def test_a_copy_that_lacks_a_row_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    _filled(path, 30)
    real = contents.read
    found: list[Any] = []

    def one_less(connection: sqlite3.Connection) -> contents.Contents:
        found.append(real(connection))
        if len(found) == 2:
            connection.execute("DROP TRIGGER receipts_go_by_record")
            connection.execute("DELETE FROM receipts WHERE seq = 7")
            return real(connection)
        return found[-1]

    monkeypatch.setattr(contents, "read", one_less)
    with pytest.raises(Corrupt, match="does not hold"):
        copying.backup(str(path), str(tmp_path / "copy.db"))
    assert not list(tmp_path.glob("copy.db*"))


def test_a_full_disk_ends_a_backup_with_nothing_left(small_disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    _filled(path, 5000)
    store = ledger.open_ledger(str(path))
    for _ in range(6):
        take(store, envelope([receipt(feature=f"f{n}") for n in range(2000)], name=epoch()))
    store.close()
    assert path.stat().st_size > 3 << 20
    with pytest.raises(Full, match="no room"):
        copying.backup(str(path), str(small_disk / "copy.db"))
    assert os.listdir(small_disk) == []


# Restore


@pytest.mark.ids("Z4", "E7")
def test_after_a_restore_agents_resend_and_nothing_doubles(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    name = epoch()
    _filled(path, 100, name=name)
    copying.backup(str(path), str(copy))
    # Acknowledged after the backup: these are gone with the ledger, and nobody has them any more.
    _filled(path, 50, name=name, first=100)
    done = aicg("restore", str(copy), "--db", str(path), "--force", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["receipts"], report["receipts_before"]) == (100, 150)
    assert _calls(Path(report["kept"])) == 150, "what was there is whole"
    store = ledger.open_ledger(str(path))
    # What an agent still has in its spool: some of it known to the backup, some of it not.
    reply = take(store, envelope([receipt()] * 60, first=120, name=name))
    assert reply == {"accepted": 60, "duplicate": 0, "refused": []}
    assert take(store, envelope([receipt()] * 40, first=60, name=name))["duplicate"] == 40
    assert totals(store)["calls"] == 160
    (source,) = store.sources(store.default_project())
    assert source.missing == 20, "100 to 119 were acknowledged after the backup: a gap that is known"
    store.close()


def test_restore_refuses_while_anybody_has_the_ledger_open(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    _filled(path, 10)
    copying.backup(str(path), str(copy))
    with served(tmp_path):
        done = aicg("restore", str(copy), "--db", str(path), "--force")
        assert done.returncode == 1
        assert "stop `aicg serve`" in done.stderr
    stranger = sqlite3.connect(path)
    stranger.execute("SELECT count(*) FROM receipts").fetchone()
    with pytest.raises(Busy, match="another program"):
        copying.restore(str(copy), str(path), replace=True)
    stranger.close()
    assert not list(tmp_path.glob("*before-restore*"))
    assert _calls(path) == 10
    copying.restore(str(copy), str(path), replace=True)


def test_restore_wants_force_and_a_backup_that_is_whole(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    _filled(path, 600)
    copying.backup(str(path), str(copy))
    with pytest.raises(NotWritable, match="--force"):
        copying.restore(str(copy), str(path))
    spoiled = _spoiled(copy)
    before = path.read_bytes()
    for source in (copy, tmp_path / "none.db", path):
        with pytest.raises(LedgerError) as caught:
            copying.restore(str(source), str(path), replace=True)
        assert str(source) in str(caught.value)
    (tmp_path / "text").write_text("dear diary, " * 1000)
    with pytest.raises(Corrupt, match="no ledger"):
        copying.restore(str(tmp_path / "text"), str(path), replace=True)
    assert path.read_bytes() == before
    assert copy.read_bytes() == spoiled
    assert not list(tmp_path.glob("*before-restore*")) + list(tmp_path.glob("*.part-*"))


def test_a_damage_that_no_question_meets_is_found(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    _filled(path, 600)
    page = leaves(path, "receipts_by_time")[-1]
    content = bytearray(path.read_bytes())
    content[page * 4096 - 5] ^= 1  # one time in an index: every receipt is there, and every sum right
    path.write_bytes(content)
    assert _contents(path).receipts == 600
    with pytest.raises(Corrupt, match="receipts_by_time"):
        copying.backup(str(path), str(tmp_path / "copy.db"))
    with pytest.raises(Corrupt, match="receipts_by_time"):
        copying.restore(str(path), str(tmp_path / "new.db"))
    assert not (tmp_path / "new.db").exists()


def test_restore_to_a_new_place_and_over_a_damaged_ledger(tmp_path: Path) -> None:
    path, copy, new = tmp_path / "ledger.db", tmp_path / "copy.db", tmp_path / "new" / "ledger.db"
    _filled(path, 600)
    copying.backup(str(path), str(copy))
    assert copying.restore(str(copy), str(new)).kept is None
    assert _calls(new) == 600
    assert new.stat().st_mode & 0o777 == 0o600
    damaged = _spoiled(path)
    (tmp_path / "ledger.db-wal").write_bytes(b"a WAL of the damaged file")
    done = copying.restore(str(copy), str(path), replace=True)
    assert done.before is None
    assert done.kept is not None
    assert Path(done.kept).read_bytes() == damaged
    assert Path(done.kept + "-wal").read_bytes() == b"a WAL of the damaged file"
    assert _calls(path) == 600


def test_a_backup_of_a_newer_release_is_refused_and_of_an_older_one_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aicostguard.ledger.sqlite import file

    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    _filled(path, 10)
    copying.backup(str(path), str(copy))
    later = (*schema.MIGRATIONS, ("CREATE TABLE later (a TEXT) STRICT",))
    with monkeypatch.context() as patched:
        for module in (file, copying):
            patched.setattr(module, "VERSION", len(later))
        patched.setattr(file, "MIGRATIONS", later)
        done = copying.restore(str(copy), str(path), replace=True)
        assert (done.migrated_from, done.contents.version) == (schema.VERSION, len(later))
        copying.backup(str(path), str(tmp_path / "newer.db"))
    with pytest.raises(Newer, match="upgrade"):
        copying.restore(str(tmp_path / "newer.db"), str(tmp_path / "other.db"))
    assert not (tmp_path / "other.db").exists()


def test_keys_made_or_revoked_since_the_backup_stay_so(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    old, new = "aicg_" + "o" * 40, "aicg_" + "n" * 40
    store = ledger.open_ledger(str(path))
    store.add_key(old, "old", ("ingest",), store.default_project(), 1)
    store.close()
    copying.backup(str(path), str(copy))
    store = ledger.open_ledger(str(path))
    store.revoke_key(old, store.default_project(), 5)
    store.add_key(new, "new", ("ingest",), store.default_project(), 6)
    store.close()
    copying.restore(str(copy), str(path), replace=True)
    store = ledger.open_ledger(str(path))
    revoked, made = store.find_key(old), store.find_key(new)
    store.close()
    assert revoked is not None and revoked.revoked_ms == 5, "a key that leaked does not come back to life"
    assert made is not None and made.revoked_ms is None


def test_an_inbox_comes_along(tmp_path: Path) -> None:
    from aicostguard.delivery import sink

    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    _filled(path, 10)
    import time

    body = json.dumps(envelope([receipt()] * 5, name=epoch())).encode()
    assert sink.Sink(str(path)).post(body, time.monotonic() + 5).kind == "taken"
    assert copying.backup(str(path), str(copy)).contents.rows["inbox"] == 1
    copying.restore(str(copy), str(path), replace=True)
    assert _calls(path) == 15


_KILLED = """
import os, sys
from aicostguard.ledger.sqlite import copying
point = int(sys.argv[1])
calls = 0
def counted(real):
    def call(*given, **more):
        global calls
        calls += 1
        if calls == point:
            os._exit(9)
        return real(*given, **more)
    return call
for name in ("link", "rename", "fsync", "unlink", "chown"):
    setattr(os, name, counted(getattr(os, name)))
copying.restore(sys.argv[2], sys.argv[3], replace=True)
"""


def test_a_restore_killed_at_any_step_leaves_the_old_ledger_or_the_new_one(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    _filled(path, 20)
    copying.backup(str(path), str(copy))
    _filled(path, 10)
    seen = set()
    for point in range(1, 20):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(point), str(copy), str(path)], env=environment(), check=False
        )
        seen.add(_calls(path))
        if done.returncode == 0:
            break
        assert done.returncode == 9
        if 20 in seen:
            kept = next(iter(sorted(tmp_path.glob("ledger.db.before-restore-*"))))
            assert _calls(kept) == 30
    assert done.returncode == 0
    assert seen == {20, 30}
