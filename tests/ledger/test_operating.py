"""Running the ledger: probes, its own figures, its log, its start under a supervisor, its end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

from aicostguard.ledger import api, metrics, open_ledger, readiness
from aicostguard.ledger.errors import Full
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import (
    KEY,
    Server,
    command,
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
from tests.ledger.watched import DEPLOY, asked, configured, watching

CANARY = "canary-of-the-user"


def test_probes_need_no_key(server: Server) -> None:
    assert server.get("/healthz", key=None).body == {"status": "ok"}
    ready = server.get("/readyz", key=None)
    assert ready.status == 200
    assert ready.body == {"status": "ready", "checks": {"read": "ok", "write": "ok"}}


def test_a_ledger_that_cannot_store_is_alive_but_not_ready(
    server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarting it would help nobody: the disk is as full as before."""
    monkeypatch.setattr(readiness, "FRESH_S", 0.0)

    def full(*_: object) -> None:
        raise Full(f"no room in {CANARY}")

    with monkeypatch.context() as patched:
        patched.setattr(store, "remember", full)
        reply = server.get("/readyz", key=None)
        assert reply.status == 503
        assert reply.body == {"status": "not ready", "checks": {"read": "ok", "write": "Full"}}
        assert server.get("/healthz", key=None).status == 200
    assert server.get("/readyz", key=None).status == 200


def test_on_a_full_device_the_ledger_is_not_ready_until_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FRESH_S", 0.0)
    store = open_ledger(str(small_disk / "ledger.db"))
    try:
        with serving(store) as server:
            assert server.get("/readyz", key=None).status == 200
            filler = small_disk / "filler"
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
                while True:
                    file.write(b"\0" * 4096)
            # The WAL may have a page or two left to begin with.
            reply = wait_for(
                lambda: (found := server.get("/readyz", key=None)).status == 503 and found, "the device to be full"
            )
            assert reply.body["checks"] == {"read": "ok", "write": "Full"}
            filler.unlink()
            assert server.get("/readyz", key=None).status == 200
    finally:
        store.close()


def test_a_fault_that_stays_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(api, "DRAIN_EVERY_S", 0.0)
    times: list[int] = []

    def job() -> None:
        times.append(1)
        raise RuntimeError("the same again")

    async def run() -> None:
        task = asyncio.create_task(api._now_and_then(job, "it could not be done"))
        while len(times) < 5:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == ["it could not be done"]


def test_a_thousand_probes_are_one_write(server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_S", 3600.0)
    writes: list[str] = []
    real = store.remember
    monkeypatch.setattr(store, "remember", lambda name, value: writes.append(name) or real(name, value))  # type: ignore[func-returns-value]
    assert {server.get("/readyz", key=None).status for _ in range(20)} == {200}
    assert writes == [readiness.SETTING]


def _figures(server: Server, **headers: str) -> dict[str, float]:
    """`name{labels}` → value, as they stand in the text."""
    lines = server.get("/metrics", key=None, **headers).raw.decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] not in ("#", ""))
    }


