"""The end of the program: bounded, nothing lost, nothing noticed. Real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from tests.delivery.conftest import KEY
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger, free_port

ROOT = Path(__file__).parents[2]

_START = """
import atexit, os, sys, time
from aicostguard.config import load
from aicostguard.delivery import Delivery
def row(name): return {"provider": "openai", "model": name}
delivery = Delivery(load(os.environ))
"""


def _run(url: str, state: Path, code: str, **more: str) -> Tuple[float, subprocess.CompletedProcess[str]]:
    """Run a program; gives the seconds its end took (from its last line on) and the finished process."""
    environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_URL=url, AICG_KEY=KEY, AICG_STATE_DIR=str(state), **more)
    environ.pop("AICG_TEST_RAISE", None)
    timed = "import atexit, sys, time\nlast = [0.0]\n"
    timed += "atexit.register(lambda: sys.stdout.write('%.3f\\n' % (time.monotonic() - last[0])))\n"
    program = timed + _START + code + "\nlast[0] = time.monotonic()\n"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.splitlines()[-1]), done


def _status(state: Path) -> Dict[str, Any]:
    (path,) = (state / "status").glob("*.json")
    value: Dict[str, Any] = json.loads(path.read_text())
    return value


@pytest.mark.ids("G13")
def test_what_is_queued_at_exit_is_delivered(tmp_path: Path) -> None:
    with FakeLedger() as ledger:
        seconds, done = _run(ledger.url, tmp_path, "for n in range(700): delivery.submit(row('m%d' % n))")
        assert len(ledger.stored) == 700 and ledger.duplicates == 0
        assert seconds < 1.5 and done.stderr == ""
        status = _status(tmp_path)
        assert status["ended"] and status["counters"]["sent"] == 700 and status["last"]["status"] == 200


@pytest.mark.ids("E4", "G13")
@pytest.mark.parametrize("mode", ["durable", "on-failure"])
def test_a_healthy_ledger_costs_a_tenth_of_a_second_at_most(tmp_path: Path, mode: str) -> None:
    # How long the same steps take without an end, right before: on a machine with much else to do that is what counts.
    code = (
        "for n in range(20): delivery.submit(row('a%d' % n))\n"
        "assert delivery.flush(20)\n"
        "began = time.monotonic()\n"
        "delivery.submit(row('b'))\n"
        "assert delivery.flush(20)\n"
        "sys.stdout.write('%.3f\\n' % (time.monotonic() - began))\n"
        "delivery.submit(row('c'))"
    )
    took: List[Tuple[float, float]] = []
    with FakeLedger() as ledger:
        while not took or (len(took) < 15 and took[-1][0] >= 0.1 + 3 * took[-1][1]):
            seconds, done = _run(ledger.url, tmp_path, code, AICG_SPOOL=mode)
            took.append((seconds, float(done.stdout.splitlines()[0])))
        assert min(seconds - 3 * exchange for seconds, exchange in took) < 0.1, took
        assert len(ledger.stored) == 22 * len(took) and ledger.duplicates == 0
    assert not [path for path in tmp_path.glob("spool/*/*") if path.is_file()]


@pytest.mark.ids("E4")
def test_a_dead_ledger_costs_nothing_at_exit_and_nothing_is_lost(tmp_path: Path) -> None:
    seconds, done = _run("http://127.0.0.1:%d" % free_port(), tmp_path, "delivery.submit(row('a'))")
    assert seconds < 1.0
    assert "cannot be reached" in done.stderr and done.stderr.count("\n") == 1
    (segment,) = tmp_path.glob("spool/*/*.open")
    assert b'"a"' in segment.read_bytes()


@pytest.mark.ids("E4", "Z4")
@pytest.mark.parametrize("accept", [True, False], ids=["accepts and is silent", "drops packets"])
@pytest.mark.parametrize("sleep", [0.0, 0.4], ids=["at once", "while an attempt hangs"])
def test_a_black_hole_costs_two_seconds_at_most_and_nothing_is_lost(tmp_path: Path, accept: bool, sleep: float) -> None:
    with BlackHole(accept) as hole:
        code = "for n in range(3): delivery.submit(row('m%%d' %% n))\ntime.sleep(%s)" % sleep
        seconds, _ = _run(hole.url, tmp_path, code)
    assert seconds < 2.0
    data = b"".join(path.read_bytes() for path in tmp_path.glob("spool/*/*"))
    assert all(b'"m%d"' % n in data for n in range(3))


@pytest.mark.ids("E4")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the ledger in the program can start no thread at its end")
def test_with_memory_alone_the_end_tries_once_more_while_our_backoff_runs(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "from aicostguard.delivery import link\n"
        "link.FIRST = 60.0\n"
        "delivery.submit(row('a'))\n"
        "while delivery._courier.link.state != 'down': time.sleep(0.01)\n"
        "sys.path.insert(0, %r)\n"
        "from tests.delivery.fake_ledger import FakeLedger\n"
        "ledger = FakeLedger(port=%d).__enter__()\n"
        "atexit.register(lambda: print(len(ledger.stored)))\n"
        "atexit.unregister(delivery.leave); atexit.register(delivery.leave)"
    ) % (str(ROOT), port)
    seconds, done = _run("http://127.0.0.1:%d" % port, tmp_path, code, AICG_SPOOL="off")
    assert done.stdout.splitlines()[0] == "1", done.stdout + done.stderr
    assert seconds < 2.0


def test_a_disk_with_room_again_is_asked_once_more_at_the_end(tmp_path: Path) -> None:
    code = (
        "from aicostguard.delivery import files\n"
        "real = files.private_folder\n"
        "def full(*parts):\n"
        "    if 'spool' in parts: raise OSError(28, 'No space left on device')\n"
        "    return real(*parts)\n"
        "files.private_folder = full\n"
        "for n in range(3): delivery.submit(row('m%d' % n))\n"
        "while delivery._courier.link.state != 'down': time.sleep(0.01)\n"
        "assert delivery._courier.keeper.broken\n"
        "files.private_folder = real"
    )
    _, done = _run("http://127.0.0.1:%d" % free_port(), tmp_path, code)
    data = b"".join(path.read_bytes() for path in tmp_path.glob("spool/*/*"))
    assert all(b'"m%d"' % n in data for n in range(3)), done.stderr
    assert _status(tmp_path)["counters"]["dropped"] == 0


@pytest.mark.ids("E4")
def test_a_black_hole_that_is_known_is_not_waited_for(tmp_path: Path) -> None:
    code = (
        "from aicostguard.delivery import courier, link\n"
        "courier.EXCHANGE_SECONDS, link.FIRST = 0.2, 0.05\n"
        "delivery.submit(row('a'))\n"
        "while delivery._courier.link.state != 'down': time.sleep(0.01)\n"
        "courier.EXCHANGE_SECONDS = 30\n"
        "while not delivery._courier._inflight: time.sleep(0.01)\n"
        "time.sleep(0.3); delivery.submit(row('b'))"
    )
    with BlackHole() as hole:
        seconds, _ = _run(hole.url, tmp_path, code)
    assert seconds < 1.0
    data = b"".join(path.read_bytes() for path in tmp_path.glob("spool/*/*"))
    assert b'"a"' in data and b'"b"' in data


@pytest.mark.ids("E3")
@pytest.mark.parametrize("early", [True, False], ids=["handler runs after ours", "handler runs before ours"])
def test_the_first_receipt_inside_an_exit_handler_arrives(tmp_path: Path, early: bool) -> None:
    """From 3.12 on no thread can be started there."""
    late = "atexit.register(lambda: delivery.submit(row('late')))"
    program = late + "\n" + _START if early else _START + late
    environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_KEY=KEY, AICG_STATE_DIR=str(tmp_path))
    with FakeLedger() as ledger:
        environ["AICG_URL"] = ledger.url
        done = subprocess.run(
            [sys.executable, "-c", "import atexit\n" + program],
            env=environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert ledger.models() == ["late"]


def test_what_the_spool_holds_is_sent_by_the_next_run(tmp_path: Path) -> None:
    port = free_port()
    url = "http://127.0.0.1:%d" % port
    _run(url, tmp_path, "delivery.submit(row('a'))")
    with FakeLedger(port=port) as ledger:
        _run(url, tmp_path, "delivery.submit(row('b'))\ntime.sleep(1)")
        assert ledger.models() == ["a", "b"] and ledger.duplicates == 0


def test_a_slow_ledger_that_takes_the_last_batch_late_holds_it_once(tmp_path: Path) -> None:
    port = free_port()
    with FakeLedger(Answer(delay=2.5), port=port) as ledger:
        _run(ledger.url, tmp_path, "delivery.submit(row('a'))")
        assert ledger.wait(1, 4)
        _run(ledger.url, tmp_path, "delivery.submit(row('b'))\ntime.sleep(1)")
        assert ledger.models() == ["a", "b"] and ledger.duplicates == 1


@pytest.mark.ids("G02")
def test_without_a_receipt_the_end_is_free_and_leaves_nothing(tmp_path: Path) -> None:
    started = time.monotonic()
    seconds, done = _run("http://127.0.0.1:%d" % free_port(), tmp_path / "state", "pass")
    assert seconds < 0.1 and done.stderr == "" and not (tmp_path / "state").exists()
    assert time.monotonic() - started < 10


@pytest.mark.ids("E4", "E8", "Z4")
@pytest.mark.parametrize("hanging", [False, True], ids=["queued", "in an attempt that hangs"])
def test_what_is_in_memory_is_written_down_before_the_end_waits(tmp_path: Path, hanging: bool) -> None:
    """`on-failure`: to be killed while we wait for a ledger that hangs costs nothing; Celery's main process does it."""
    code = _START + "for n in range(3): delivery.submit(row('m%d' % n))\n"
    if hanging:
        code += "while not delivery._courier._inflight: time.sleep(0.01)\ndelivery.submit(row('m3'))\n"
    code += "Delivery._finish = lambda *_: os.kill(os.getpid(), 9)"
    with BlackHole(True) as hole:
        environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_URL=hole.url, AICG_KEY=KEY, AICG_STATE_DIR=str(tmp_path))
        environ["AICG_SPOOL"] = "on-failure"
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=30, check=False)
        assert done.returncode == -9, done.stderr
    data = b"".join(path.read_bytes() for path in tmp_path.glob("spool/*/*"))
    assert [n for n in range(4) if b'"m%d"' % n in data] == list(range(4 if hanging else 3))


