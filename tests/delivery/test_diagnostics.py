"""`aicg-diagnose`: the layout of the source, what it counts as wrong, and what it never shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from aicostguard import diagnostics
from aicostguard.capture.hooks import INSTRUMENTS
from aicostguard.delivery import Delivery, status
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger, free_port

Deliver = Callable[..., Delivery]
ROOT = Path(__file__).parents[2]


def _run(url: str, state: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    environ.update(PYTHONPATH=str(ROOT), AICG_STATE_DIR=str(state), PYTHONIOENCODING="utf-8")
    if url:
        environ.update(AICG_URL=url, AICG_KEY=KEY)
    environ.update(more)
    return subprocess.run(
        [sys.executable, "-m", "aicostguard.diagnostics", *options],
        env=environ,
        capture_output=True,
        encoding="utf-8",
        timeout=30,
        check=False,
    )


@pytest.fixture
def program(state: Path) -> Callable[..., None]:
    """A real program that delivers one receipt and ends."""

    def run(url: str, code: str = "", **more: str) -> None:
        environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_URL=url, AICG_KEY=KEY, AICG_STATE_DIR=str(state))
        environ.update(more)
        environ.pop("AICG_TEST_RAISE", None)
        text = (
            "import os\nfrom aicostguard.config import load\nfrom aicostguard.health import health\n"
            "from aicostguard.delivery import Delivery, register_status\ndelivery = Delivery(load(os.environ))\n"
            + code
            + "\ndelivery.submit({'provider': 'openai', 'model': 'm'})\n"
        )
        subprocess.run([sys.executable, "-c", text], env=environ, check=True, timeout=30, capture_output=True)

    return run


@pytest.mark.ids("G23")
def test_the_layout_is_that_of_the_source(state: Path, program: Callable[..., None]) -> None:
    with FakeLedger() as ledger:
        program(ledger.url)
        done = _run(ledger.url, state)
        lines = done.stdout.splitlines()
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.match(r"AI Cost Guard auto-instrumentation v\d+\.\d+\.\d+", lines[0])
        assert lines[1] == "─" * 45 and lines[2] == "Instruments:"
        rules = [n for n, line in enumerate(lines) if line == "─" * 45]
        for line in lines[3 : rules[1]]:
            assert re.match(r"  (✅|❌|⚠️) \S+( \S+)? +\S", line), line
        assert lines[rules[1] + 1] == "Config:"
        assert re.match(r"  AICG_URL  %s \(reachable, \d+ ms\)$" % re.escape(ledger.url), lines[rules[1] + 2])
        assert lines[rules[1] + 3] == "  AICG_KEY  aicg_KKKK%s  (valid format)" % ("•" * (len(KEY) - 9))
        assert re.match(r"Last receipt: \d\d:\d\d:\d\d UTC  \(200 OK\)$", lines[rules[2] + 1])
        assert lines[-1] == "✅ everything is in order"
        assert KEY not in done.stdout
        assert not any("Authorization" in seen.headers for seen in ledger.seen[1:])


@pytest.mark.ids("G23")
def test_every_row_of_the_table_of_hooks_is_shown_once_per_package(state: Path) -> None:
    report = json.loads(_run("", state, "--json").stdout)
    shown = [row["label"] for row in report["instruments"]]
    assert len(shown) == len(set(shown)) == len({row.distribution for row in INSTRUMENTS})
    assert all(row["mark"] in ("ok", "missing", "warn") for row in report["instruments"])


@pytest.mark.parametrize(
    ("version", "states", "mark", "text"),
    [
        ("1.50.0", {}, "ok", "supported, no program reports it yet"),
        ("1.50.0", {"openai._base_client": "patched"}, "ok", "patched in the last run"),
        ("99.0", {"openai._base_client": "patched"}, "warn", "patched in the last run; this version is outside"),
        ("0.28", {}, "warn", "outside the tested range (1.30 up to, but not, 4)"),
        ("1.50.0", {"openai._base_client": "failed: AttributeError"}, "warn", "hook failed: AttributeError"),
    ],
)
@pytest.mark.ids("G20", "G23")
def test_installed_tested_and_hooked(
    monkeypatch: pytest.MonkeyPatch, version: str, states: Dict[str, str], mark: str, text: str
) -> None:
    from importlib import metadata

    monkeypatch.setattr(metadata, "version", lambda name: version)
    rows = [row for row in INSTRUMENTS if row.distribution == "openai"]
    row = diagnostics._instrument(rows, [{"pid": 1, "alive": False, "capture": states}])
    assert (row.label, row.version, row.mark) == ("openai", version, mark) and text in row.text


def test_a_running_program_is_told_from_one_that_ended(deliver: Deliver, state: Path) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, SERVICE="shop")
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
        limit = time.monotonic() + 4
        while not (state / "status").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        text = _run(ledger.url, state).stdout
        assert "Program: shop, pid %d, running, background" % os.getpid() in text
        assert "generated 1, sent 1, spooled 0, dropped 0, unmetered 0, unrecognised 0" in text
        delivery.shutdown(3)
        assert "pid %d, ended" % os.getpid() in _run(ledger.url, state).stdout


def _problems(done: subprocess.CompletedProcess[str]) -> List[str]:
    found: List[str] = json.loads(done.stdout)["problems"]
    return found


@pytest.mark.ids("G02", "G23")
@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"AICG_URL": ""}, "AICG_URL is not set"),
        ({"AICG_KEY": ""}, "AICG_KEY is not"),
        ({"AICG_KEY": "sk-wrong"}, "AICG_KEY is malformed"),
        ({"AICG_DISABLED": "1"}, "AICG_DISABLED is set"),
        ({"AICG_MODE": "sideways"}, "AICG_MODE='sideways'"),
        ({"AICG_FEATURE_DEFUALT": "x"}, "did you mean AICG_FEATURE_DEFAULT?"),
    ],
)
def test_a_wrong_setting_is_shown_and_is_exit_status_1(state: Path, more: Dict[str, str], problem: str) -> None:
    with FakeLedger() as ledger:
        done = _run(ledger.url, state, "--json", **more)
        assert done.returncode == 1
        assert any(problem in text for text in _problems(done)), done.stdout


@pytest.mark.ids("G23")
def test_an_address_without_a_ledger_is_exit_status_1(state: Path) -> None:
    refused = _run("http://127.0.0.1:%d" % free_port(), state)
    assert refused.returncode == 1 and "not reachable: nothing listens there" in refused.stdout
    with BlackHole() as hole:
        started = time.monotonic()
        silent = _run(hole.url, state)
        assert silent.returncode == 1 and "no answer within 5 s" in silent.stdout
        assert time.monotonic() - started < 12
    unknown = _run("http://no-such-host.invalid", state, "--json")
    assert unknown.returncode == 1 and any("AICG_URL: not reachable" in text for text in _problems(unknown))


@pytest.mark.parametrize(("code", "text"), [(404, "there is no ledger"), (500, "it fails"), (301, "redirects")])
def test_what_answers_may_not_be_a_ledger(monkeypatch: pytest.MonkeyPatch, code: int, text: str) -> None:
    from aicostguard.delivery import probe

    with FakeLedger() as ledger:
        handler = ledger._server.RequestHandlerClass

        def answer(self: Any) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        monkeypatch.setattr(handler, "do_GET", answer)
        found = probe.probe_http(ledger.url)
        assert not found.ok and found.status == code and text in found.text


@pytest.mark.ids("G23")
def test_what_went_wrong_in_a_program_is_shown_and_is_exit_status_1(state: Path, program: Callable[..., None]) -> None:
    with FakeLedger() as ledger:
        program(
            ledger.url,
            "health.fault('tap.feed', KeyError('secret text'))\nhealth.note('usage_missing', 3)\n"
            "health.count('unrecognised', 2)\nhealth.warn('x', 'aicostguard: careful')\n"
            "register_status(lambda: {'openai._base_client': 'switched off after 5 faults in a row'})",
        )
        done = _run(ledger.url, state)
        assert done.returncode == 1
        assert "❌ fault tap.feed: KeyError ×1" in done.stdout
        assert "unrecognised 2, usage_missing 3, faults 1" in done.stdout
        assert "careful" in done.stdout and "secret text" not in done.stdout
        assert re.search(r"pid \d+: 1 faults", done.stdout)


@pytest.mark.ids("G23")
def test_a_refused_key_and_a_full_spool_are_shown(state: Path, program: Callable[..., None]) -> None:
    with FakeLedger(then=Answer(401)) as ledger:
        program(ledger.url)
        report = _run(ledger.url, state, "--json")
        value = json.loads(report.stdout)
        assert report.returncode == 1 and "AICG_KEY: the ledger refuses it" in value["problems"]
        assert value["spool"]["segments"] == 1 and value["spool"]["bytes"] > 100
        assert value["last_receipt"]["status"] == 401
        other = json.loads(_run(ledger.url + "/other", state, "--json").stdout)
        assert other["spool"]["segments"] == 0 and other["spool"]["other_destinations_bytes"] > 100
        assert other["last_receipt"] is None and not other["workers"][0]["this_ledger"]


@pytest.mark.ids("G23")
def test_a_local_file_needs_no_key(state: Path, tmp_path: Path, program: Callable[..., None]) -> None:
    url = "sqlite:///%s" % (tmp_path / "ledger.db")
    first = _run(url, state, AICG_KEY="")
    assert first.returncode == 0 and "will be created by the first receipt" in first.stdout
    program(url, AICG_KEY="")
    done = _run(url, state, AICG_KEY="")
    assert done.returncode == 0, done.stdout
    assert "(writable, " in done.stdout and "not needed for a local file" in done.stdout
    assert re.search(r"Last receipt: \d\d:\d\d:\d\d UTC  \(stored\)", done.stdout)
    (tmp_path / "ledger.db").write_bytes(b"nonsense" * 1000)
    assert _run(url, state, AICG_KEY="").returncode == 1
    assert _run("sqlite:///%s" % (tmp_path / "none" / "l.db"), state, AICG_KEY="").returncode == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_terminal_without_the_symbols_gets_plain_ones(state: Path, encoding: str) -> None:
    done = _run("", state, PYTHONIOENCODING=encoding)
    assert done.stdout.isascii() and "[--] AICG_URL is not set" in done.stdout and "-" * 45 in done.stdout
    assert done.returncode == 1


def test_usage(state: Path) -> None:
    shown = _run("", state, "--help")
    assert shown.returncode == 0 and "exit status:" in shown.stdout and "--json" in shown.stdout
    assert _run("", state, "--nonsense").returncode == 2


def test_no_program_yet(state: Path) -> None:
    assert "No program has reported yet" in _run("", state).stdout
    assert not state.exists()  # diagnose leaves nothing behind


def test_a_status_file_of_another_shape_does_no_harm(state: Path) -> None:
    (state / "status").mkdir(parents=True)
    (state / "status" / "1.json").write_bytes(b"{")
    odd = {"schema": 1, "pid": 2, "written_ms": int(time.time() * 1000), "counters": None, "link": None, "ended": True}
    (state / "status" / "2.json").write_text(json.dumps(odd))
    done = _run("", state)
    assert "Traceback" not in done.stderr and "pid 2, ended" in done.stdout
    assert health.counters["faults"] == 0 and status.read(str(state))