def test_the_figures_are_what_happened(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_FRESH_S", 0.0)
    name = epoch()
    sent = envelope([receipt(), receipt(), receipt(model=7), receipt()], name=name)
    sent["seq"] = [0, 1, 2, 5]  # 3 and 4 are on their way, or lost
    assert server.post(sent).status == 200
    assert server.post(sent).status == 200
    assert server.get("/v1/costs?feature=" + CANARY).status == 200
    assert server.get("/guessed/" + CANARY).status == 404
    assert server.get("/v1/costs", key=None).status == 401
    found = _figures(server)
    assert found['aicg_receipts_total{result="accepted"}'] == 3
    assert found['aicg_receipts_total{result="duplicate"}'] == 3
    assert found['aicg_receipts_total{result="refused"}'] == 2
    assert found["aicg_receipts_missing"] == 2
    assert found['aicg_http_requests_total{method="POST",route="/v1/receipts",status="200"}'] == 2
    assert found['aicg_http_requests_total{method="GET",route="/v1/costs",status="200"}'] == 1
    assert found['aicg_http_requests_total{method="GET",route="/v1/costs",status="401"}'] == 1
    assert found['aicg_http_requests_total{method="GET",route="other",status="404"}'] == 1
    assert found['aicg_http_request_seconds_count{route="/v1/receipts"}'] == 2
    assert found["aicg_ingest_waiting"] == 0 and found["aicg_ingest_turned_away_total"] == 0
    assert found['aicg_ledger_file_bytes{file="ledger"}'] > 0 and found["aicg_ledger_room_bytes"] > 0


def test_nothing_of_anybody_is_in_the_figures(server: Server) -> None:
    labels = dict.fromkeys(("feature", "user", "team", "agent", "session"), CANARY)
    assert server.post(envelope([receipt(**labels)], name=epoch(), service=CANARY)).status == 200
    assert server.ask(CANARY.upper()[:6], f"/v1/costs?user={CANARY}").status in (400, 405)
    for accept in ("", "application/openmetrics-text; version=1.0.0", "text/plain; version=x; escaping=\\"):
        text = server.get("/metrics", key=None, Accept=accept).raw.decode()
        assert "aicg_receipts_total" in text
        assert CANARY not in text and CANARY.upper()[:6] not in text and KEY not in text and "gpt-4o" not in text


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[str]:
    with watching(server, tmp_path) as address:
        yield address


@pytest.mark.ids("E20")
def test_a_real_prometheus_scrapes_it(server: Server, prometheus: str) -> None:
    assert server.post(envelope([receipt()] * 7, name=epoch())).status == 200

    def seven() -> bool:
        found = asked(prometheus, 'aicg_receipts_total{result="accepted"}')
        return [result["value"][1] for result in found] == ["7"]

    wait_for(seven, "the figure to be scraped", 60)
    assert [result["value"][1] for result in asked(prometheus, "up{job='aicostguard'}")] == ["1"]
    assert asked(prometheus, "histogram_quantile(0.95, aicg_http_request_seconds_bucket{route='/v1/receipts'})")


def test_the_rules_for_prometheus_are_sound(tmp_path: Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([program, "check", "config", str(configured(tmp_path))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with_names = (DEPLOY / "prometheus-rules.yml").read_text()
    for name in ("aicg_ingest_turned_away_total", "aicg_ledger_room_bytes", "aicg_receipts_missing"):
        assert name in with_names


def test_the_log_is_a_json_object_a_line_without_queries_and_keys(tmp_path: Path) -> None:
    with served(tmp_path, "--log-format", "json", "--log-level", "info") as (process, server):
        key = (tmp_path / "ledger.key").read_text().strip()
        assert server.get(f"/v1/costs?user={CANARY}", key=key).status == 200
        assert server.get(f"/{CANARY}", key=key).status == 404
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in said.splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    seen = [(line["method"], line["route"], line["status"]) for line in requests]
    assert ("GET", "/v1/costs", 200) in seen and ("GET", "other", 404) in seen
    assert all(line["level"] == "info" and line["time"].endswith("Z") and line["ms"] >= 0 for line in requests)
    assert CANARY not in said and key not in said


def test_the_log_for_people_names_what_json_names(tmp_path: Path) -> None:
    with served(tmp_path, "--log-level", "info") as (process, server):
        server.get("/healthz", key=None)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert "INFO aicostguard.ledger.http: request method=GET route=/healthz status=200 ms=" in said


def _half_sent(port: int, body: bytes) -> socket.socket:
    head = f"POST /v1/receipts HTTP/1.1\r\nHost: ::1\r\nContent-Length: {len(body)}\r\nAuthorization: Bearer %s\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port), 30)
    key = os.environ.get("_KEY", "")
    connection.sendall((head % key).encode() + body[: len(body) // 2])
    return connection


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here")
def test_under_a_supervisor_it_says_what_it_does_and_ends_with_its_work_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to stop in the middle of a body: the receipt is stored and acknowledged, then the process ends with 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with served(tmp_path) as (process, server):
            assert supervisor.recv(100) == b"READY=1"
            assert supervisor.recv(100) == b"WATCHDOG=1"
            monkeypatch.setenv("_KEY", (tmp_path / "ledger.key").read_text().strip())
            body = json.dumps(envelope([receipt(feature="last")], name=epoch())).encode()
            with _half_sent(server.port, body) as connection:
                time.sleep(0.3)  # it has to have begun: a connection without a request is closed at once
                process.send_signal(signal.SIGTERM)
                while supervisor.recv(100) != b"STOPPING=1":
                    pass
                connection.sendall(body[len(body) // 2 :])
                answer = connection.recv(100)
                assert answer.startswith(b"HTTP/1.1 200"), (process.kill(), answer, process.stderr.read())
            assert process.wait(30) == 0, process.stderr.read()
    store = open_ledger(str(tmp_path / "ledger.db"))
    assert totals(store, feature="last")["calls"] == 1
    store.close()


def test_a_supervisor_that_has_gone_changes_nothing(tmp_path: Path) -> None:
    from aicostguard.ledger import supervised

    assert not supervised.tell(supervised.READY, {})
    assert not supervised.tell(supervised.READY, {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert not supervised.tell(supervised.READY, {"NOTIFY_SOCKET": "relative"})


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with a receipt, of this release; from now on, this release is the next one."""
    from aicostguard.ledger import sqlite
    from aicostguard.ledger.sqlite import copying, file, schema

    path = tmp_path / "ledger.db"
    store = open_ledger(str(path))
    take(store, envelope([receipt()], name=epoch()))
    store.close()
    later = (*schema.MIGRATIONS, ("CREATE TABLE later (a TEXT) STRICT",))
    for module in (file, copying, sqlite):
        monkeypatch.setattr(module, "VERSION", len(later))
    monkeypatch.setattr(file, "MIGRATIONS", later)
    return path


def _version(path: str) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_before_a_migration_the_file_is_kept_as_it_was(older: Path) -> None:
    before = _version(str(older))
    store = open_ledger(str(older))
    try:
        assert store.kept_as is not None and store.kept_as.startswith(f"{older}.before-version-{before + 1}-")
        assert (_version(store.kept_as), _version(str(older))) == (before, before + 1)
        assert os.stat(store.kept_as).st_mode & 0o777 == 0o600
        assert totals(store)["calls"] == 1
    finally:
        store.close()
    again = open_ledger(str(older))
    assert again.kept_as is None
    again.close()


def test_without_a_copy_there_is_no_migration(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.ledger.sqlite import copying

    def full(*_: object, **__: object) -> None:
        raise Full("no room for a copy")

    before = _version(str(older))
    monkeypatch.setattr(copying, "backup", full)
    with pytest.raises(Full, match="no room"):
        open_ledger(str(older))
    assert _version(str(older)) == before


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    aicg = tmp_path / "aicg"
    aicg.write_text("#!/bin/sh\n")
    aicg.chmod(0o755)
    unit = tmp_path / "aicg.service"
    text = (DEPLOY / "aicg.service").read_text()
    unit.write_text(text.replace("/opt/aicostguard/bin/aicg", str(aicg)))
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr
    _accepted(text.split("ExecStart=/opt/aicostguard/bin/aicg ")[1].split("\n")[0].split())


def test_the_container_starts_what_there_is(tmp_path: Path) -> None:
    """No engine here to build it with: its command is one that `aicg` takes, and its probe is told the truth."""
    text = (DEPLOY / "Dockerfile").read_text()
    start = json.loads(text.rsplit("\nCMD ", 1)[1])
    assert start[0] == "aicg"
    _accepted(start[1:])
    probe = json.loads(text.split("    CMD ")[1].split("\n")[0])
    with served(tmp_path) as (process, server):
        asked = [sys.executable, *probe[1:-1], probe[-1].replace(":8090", f":{server.port}")]
        assert subprocess.run(asked, check=False, timeout=30).returncode == 0
        process.kill()
        process.wait(30)
        assert subprocess.run(asked, check=False, timeout=30, stderr=subprocess.DEVNULL).returncode == 1


def _accepted(arguments: list[str]) -> None:
    """`aicg` knows these: with `--help` it reads them, and starts nothing."""
    done = subprocess.run(
        command(*arguments, "--help"), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "Usage: aicg serve" in done.stdout
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in done.stdout