@pytest.mark.ids("E4")
def test_with_on_failure_a_ledger_that_answers_leaves_no_file_behind(tmp_path: Path) -> None:
    with FakeLedger() as ledger:
        _run(ledger.url, tmp_path, "for n in range(700): delivery.submit(row('m%d' % n))", AICG_SPOOL="on-failure")
        assert len(ledger.stored) == 700 and ledger.duplicates == 0
    assert not [path for path in tmp_path.glob("spool/*/*") if path.is_file()]
    status = _status(tmp_path)
    assert status["counters"]["sent"] == 700 and status["counters"]["spooled"] == 0


_DELIVERED_FIRST = """
plain = keeper.secure
def secure(entry):
    while not courier.clear(): time.sleep(0.01)
    plain(entry)
keeper.secure = secure
"""
_SETTLED_FIRST = """
plain, all, written = keeper.settle, keeper.secure_all, threading.Event()
settled = threading.Event()
def settle(batch):
    plain(batch)
    settled.set()
    written.wait(20)
def secure_all(waiting):
    settled.wait(20)
    all(waiting)
    written.set()
keeper.settle, keeper.secure_all = settle, secure_all
"""


@pytest.mark.ids("E4")
@pytest.mark.parametrize("between", [_DELIVERED_FIRST, _SETTLED_FIRST], ids=["before it is written", "before the look"])
def test_with_on_failure_what_the_ledger_takes_meanwhile_leaves_no_file_behind(tmp_path: Path, between: str) -> None:
    """The sender does not stand still while the end writes down what is in memory."""
    code = "import threading\ncourier, keeper = delivery._courier, delivery._courier.keeper\n" + between
    with FakeLedger() as ledger:
        _run(
            ledger.url, tmp_path, code + "for n in range(700): delivery.submit(row('m%d' % n))", AICG_SPOOL="on-failure"
        )
        assert len(ledger.stored) == 700 and ledger.duplicates == 0
    assert not [path for path in tmp_path.glob("spool/*/*") if path.is_file()]
