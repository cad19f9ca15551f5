"""The pure parts: identity, the reply table, backoff, queue, envelope."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Optional

import pytest

from aicostguard.clock import clock
from aicostguard.config import Settings
from aicostguard.delivery import Delivery, envelope, link, queue, reply
from aicostguard.delivery.epoch import PATTERN, new_epoch
from aicostguard.delivery.link import Link
from aicostguard.delivery.queue import Queue
from aicostguard.delivery.reply import judge
from aicostguard.health import health
from aicostguard.receipt import build, encode
from aicostguard.usage import Usage
from tests.delivery.conftest import receipt
from tests.delivery.fake_ledger import FakeLedger


def test_epochs_are_26_characters_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {new_epoch() for _ in range(1000)}
    assert len(many) == 1000
    assert all(PATTERN.match(epoch) and len(epoch) == 26 for epoch in many)
    now = time.time()
    monkeypatch.setattr(clock, "time", lambda: now + 0.002)
    assert new_epoch() > max(many) or now < time.time()
    monkeypatch.setattr(clock, "time", lambda: now + 3600)
    assert new_epoch() > max(many)


@pytest.mark.ids("Z4")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, reply.TAKEN),
        (201, reply.TAKEN),
        (202, reply.TAKEN),
        (204, reply.TAKEN),
        (301, reply.MOVED),
        (308, reply.MOVED),
        (400, reply.REJECTED),
        (401, reply.DENIED),
        (403, reply.DENIED),
        (404, reply.REJECTED),
        (408, reply.LOST),
        (413, reply.SPLIT),
        (422, reply.REJECTED),
        (425, reply.LOST),
        (429, reply.WAIT),
        (500, reply.LOST),
        (502, reply.LOST),
        (503, reply.WAIT),
        (599, reply.LOST),
        (999, reply.LOST),
    ],
)
def test_status_decides(status: int, kind: str) -> None:
    assert judge(status).kind == kind


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"refused": 3}', b"\xff\xfe", b'"x"', b"[" * 5000])
def test_any_2xx_is_taken_whatever_its_body(body: bytes) -> None:
    assert judge(200, None, body) == reply.Reply(reply.TAKEN, 200)


def test_refused_rows_are_counted_and_told_on_one_bounded_line() -> None:
    rows = [{"index": 0, "field": "model", "error": "bad\n\x1b[31m" + "x" * 500}, {"index": 3}]
    answer = judge(200, None, json.dumps({"refused": rows}).encode())
    assert answer.refused == 2
    assert answer.refusal is not None and answer.refusal.startswith("model: bad")
    assert len(answer.refusal) <= 160 and answer.refusal.isprintable()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("nan", None),
        ("99999999", reply.MAX_WAIT),
        ("inf", reply.MAX_WAIT),
        ("soon", None),
        ("", None),
        (None, None),
        ("Sun, 22 Nov 2026 00:01:00 GMT", 60.0),
        ("Sat, 21 Nov 2026 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(header: Optional[str], seconds: Optional[float]) -> None:
    midnight = 1795305600.0  # 2026-11-22T00:00:00Z
    assert judge(429, header, now=midnight).retry_after == seconds


def test_backoff_grows_with_jitter_to_a_bound_and_ends_with_an_answer() -> None:
    state = Link()
    assert state.is_open()
    pauses = []
    for _ in range(40):
        state.down()
        pauses.append(state.seconds())
    assert not state.is_open() and state.may_force()
    assert link.FIRST * 0.4 < pauses[0] <= link.FIRST
    assert all(pause <= link.LONGEST for pause in pauses) and min(pauses[-10:]) > link.LONGEST * 0.4
    assert max(pauses[-20:]) - min(pauses[-20:]) > 1.0
    state.up()
    assert state.is_open() and state.failures == 0


def test_a_pause_the_ledger_asked_for_is_not_forced() -> None:
    state = Link()
    state.wait(30)
    assert not state.may_force() and 29 < state.seconds() <= 30
    state.pause("denied")
    assert not state.may_force()


@pytest.mark.ids("G13")
def test_queue_is_bounded_and_says_so() -> None:
    rows = Queue(limit=3)
    assert [rows.put((n, 0, b"")) for n in range(5)] == [1, 2, 3, 0, 0]
    assert [entry[0] for entry in rows.take(2)] == [0, 1]
    assert rows.put_back([(0, 0, {}), (1, 0, {})]) == 0
    assert rows.put_back([(8, 0, {}), (9, 0, {})]) == 2
    assert [entry[0] for entry in rows.take()] == [0, 1, 2]
    assert rows.take() == []


def test_queue_wakes_an_idle_worker_once_per_batch() -> None:
    rows = Queue()
    rows.idle = True
    for n in range(queue.BATCH):
        rows.put((n, 0, b""))
    assert rows._wake.qsize() == 2  # the first receipt, and a full batch


def _batch(settings: Callable[..., Settings], **more: Any) -> envelope.Batch:
    fixed = envelope.head(settings("http://127.0.0.1:1", **more), new_epoch())
    return envelope.build(fixed, [(n, 1000 + n, encode(receipt("m%d" % n))) for n in range(3)], health.counters)


def test_envelope_has_the_closed_list_of_keys(settings: Callable[..., Settings]) -> None:
    batch = _batch(settings, AICG_SERVICE="shop", AICG_ENVIRONMENT="prod", AICG_RELEASE="7")
    value = json.loads(batch.render(5))
    assert set(value) == {
        "schema", "agent", "epoch", "sent_at", "service", "environment", "release", "host",
        "counters", "seq", "at", "receipts",
    }  # fmt: skip
    assert set(value["counters"]) == {
        "generated", "sent", "spooled", "dropped", "unmetered", "unrecognised", "faults",
    }  # fmt: skip
    assert (value["schema"], value["sent_at"], value["seq"], value["at"]) == (1, 5, [0, 1, 2], [1000, 1001, 1002])
    assert (value["service"], value["environment"], value["release"]) == ("shop", "prod", "7")
    assert value["receipts"][2] == receipt("m2")


def test_envelope_leaves_out_what_nobody_set_and_bounds_what_others_set(settings: Callable[..., Settings]) -> None:
    value = json.loads(_batch(settings, OTEL_SERVICE_NAME="a prompt? <script>" * 40).render(5))
    assert "environment" not in value and "release" not in value
    assert value["service"].startswith("replaced-")


def test_halves_are_the_whole(settings: Callable[..., Settings]) -> None:
    batch = _batch(settings)
    first, second = batch.halves()
    assert first.entries() + second.entries() == batch.entries()
    assert first.head == second.head == batch.head


@pytest.mark.ids("G16")
def test_a_receipt_that_cannot_be_encoded_is_dropped_and_counted(
    deliver: Callable[..., Delivery], faults_are_counted: None
) -> None:
    broken: Any = None
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        for each in (receipt("a"), broken, receipt("c")):
            delivery.submit(each)
        assert not delivery.flush(10), "one is lost"
        assert ledger.models() == ["a", "c"]
        assert [seq for seen in ledger.seen for seq in seen.envelope["seq"]] == [0, 2]
    counters = health.counters
    assert (counters["generated"], counters["dropped"], counters["faults"]) == (3, 1, 1)


def test_core_sends_no_more_than_the_six_keys(deliver: Callable[..., Delivery]) -> None:
    made, _ = build("openai", "a", Usage(3, 2), {"latency_ms": 1, "user": "u", "streamed": True})
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, RECEIPT="core")
        for each in (made, dict(made)):
            delivery.submit(each)
        assert delivery.flush(10)
        assert [row for seen in ledger.seen for row in seen.envelope["receipts"]] == [receipt("a")] * 2
