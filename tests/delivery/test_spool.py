"""The on-failure spool: nothing lost over a restart, nothing to another destination, nothing deleted unread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest

from aicostguard.config import Settings
from aicostguard.delivery import Delivery, envelope, spool
from aicostguard.delivery.epoch import new_epoch
from aicostguard.delivery.spool import Spool, destination, read_line
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port

Deliver = Callable[..., Delivery]


def _batch(settings: Callable[..., Settings], name: str = "a", epoch: str = "", count: int = 1) -> envelope.Batch:
    fixed = envelope.head(settings("http://127.0.0.1:1"), epoch or new_epoch())
    return envelope.build(fixed, [(n, 5, receipt(name)) for n in range(count)], core_only=False)


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


def test_lines_are_checksummed_and_a_damaged_segment_is_set_aside_whole(deliver: Deliver, state: Path) -> None:
    port = free_port()
    for n in range(3):
        _leave_behind(deliver, port, "m%d" % n)
    first, second, _ = sorted(state.glob("spool/*/*.open"))
    data = bytearray(first.read_bytes())
    data[data.index(b'"m0"') + 1] ^= 1  # one bit
    first.write_bytes(bytes(data))
    whole = second.read_bytes()
    second.write_bytes(whole + whole[: len(whole) // 2])  # a torn write after a good line
    with FakeLedger(port=port) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("new"))
        assert ledger.wait(3)
        assert delivery.shutdown(3)
        assert ledger.models() == ["m1", "m2", "new"]
    aside = sorted(path.read_bytes() for path in state.glob("spool/*/quarantine/*.corrupt"))
    assert aside == sorted([bytes(data), whole + whole[: len(whole) // 2]])
    assert health.notes["spool_corrupt"] == 2 and "spool.corrupt" in health.warnings
    with pytest.raises(ValueError):
        read_line(bytes(data))


def test_two_processes_never_claim_the_same_segment(settings: Callable[..., Settings], state: Path) -> None:
    owner = Spool(str(state), "d", new_epoch())
    for n in range(20):
        batch = _batch(settings, "m%d" % n)
        assert owner.append(batch)
        owner._seal()
    claimed: List[str] = []

    def take(one: Spool) -> None:
        while True:
            got = one.claim()
            if got is None:
                return
            _, batch = got.current()
            assert batch is not None
            claimed.append(batch.receipts[0].decode())
            got.finish()

    others = [Spool(str(state), "d", new_epoch()) for _ in range(4)]
    assert all(other.claim() is None for other in others)  # the owner lives
    owner.close()
    for other in others:
        other._looked = 0.0
    threads = [threading.Thread(target=take, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 20


def test_a_claim_of_a_killed_process_is_claimed_again(settings: Callable[..., Settings], state: Path) -> None:
    owner = Spool(str(state), "d", new_epoch())
    assert owner.append(_batch(settings))
    owner.close()
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from aicostguard.delivery.spool import Spool\n"
        "from aicostguard.delivery.epoch import new_epoch\n"
        "assert Spool(sys.argv[1], 'd', new_epoch()).claim() is not None\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(state), root], check=False)
    assert done.returncode == -9
    (path,) = state.glob("spool/d/*.claim")
    got = Spool(str(state), "d", new_epoch()).claim()
    assert got is not None and got.current()[1] is not None
    got.close()
    assert not path.exists()


def test_the_spool_is_capped_in_bytes_and_what_does_not_fit_waits_in_memory(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "CAP", 2000)
    delivery = deliver("http://127.0.0.1:%d" % free_port())
    for n in range(10):
        delivery.submit(receipt("m%d" % n))
        delivery.flush(1)
    on_disk = sum(path.stat().st_size for path in state.glob("spool/*/*.open"))
    assert 0 < on_disk <= 2000
    assert "spool.full" in health.warnings and delivery.stats()["queue"] > 0
    counters = health.counters
    assert counters["dropped"] == 0
    assert counters["spooled"] + delivery.stats()["queue"] == 10


def test_segments_roll_over_and_a_long_outage_stays_on_disk(
    settings: Callable[..., Settings], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "SEGMENT", 1000)
    epoch = new_epoch()
    one = Spool(str(state), "d", epoch)
    for _ in range(10):
        assert one.append(_batch(settings, epoch=epoch))
    assert len(list(state.glob("spool/d/*.open"))) > 3
    assert all(claimed._lines is None for claimed in one._sealed)
    assert one.pending == 10
    one.close()


def test_half_a_line_never_stays_when_the_disk_is_full(settings: Callable[..., Settings], state: Path) -> None:
    """A real limit of the kernel: writes stop in the middle of a line."""
    code = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from aicostguard.config import load\n"
        "from aicostguard.delivery import envelope\n"
        "from aicostguard.delivery.spool import Spool, read_line\n"
        "from aicostguard.delivery.epoch import new_epoch\n"
        "epoch = new_epoch(); one = Spool(sys.argv[1], 'd', epoch)\n"
        "head = envelope.head(load({}), epoch)\n"
        "batch = envelope.build(head, [(0, 1, {'provider': 'a', 'model': 'b'})], False)\n"
        "assert one.append(batch)\n"
        "size = one._size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))\n"
        "try:\n"
        "    one.append(batch)\n"
        "except OSError:\n"
        "    print(one.pending)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, str(state), root], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1", done.stderr
    (segment,) = state.glob("spool/d/*.open")
    lines = segment.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 and read_line(lines[0]).seq == (0,)


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


def test_nothing_follows_a_link_laid_by_somebody_else(settings: Callable[..., Settings], state: Path) -> None:
    epoch = new_epoch()
    one = Spool(str(state), "d", epoch)
    folder = state / "spool" / "d"
    folder.mkdir(parents=True)
    target = state / "elsewhere"
    os.symlink(target, folder / ("%s-000000.open" % epoch))
    with pytest.raises(OSError):
        one.append(_batch(settings, epoch=epoch))
    assert not target.exists()


def test_off_writes_no_receipt_to_disk(deliver: Deliver, state: Path) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port(), SPOOL="off")
    delivery.submit(receipt("a"))
    assert not delivery.shutdown(1)
    assert not (state / "spool").exists()
    assert health.counters["dropped"] == 1 and "receipts.dropped" in health.warnings


def test_where_files_cannot_be_locked_age_decides(
    settings: Callable[..., Settings], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "fcntl", None)
    owner = Spool(str(state), "d", new_epoch())
    assert owner.append(_batch(settings))
    other = Spool(str(state), "d", new_epoch())
    assert other.claim() is None
    (path,) = state.glob("spool/d/*.open")
    old: Any = path.stat().st_mtime - spool.ABANDONED - 1
    os.utime(path, (old, old))
    other._looked = 0.0
    got = other.claim()
    assert got is not None
    got.close()
    owner.close()
