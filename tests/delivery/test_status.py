"""The status file, and that no secret ever leaves by spool, log or status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from aicostguard.config import Settings
from aicostguard.delivery import Delivery, register_status, status
from aicostguard.health import health
from tests.delivery.conftest import receipt
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port

Deliver = Callable[..., Delivery]
ROOT = Path(__file__).parents[2]


def _read(state: Path) -> Dict[str, Any]:
    value: Dict[str, Any] = json.loads((state / "status" / ("%d.json" % os.getpid())).read_text())
    return value


@pytest.mark.ids("G23")
def test_the_worker_tells_diagnose_how_it_is(deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_sources", [])
    register_status(lambda: {"openai._base_client": "patched"})
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, SERVICE="shop")
        health.note("usage_missing", 2)
        delivery.submit(receipt("a"))
        limit = time.monotonic() + 4
        while time.monotonic() < limit:
            if (state / "status").exists() and _read(state)["counters"]["sent"] == 1:
                break
            time.sleep(0.05)
        told = _read(state)
        assert told["counters"]["generated"] == told["counters"]["sent"] == 1
        assert told["last"]["status"] == 200 and abs(told["last"]["at_ms"] / 1000 - time.time()) < 5
        assert (told["queue"], told["mode"], told["service"]) == (0, "background", "shop")
        assert told["capture"] == {"openai._base_client": "patched"} and told["notes"]["usage_missing"] == 2
        assert not told["ended"]
        assert (state / "status" / ("%d.json" % os.getpid())).stat().st_mode & 0o777 == 0o600
        assert delivery.shutdown(3)
        assert _read(state)["ended"]


def test_a_source_that_fails_is_a_counted_fault(
    deliver: Deliver, faults_are_counted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_sources", [])
    register_status(lambda: {"x": 1 // 0})
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
    assert "status.source: ZeroDivisionError" in health.faults


def test_files_are_not_rewritten_more_often_than_every_second(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    real = status.Status._write
    monkeypatch.setattr(
        status.Status, "_write", lambda self, *args, **more: writes.append(1) or real(self, *args, **more)
    )
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        for n in range(30):
            delivery.submit(receipt("m%d" % n))
            delivery.flush(2)
    assert len(writes) <= 3


def test_files_of_dead_processes_stay_a_day_and_not_for_ever(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    folder = tmp_path / "status"
    folder.mkdir()
    recent, old = folder / ("%d.json" % done.pid), folder / "999999999.json"
    mine = folder / ("%d.json" % os.getpid())
    for path in (recent, old, mine):
        path.write_text("{}")
    for path in (old, mine):
        os.utime(path, (time.time() - status.KEEP_SECONDS - 60,) * 2)
    status.sweep(str(folder))
    assert recent.exists() and mine.exists() and not old.exists()


def test_what_others_left_in_the_folder_is_read_without_harm(tmp_path: Path) -> None:
    folder = tmp_path / "status"
    folder.mkdir()
    (folder / "12.json").write_bytes(b"\xff{")
    (folder / "13.json").write_text("[]")
    (folder / "notes.txt").write_text("hello")
    (folder / "14.json").write_text(json.dumps({"schema": 1, "pid": 14, "ended": True, "written_ms": 5}))
    rows = status.read(str(tmp_path))
    assert [row["pid"] for row in rows if not row.get("unreadable")] == [14]
    assert sorted(row["pid"] for row in rows if row.get("unreadable")) == [12, 13]
    assert status.read(str(tmp_path / "none")) == []


@pytest.mark.ids("E9")
def test_key_and_url_never_reach_spool_log_status_or_body(tmp_path: Path) -> None:
    """A server that quotes the key back, every kind of refusal, debug output on, poison in the receipts."""
    canary, path, poison = "aicg_" + "CANARYKEY" * 4, "canarypath", "CANARYPROMPT"
    code = (
        "import os, time\n"
        "from aicostguard.config import load\n"
        "from aicostguard.delivery import Delivery\n"
        "from aicostguard.delivery import link\n"
        "link.DENIED_PAUSE = link.FIRST = 0.05\n"
        "delivery = Delivery(load(os.environ))\n"
        "for n in range(9):\n"
        "    row = {'provider': 'openai', 'model': 'm%d' % n, 'prompt': '"
        + poison
        + "', 'api_key': 'sk-CANARYPROMPT'}\n"
        "    delivery.submit(row); delivery.flush(3); time.sleep(0.15)\n"
        "print(delivery.stats())\n"
    )
    quoted = json.dumps({"refused": [{"index": 0, "field": "x", "error": "your key %s is odd" % canary}]}).encode()
    answers = [
        Answer(body=quoted),
        Answer(401, body=canary.encode()),
        Answer(500, body=canary.encode()),
        Answer(307, (("Location", "http://127.0.0.1:9/" + canary),)),
        Answer(400, body=canary.encode()),
        Answer(drop=True),
    ]
    with FakeLedger(*answers, then=Answer(503)) as ledger:
        environ = dict(
            os.environ,
            PYTHONPATH=str(ROOT),
            AICG_URL="%s/%s" % (ledger.url, path),
            AICG_KEY=canary,
            AICG_STATE_DIR=str(tmp_path),
            AICG_DEBUG="1",
        )
        environ.pop("AICG_TEST_RAISE", None)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert {seen.headers["Authorization"] for seen in ledger.seen} == {"Bearer " + canary}
        assert {seen.path for seen in ledger.seen} == {"/%s/v1/receipts" % path}
        bodies = "".join(json.dumps(seen.envelope) for seen in ledger.seen)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    kinds = {file.relative_to(tmp_path).parts[0] for file in files}
    assert kinds == {"spool", "status"} and any("quarantine" in str(file) for file in files)
    everything = bodies + done.stdout + done.stderr + "".join(file.read_text() + str(file) for file in files)
    assert "ledger.denied" in everything and "is odd" in everything
    assert "aicostguard: receipts sent: " in done.stderr, "AICG_DEBUG says what goes out, also when all is well"
    for secret in (canary, canary[5:], path, poison):
        assert secret not in everything


@pytest.mark.ids("E9")
def test_a_key_that_cannot_stand_in_a_header_is_said_without_showing_it(
    settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    key = "aicg_CANARY\r\nX-Evil: 1"
    made = Delivery(settings("http://127.0.0.1:%d" % free_port(), AICG_KEY=key))
    made.submit(receipt("a"))
    assert not made.flush(3)
    assert "ledger.denied" in health.warnings and "CANARY" not in caplog.text
    made.shutdown(1)


@pytest.mark.ids("A16")
def test_import_loads_nothing_heavy() -> None:
    heavy = "wrapt asyncio ssl http.client urllib.request sqlite3 email inspect multiprocessing dataclasses socket gzip"
    code = "import sys, aicostguard.delivery\nprint(sorted(set(sys.argv[1].split()) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, heavy], cwd=str(ROOT), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
