"""The count: exact, bounded, right while a response is still on its way."""

from __future__ import annotations

import threading
from typing import List

import pytest

from aicostguard.simulator import Billed, Exchange, Simulator, count
from tests.simulator.raw import ask

ROW = Billed("openai", "chat", "m", None)


def test_what_no_longer_fits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "MAX_BILLED", 3)
    monkeypatch.setattr(count, "MAX_EXCHANGES", 2)
    books = count.Count()
    for _ in range(2):
        books.bill([ROW, ROW]).mark(True)
    assert (len(books.billed()), books.lost_billed) == (3, 1)
    assert all(row.complete for row in books.billed())
    for number in range(5):
        books.saw(Exchange("openai", "GET", "/%d" % number, (), b"", 200))
    assert [e.path for e in books.exchanges()] == ["/3", "/4"]
    assert books.lost_exchanges == 3


def test_kept_bodies_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "MAX_KEPT", 100)
    books = count.Count()
    for _ in range(10):
        books.saw(Exchange("openai", "POST", "/", (), b"x" * 40, 200))
    assert (len(books.exchanges()), books.lost_exchanges) == (2, 8)


def test_a_response_from_before_a_reset_does_not_mark_rows_after_it() -> None:
    books = count.Count()
    old = books.bill([ROW])
    books.clear()
    books.bill([ROW])
    old.mark(True)
    assert [row.complete for row in books.billed()] == [False]


def test_a_client_never_sees_an_answer_that_is_not_counted(sim: Simulator) -> None:
    body = {"model": "m", "messages": []}
    for number in range(50):
        ask(sim.urls["openai"], "/v1/chat/completions", body)
        assert len(sim.billed()) == number + 1
        assert sim.billed()[-1].complete


def test_many_threads_many_rows(sim: Simulator) -> None:
    def work(name: str) -> None:
        for _ in range(25):
            ask(sim.urls["openai"], "/v1/chat/completions", {"model": name}, {"x-sim-tag": name})

    threads = [threading.Thread(target=work, args=("t%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tags: List[str] = [row.tag or "" for row in sim.billed()]
    assert {tag: tags.count(tag) for tag in tags} == {"t%d" % n: 25 for n in range(8)}
    assert all(row.tag == row.model for row in sim.billed())
    assert sim.lost == {"billed": 0, "exchanges": 0}
