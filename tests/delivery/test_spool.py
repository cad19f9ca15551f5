"""What the ledger did not take: nothing lost over a restart, none to another destination, none deleted unread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, List

import pytest

from aicostguard.config import Settings, load
from aicostguard.delivery import Delivery, envelope, folder, spool
from aicostguard.delivery.epoch import new_epoch
from aicostguard.delivery.folder import destination
from aicostguard.delivery.spool import Spool
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port

Deliver = Callable[..., Delivery]


@pytest.fixture
def made(settings: Callable[..., Settings], state: Path) -> Callable[..., Spool]:
    def make(epoch: str = "", cap: int = 1 << 28) -> Spool:
        return Spool(str(state), "d", envelope.head(settings("http://127.0.0.1:1"), epoch or new_epoch()), cap)

    return make


def _store(one: Spool, *names: str) -> None:
    """What a batch does that the ledger did not take."""
    stored, error = one.append([(n, 5, envelope.encode(receipt(name))) for n, name in enumerate(names)])
    assert (stored, error) == (len(names), None)


def _leave_behind(deliver: Deliver, port: int, *names: str) -> None:
    """What a process leaves when it ends while nothing listens on `port`."""
    delivery = deliver("http://127.0.0.1:%d" % port)
    for name in names:
        delivery.submit(receipt(name))
    assert not delivery.shutdown(2)
    health.reset()


@pytest.mark.ids("Z4", "E4")
def test_what_one_process_could_not_deliver_the_next_one_does(deliver: Deliver, state: Path) -> None:
    port = free_port()
    _leave_behind(deliver, port, "old1", "old2")
    with FakeLedger(port=port) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("new"))
        assert ledger.wait(3)
        assert delivery.shutdown(3)
        assert ledger.models() == ["new", "old1", "old2"] and ledger.duplicates == 0
        assert len({epoch for epoch, _ in ledger.stored}) == 2
        # The books of the other process stay its own.
        assert (health.counters["generated"], health.counters["sent"]) == (1, 1)
        assert health.notes["sent_for_others"] == 2
        assert not list(state.glob("spool/*/*.open")) + list(state.glob("spool/*/*.claim"))
        old = next(seen.envelope for seen in ledger.seen if seen.envelope and len(seen.envelope["seq"]) == 2)
        # The time of the attempt, so that the ledger can tell when it happened.
        assert old["sent_at"] >= max(old["at"])


def test_a_segment_goes_with_its_last_batch_and_not_a_turn_later(deliver: Deliver, state: Path) -> None:
    """The program may end in between, and its receipts would be looked through once more."""
    port = free_port()
    _leave_behind(deliver, port, "old1", "old2")
    with FakeLedger(port=port) as ledger:
        courier = deliver(ledger.url)._courier
        assert courier.resend_one() and ledger.models() == ["old1", "old2"]
        assert not [path for path in state.glob("spool/*/*") if path.is_file()]
        assert not courier.resend_one()


@pytest.mark.ids("E9")
def test_receipts_never_reach_another_destination(deliver: Deliver, state: Path) -> None:
    _leave_behind(deliver, free_port(), "old")
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("new"))
        assert delivery.shutdown(3)
        assert ledger.models() == ["new"]
        assert len(list(state.glob("spool/*/*.open"))) == 1


def test_folders_are_named_by_url_and_key_and_readable_by_their_owner_only(deliver: Deliver, state: Path) -> None:
    _leave_behind(deliver, free_port(), "a")
    names = {destination("http://a", KEY), destination("http://b", KEY), destination("http://a", KEY + "x")}
    assert len(names) == 3
    for path in [state, *state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_damaged_segment_is_delivered_as_far_as_it_goes_and_set_aside_whole(deliver: Deliver, state: Path) -> None:
    port = free_port()
    for n in range(3):
        _leave_behind(deliver, port, "m%d" % n, "n%d" % n)
    first, second, _ = sorted(state.glob("spool/*/*.open"))
    data = bytearray(first.read_bytes())
    data[data.index(b'"m0"') + 1] ^= 1  # one bit
    first.write_bytes(bytes(data))
    whole = second.read_bytes()
    second.write_bytes(whole + whole[-60:-20])  # a torn write behind the good ones
    with FakeLedger(port=port) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("new"))
        assert ledger.wait(6)
        assert delivery.shutdown(3)
        assert ledger.models() == ["m1", "m2", "n0", "n1", "n2", "new"] and ledger.duplicates == 0
    aside = [path.read_bytes() for path in sorted(state.glob("spool/*/quarantine/*.corrupt"))]
    # Whole, and behind it only that its good receipts are done with.
    assert len(aside) == 2 and aside[0].startswith(bytes(data)) and aside[1].startswith(whole + whole[-60:-20])
    assert health.notes["spool_corrupt"] == 2 and "spool.corrupt" in health.warnings
    assert not list(state.glob("spool/*/*.*"))


def test_two_processes_never_claim_the_same_segment(made: Callable[..., Spool]) -> None:
    owner = made()
    for n in range(20):
        _store(owner, "m%d" % n)
        owner._retire(owner._box["current"])
    claimed: List[str] = []

    def take(one: Spool) -> None:
        while True:
            got = one.claim()
            if got is None:
                return
            batch = got.next_batch()
            if batch is not None:  # the last one is empty
                claimed.append(batch.receipts[0].decode())
            one.finish(got)

    others = [made() for _ in range(4)]
    assert all(other.claim() is None for other in others)  # the owner lives
    owner.close()
    for other in others:
        other.left.looked = 0.0
    threads = [threading.Thread(target=take, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 20


def test_two_threads_never_get_the_same_segment(made: Callable[..., Spool]) -> None:
    """As in inline mode, where each caller sends a piece of the spool."""
    one = made()
    _store(one, "a")
    first = one.claim()
    assert first is not None and one.claim() is None and not one.waiting()
    one.give_back(first)
    assert one.waiting() and one.claim() is first
    left = made()
    _store(left, "b")
    left.close()
    one.left.looked = 0.0
    second = one.claim()
    assert second is not None and second is not first and one.claim() is None
    one.give_back(second)
    assert one.claim() is second
    one.close()


_KILLED = """
import os, sys; sys.path.insert(0, sys.argv[2])
from aicostguard.config import load
from aicostguard.delivery import envelope
from aicostguard.delivery.spool import Spool
from aicostguard.delivery.epoch import new_epoch
one = Spool(sys.argv[1], "d", envelope.head(load({}), new_epoch()), 1 << 28)
"""


def _run(code: str, state: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", _KILLED + code, str(state), root], capture_output=True, text=True, check=False
    )


def test_a_claim_of_a_killed_process_is_claimed_again(made: Callable[..., Spool], state: Path) -> None:
    owner = made()
    _store(owner, "a")
    owner.close()
    done = _run("assert one.claim() is not None\nos.kill(os.getpid(), 9)\n", state)
    assert done.returncode == -9, done.stderr
    (path,) = state.glob("spool/d/*.claim")
    other = made()
    got = other.claim()
    assert got is not None and got.next_batch() is not None
    assert not path.exists()
    other.close()


def test_what_a_killed_process_was_just_making_is_swept(made: Callable[..., Spool], state: Path) -> None:
    done = _run(
        "from aicostguard.delivery import segment\nsegment.lock = lambda fd: os.kill(os.getpid(), 9)\none._open()",
        state,
    )
    assert done.returncode == -9, done.stderr
    (path,) = state.glob("spool/d/*.new")
    one = made()
    assert one.claim() is None and path.exists()  # it may be in the making
    old = path.stat().st_mtime - folder.STILLBORN - 1
    os.utime(path, (old, old))
    one.left.looked = 0.0
    assert one.claim() is None and not path.exists()


def test_the_spool_is_capped_in_bytes_and_what_does_not_fit_waits_in_memory(deliver: Deliver, state: Path) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port(), SPOOL="on-failure")
    delivery._courier.keeper.spool.cap = 1000
    for n in range(10):
        delivery.submit(receipt("m%d" % n))
        delivery.flush(1)
    on_disk = sum(path.stat().st_size for path in state.glob("spool/*/*.open"))
    assert 0 < on_disk <= 1000
    assert "spool.full" in health.warnings and delivery.stats()["queue"] > 0
    counters = health.counters
    assert counters["dropped"] == 0
    assert counters["spooled"] + delivery.stats()["queue"] == 10


def test_a_segment_goes_with_the_last_receipt_that_is_not_in_the_ledger(
    made: Callable[..., Spool], state: Path
) -> None:
    """Also while all of it is in memory: the process may be killed."""
    epoch = new_epoch()
    one = made(epoch)
    rows: Any = [(n, 5, envelope.encode(receipt("m%d" % n))) for n in range(3)]
    batch = envelope.build(envelope.head(load({}), epoch), rows, health.counters)
    for row in rows:
        assert one.write(row)
    first = one._box["current"]
    one._retire(first)
    one.settle(batch.part([0]), dict(health.counters))
    assert os.path.exists(first.path) and one.claim() is None  # the others are on their way
    assert not one.shed(batch.part([1])).seq and one.claim() is None
    one.settle(batch.part([2]), dict(health.counters))
    assert os.path.exists(first.path) and one.pending == 1
    got = one.claim()
    assert got is first
    back = got.next_batch()
    assert back is not None and back.seq == (1,)
    one.settle(back, dict(health.counters))
    assert not os.path.exists(first.path) and one.clear()
    # What found no room in memory is not forgotten, whenever it is counted.
    assert one.write(rows[0])
    second = one._box["current"]
    one._retire(second)
    assert one.leave(0) and not one.leave(0) and not one.clear()
    assert not one._over(second) and one.claim() is second and one.pending == 1
    one.close()


def test_segments_roll_over_and_a_long_outage_stays_on_disk(
    made: Callable[..., Spool], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT", 1000)
    monkeypatch.setattr(spool, "FILES", 3)
    one = made(cap=24_000)
    _store(one, *("m%d" % n for n in range(120)))
    sizes = [path.stat().st_size for path in sorted(state.glob("spool/d/*.open"))]
    # The first ones short, so that they come and go; then long ones, so that not too many files are open.
    assert len(sizes) == 1 + 3 + (sum(sizes) - sum(sizes[:3]) - sizes[-1]) // 4000
    assert all(1000 <= size < 1200 for size in sizes[:3]) and all(size >= 4000 for size in sizes[3:-1])
    assert one.pending == 120
    one.close()


def test_a_record_that_a_full_disk_cut_off_is_known_and_harms_no_other(made: Callable[..., Spool], state: Path) -> None:
    """A real limit of the kernel: writes stop in the middle of a record."""
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
row = envelope.encode({"provider": "a", "model": "b"})
assert one.append([(0, 1, row)]) == (1, None)
size = one._box["current"].size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
stored, error = one.append([(n, 1, row) for n in range(1, 9)])
assert error is not None and one.pending == stored + 1, one.pending
try:
    one.write((9, 1, row))
except OSError as error:
    assert not one._box["current"].live
    print(stored)
"""
    done = _run(code, state)
    assert done.returncode == 0, done.stderr
    one = made()
    got = one.claim()
    assert got is not None
    batch = got.next_batch()
    assert batch is not None and batch.seq == tuple(range(int(done.stdout) + 1))
    got.advance()
    assert got.next_batch() is None and got.damaged == 1
    one.close()


