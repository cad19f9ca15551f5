"""Records of the spool: what one process wrote, another reads; what is damaged harms nothing beside it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from aicostguard.config import Settings
from aicostguard.delivery import envelope, files, segment
from aicostguard.delivery.epoch import new_epoch
from aicostguard.delivery.segment import Segment, receipt_record, record, runs_of
from aicostguard.health import COUNTERS
from aicostguard.receipt import encode
from tests.delivery.conftest import receipt

ZEROS = dict.fromkeys(COUNTERS, 0)


@pytest.fixture
def written(tmp_path: Path, settings: Callable[..., Settings]) -> Callable[..., Segment]:
    """A segment of another process with these records after its head, as it is found on disk."""

    def make(*records: bytes, head: Optional[Dict[str, Any]] = None) -> Segment:
        fixed = envelope.head(settings("http://127.0.0.1:1", AICG_SERVICE="shop"), new_epoch())
        name = "%s-000000.open" % fixed["epoch"]
        data = segment.head_record(dict(fixed, **(head or {}))) + b"".join(records)
        (tmp_path / name).write_bytes(data)
        return Segment(str(tmp_path / name), files.open_to_append(str(tmp_path / name)), ours=False)

    return make


def again(one: Segment) -> Segment:
    return Segment(one.path, files.open_to_append(one.path), ours=False)


def row(seq: int) -> bytes:
    return receipt_record(seq, 1000 + seq, encode(receipt("m%d" % seq)))


def read(one: Segment) -> List[int]:
    found: List[int] = []
    while True:
        batch = one.next_batch()
        if batch is None:
            return found
        found += batch.seq
        one.advance()


def test_what_was_written_comes_back_under_its_own_head(written: Callable[..., Segment]) -> None:
    one = written(*(row(n) for n in range(3)))
    batch = one.next_batch()
    assert batch is not None and batch.stored and batch.source is one
    value = json.loads(batch.render(5))
    assert (value["service"], value["seq"], value["at"]) == ("shop", [0, 1, 2], [1000, 1001, 1002])
    assert value["receipts"] == [receipt("m%d" % n) for n in range(3)]
    # It never could say how many it made: as many as are in here at least.
    assert value["counters"] == dict(ZEROS, generated=3)
    assert one.next_batch() == batch  # the same until it is done with
    one.advance()
    assert one.next_batch() is None and one.damaged == 0


def test_what_is_done_with_is_not_read_again(written: Callable[..., Segment]) -> None:
    one = written(*(row(n) for n in range(10)))
    one.done([0, 1, 2, 5, 7], dict(ZEROS, generated=12, sent=5, dropped=2))
    second = again(one)
    batch = second.next_batch()
    assert batch is not None and batch.seq == (3, 4, 6, 8, 9)
    assert batch.head["counters"] == dict(ZEROS, generated=12, sent=5, dropped=2)
    second.done([4, 6], ZEROS)  # a part of the batch
    batch = second.next_batch()
    assert batch is not None and batch.seq == (3, 8, 9)
    assert read(again(one)) == [3, 8, 9]


@pytest.mark.ids("Z4")
def test_whatever_byte_is_damaged_no_more_than_its_record_and_one_beside_it_are_lost(
    written: Callable[..., Segment],
) -> None:
    one = written(*(row(n) for n in range(4)))
    data = Path(one.path).read_bytes()
    for place in range(0, len(data), 3):
        for byte in {data[place] ^ 1, 10} - {data[place]}:
            Path(one.path).write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            copy = again(one)
            found = read(copy)
            assert set(found) <= {0, 1, 2, 3} and len(found) >= 3, (place, byte)
            # A newline that is lost between two records is missed by nobody: there are two.
            assert copy.damaged > 0 or found == [0, 1, 2, 3], (place, byte)


@pytest.mark.ids("Z4")
def test_wherever_a_write_was_cut_off_the_next_record_is_whole(written: Callable[..., Segment]) -> None:
    torn = row(1)
    for length in [*range(1, len(torn), 5), len(torn) - 2, len(torn) - 1]:
        one = written(row(0), torn[:length], row(2))
        found = read(one)
        # Only the last newline may be missing without harm.
        assert found == ([0, 2] if length < len(torn) - 1 else [0, 1, 2])
        assert one.damaged == (length < len(torn) - 1 and length > 1)


def test_zeros_and_garbage_are_read_over_in_bounded_memory(
    written: Callable[..., Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "PIECE", 1 << 16)
    noise = random.Random(7).randbytes(300_000) if hasattr(random.Random, "randbytes") else os.urandom(300_000)
    one = written(row(0), b"\0" * 500_000, row(1), noise, row(2))
    assert max(len(line) for _, line in segment.lines(one.fd)) <= segment.LONGEST + segment.PIECE
    assert read(one) == [0, 1, 2] and one.damaged > 2


def test_a_head_that_is_lost_costs_its_labels_only(written: Callable[..., Segment]) -> None:
    one = written(row(0))
    data = bytearray(Path(one.path).read_bytes())
    data[20] ^= 1
    Path(one.path).write_bytes(bytes(data))
    batch = one.next_batch()
    assert batch is not None and batch.seq == (0,) and "service" not in batch.head
    assert batch.epoch == os.path.basename(one.path).split("-")[0]
    one.advance()
    assert one.next_batch() is None and one.damaged == 1


@pytest.mark.parametrize(
    "odd",
    [
        record(b"r", b"3 5 [1]"),
        record(b"r", b'3 5 {"provider":"a","model":"b","prompt":"secret"}'),
        record(b"r", b"3 5 " + b"[" * 50_000),
        record(b"r", b'x 5 {"provider":"a","model":"b"}'),
        record(b"r", b"3"),
        record(b"a", b'{"seq":[[0,9]]}'),
        record(b"a", b'{"seq":3,"counters":{}}'),
        record(b"z", b"from a newer release"),
        b"\nhello\n",
    ],
)
def test_what_is_no_record_of_ours_is_not_sent_and_not_believed(written: Callable[..., Segment], odd: bytes) -> None:
    one = written(row(0), odd, row(1))
    assert read(one) == [0, 1]
    assert one.damaged == (0 if odd[10:11] == b"a" else 1)


@pytest.mark.parametrize("head", [{"schema": 2}, {"epoch": "x"}])
def test_receipts_of_another_schema_are_set_aside_whole(written: Callable[..., Segment], head: Dict[str, Any]) -> None:
    one = written(row(0), row(1), head=head)
    assert read(one) == [] and one.damaged == 3


def test_pieces_are_bounded_by_number_and_by_bytes(
    written: Callable[..., Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(*(row(n) for n in range(1200)))
    sizes = []
    while True:
        batch = one.next_batch()
        if batch is None:
            break
        sizes.append(len(batch.seq))
        one.advance()
    assert sizes == [500, 500, 200]
    monkeypatch.setattr(segment, "BATCH_BYTES", 1000)
    batch = again(one).next_batch()
    assert batch is not None and sum(map(len, batch.receipts)) < 1200


def test_runs() -> None:
    assert runs_of([3, 1, 2, 7, 9, 8]) == [(1, 3), (7, 9)] and runs_of([]) == []
    assert segment._merged([(5, 6), (0, 1), (1, 3), (7, 7)]) == [(0, 3), (5, 7)]
