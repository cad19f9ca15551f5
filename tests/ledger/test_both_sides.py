"""`aicg diagnose`: what a process says it made beside what the ledger has, and the difference by its name."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aicostguard import compared, ledger
from aicostguard.ledger import keys
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, Server, aicg
from tests.ledger.test_agent_and_ledger import _start

HAD = {
    "expected": 10,
    "missing": 0,
    "received": 10,
    "refused": 0,
    "duplicates": 0,
    "late": 0,
    "state": "running",
    "gaps": [],
}


def _row(**more: Any) -> dict[str, Any]:
    row = {"epoch": "E", "pid": 7, "alive": True, "queue": 0, "spool": {"pending": 0}, "ended": False}
    counters = {"generated": more.pop("generated", 10), "dropped": more.pop("dropped", 0)}
    return {**row, "counters": counters, **more}


def _answer(inbox: int = 0, **had: Any) -> dict[str, Any]:
    return {"told": True, "why": "", "rows": {"E": {**HAD, **had}} if had else {}, "inbox": {"E": inbox}}


@pytest.mark.ids("E8", "G23", "Z4")
@pytest.mark.parametrize(
    ("row", "answer", "spool", "said"),
    [
        (_row(), _answer(missing=0), 9, ["the ledger has 10 of 10"]),
        (_row(), _answer(expected=12, missing=0), 9, ["the ledger has 12 of 12"]),
        (_row(queue=3), _answer(missing=3), 9, ["the ledger has 7 of 10; 3 in its queue"]),
        (_row(), _answer(missing=2), 9, ["the ledger has 8 of 10; 2 on their way"]),
        (
            _row(dropped=1, spool={"pending": 4}, generated=20),
            _answer(missing=1, gaps=[[3, 3]]),
            9,
            ["the ledger has 9 of 20; 1 dropped here, 4 in the spool, 6 on their way", "never came: 3"],
        ),
        (
            _row(),
            _answer(inbox=10),
            9,
            ["the ledger has 0 of 10; 10 in the file's inbox until somebody opens the ledger"],
        ),
        (
            _row(alive=False, queue=3, spool={"pending": 3}),
            _answer(missing=3, duplicates=2, refused=1),
            0,  # the spool that it left is gone
            [
                "the ledger has 7 of 10; 3 lost: it made them, and they are nowhere",
                "there: refused 1, duplicates 2",
                "it ended without a word: what it did after this is unknown",
            ],
        ),
        (_row(alive=False, ended=True), _answer(missing=0), 0, ["the ledger has 10 of 10"]),
    ],
)
def test_every_difference_has_a_name(row: dict[str, Any], answer: dict[str, Any], spool: int, said: list[str]) -> None:
    found = compared.compare(row, answer, spool)
    assert found is not None
    assert compared.lines(found, row["alive"], row["ended"]) == said
    places = ("inbox", "dropped", "queue", "spool", "unexplained")
    assert found["here"] + sum(found[name] for name in places) == found["expected"]
    lost = "lost" in said[0]
    assert compared.problem(row, found) == (["pid 7: 3 of its receipts are lost"] if lost else [])


def test_what_cannot_be_compared_is_not() -> None:
    assert compared.compare(_row(generated=0), _answer(), 0) is None
    assert compared.compare(_row(), {"told": False, "why": "x", "rows": {}, "inbox": {}}, 0) is None
    assert compared.lines(None, False, False) == []


def _diagnose(url: str, state: Path, *options: str, key: str | None) -> subprocess.CompletedProcess[str]:
    more = {"AICG_URL": url, "AICG_STATE_DIR": str(state), **({"AICG_KEY": key} if key else {})}
    return aicg("diagnose", *options, **more, PYTHONIOENCODING="utf-8")


@pytest.mark.ids("E8", "G23", "Z4")
def test_both_sides_over_http(server: Server, store: SqliteStore, tmp_path: Path) -> None:
    key = keys.make()
    store.add_key(key, "sender", ("ingest",), store.default_project(), NOW)  # all that an agent needs
    state = tmp_path / "state"
    _start(server.port, state, "submit(5)", AICG_KEY=key).communicate(timeout=60)
    done = _diagnose(f"http://127.0.0.1:{server.port}", state, key=key)
    assert "  the ledger has 5 of 5\n" in done.stdout
    assert done.returncode == 0, done.stdout
    assert key not in done.stdout + done.stderr
    # One is taken out of the books: nothing on this machine can say where it is.
    store._writer.do(lambda connection: connection.execute("INSERT INTO gaps SELECT 1, epoch, 2, 2 FROM epochs"))
    store._writer.do(lambda connection: connection.execute("UPDATE epochs SET missing = 1"))
    done = _diagnose(f"http://127.0.0.1:{server.port}", state, "--json", key=key)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["workers"][0]["ledger"]["gaps"] == [[2, 2]]
    assert [text for text in report["problems"] if "1 of its receipts are lost" in text]
    store.revoke_key(key, store.default_project(), NOW)
    done = _diagnose(f"http://127.0.0.1:{server.port}", state, "--json", key=key)
    assert json.loads(done.stdout)["ledger"] == {"told": False, "why": "it does not know the key"}


@pytest.mark.ids("G23", "Z4")
def test_both_sides_of_a_file_before_and_after_somebody_opens_it(tmp_path: Path) -> None:
    path, state = tmp_path / "ledger.db", tmp_path / "state"
    url = f"sqlite:///{path}"
    _start(0, state, "submit(5)", AICG_URL=url).communicate(timeout=60)
    before = _content(tmp_path)
    done = _diagnose(url, state, key=KEY)
    assert "the ledger has 0 of 5; 5 in the file's inbox until somebody opens the ledger" in done.stdout
    assert done.returncode == 0, done.stdout
    assert _content(tmp_path) == before, "a look changes nothing"
    ledger.open_ledger(str(path)).close()
    assert "  the ledger has 5 of 5\n" in _diagnose(url, state, key=KEY).stdout
    killed = "submit(2); delivery.flush(5); time.sleep(1.2); submit(1); time.sleep(2); os.kill(os.getpid(), 9)"
    _start(0, state, killed, AICG_URL=url).communicate(timeout=60)
    text = _diagnose(url, state, key=KEY).stdout
    assert "it ended without a word" in text


def _content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in os.listdir(folder) if name.startswith("ledger")}


def test_an_older_python_says_why_it_cannot_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compared.sys, "version_info", (3, 9, 0))
    told, _ = compared._ask_file(str(tmp_path / "x.db"), ["E"])
    assert told.rows is None
    assert "3.11" in told.why
