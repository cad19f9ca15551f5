"""Seeded chaos over real processes, a real ledger and a harmful proxy: the books balance, and nothing stays behind.

The long runs are `scripts/chaos`. Here: books that do not balance are seen, a seed makes one plan, the driver cleans up
when it is killed, and two seeds run for CHAOS_MINUTES each (default 2.5: five minutes of trouble in every CI run).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Set

import pytest

pytest.importorskip("openai")
pytest.importorskip("gunicorn")
pytest.importorskip("celery")
pytest.importorskip("fastapi", reason="the ledger needs CPython 3.11 and the server extra")

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

from chaos_plan import books, diary, faults, guardian, plan, proxy  # noqa: E402

CHAOS = ROOT / "scripts" / "chaos"
MINUTES = float(os.environ.get("CHAOS_MINUTES", "2.5"))


# The judge.


def told(returned: int = 2, clean: bool = True, slot: str = "threads-0", **more: Any) -> diary.Diary:
    """The diary of process 20, whose calls 1 to `returned` came back, at second 100 and later."""
    times = {number: 100.0 + number for number in range(1, returned + 1)}
    plain = diary.Diary(20, 4, slot, 1, dict(times), times, {}, set(), clean, 103.0)
    return plain._replace(**more)


def bill(who: int, number: int, complete: bool = True) -> Dict[str, Any]:
    usage = {"input_tokens": who, "output_tokens": number}
    return {"tag": "%d.%d" % (who, number), "usage": usage, "complete": complete}


def compare(
    diary_of_20: diary.Diary,
    held: List[int],
    mode: str = "durable",
    billed: Optional[List[Dict[str, Any]]] = None,
    damaged: Optional[Set[Any]] = None,
    gaps: Optional[Mapping[str, Any]] = None,
    small: bool = False,
) -> books.Verdict:
    rows = [books.Row("E1", place, "openai", 20, number) for place, number in enumerate(held)]
    sums = (len(rows), sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows))
    slot = plan.Slot("threads-0", "threads", mode, mode, "httpx", small=True)
    evidence = books.Evidence(
        billed=billed or [bill(20, 1), bill(20, 2)],
        diaries={20: diary_of_20},
        rows=rows,
        slots={"threads-0": slot},
        killed={4},
        damaged=damaged or set(),
        gaps=gaps or {"E1": (0, False)},
        sums={"hourly": sums, "daily": sums},
        full=[(50.0, 101.5)] if small else [(50.0, 100.5), (103.5, 110.0)],
    )
    return books.compare(evidence)


def test_books_that_balance() -> None:
    verdict = compare(told(), [1, 2])
    assert verdict.faults == []
    assert verdict.numbers["held"] == verdict.numbers["billed"] == 2


@pytest.mark.ids("Z4")
@pytest.mark.parametrize(
    "held, sentence",
    [
        ([1, 1, 2], "20.1 is in the ledger 2 times"),
        ([1, 2, 3], "no provider billed"),
        ([1], "durable: the program had its answer"),
    ],
)
def test_books_that_do_not(held: List[int], sentence: str) -> None:
    found = compare(told(), held).faults
    assert len(found) == 1, found
    assert sentence in found[0]


@pytest.mark.parametrize(
    "mode, clean, small, sentence",
    [
        ("durable", False, False, "durable: the program had its answer"),
        ("durable", False, True, None),
        ("durable", True, True, None),
        ("on-failure", True, False, "on-failure: the program ended in good order"),
        ("on-failure", False, False, None),
        ("off", True, False, None),
        ("off", False, False, None),
    ],
)
def test_what_each_mode_promises_when_a_process_ends(
    mode: str, clean: bool, small: bool, sentence: Optional[str]
) -> None:
    found = compare(told(clean=clean), [1], mode=mode, small=small, gaps={"E1": (1, True)}).faults
    assert [sentence in fault for fault in found] == ([True] if sentence else [])


def test_in_memory_for_a_minute_is_not_within_any_promise() -> None:
    found = compare(told(clean=False, last=170.0), [1], mode="off", gaps={"E1": (1, True)}).faults
    assert "lay in memory for more than 60 s" in found[0]


def test_what_was_in_flight_may_be_missing_and_what_was_flushed_may_not() -> None:
    assert compare(told(1, clean=False), [1]).faults == []
    assert compare(told(1, clean=True), [1]).faults != []
    assert compare(told(1, clean=True), [1], billed=[bill(20, 1), bill(20, 2, complete=False)]).faults == []
    for mode in plan.MODES:
        found = compare(told(clean=False, flushed={1, 2}), [1], mode=mode).faults
        assert ["although flush() said" in fault for fault in found] == [True]


def test_a_program_that_met_an_error_with_its_answer_whole() -> None:
    met = told(1, failed={2: "APIConnectionError"})
    assert compare(met, [1], billed=[bill(20, 1), bill(20, 2, complete=False)]).faults == []
    assert "though the answer was whole" in compare(met, [1]).faults[0]


@pytest.mark.parametrize(
    "gap, sentence",
    [
        ((1, True), None),
        ((0, False), None),
        ((0, True), "takes process 20 for complete"),
        ((2, False), "misses 2"),
    ],
)
def test_the_ledger_knows_of_every_loss_and_of_no_other(gap: Any, sentence: Optional[str]) -> None:
    found = compare(told(clean=False), [1], mode="off", gaps={"E1": gap}).faults
    assert [sentence in fault for fault in found] == ([True] if sentence else [])


def test_sums_that_are_not_those_of_the_receipts() -> None:
    rows = [books.Row("E1", 0, "openai", 20, 1)]
    evidence = books.Evidence(
        [bill(20, 1)], {20: told(1)}, rows, {}, set(), set(), {}, {"hourly": (1, 20, 1), "daily": (2, 40, 2)}
    )
    found = books.compare(evidence).faults
    assert len(found) == 1
    assert "daily sums" in found[0]


def test_one_epoch_for_two_processes() -> None:
    rows = [books.Row("E1", 0, "openai", 20, 1), books.Row("E1", 1, "openai", 21, 1)]
    other = told(1)._replace(who=21)
    sums = (2, 41, 2)
    evidence = books.Evidence(
        [bill(20, 1), bill(21, 1)], {20: told(1), 21: other}, rows, {}, set(), set(), {}, {"hourly": sums}
    )
    assert ["holds calls of processes 20 and 21" in fault for fault in books.compare(evidence).faults] == [True]


def test_only_what_lay_under_the_damage_is_excused() -> None:
    lines = [b'0 {"input_tokens":20,"output_tokens":%d}' % number for number in (1, 2, 3)]
    data = b"\n".join(lines) + b"\n"
    second, end = len(lines[0]) + 1, len(data)
    assert faults.under(data, second + 3, second + 4) == {(20, 2)}
    assert faults.under(data, second - 1, second) == {(20, 1), (20, 2)}  # the line end between them
    assert faults.under(data, second + 3, end) == {(20, 2), (20, 3)}
    assert faults.under(data, end, end) == set()
    assert compare(told(clean=False), [1], damaged={(20, 2)}).faults == []
    assert compare(told(clean=False), [2], damaged={(20, 2)}).faults != []


@pytest.mark.parametrize("pick", [0.5, 0.501, 0.502, 0.503])
def test_damage_is_done_where_it_is_noted_and_nowhere_else(pick: float, tmp_path: Path) -> None:
    lines = [b'%08x r {"input_tokens":20,"output_tokens":%d}\n' % (number, number) for number in range(1, 40)]
    path, data = tmp_path / "E1-000000.open", b"".join(lines)
    path.write_bytes(data)
    hands = faults.Faults(None, [])  # type: ignore[arg-type]
    assert hands.spoil(path, pick)
    after = path.read_bytes()
    assert after != data
    intact = {number for number, line in enumerate(lines, 1) if line in after}
    assert hands.damaged == {(20, number) for number in range(1, 40) if number not in intact}
    assert intact  # never all of it


# The plan and the proxy.


def test_a_seed_makes_one_plan_and_a_longer_run_begins_like_a_shorter_one() -> None:
    made, again, longer = plan.make(7, 60), plan.make(7, 60), plan.make(7, 300)
    assert made == again
    assert made != plan.make(8, 60)
    assert longer.slots == made.slots
    assert longer.faults[: len(made.faults)] == made.faults
    assert longer.windows[: len(made.windows) - 1] == made.windows[:-1]  # the last one ends with the run
    assert {slot.kind for slot in made.slots} == set(plan.KINDS)
    assert {slot.mode for slot in made.slots} == set(plan.MODES)
    assert {fault.kind for fault in longer.faults} == set(plan.FAULTS)
    assert {window.kind for window in longer.windows} == set(plan.WINDOWS) <= set(proxy.KINDS)


def test_a_damaged_copy_can_be_told_from_a_sound_one() -> None:
    body = json.dumps({"receipts": [{"input_tokens": 20, "output_tokens": 1}] * 40}).encode()
    zipped = gzip.compress(body)
    seen = 0
    for seed in range(200):
        for sent, coding in ((body, b""), (zipped, b"Content-Encoding: gzip\r\n")):
            head = b"POST /v1/receipts HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (coding, len(sent))
            copy_head, copy = proxy.parts(proxy.damaged(random.Random(seed), head + sent))
            assert b"Content-Length: %d\r\n" % len(copy) in copy_head
            try:
                value = json.loads(gzip.decompress(copy) if coding else copy)
            except (OSError, EOFError, ValueError, zlib.error):
                seen += 1
            else:
                assert value == json.loads(body)  # bits that fill up a stream's last byte say nothing
    assert seen > 390


# The runs.


def chaos(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHAOS), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.ids("Z4", "E7", "E8")
@pytest.mark.parametrize("seed", [1, 2])
def test_the_books_balance(seed: int, tmp_path: Path) -> None:
    process = chaos("--seed", str(seed), "--minutes", str(MINUTES), "--json", "-", "--folder", str(tmp_path))
    out, err = process.communicate(timeout=MINUTES * 60 + 600)
    assert process.returncode == 0, "%s\n%s" % (err, out)
    result = json.loads(out)
    assert result["faults"] == []
    assert result["numbers"]["held"] > 20
    assert result["did"]["kill"] > 0
    assert list(tmp_path.iterdir()) == []  # a run in which all is well leaves nothing


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_stays_behind_when_the_driver_is_ended(number: int, tmp_path: Path) -> None:
    process = chaos("--seed", "3", "--minutes", "5", "--folder", str(tmp_path), "--quiet", start_new_session=True)
    folder, running, limit = tmp_path, [], time.monotonic() + 240
    while time.monotonic() < limit:
        folder = next(iter(tmp_path.iterdir()), tmp_path)
        running = guardian.marked(folder.name) if folder != tmp_path else []
        if len(running) > 8 and (folder / "calls").is_dir() and len(list((folder / "calls").iterdir())) > 3:
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    assert len(running) > 8
    process.send_signal(number)
    process.communicate(timeout=180)  # on a busy machine it takes a minute to end them all
    limit = time.monotonic() + 120
    while (guardian.marked(folder.name) or guardian.mounts(folder)) and time.monotonic() < limit:
        time.sleep(0.1)
    left = guardian.marked(folder.name)
    assert left == [], left
    assert guardian.mounts(folder) == []
    assert [pid for pid in running if _runs(pid)] == []


def _runs(pid: int) -> bool:
    try:
        return "chaos" in Path("/proc/%d/cmdline" % pid).read_text()
    except OSError:
        return False
