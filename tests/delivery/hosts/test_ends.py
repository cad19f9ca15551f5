"""How processes end and are interrupted: signals, handlers, Ctrl-C in the middle of a flush, no thread to be had."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from typing import Any, Callable

import pytest

from aicostguard.delivery import Delivery, threads, worker
from aicostguard.health import health
from tests.delivery.conftest import receipt
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port
from tests.delivery.hosts.place import Place

Deliver = Callable[..., Delivery]

EXITS = """
import os, signal, sys, time
import app
def leave(*_): sys.exit(0)
{before}
app.ask()
{after}
"""


@pytest.mark.ids("Z4")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("signal.signal(signal.SIGTERM, leave)", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)"),
        ("", "sys.exit(0)"),
        ("", "raise SystemExit(0)"),
        ("import threading", "threading.Thread(target=app.ask).start()"),
        ("import threading", "threading.Thread(target=lambda: (time.sleep(0.3), app.ask()), daemon=True).start(); "
                             "time.sleep(0.6)"),
    ],
    ids=["a handler that leaves", "sys.exit", "SystemExit", "a thread that outlives main", "a daemon thread"],
)  # fmt: skip
def test_ways_to_end_that_python_knows(place: Place, ledger: FakeLedger, before: str, after: str) -> None:
    place.run(EXITS.format(before=before, after=after))
    place.balance(ledger, 2 if "Thread" in after else 1, 0.0)
    assert "aicostguard" not in place.said


@pytest.mark.ids("E3")
@pytest.mark.parametrize("first", ["agent", "handler"])
@pytest.mark.parametrize("ledger_is", ["there", "away"])
def test_a_call_inside_an_exit_handler(place: Place, ledger: FakeLedger, first: str, ledger_is: str) -> None:
    """From 3.12 on no thread can be started there; the provider is called all the same, and so is the ledger."""
    handler = "import atexit\natexit.register(lambda: __import__('app').ask())\n"
    lines = ["import app\n", handler] if first == "agent" else [handler, "import app\n"]
    url = {} if ledger_is == "there" else {"AICG_URL": "http://127.0.0.1:%d" % free_port()}
    place.run("".join(lines), **url)
    if ledger_is == "away":  # kept, and sent by the next run
        assert "cannot be reached" in place.said
        assert any(path.is_file() for path in (place.state / "spool").rglob("*"))
        return
    place.balance(ledger, 1, 0.0)
    assert place.said == ""


LATE = """
import app, json, os, urllib.request
body = json.dumps({"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
request = urllib.request.Request(os.environ["PROVIDER"] + "/v1/chat/completions", body,
    {"Content-Type": "application/json", "Authorization": "Bearer x"})
reply = urllib.request.urlopen(request)
reply.read(100)
class Keeper:
    def __init__(self): self.me, self.reply = self, reply
kept = Keeper()
"""


@pytest.mark.ids("E3", "G16")
def test_a_stream_that_is_collected_while_the_interpreter_ends_harms_nobody(place: Place, ledger: FakeLedger) -> None:
    """Nothing can be imported any more by then: delivered or not, no word on stderr and no other exit code."""
    assert place.run(LATE) == "" and place.said == ""


class Alarm:
    """`with Alarm(seconds):` raises KeyboardInterrupt in the main thread, as Ctrl-C does."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        self._before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *exc: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


@pytest.mark.parametrize("call", ["flush", "shutdown"])
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_ctrl_c_while_receipts_are_delivered_loses_none(deliver: Deliver, mode: str, call: str) -> None:
    with FakeLedger(Answer(500), Answer(delay=1.0)) as ledger:
        delivery = deliver(ledger.url, MODE=mode, SPOOL="off")
        delivery.submit(receipt("a"))
        assert mode == "inline" or not delivery.flush(1)
        delivery._courier.link.opens_at = 0.0
        with pytest.raises(KeyboardInterrupt), Alarm(0.3):
            getattr(delivery, call)(5)
        delivery.submit(receipt("b"))
        limit = time.monotonic() + 5
        while not delivery.flush(5) and time.monotonic() < limit:
            time.sleep(0.05)  # the sender that was told to stop still brings what it carries
        assert ledger.models() == ["a", "b"]
        assert (health.counters["generated"], health.counters["dropped"]) == (2, 0)


def test_a_sender_whose_shutdown_was_interrupted_takes_nothing_along(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "FIRST_LINGER", 5.0)
    with FakeLedger(Answer(delay=0.8)) as ledger:
        delivery = deliver(ledger.url, SPOOL="off")
        delivery.submit(receipt("a"))
        with pytest.raises(KeyboardInterrupt), Alarm(0.3):
            delivery.shutdown(5)
        delivery.submit(receipt("b"))
        assert ledger.wait(1, 3)
        time.sleep(0.2)
        assert delivery.flush(5)
        assert ledger.models() == ["a", "b"] and health.counters["dropped"] == 0


def test_ctrl_c_inside_a_call_that_delivers_inline_loses_nothing(deliver: Deliver) -> None:
    with FakeLedger(Answer(delay=1.0)) as ledger:
        delivery = deliver(ledger.url, MODE="inline", SPOOL="off")
        with pytest.raises(KeyboardInterrupt), Alarm(0.3):
            delivery.submit(receipt("a"))
        delivery.submit(receipt("b"))
        assert ledger.models() == ["a", "b"] and health.counters["sent"] == 2
        assert delivery.flush(1)


@pytest.mark.ids("E5", "Z4")
@pytest.mark.parametrize("spool", ["off", "on-failure"])
def test_a_worker_killed_in_the_middle_of_an_exchange_loses_nothing(deliver: Deliver, spool: str) -> None:
    with FakeLedger(Answer(500, delay=0.6)) as ledger:
        delivery = deliver(ledger.url, SPOOL=spool)
        delivery.submit(receipt("a"))
        limit = time.monotonic() + 5
        while not ledger.seen and time.monotonic() < limit:
            time.sleep(0.005)  # killed before the ledger has the first, the second would meet the 500
        sender = delivery._worker
        assert ledger.seen and sender is not None and sender.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(sender.ident), ctypes.py_object(SystemExit))
        while sender.alive and time.monotonic() < limit:
            time.sleep(0.005)
        assert not sender.alive
        delivery.submit(receipt("b"))
        assert delivery.flush(30)
        assert ledger.models() == ["a", "b"]


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a limit of processes, or in an interpreter that ends."""

    def refuse(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refuse)


@pytest.mark.ids("E3", "E5")
def test_where_no_thread_can_be_had_flush_delivers(deliver: Deliver, no_threads: None) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        for n in range(3):
            delivery.submit(receipt("m%d" % n))
        assert not ledger.stored and health.notes["no_thread"] >= 1
        assert delivery.flush(5) and ledger.models() == ["m0", "m1", "m2"]
        assert delivery.shutdown(5)


@pytest.mark.ids("E5")
def test_where_no_thread_can_be_had_flush_and_shutdown_say_false_when_they_could_not(
    deliver: Deliver, no_threads: None
) -> None:
    delivery = deliver("http://127.0.0.1:%d" % free_port())
    delivery.submit(receipt("a"))
    assert not delivery.flush(1)
    assert not delivery.shutdown(1)
    assert health.counters["dropped"] == 0


def test_a_finaliser_on_the_senders_own_thread_does_not_wait_for_itself(deliver: Deliver) -> None:
    """It runs wherever the garbage collector does: a flush there would wait for the thread it stands on."""
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url)
        answers = []
        courier = delivery._courier
        real = courier.transport.post

        def post(*arguments: Any) -> Any:
            if not answers:
                started = time.monotonic()
                answers.append((delivery.flush(5), threading.current_thread().name, time.monotonic() - started < 1))
            return real(*arguments)

        courier.transport.post = post
        delivery.submit(receipt("a"))
        assert delivery.flush(5)
        assert answers == [(False, "aicostguard", True)]
        assert ledger.models() == ["a"]


def test_a_thread_of_a_child_is_not_taken_for_one_of_its_parent(deliver: Deliver) -> None:
    """Idents are addresses, and come again: a thread that was delivering inline in the parent is not in the child."""
    from aicostguard.delivery import inline
    from aicostguard.delivery.living import forked

    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        inline._busy.add(threading.get_ident())
        try:
            delivery._pid = -1  # as after a fork
            forked()
            delivery.submit(receipt("a"))
            assert ledger.models() == ["a"]
        finally:
            inline._busy.clear()
