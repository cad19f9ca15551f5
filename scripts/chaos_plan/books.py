"""Compares the books: what the providers billed, what came back to programs, what the ledger holds.

Owns the verdict. A receipt in the ledger twice, or without a call, is always a failure. One that is missing is judged
by what its program's spool mode promises, by how that process ended, and by whether the ledger knows of the gap. If
this is too kind, the run proves nothing; `tests/chaos/test_chaos.py` shows it books that do not balance.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Set, Tuple

from chaos_plan.diary import Diary
from chaos_plan.plan import Slot

Call = Tuple[int, int]
#: seconds before its death that a program without a durable spool may have been told an answer and lose its receipt
MEMORY = 60.0


class Row(NamedTuple):
    """A receipt of the ledger."""

    epoch: str
    seq: int
    provider: str
    input_tokens: int
    output_tokens: int


class Evidence(NamedTuple):
    """All that is known at the end."""

    billed: Sequence[Mapping[str, Any]]
    diaries: Mapping[int, Diary]
    rows: Sequence[Row]
    slots: Mapping[str, Slot]
    #: what the run killed
    killed: Set[int]
    damaged: Set[Call]
    #: epoch → `(how many receipts the ledger misses of it, does it know for certain how many there were?)`
    gaps: Mapping[str, Tuple[int, bool]]
    #: calls, input and output tokens by the ledger's own sums
    sums: Mapping[str, Tuple[int, int, int]]
    #: when the small device was full: `(from, to)`
    full: Sequence[Tuple[float, float]] = ()


class Verdict(NamedTuple):
    """`faults` are sentences, empty when the books balance; `numbers` say how."""

    faults: List[str]
    numbers: Dict[str, int]
    lost: List[str]


def ledger_rows(path: Path) -> Tuple[List[Row], Dict[str, Tuple[int, int, int]], str]:
    """`(receipts, sums by table, what the integrity check says)` from the ledger's file."""
    connection = sqlite3.connect(path)
    try:
        names = "epoch, seq, provider, coalesce(input_tokens, -1), coalesce(output_tokens, -1)"
        rows = [Row(*found) for found in connection.execute("SELECT %s FROM receipts" % names)]
        what = "coalesce(sum(calls), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0)"
        sums = {
            table: connection.execute("SELECT %s FROM %s WHERE dimension = 'provider'" % (what, table)).fetchone()
            for table in ("hourly", "daily")
        }
        return rows, sums, str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def compare(found: Evidence) -> Verdict:
    """The verdict."""
    faults: List[str] = []
    numbers: Counter[str] = Counter()
    billed = _billed(found, faults)
    held: Dict[Call, List[Row]] = {}
    for row in found.rows:
        held.setdefault((row.input_tokens, row.output_tokens), []).append(row)
    for call, rows in held.items():
        if len(rows) > 1:
            where = ", ".join("%s/%d" % (row.epoch, row.seq) for row in rows)
            faults.append("call %d.%d is in the ledger %d times (%s)" % (*call, len(rows), where))
        if call not in billed:
            faults.append("the ledger holds a receipt that no provider billed: %s" % (rows[0],))
    _sums(found, faults)
    epochs = _epochs(found, faults)
    lost: List[str] = []
    of_whom: Dict[int, List[str]] = {}
    for call in sorted(billed.keys() - held.keys()):
        why, fine = judge(found, call, billed[call])
        numbers[why] += 1
        lost.append("%d.%d %s" % (*call, why))
        if not fine:
            faults.append("call %d.%d is missing: %s%s" % (*call, why, _about(found, call)))
        of_whom.setdefault(call[0], []).append(why)
    faults += _gaps(found, epochs, of_whom)
    for who, reasons in of_whom.items():
        if who not in epochs:
            numbers["of these, in processes that the ledger never heard of"] += sum(why in MADE for why in reasons)
    numbers.update(billed=len(billed), held=len(held), processes=len(found.diaries), epochs=len(epochs))
    numbers["returned"] = sum(len(diary.returned) for diary in found.diaries.values())
    return Verdict(faults, dict(numbers), lost)


def _billed(found: Evidence, faults: List[str]) -> Dict[Call, bool]:
    """Call → was one of its answers handed over whole? The tag and the tokens say the same, or the simulator lies."""
    billed: Dict[Call, bool] = {}
    for row in found.billed:
        who, _, number = (row["tag"] or "0.0").partition(".")
        call = int(who), int(number)
        usage = row["usage"] or {}
        if (usage.get("input_tokens"), usage.get("output_tokens")) != call:
            faults.append("the simulator billed %s for the call %s" % (usage, row["tag"]))
        if row["complete"] and billed.get(call):
            faults.append("call %d.%d was answered whole twice by the provider: the clients are wrong" % call)
        billed[call] = billed.get(call, False) or bool(row["complete"])
    return billed


