"""`aicostguard.quality`: a score reaches the ledger that receipts go to, and never hurts who gave it."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

import aicostguard
from aicostguard.delivery import scored
from aicostguard.health import health
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port

KEY = "aicg_" + "Q" * 32


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    health.reset()
    monkeypatch.setenv("AICG_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(scored, "AT_EXIT", 0.1)
    yield
    if scored._made is not None:
        scored._made.end()
        scored._made = None
    health.reset()


def to(monkeypatch: pytest.MonkeyPatch, url: str, **more: str) -> None:
    for name, value in {"URL": url, "KEY": KEY, **more}.items():
        monkeypatch.setenv("AICG_" + name, value)


def told(ledger: FakeLedger) -> List[Dict[str, Any]]:
    """The scores that came in, without their moments, which are of this hour."""
    found = [score for seen in ledger.seen for score in (seen.envelope or {})["scores"]]
    assert all(abs(score.pop("at") - time.time() * 1000) < 3_600_000 for score in found)
    return found


@pytest.mark.ids("A29")
def test_scores_of_a_call_a_session_and_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLedger() as ledger:
        to(monkeypatch, ledger.url)
        assert aicostguard.quality("accuracy", 0.92, request="job-17")
        assert aicostguard.quality("thumbs", -1, session="s1", model="gpt-4o")
        assert aicostguard.quality("bleu", 30.5, run="nightly", model="gpt-4o")
        assert aicostguard.flush(10)
        assert told(ledger) == [
            {"name": "accuracy", "value": 0.92, "request": "job-17"},
            {"name": "thumbs", "value": -1, "session": "s1", "model": "gpt-4o"},
            {"name": "bleu", "value": 30.5, "run": "nightly", "model": "gpt-4o"},
        ]
        assert {seen.path for seen in ledger.seen} == {"/v1/scores"}
        assert {seen.headers["Authorization"] for seen in ledger.seen} == {"Bearer " + KEY}


@pytest.mark.ids("A29")
def test_without_a_subject_it_is_of_the_labels_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLedger() as ledger:
        to(monkeypatch, ledger.url, MODE="inline")
        with aicostguard.session("s1"):
            assert aicostguard.quality("accuracy", 1)
            with aicostguard.labels(request="job-18"):
                assert aicostguard.quality("accuracy", 0)
        assert told(ledger) == [
            {"name": "accuracy", "value": 1, "session": "s1"},
            {"name": "accuracy", "value": 0, "request": "job-18"},
        ]
        assert len(ledger.seen) == 2, "in inline mode each is there before the call returns"


@pytest.mark.ids("A29", "G02")
def test_without_a_destination_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aicostguard.quality("accuracy", 0.5, request="x") is False
    assert scored._made is None
    to(monkeypatch, "http://127.0.0.1:9", DISABLED="1")
    assert aicostguard.quality("accuracy", 0.5, request="x") is False
    assert scored._made is None and health.warnings == {}


@pytest.mark.ids("A29")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "a\nb", "value": 1, "request": "x"}, "name: must be"),
        ({"name": None, "value": 1, "request": "x"}, "name: must be"),
        ({"name": "a", "value": "good", "request": "x"}, "value: must be a finite number"),
        ({"name": "a", "value": True, "request": "x"}, "value: must be a finite number"),
        ({"name": "a", "value": math.nan, "request": "x"}, "value: must be a finite number"),
        ({"name": "a", "value": -math.inf, "request": "x"}, "value: must be a finite number"),
        ({"name": "a", "value": 1}, "one of request, session and run"),
        ({"name": "a", "value": 1, "request": "x", "session": "y"}, "one of request, session and run"),
        ({"name": "a", "value": 1, "request": "x" * 129}, "request: must be"),
        ({"name": "a", "value": 1, "run": "x"}, "model: must name the model"),
        ({"name": "a", "value": 1, "request": "x", "model": "what is this?"}, "model: must name the model"),
    ],
)
def test_a_score_that_cannot_be_is_said_and_not_sent(
    given: Dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeLedger() as ledger:
        to(monkeypatch, ledger.url, MODE="inline")
        assert aicostguard.quality(**given) is False
        assert says in health.warnings["quality.wrong"]
        assert ledger.seen == []


@pytest.mark.ids("A29", "E7")
def test_a_ledger_that_was_away_gets_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "PAUSE", 0.01)
    with FakeLedger(Answer(503), Answer(500), Answer(drop=True)) as ledger:
        to(monkeypatch, ledger.url)
        assert aicostguard.quality("accuracy", 0.5, request="x")
        assert aicostguard.flush(20)
        assert len(ledger.seen) >= 4 and told(ledger)[-1]["request"] == "x"
        assert "scores_dropped" not in health.notes


@pytest.mark.ids("A29", "G16")
def test_no_ledger_costs_its_user_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "MOST", 3)
    to(monkeypatch, "http://127.0.0.1:%d" % free_port())
    assert [aicostguard.quality("accuracy", 0.5, request="x") for _ in range(5)] == [True] * 3 + [False] * 2
    assert aicostguard.flush(0.2) is False
    assert scored._made is not None
    scored._made.end()
    assert health.notes["scores_dropped"] == 5, "two that found no room, and three at the end"


@pytest.mark.ids("A29")
def test_a_ledger_that_does_not_take_them_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLedger(then=Answer(401)) as ledger:
        to(monkeypatch, ledger.url, MODE="inline")
        aicostguard.quality("accuracy", 0.5, request="x")
        aicostguard.quality("accuracy", 0.5, request="y")
        assert "HTTP 401" in health.warnings["quality.refused"] and KEY[9:] not in health.warnings["quality.refused"]
        assert health.notes["scores_dropped"] == 2


@pytest.mark.ids("A29")
def test_many_go_in_few_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "GATHER", 0.5)
    with FakeLedger() as ledger:
        to(monkeypatch, ledger.url)
        for number in range(scored.AT_ONCE + 1):
            assert aicostguard.quality("accuracy", number, request="r%d" % number)
        assert aicostguard.flush(20)
        assert sorted(score["value"] for score in told(ledger)) == list(range(scored.AT_ONCE + 1))
        assert all(len((seen.envelope or {})["scores"]) <= scored.AT_ONCE for seen in ledger.seen)


@pytest.mark.ids("A29")
def test_a_forked_child_sends_its_own_and_not_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored, "GATHER", 60)  # so that the parent's is still there
    with FakeLedger() as ledger:
        to(monkeypatch, ledger.url)
        assert aicostguard.quality("accuracy", 1, request="parent")
        child = os.fork()
        if child == 0:
            ok = aicostguard.quality("accuracy", 2, request="child") and scored.flush(10)
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert [score["request"] for score in told(ledger)] == ["child"]
        assert aicostguard.flush(10)
        assert len(ledger.seen) == 2


@pytest.mark.ids("G13")
def test_a_ledger_that_never_answers_holds_up_no_end_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sending thread is in an exchange that may take much longer than the end may."""
    monkeypatch.setattr(scored, "SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        to(monkeypatch, "http://127.0.0.1:%d" % hole.getsockname()[1])
        assert aicostguard.quality("accuracy", 1, request="job-1")
        taken, _ = hole.accept()
        try:
            assert taken.recv(1) and scored._made is not None
            ending = threading.Thread(target=scored._made.end)
            ending.start()
            ending.join(30)
            assert not ending.is_alive() and health.notes["scores_dropped"] == 1
        finally:
            taken.close()