@pytest.mark.parametrize("where", ["state", "spool", "status"])
def test_a_state_folder_that_cannot_be_written_costs_one_warning_and_no_receipt(
    deliver: Deliver,
    state: Path,
    where: str,
    faults_are_counted: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocked = state if where == "state" else state / where
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a folder should be: not even root can write below it")
    with FakeLedger(Answer(500)) as ledger:
        delivery = deliver(ledger.url)
        for n in range(3):
            delivery.submit(receipt("m%d" % n))
        delivery.flush(2)
        delivery.flush(2)
        assert delivery.shutdown(2)
        assert ledger.models() == ["m0", "m1", "m2"]
        stats = delivery.stats()
        assert stats["counters"]["faults"] >= 1 and stats["counters"]["dropped"] == 0
        wanted = {"spool": {"spool.broken"}, "status": {"status.broken"}, "state": {"spool.broken", "status.broken"}}
        said = [record.getMessage() for record in caplog.records if "AICG_STATE_DIR" in record.getMessage()]
        assert {code for code in health.warnings if code.endswith(".broken")} == wanted[where]
        assert len(said) == len(wanted[where])


def test_nothing_follows_a_link_laid_by_somebody_else(made: Callable[..., Spool], state: Path) -> None:
    epoch = new_epoch()
    one = made(epoch)
    where = state / "spool" / "d"
    where.mkdir(parents=True)
    target = state / "elsewhere"
    for ending in (".open", ".new"):
        os.symlink(target, where / ("%s-000000%s" % (epoch, ending)))
    with pytest.raises(OSError):
        one.write((0, 5, b"{}"))
    assert one.write((0, 5, b"{}"))
    assert not target.exists()
    one.close()


def test_off_writes_no_receipt_to_disk(deliver: Deliver, state: Path) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port(), SPOOL="off")
    delivery.submit(receipt("a"))
    assert not delivery.shutdown(1)
    assert not (state / "spool").exists()
    assert health.counters["dropped"] == 1 and "receipts.dropped" in health.warnings


