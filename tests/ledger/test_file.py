"""The file: damaged, full, foreign, newer, not writable, opened by several at once; and the inbox in it."""

from __future__ import annotations

import functools
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.delivery import sink
from aicostguard.ledger.errors import Corrupt, Full, LedgerError, Newer, NotWritable
from aicostguard.ledger.sqlite import SqliteStore, schema, write
from tests.ledger.support import (
    Server,
    aicg,
    envelope,
    environment,
    epoch,
    receipt,
    served,
    serving,
    take,
    totals,
    wait_for,
)


def _leave(path: Path, *bodies: object) -> None:
    """Put envelopes into the inbox as an agent's sink does."""
    for body in bodies:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert sink.Sink(str(path)).post(data, time.monotonic() + 5).kind == "taken"


def _inbox(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT count(*) FROM inbox").fetchone()[0]
    connection.close()
    return int(found)


def _has(store: SqliteStore, calls: int) -> bool:
    return bool(totals(store)["calls"] == calls)


# Damage


@pytest.mark.parametrize("damage", ["text", "header", "middle", "last"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    for turn in range(20):
        take(store, envelope([receipt(feature=f"f{n}") for n in range(100)], first=turn * 100))
    store.close()
    content = bytearray(path.read_bytes())
    if damage == "text":
        content[:] = b"dear diary, " * 1000
    elif damage == "header":
        content[:100] = bytes(100)
    elif damage == "last":
        # A page of receipts: nothing that a start reads by itself.
        content[-4096:] = b"\x55" * 4096
    else:
        for page in range(4, len(content) // 4096, 2):
            content[page * 4096 : page * 4096 + 4096] = bytes([page % 251]) * 4096
    path.write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        ledger.open_ledger(str(path), check=True)
    assert str(path) in str(caught.value)
    assert "It was left as it is" in str(caught.value)
    started = aicg("serve", "--port", "0", "--db", str(path))
    assert started.returncode == 1
    assert str(path) in started.stderr
    assert "backup" in started.stderr
    assert "Traceback" not in started.stderr
    assert path.read_bytes() == bytes(content)


def test_damage_met_while_running_is_a_503_not_an_acknowledgement(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))
    with serving(store) as server:
        assert server.post(envelope([receipt()])).status == 200

        def spoil(connection: sqlite3.Connection) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        real = store._writer.do
        store._writer.do = lambda job: real(spoil)  # type: ignore[method-assign,assignment,return-value]
        reply = server.post(envelope([receipt()], first=9))
        assert reply.status == 503
        assert str(path) in reply.body["error"]
        store._writer.do = real  # type: ignore[method-assign]
        assert server.post(envelope([receipt()], first=9)).body["accepted"] == 1
    store.close()


def test_another_programs_file_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "places.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE places (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Corrupt, match="another program"):
        ledger.open_ledger(str(path))
    assert path.read_bytes() == before


def test_a_newer_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger.open_ledger(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(Newer, match="upgrade"):
        ledger.open_ledger(str(path))


def test_migrations_run_forward_once_and_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.ledger.sqlite import file

    path = str(tmp_path / "ledger.db")
    ledger.open_ledger(path).close()
    broken = (*schema.MIGRATIONS, ("CREATE TABLE later (a TEXT) STRICT", "CREATE TABLE later (a TEXT) STRICT"))
    monkeypatch.setattr(file, "MIGRATIONS", broken)
    monkeypatch.setattr(file, "VERSION", len(broken))
    with pytest.raises(LedgerError):
        ledger.open_ledger(path)
    monkeypatch.setattr(file, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (a TEXT) STRICT",)))
    for _ in range(2):
        store = ledger.open_ledger(path)
        take(store, envelope([receipt()], name=epoch()))
        assert store._read(lambda connection: connection.execute("PRAGMA user_version").fetchone()[0]) == len(broken)
        store.close()


# Room and rights


def test_a_full_disk_is_503_and_acknowledges_nothing_it_has_not_stored(small_disk: Path) -> None:
    store = ledger.open_ledger(str(small_disk / "ledger.db"))
    try:
        with serving(store) as server:
            acknowledged = 0
            for turn in range(500):
                body = envelope([receipt(feature=f"f{turn}-{n}") for n in range(50)], first=turn * 50)
                reply = server.post(body)
                if reply.status != 200:
                    break
                acknowledged += 50
            assert reply.status == 503, reply
            assert int(reply.headers["retry-after"]) > 0
            assert "ledger.db" in reply.body["error"]
            assert acknowledged > 0
            assert totals(store)["calls"] == acknowledged
            # Reading still works, and once there is room again the same envelope is taken, once.
            subprocess.run(["mount", "-o", "remount,size=12m", str(small_disk)], check=True)
            assert server.post(body).body["accepted"] == 50
            assert totals(store)["calls"] == acknowledged + 50
    finally:
        store.close()


def test_a_start_on_a_full_disk_is_one_clear_sentence(small_disk: Path) -> None:
    try:
        (small_disk / "filler").write_bytes(bytes(4 << 20))
    except OSError:
        pass
    started = aicg("serve", "--port", "0", "--db", str(small_disk / "ledger.db"))
    assert started.returncode == 1
    assert "ledger.db" in started.stderr
    assert "Traceback" not in started.stderr


def test_the_page_limit_of_sqlite_is_a_full_disk_too(store: SqliteStore) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    store._writer.do(limit)
    with pytest.raises(Full, match="nothing of this request was stored"):
        take(store, envelope([receipt(feature=f"f{n}") for n in range(2000)]))
    assert totals(store)["calls"] == 0
    store._writer.do(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
    assert take(store, envelope([receipt()]))["accepted"] == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="file"):
        ledger.open_ledger(str(tmp_path / "file" / "ledger.db"))
    started = aicg("serve", "--port", "0", AICG_DATA_DIR=str(tmp_path / "file"))
    assert started.returncode == 1
    assert "AICG_DATA_DIR" in started.stderr


def test_the_file_and_its_helpers_belong_to_the_user_alone(store: SqliteStore) -> None:
    take(store, receipt())
    folder = Path(store.path).parent
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} <= set(modes)
    assert set(modes.values()) == {0o600}


# The inbox


def test_the_inbox_is_the_sinks_own_table() -> None:
    assert schema.INBOX == sink.DDL


def test_what_agents_left_is_taken_in_on_open(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    same = envelope([receipt(), receipt()])
    _leave(path, same, same, envelope([receipt()], name=epoch()))
    store = ledger.open_ledger(str(path))
    assert totals(store)["calls"] == 3
    assert _inbox(path) == 0
    store.close()


def test_a_large_inbox_is_taken_in_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    monkeypatch.setattr(write, "DRAIN_BYTES", 2000)
    store = ledger.open_ledger(str(path))
    _leave(path, *[envelope([receipt()] * 20, name=epoch()) for _ in range(5)])
    rounds: list[int] = []
    real = write.drain

    def counted(*given: Any) -> int:
        rounds.append(real(*given))
        return rounds[-1]

    monkeypatch.setattr(write, "drain", counted)
    assert ledger.drain(store) == 5
    assert rounds == [1] * 5
    assert totals(store)["calls"] == 100
    store.close()


def test_two_openers_at_once_take_the_inbox_in_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    _leave(path, *[envelope([receipt()] * 7, name=epoch()) for _ in range(150)])
    script = "import sys; from aicostguard import ledger; ledger.open_ledger(sys.argv[1]).close()"
    openers = [subprocess.Popen([sys.executable, "-c", script, str(path)], env=environment()) for _ in range(2)]
    assert [opener.wait(60) for opener in openers] == [0, 0]
    store = ledger.open_ledger(str(path))
    assert totals(store)["calls"] == 150 * 7
    assert _inbox(path) == 0
    store.close()


@pytest.mark.ids("ACC:D16")
def test_a_running_ledger_takes_the_inbox_in_within_two_seconds(server: Server, store: SqliteStore) -> None:
    waited = []
    for calls in (1, 2, 3):
        _leave(Path(store.path), envelope([receipt()], name=epoch()))
        began = time.monotonic()
        wait_for(functools.partial(_has, store, calls), "the inbox to be taken in")
        waited.append(time.monotonic() - began)
    assert sorted(waited)[1] < 2
    _leave(Path(store.path), envelope([receipt()], name=epoch()))
    assert server.get("/v1/costs?since=24h").body["totals"]["calls"] == 4, "a reader looks for itself"


def test_what_cannot_be_read_is_kept_and_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    _leave(path, b"not json", {"schema": 99}, b"\x00\xff", envelope([receipt()]))
    store = ledger.open_ledger(str(path))
    assert totals(store)["calls"] == 1
    assert _inbox(path) == 0
    kept: list[Any] = store._read(lambda c: c.execute("SELECT envelope, error FROM inbox_rejected").fetchall())
    assert [row[0] for row in kept] == [b"not json", b'{"schema": 99}', b"\x00\xff"]
    assert all(row[1] for row in kept)
    store.close()


def test_agents_and_a_ledger_write_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = ledger.open_ledger(str(path))

    def agent() -> None:
        for _ in range(20):
            _leave(path, envelope([receipt(feature="inbox")] * 3, name=epoch()))

    agents = [threading.Thread(target=agent) for _ in range(2)]
    for thread in agents:
        thread.start()
    for _ in range(20):
        take(store, envelope([receipt(feature="http")] * 3, name=epoch()))
        ledger.drain(store)
    for thread in agents:
        thread.join()
    ledger.drain(store)
    assert totals(store)["calls"] == 60 + 120
    store.close()


# The key file


def test_the_first_start_makes_a_key_that_stays(tmp_path: Path) -> None:
    shown = []
    for _ in range(2):
        with served(tmp_path) as (process, server):
            key = (tmp_path / "ledger.key").read_text().strip()
            assert server.get("/v1/costs", key=key).status == 200
            process.terminate()
            output, errors = process.communicate(timeout=20)
            assert process.returncode == 0, errors
            assert key not in server.greeting + output + errors, "only a terminal gets to see it"
            assert key[:9] + "•" in server.greeting
            shown.append(key)
    assert shown[0] == shown[1]
    assert (tmp_path / "ledger.key").stat().st_mode & 0o777 == 0o600
    connection = sqlite3.connect(tmp_path / "ledger.db")
    dump = "\n".join(connection.iterdump())
    connection.close()
    assert shown[0] not in dump, "the ledger holds only its hash"


@pytest.mark.ids("E9")
def test_keys_are_in_no_log(tmp_path: Path) -> None:
    wrong = "aicg_" + "canary" * 6
    with served(tmp_path) as (process, server):
        key = (tmp_path / "ledger.key").read_text().strip()
        server.get("/v1/costs?since=nonsense", key=key)
        server.get("/v1/costs", key=wrong)
        server.ask("POST", "/v1/receipts", b"{", key=wrong)
        server.ask("POST", "/v1/receipts", b"{", key=key)
        process.terminate()
        output, errors = process.communicate(timeout=20)
    assert "canary" not in output + errors
    assert key not in output + errors


def test_a_port_in_use_is_said_before_any_file_is_touched(tmp_path: Path) -> None:
    with served(tmp_path) as (_, server):
        started = aicg("serve", "--port", str(server.port), "--db", str(tmp_path / "other" / "ledger.db"))
    assert started.returncode == 1
    assert "in use" in started.stderr
    assert "--port" in started.stderr
    assert not (tmp_path / "other").exists()


def test_listening_to_everybody_is_said_loudly(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "0.0.0.0") as (_, server):
        assert "WARNING: listening on 0.0.0.0" in server.greeting
    with served(tmp_path) as (_, server):
        assert "WARNING" not in server.greeting


def test_a_stop_lets_a_request_under_way_finish(tmp_path: Path) -> None:
    with served(tmp_path) as (process, server):
        key = (tmp_path / "ledger.key").read_text().strip()
        body = json.dumps(envelope([receipt()] * 500)).encode()
        head = f"POST /v1/receipts HTTP/1.1\r\nHost: ::1\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body[:1000])
            time.sleep(0.3)
            process.terminate()
            time.sleep(0.3)
            connection.sendall(body[1000:])
            assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
        process.communicate(timeout=30)
        assert process.returncode == 0
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    assert totals(store)["calls"] == 500
    store.close()
