"""`AICG_SPOOL=durable`, the default: a receipt is on disk before its call returns, and a bad disk harms nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from aicostguard.delivery import Delivery, keeper, link, segment, spool
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger, free_port

Deliver = Callable[..., Delivery]
ROOT = Path(__file__).parents[2]

_PROGRAM = """
import os, resource, signal, sys, time
from aicostguard.config import load
from aicostguard.delivery import Delivery
def row(name): return {"provider": "openai", "model": name}
def die(): os.kill(os.getpid(), 9)
delivery = Delivery(load(os.environ))
"""


def _run(url: str, state: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = dict(os.environ, PYTHONPATH=str(ROOT), AICG_URL=url, AICG_KEY=KEY, AICG_STATE_DIR=str(state), **more)
    environ.pop("AICG_TEST_RAISE", None)
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM + code], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def _segments(state: Path) -> List[Path]:
    return [path for path in state.glob("spool/*/*") if path.is_file()]


def _names(prefix: str, count: int) -> List[str]:
    return sorted("%s%d" % (prefix, n) for n in range(count))


def _until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    limit = time.monotonic() + seconds
    while not true() and time.monotonic() < limit:
        time.sleep(0.02)
    return true()


@pytest.mark.ids("E8", "Z4")
def test_what_a_killed_process_had_submitted_is_delivered_by_the_next(tmp_path: Path) -> None:
    port = free_port()
    url = "http://127.0.0.1:%d" % port
    for start in range(3):  # down, for several runs
        done = _run(url, tmp_path, "for n in range(50): delivery.submit(row('k%%d' %% (%d + n)))\ndie()" % (50 * start))
        assert done.returncode == -9
    with FakeLedger(port=port) as ledger:
        assert _run(url, tmp_path, "delivery.submit(row('new')); time.sleep(1)").returncode == 0
        assert ledger.models() == sorted([*_names("k", 150), "new"]) and ledger.duplicates == 0
        sent = [seen.envelope for seen in ledger.seen if seen.envelope]
        killed = [one for one in sent if one["receipts"] and "new" not in str(one["receipts"])]
        # So that the ledger knows how many there are.
        assert [envelope["counters"]["generated"] for envelope in killed] == [50] * 3
    assert not _segments(tmp_path)


@pytest.mark.ids("E8", "Z4")
def test_what_the_ledger_has_is_not_sent_again_after_a_kill(tmp_path: Path) -> None:
    with FakeLedger() as ledger:
        code = "for n in range(600): delivery.submit(row('k%d' % n))\nassert delivery.flush(9)\ndie()"
        assert _run(ledger.url, tmp_path, code).returncode == -9
        assert _segments(tmp_path)
        assert _run(ledger.url, tmp_path, "delivery.submit(row('new')); time.sleep(0.5)").returncode == 0
        assert len(ledger.stored) == 601 and ledger.duplicates == 0
    assert not _segments(tmp_path)


@pytest.mark.ids("E8")
@pytest.mark.parametrize("mode", ["on-failure", "off"])
def test_the_other_modes_write_nothing_while_the_ledger_answers(tmp_path: Path, mode: str) -> None:
    with FakeLedger() as ledger:
        code = "delivery.submit(row('a')); assert delivery.flush(9); delivery.submit(row('b')); die()"
        assert _run(ledger.url, tmp_path, code, AICG_SPOOL=mode).returncode == -9
        assert not _segments(tmp_path) and ledger.models() == ["a"]


def test_inline_is_on_the_wire_instead(deliver: Deliver, state: Path) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        delivery.submit(receipt("a"))
        assert ledger.models() == ["a"] and not (state / "spool").exists()
        assert delivery.stats()["spool"]["mode"] == "on-failure"


@pytest.mark.ids("Z4")
def test_threads_write_while_segments_come_and_go(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first segment, which all of them try to make at once."""
    monkeypatch.setattr(spool, "SEGMENT", 4000)
    made: List[str] = []
    create = spool.create
    monkeypatch.setattr(spool, "create", lambda *args: made.append(args[1]) or time.sleep(0.01) or create(*args))
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        together = threading.Barrier(4)

        def work(name: str) -> None:
            together.wait()
            for n in range(500):
                delivery.submit(receipt("%s%d" % (name, n)))
                if n % 20 == 0:
                    time.sleep(0.005)

        threads = [threading.Thread(target=work, args=("t%d-" % n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert delivery.flush(20)
        assert len(ledger.stored) == 2000 and ledger.duplicates == 0
        assert len(made) > 4
        assert len(_segments(state)) <= 2  # what is done with goes
        assert delivery.shutdown(5) and not _segments(state)
        assert health.counters["sent"] == 2000 and health.counters["spooled"] == 0


@pytest.mark.ids("Z4")
def test_the_queue_never_drops_what_is_on_disk(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST", 0.1)
    with FakeLedger(Answer(500, delay=0.7)) as ledger:
        delivery = deliver(ledger.url)
        delivery._queue.limit = 20
        for n in range(1000):
            delivery.submit(receipt("m%d" % n))
        counters = health.counters
        assert counters["dropped"] == 0 and len(delivery._queue) <= 20
        assert _until(lambda: delivery.flush(1)) and ledger.models() == _names("m", 1000)
        counters = health.counters
        assert (counters["generated"], counters["sent"], counters["dropped"]) == (1000, 1000, 0)
        assert ledger.duplicates == 0 and counters["spooled"] >= 980


@pytest.mark.ids("Z4")
def test_an_outage_is_waited_out_on_disk_and_live_receipts_are_not_held_up_by_its_end(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LONGEST", 0.3)
    monkeypatch.setattr(spool, "SEGMENT", 100_000)
    port = free_port()
    delivery = deliver("http://127.0.0.1:%d" % port)
    for n in range(12_000):
        delivery.submit(receipt("m%d" % n))
    assert _until(lambda: health.counters["spooled"] == 12_000)
    stats = delivery.stats()
    assert stats["queue"] == 0 and stats["spool"]["pending"] == 12_000 and stats["spool"]["bytes"] > 1_000_000
    assert all(not one.live for one in delivery._courier.keeper.spool._retired)
    with FakeLedger(then=Answer(delay=0.05), port=port) as ledger:
        assert ledger.wait(1, 10)
        arrived: List[float] = []
        while len(ledger.stored) < 12_000 and len(arrived) < 300:
            name, began = "live%d" % len(arrived), time.monotonic()
            delivery.submit(receipt(name))
            assert _until(lambda name=name: name in ledger.models())  # type: ignore[misc]
            arrived.append(time.monotonic() - began)
        assert delivery.flush(20)
        assert len(ledger.stored) == 12_000 + len(arrived) and ledger.duplicates == 0
        assert len(arrived) > 1 and sorted(arrived)[len(arrived) // 2] < 2.5
        assert len(arrived) < 20  # several pieces of the backlog between two live batches
        assert health.counters["sent"] == health.counters["generated"] == len(ledger.stored)
        assert not _segments(Path(delivery.settings.state_dir))[2:]


@pytest.mark.ids("Z4")
def test_at_the_cap_receipts_wait_in_memory_then_are_dropped_and_the_books_balance(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "FULL_PAUSE", 0.2)
    port = free_port()
    delivery = deliver("http://127.0.0.1:%d" % port)
    delivery._courier.keeper.spool.cap = delivery._courier.keeper.spool._room = 20_000
    delivery._queue.limit = 600
    for n in range(1000):
        delivery.submit(receipt("m%d" % n))
        if n % 50 == 0:
            time.sleep(0.02)
    assert _until(lambda: not delivery.flush(0.2) and delivery._courier.keeper.memory_only())
    assert sum(path.stat().st_size for path in _segments(state)) <= 21_000
    assert health.counters["dropped"] > 100 and "spool.full" in health.warnings

    def balanced() -> bool:  # while a batch is in the worker's hands it is neither here nor there
        stats = delivery.stats()
        dropped, waiting = stats["counters"]["dropped"], stats["queue"] + stats["spool"]["pending"]
        return bool(stats["counters"]["generated"] == 1000 == dropped + waiting)

    assert _until(balanced)
    tries: List[float] = []
    real = keeper.Keeper.keep
    monkeypatch.setattr(keeper.Keeper, "keep", lambda self, *given: tries.append(1) or real(self, *given))
    began = time.monotonic()
    time.sleep(1.0)  # nor does anybody try again and again
    assert len(tries) <= 2 + 2 * (time.monotonic() - began) / keeper.FULL_PAUSE
    with FakeLedger(port=port) as ledger:
        assert _until(lambda: delivery.flush(1))
        assert len(ledger.stored) == 1000 - health.counters["dropped"] == health.counters["sent"]


@pytest.mark.ids("G16", "G19")
def test_a_slow_disk_is_left_alone(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PATIENCE", 0.2)
    writes: List[int] = []
    real = segment.Segment.write

    def slow(self: segment.Segment, data: bytes) -> None:
        if threading.current_thread() is threading.main_thread():
            writes.append(1)
            time.sleep(0.1)
        real(self, data)

    monkeypatch.setattr(segment.Segment, "write", slow)
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        for n in range(50):
            delivery.submit(receipt("m%d" % n))
        assert 1 <= len(writes) <= 6
        stats = delivery.stats()
        assert stats["spool"]["slow"] and not stats["spool"]["broken"] and stats["notes"]["spool_slow"] >= 1
        assert list(health.warnings) == ["spool.slow"]
        assert delivery.flush(5) and ledger.models() == _names("m", 50)


@pytest.mark.ids("G19")
def test_an_interpreter_that_is_slow_to_come_back_is_not_a_slow_disk(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "SLOW", 0.01)
    monkeypatch.setattr(keeper, "PATIENCE", 0.05)
    real, sleep = segment.Segment.write, time.sleep
    monkeypatch.setattr(segment.Segment, "write", lambda self, data: sleep(0.02) or real(self, data))
    monkeypatch.setattr(keeper, "sleep", lambda seconds: sleep(0.02))  # as with many busy threads
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        for n in range(12):
            delivery.submit(receipt("m%d" % n))
        assert not delivery.stats()["spool"]["slow"] and not health.warnings
        assert delivery.flush(5) and len(ledger.stored) == 12


@pytest.mark.ids("G16", "Z4")
def test_a_full_disk_costs_neither_the_program_nor_a_receipt(tmp_path: Path) -> None:
    """A limit of the kernel, as a full disk: a write is cut off, the next fails."""
    with FakeLedger() as ledger:
        code = (
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ndelivery.submit(row('a'))\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
            "for n in range(20): delivery.submit(row('m%d' % n))\n"
            "done = delivery.flush(5); stats = delivery.stats(); stats['faults'].pop('status.write: OSError', 0)\n"
            "print(done, list(stats['faults']), stats['counters']['dropped'])"
        )
        done = _run(ledger.url, tmp_path, code)
        assert (done.returncode, done.stdout.strip()) == (0, "True ['spool.write: OSError'] 0"), done.stderr
        assert ledger.models() == sorted(["a", *_names("m", 20)]) and ledger.duplicates == 0
        assert done.stderr.count("AICG_STATE_DIR cannot be used") == 1
    assert not _segments(tmp_path)  # what was cut off was known, and delivered from memory


@pytest.mark.ids("E5", "Z4")
def test_a_sender_that_is_killed_in_the_middle_of_an_exchange_loses_nothing(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aicostguard.delivery import courier

    calls: List[int] = []
    real = courier.Courier._post

    def die_once(self: courier.Courier, batch: Any, seconds: Optional[float] = None) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise SystemExit
        return real(self, batch, seconds)

    monkeypatch.setattr(courier.Courier, "_post", die_once)
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        worker = delivery._worker
        assert worker is not None and _until(lambda: not worker.alive)
        delivery.submit(receipt("b"))
        assert _until(lambda: delivery.flush(2)) and ledger.models() == ["a", "b"]
        assert health.counters["sent"] == 2


@pytest.mark.ids("E1", "Z4")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_that_lives_on_does_not_keep_its_killed_parents_segment(tmp_path: Path) -> None:
    """And what the child writes is its own, under its own name.

    Folders do not count: the sender may be reading one at the instant of the fork, and holds nobody up by it.
    """
    port = free_port()
    url = "http://127.0.0.1:%d" % port
    code = (
        "def files(): return sorted(os.path.realpath('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd'))\n"
        "def kept(): return [path for path in files() if path.endswith(('.open', '/dev/null'))]\n"
        "before = kept(); delivery.submit(row('parent')); parents = kept()\nread, told = os.pipe()\nchild = os.fork()\n"
        "if child: os.close(told); os.read(read, 1); print(child, flush=True); die()\n"
        "print(len(parents) - len(before), kept() == before, flush=True); os.write(told, b'!')\n"
        "os.close(1); os.close(2); time.sleep(60)"
    )
    done = _run(url, tmp_path, code)
    told, child = done.stdout.split("\n")[0], int(done.stdout.split()[-1])
    assert told == "1 True", done.stderr  # it has no file of its parent's, nor one in its place
    try:
        with FakeLedger(port=port) as ledger:
            assert _run(url, tmp_path, "delivery.submit(row('next')); time.sleep(1)").returncode == 0
            assert ledger.models() == ["next", "parent"]
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.ids("G23")
def test_the_status_tells_what_lies_on_disk(deliver: Deliver, state: Path) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port(), SPOOL_MB="8")
    delivery.submit(receipt("a"))
    shown: Dict[str, Any] = delivery.stats()["spool"]
    (path,) = _segments(state)
    assert shown["bytes"] == path.stat().st_size and shown["segments"] == 1 and shown["mode"] == "durable"
    assert delivery._courier.keeper.spool.cap == 8 << 20


@pytest.mark.parametrize("value", ["0", "3", "65537", "1e3", "-8", "many"])
def test_a_size_that_is_none_is_refused_by_name(value: str) -> None:
    from aicostguard.config import load

    settings = load({"AICG_SPOOL_MB": value})
    assert settings.spool_mb == 256
    assert settings.problems == ("AICG_SPOOL_MB='%s': use a whole number from 4 to 65536; the default is used" % value,)


@pytest.mark.ids("E4", "Z4")
def test_at_exit_nothing_has_to_be_written_any_more(tmp_path: Path) -> None:
    """A black hole, and a kill in the middle of our exit hook."""
    with BlackHole() as hole:
        code = (
            "import threading\nfor n in range(300): delivery.submit(row('m%d' % n))\ntime.sleep(0.3)\n"
            "threading.Timer(0.3, die).start()\nthreading._shutdown = lambda: None\n"
        )
        done = _run(hole.url, tmp_path, code)
    assert done.returncode == -9
    data = b"".join(path.read_bytes() for path in _segments(tmp_path))
    assert all(data.count(b'"m%d"' % n) == 1 for n in range(300))


@pytest.mark.ids("Z4")
def test_a_receipt_that_the_disk_has_spoilt_is_counted_and_set_aside(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LONGEST", 0.3)
    port = free_port()
    delivery = deliver("http://127.0.0.1:%d" % port)
    for n in range(3):
        delivery.submit(receipt("m%d" % n))
    assert _until(lambda: health.counters["spooled"] == 3)
    (path,) = _segments(state)
    data = path.read_bytes()
    place = data.index(b'"m1"') + 1
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"x")
    with FakeLedger(port=port) as ledger:
        assert _until(lambda: delivery.stats()["counters"]["dropped"] == 1)
        assert ledger.models() == ["m0", "m2"]
        counters = delivery.stats()["counters"]
        assert counters["generated"] == 3 == counters["sent"] + counters["dropped"] and delivery._courier.clear()
    (aside,) = state.glob("spool/*/quarantine/*.corrupt")
    assert aside.read_bytes().startswith(data[:place]) and health.notes["spool_corrupt"] == 1