def test_where_files_cannot_be_locked_age_decides(
    made: Callable[..., Spool], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "fcntl", None)
    owner = made()
    _store(owner, "a")
    other = made()
    assert other.claim() is None
    (path,) = state.glob("spool/d/*.open")
    old: Any = path.stat().st_mtime - folder.ABANDONED - 1
    os.utime(path, (old, old))
    owner._touched -= folder.ABANDONED  # not 0: a machine may have started a minute ago
    owner.tend()  # its owner lives, idle as it is
    other.left.looked = 0.0
    assert other.claim() is None
    os.utime(path, (old, old))
    other.left.looked = 0.0
    assert other.claim() is not None
    other.close()
    owner.close()


def test_a_folder_that_somebody_tidied_up_costs_nothing(
    made: Callable[..., Spool], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made()
    _store(one, "a")
    for path in state.glob("spool/d/*"):
        path.unlink()
    os.rmdir(str(state / "spool" / "d"))
    monkeypatch.setattr(spool, "MEASURE_EVERY", 0.0)
    one.tend()
    assert health.notes["spool_vanished"] == 1
    _store(one, "b")
    (path,) = state.glob("spool/d/*.open")
    assert b'"b"' in path.read_bytes()
    got = one.claim()  # its name is gone, its content is not
    assert got is not None
    batch = got.next_batch()
    assert batch is not None and b'"a"' in batch.receipts[0]
    one.settle(batch, dict(health.counters))
    assert one.pending == 1
    one.close()


@pytest.mark.ids("Z4")
def test_threads_that_need_the_spool_at_one_moment_get_one(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would give their first segments one name, and the second would take the place of the first."""
    keeper = deliver("http://127.0.0.1:%d" % free_port(), SPOOL="on-failure")._courier.keeper
    both = threading.Barrier(2)
    build = Spool.__init__

    def slow(self: Any, *args: Any) -> None:
        both.wait(5)
        build(self, *args)

    monkeypatch.setattr(Spool, "__init__", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: keeper.spool, range(2))
    assert first is second is keeper.spool


def test_a_segment_is_not_read_while_a_receipt_is_being_written(made: Callable[..., Spool]) -> None:
    one = made()
    assert one.write((0, 1, b"{}"))
    segment = one._find(0)
    assert segment is not None
    segment.writing.add(0)  # another thread is in the middle of it
    one.shed(envelope.Batch({}, (0,), (1,), (b"{}",)))
    assert one.claim() is None
    segment.writing.discard(0)
    assert one.claim() is segment


def test_what_was_taken_meanwhile_is_not_written_down_once_more(deliver: Deliver, state: Path) -> None:
    """The end of a program writes down what is on its way; the thread that sends it may see it taken just then."""
    with FakeLedger() as ledger:
        courier = deliver(ledger.url)._courier
        batches = [envelope.Batch(courier.head(), (n,), (1,), (b"{}",)) for n in range(2)]
        for batch in batches:
            courier.keeper.spool.write(batch.entries()[0])
            courier._inflight[id(batch)] = batch
        real = courier.keeper.spool.shed

        def shed(batch: Any, *given: Any) -> Any:
            left = real(batch, *given)
            courier._over(batches[1])  # the answer for the other one
            return left

        courier.keeper.spool.shed = shed
        courier.evacuate()
        assert courier.keeper.spool.pending == 1
