"""Background delivery against a ledger on a real socket: rhythm, reply rules, flush, a worker that dies."""

from __future__ import annotations

import gc
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest

from aicostguard.delivery import Delivery, courier, link
from aicostguard.delivery import queue as queues
from aicostguard.health import health
from tests.delivery.conftest import KEY, receipt
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger, free_port

Deliver = Callable[..., Delivery]


def _names(prefix: str, count: int) -> List[str]:
    return sorted("%s%d" % (prefix, n) for n in range(count))


@pytest.mark.ids("G13", "D16")
def test_a_receipt_is_in_the_ledger_well_within_two_seconds(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        started = time.monotonic()
        delivery.submit(receipt("a"))
        assert time.monotonic() - started < 0.5
        assert ledger.wait(1, 2.0)
        assert ledger.stored[delivery._epoch, 0] == receipt("a")
        time.sleep(1.8)  # the worker sleeps for long by now
        delivery.submit(receipt("b"))
        assert ledger.wait(2, 2.0)
        seen = ledger.seen[0]
        assert seen.path == "/v1/receipts"
        assert seen.headers["Authorization"] == "Bearer " + KEY
        assert seen.envelope is not None and abs(seen.envelope["sent_at"] / 1000 - time.time()) < 5


@pytest.mark.ids("G13")
def test_nothing_exists_before_the_first_receipt(deliver: Deliver, state: Path) -> None:
    threads = threading.active_count()
    delivery = deliver("http://127.0.0.1:%d" % free_port())
    assert delivery._worker is None and threading.active_count() == threads
    assert delivery.flush(0.1) and not state.exists()


def test_many_receipts_are_batched_over_one_connection_and_counted(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        threads = [
            threading.Thread(target=lambda t=t: [delivery.submit(receipt("t%d-%d" % (t, n))) for n in range(500)])
            for t in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert delivery.flush(10)
        assert len(ledger.stored) == 2000 and ledger.duplicates == 0
        assert {seq for _, seq in ledger.stored} == set(range(2000))
        assert ledger.connections == 1 and len(ledger.seen) <= 10
        assert any(seen.headers.get("Content-Encoding") == "gzip" for seen in ledger.seen)
        counters = delivery.stats()["counters"]
        assert (counters["generated"], counters["sent"], counters["dropped"]) == (2000, 2000, 0)


@pytest.mark.ids("G19")
@pytest.mark.parametrize("mode", ["durable", "on-failure"])
def test_submit_costs_the_caller_microseconds_and_a_receipt_is_encoded_once(
    deliver: Deliver, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders: List[int] = []
    real = queues.Queue.put
    from aicostguard.delivery import envelope

    monkeypatch.setattr(
        envelope, "encode", lambda row, encode=envelope.encode: encoders.append(threading.get_ident()) or encode(row)
    )
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, SPOOL=mode)
        best = 1.0
        for round_ in range(20):
            rows = [receipt("r%d-%d" % (round_, n)) for n in range(100)]
            started = time.perf_counter()
            for row in rows:
                delivery.submit(row)
            best = min(best, (time.perf_counter() - started) / len(rows))
        assert delivery.flush(10)
    assert best < 100e-6
    # What is queued, written down and sent are the same bytes.
    assert len(encoders) == 2000 and set(encoders) == {threading.get_ident()}
    assert queues.Queue.put is real


@pytest.mark.ids("E7", "Z4")
def test_a_reply_lost_after_the_commit_is_sent_again_under_the_same_identity(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FIRST", 0.05)
    with FakeLedger(Answer(drop=True)) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        limit = time.monotonic() + 5
        while delivery.stats()["counters"]["sent"] < 1 and time.monotonic() < limit:
            time.sleep(0.02)
        assert ledger.models() == ["a"] and ledger.duplicates == 1
        assert delivery.stats()["counters"]["sent"] == 1
        assert delivery.flush(2)


@pytest.mark.ids("Z4")
@pytest.mark.parametrize("answer", [Answer(cut=3), Answer(body=b"not json"), Answer(204, body=b""), Answer(202)])
def test_a_2xx_is_never_sent_again(deliver: Deliver, answer: Answer) -> None:
    with FakeLedger(answer) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
        delivery.submit(receipt("b"))
        assert delivery.flush(3)
        assert ledger.models() == ["a", "b"] and ledger.duplicates == 0


def test_a_connection_the_server_closed_meanwhile_costs_nothing(deliver: Deliver) -> None:
    with FakeLedger(Answer(headers=(("Connection", "keep-alive"),))) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
        client = delivery._courier.transport
        client._idle[0]._socket.close()
        delivery.submit(receipt("b"))
        assert delivery.flush(3) and ledger.models() == ["a", "b"]
        assert delivery.stats()["link"]["state"] == "up" and not health.warnings


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_keeps_everything_pauses_and_is_said_once(
    deliver: Deliver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeLedger(then=Answer(status)) as ledger:
        delivery = deliver(ledger.url)
        for n in range(3):
            delivery.submit(receipt("m%d" % n))
            assert not delivery.flush(2)
        assert len(ledger.seen) == 1  # paused: a flush does not knock again
        stats = delivery.stats()
        assert stats["counters"]["dropped"] == 0 and stats["spool"]["pending"] == 3
        assert stats["link"]["state"] == "denied"
        said = [record.getMessage() for record in caplog.records if record.name == "aicostguard"]
        assert len(said) == 1 and "AICG_KEY" in said[0] and str(status) in said[0] and KEY not in said[0]
        # The key was created meanwhile.
        ledger.then = Answer()
        delivery._courier.link.opens_at = 0.0
        assert delivery.flush(3) and ledger.models() == ["m0", "m1", "m2"]


def test_413_is_split_until_it_fits_and_one_that_never_fits_is_set_aside(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLedger() as ledger:
        real = ledger._post

        def only_small(handler: Any) -> None:
            if int(handler.headers["Content-Length"]) > 600:
                ledger.answers.insert(0, Answer(413))
            real(handler)

        monkeypatch.setattr(ledger, "_post", only_small)
        delivery = deliver(ledger.url)
        big = dict(receipt("big"), tags={"k%d" % n: "%032x%032x" % (n * 7919**9, n * 104729**8) for n in range(16)})
        for n in range(8):
            delivery.submit(receipt("m%d" % n))
        delivery.submit(big)
        delivery.flush(5)
        assert ledger.models() == _names("m", 8)
        aside = list(state.glob("spool/*/quarantine/*.http413.json"))
        assert len(aside) == 1 and b"big" in aside[0].read_bytes()
        assert health.counters["sent"] == 8 and health.counters["dropped"] == 1


@pytest.mark.ids("E4")
def test_an_end_while_one_half_is_sent_writes_down_the_other(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLedger(Answer(413)) as ledger:
        real, kept = ledger._post, []

        def ending(handler: Any) -> None:
            if ledger.seen and not kept:
                delivery._courier.evacuate()  # what the end of the program does, on another thread than the sender's
                kept.append(b"".join(path.read_bytes() for path in state.glob("spool/*/*") if path.is_file()))
            real(handler)

        monkeypatch.setattr(ledger, "_post", ending)
        delivery = deliver(ledger.url, SPOOL="on-failure")
        for name in ("first", "second"):
            delivery.submit(receipt(name))
        delivery.flush(5)
        assert kept and b"first" in kept[0] and b"second" in kept[0]
        assert ledger.models() == ["first", "second"]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(deliver: Deliver, status: int) -> None:
    with FakeLedger(Answer(status, (("Retry-After", "1"),))) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert not delivery.flush(0.5)  # not even a flush goes ahead of it
        assert ledger.wait(1, 4)
        assert ledger.seen[1].thread_at - ledger.seen[0].thread_at >= 0.99
        assert ledger.models() == ["a"] and health.counters["dropped"] == 0


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_the_ledger_will_never_take_is_set_aside_not_repeated(deliver: Deliver, state: Path, status: int) -> None:
    with FakeLedger(Answer(status)) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("bad"))
        assert not delivery.flush(3)
        delivery.submit(receipt("good"))
        assert delivery.flush(3) and ledger.models() == ["good"]
        (aside,) = state.glob("spool/*/quarantine/*.http%d.json" % status)
        assert b'"bad"' in aside.read_bytes() and aside.stat().st_mode & 0o777 == 0o600
        assert "ledger.rejected" in health.warnings


@pytest.mark.ids("E9")
def test_a_redirect_is_not_followed(deliver: Deliver) -> None:
    with FakeLedger() as other, FakeLedger(then=Answer(308, (("Location", other.url + "/v1/receipts"),))) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert not delivery.flush(2)
        assert not other.seen and "ledger.moved" in health.warnings
        assert delivery.stats()["spool"]["pending"] == 1


def test_refused_receipts_are_counted_and_said(deliver: Deliver) -> None:
    body = b'{"accepted":0,"duplicate":0,"refused":[{"index":0,"field":"model","error":"is odd"}]}'
    with FakeLedger(Answer(body=body)) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
        assert health.notes["refused"] == 1 and "model: is odd" in health.warnings["ledger.refused"]


@pytest.mark.parametrize("answer", [Answer(500), Answer(drop=True), Answer(status=200, delay=3.0), Answer(drip=0.2)])
def test_when_the_ledger_is_down_receipts_wait_and_arrive_once_it_is_back(
    deliver: Deliver, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "EXCHANGE_SECONDS", 0.5)
    monkeypatch.setattr(link, "FIRST", 0.1)
    with FakeLedger(answer, answer) as ledger:
        delivery = deliver(ledger.url)
        for n in range(5):
            delivery.submit(receipt("m%d" % n))
            time.sleep(0.15)
        assert ledger.wait(5, 8)
        limit = time.monotonic() + 8
        while not delivery.flush(1) and time.monotonic() < limit:
            time.sleep(0.05)
        assert ledger.models() == _names("m", 5)
        counters = health.counters
        assert (counters["generated"], counters["sent"], counters["dropped"]) == (5, 5, 0)
        assert counters["spooled"] > 0


def test_flush_tries_ahead_of_our_own_backoff(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST", 50.0)
    with FakeLedger(Answer(500)) as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert not delivery.flush(2)
        assert delivery.flush(2) and ledger.models() == ["a"]


def test_flush_is_bounded_and_honest_about_a_black_hole(deliver: Deliver) -> None:
    with BlackHole() as hole:
        delivery = deliver(hole.url)
        delivery.submit(receipt("a"))
        started = time.monotonic()
        assert not delivery.flush(0.4)
        assert 0.3 < time.monotonic() - started < 2.0


def test_an_overflow_goes_to_the_spool_while_the_sender_hangs_and_what_is_lost_is_counted(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aicostguard.delivery import delivery as module

    monkeypatch.setattr(module, "SPILL_AT", 400)
    with BlackHole() as hole:
        delivery = deliver(hole.url)
        delivery._queue.limit = 500
        delivery.submit(receipt("first"))
        limit = time.monotonic() + 3
        while not delivery._courier._inflight and time.monotonic() < limit:
            time.sleep(0.01)
        for n in range(2000):
            delivery.submit(receipt("m%d" % n))
            if n % 100 == 99:
                time.sleep(0.02)
        time.sleep(0.2)
        counters = delivery.stats()["counters"]
        assert counters["spooled"] > 1000
        assert counters["generated"] == 2001
        waiting = len(delivery._queue) + 1  # and the one in flight
        assert counters["spooled"] + counters["dropped"] + waiting == 2001


def test_without_a_spool_the_queue_bounds_and_drops_are_counted(deliver: Deliver) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port(), SPOOL="off")
    delivery._queue.limit = 10
    for n in range(50):
        delivery.submit(receipt("m%d" % n))
    assert not delivery.flush(1)
    stats = delivery.stats()
    assert stats["queue"] == 10 and stats["counters"]["dropped"] == 40
    assert "receipts.dropped" in health.warnings


def test_without_a_spool_receipts_arrive_when_the_ledger_is_back(
    deliver: Deliver, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FIRST", 0.2)
    with FakeLedger(Answer(500), Answer(500)) as ledger:
        delivery = deliver(ledger.url, SPOOL="off")
        delivery.submit(receipt("a"))
        assert ledger.wait(1, 5) and ledger.models() == ["a"]
        assert not (state / "spool").exists()


@pytest.mark.ids("E5")
def test_a_killed_worker_is_replaced_and_flush_does_not_wait_for_it(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        assert delivery.flush(3)
        worker = delivery._worker
        assert worker is not None and worker.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
        delivery._queue.signal(None)
        limit = time.monotonic() + 8
        while worker.alive and time.monotonic() < limit:
            time.sleep(0.01)
        assert not worker.alive
        delivery.submit(receipt("b"))
        assert delivery.flush(3) and ledger.models() == ["a", "b"]
        assert delivery._worker is not worker


@pytest.mark.ids("E5")
def test_a_worker_that_dies_during_a_flush_does_not_hold_it(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        calls: List[int] = []
        real = courier.Courier.deliver_all

        def die_once(self: courier.Courier, force: bool = False) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise SystemExit
            real(self, force)

        monkeypatch.setattr(courier.Courier, "deliver_all", die_once)
        delivery.submit(receipt("a"))
        assert delivery.flush(5) and ledger.models() == ["a"]


def test_shutdown_delivers_stops_the_thread_and_a_later_receipt_starts_it_again(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        delivery.submit(receipt("a"))
        worker = delivery._worker
        assert delivery.shutdown(3) and ledger.models() == ["a"]
        assert worker is not None and not worker.alive
        delivery.submit(receipt("b"))
        assert delivery.flush(3) and ledger.models() == ["a", "b"]


def test_shutdown_says_false_and_spools_when_nobody_answers(deliver: Deliver, state: Path) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port())
    delivery.submit(receipt("a"))
    assert not delivery.shutdown(2)
    (segment,) = state.glob("spool/*/*.open")
    assert segment.read_bytes().count(b'"a"') == 1
    assert health.counters["spooled"] == 1 and health.counters["dropped"] == 0


@pytest.mark.ids("G16")
def test_submit_from_a_signal_handler_and_from_a_finaliser_on_the_same_thread(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        made: List[str] = []  # appended to, not counted up: a handler may come in the middle of `+= 1`

        def handler(*_: object) -> None:
            made.append("s")
            delivery.submit(receipt("s"))

        class Cycle:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                made.append("g")
                delivery.submit(receipt("g"))

        before = signal.signal(signal.SIGALRM, handler)
        thresholds = gc.get_threshold()
        gc.set_threshold(5)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            for n in range(3000):
                Cycle()
                delivery.submit(receipt("m%d" % n))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            gc.set_threshold(*thresholds)
        deadline = time.monotonic() + 20
        while made.count("g") < 3000 and time.monotonic() < deadline:
            gc.collect()  # returns at once while another thread collects
        assert made.count("g") == 3000
        assert delivery.flush(10)
        assert len(ledger.stored) == 3000 + len(made)


def test_the_books_of_one_process_balance(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST", 0.05)
    script = [Answer(400), Answer(500), Answer(), Answer(drop=True), Answer(429, (("Retry-After", "0"),))]
    with FakeLedger(*script) as ledger:
        delivery = deliver(ledger.url)
        for n in range(60):
            delivery.submit(receipt("m%d" % n))
            time.sleep(0.01)
        limit = time.monotonic() + 10
        while time.monotonic() < limit and not delivery._courier.clear():
            delivery.flush(1)
        counters = health.counters
        assert counters["generated"] == 60 == counters["sent"] + counters["dropped"]
        assert len(ledger.stored) == counters["sent"]


@pytest.mark.ids("E6")
def test_our_own_requests_are_never_metered(deliver: Deliver) -> None:
    from aicostguard import context

    marks: List[bool] = []
    with FakeLedger() as ledger:
        for mode in ("background", "inline"):
            delivery = deliver(ledger.url, MODE=mode)
            transport = delivery._courier.transport
            real = transport.post
            transport.post = lambda *args, real=real: marks.append(context.inside.get()) or real(*args)
            delivery.submit(receipt(mode))
            assert delivery.flush(3)
    assert marks == [True, True]
    assert not context.inside.get()