def _sums(found: Evidence, faults: List[str]) -> None:
    rows = found.rows
    plain = (len(rows), sum(max(0, row.input_tokens) for row in rows), sum(max(0, row.output_tokens) for row in rows))
    for name, sums in found.sums.items():
        if tuple(sums) != plain:
            faults.append("the ledger's %s sums %s are not those of its receipts %s" % (name, tuple(sums), plain))


def _epochs(found: Evidence, faults: List[str]) -> Dict[int, Set[str]]:
    """Process → its epochs; an epoch is one process's."""
    whose: Dict[str, int] = {}
    epochs: Dict[int, Set[str]] = {}
    for row in found.rows:
        if whose.setdefault(row.epoch, row.input_tokens) != row.input_tokens:
            faults.append(
                "epoch %s holds calls of processes %d and %d" % (row.epoch, whose[row.epoch], row.input_tokens)
            )
        epochs.setdefault(row.input_tokens, set()).add(row.epoch)
    return epochs


NOT_HANDED = "not handed to the program whole: the provider's connection ended first"
FAILED = "failed in the program after the provider billed it"
IN_FLIGHT = "in flight in a process that was killed"
DAMAGED = "under bytes of the spool that the run damaged"
IN_MEMORY = "in memory of a process that ended without its hooks"
DROPPED = "dropped at the end of a program without a spool"
NO_ROOM = "dropped by a program whose device was full"
#: there was a receipt, and it is lost
MADE = (DAMAGED, IN_MEMORY, DROPPED, NO_ROOM)


def judge(found: Evidence, call: Call, whole: bool) -> Tuple[str, bool]:
    """`(why it is missing, is that within what was promised?)`"""
    diary = found.diaries.get(call[0])
    if diary is None:
        return "of a process that nobody knows", False
    slot = found.slots.get(diary.slot)
    mode = slot.mode if slot is not None else "durable"
    number = call[1]
    if call in found.damaged:
        return DAMAGED, True
    if number in diary.flushed:
        return "although flush() said that it was delivered", False
    if number in diary.failed:
        return (FAILED, True) if not whole else ("its program had an error though the answer was whole", False)
    if number not in diary.returned:
        return (IN_FLIGHT, True) if not diary.clean else (NOT_HANDED, not whole)
    first = min(diary.begun.values(), default=diary.last)
    full = any(begin <= diary.last and first <= end for begin, end in found.full)
    weak = slot is not None and slot.small and full
    if mode == "durable" and not weak:
        return "durable: the program had its answer", False
    if diary.clean:
        if mode == "on-failure" and not weak:
            return "on-failure: the program ended in good order", False
        return (NO_ROOM if weak else DROPPED), True
    if diary.last - diary.returned[number] > MEMORY:
        return "it lay in memory for more than %.0f s" % MEMORY, False
    return IN_MEMORY, True


def _about(found: Evidence, call: Call) -> str:
    diary = found.diaries.get(call[0])
    if diary is None:
        return ""
    end = "clean" if diary.clean else "killed by the run" if diary.pid in found.killed else "no last word"
    return " (%s, life %d, pid %d, end: %s)" % (diary.slot, diary.life, diary.pid, end)


def _gaps(found: Evidence, epochs: Mapping[int, Set[str]], lost: Mapping[int, List[str]]) -> Iterator[str]:
    """What the ledger says is missing, beside what is: it must know of every loss, and of none that is not one.

    Of a process that did not say its end the ledger says that there may be more. Of one that it has never heard of it
    can say nothing.
    """
    for who, heard in epochs.items():
        known = [found.gaps[epoch] for epoch in heard if epoch in found.gaps]
        missing, whole = sum(row[0] for row in known), all(row[1] for row in known)
        reasons = lost.get(who, [])
        made = [why for why in reasons if why in MADE]
        if missing > len(reasons):
            row = (missing, who, len(reasons), ", ".join(heard))
            yield "the ledger misses %d of process %d, of which only %d are missing (%s)" % row
        if whole and missing < len(made):
            row = (who, len(made) - missing, ", ".join(heard))
            yield "the ledger takes process %d for complete, and %d of it are lost without a word (%s)" % row
