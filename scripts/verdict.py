"""What was checked, and whether that is good enough: the rows of the summary of `scripts/test`.

Owns `Check`, `Stage` and how a skip is judged. Runs nothing.
"""

from __future__ import annotations

import json
import time
from typing import Callable, List, NamedTuple, Optional

from machine import CACHE, Version

#: the reason of a check that failed, and passed when it was run again alone
UNSTEADY = "unsteady"


class Check(NamedTuple):
    """One thing that passed, failed, was skipped, or does not apply to that interpreter ("elsewhere")."""

    name: str
    outcome: str
    reason: str = ""


class Stage:
    """One row of the summary."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: List[Check] = []
        self.seconds = 0.0
        #: runs a few failed tests once more, when the machine has nothing else to do
        self.again: Optional[Callable[[], None]] = None

    def add(self, name: str, outcome: str, reason: str = "") -> None:
        self.checks.append(Check(name, outcome, reason))

    def number(self, outcome: str) -> int:
        return sum(check.outcome == outcome for check in self.checks)

    @property
    def outcome(self) -> str:
        for outcome in ("failed", "passed"):
            if self.number(outcome):
                return outcome
        return "skipped"


def family(name: str) -> str:
    """`tests` of `tests-capture`, `core` of `core-3.9`."""
    return name.partition("-")[0]


def judge(stages: List[Stage], main: Optional[Version], require_all: bool) -> None:
    """A skip on a further interpreter of a test that passed on the main one is no skip of the test."""
    there = {check.name: check.outcome for stage in stages if family(stage.name) == "tests" for check in stage.checks}
    for stage in stages:
        for index, check in enumerate(stage.checks):
            if check.outcome != "skipped":
                continue
            same = [o for n, o in there.items() if n == check.name or n.startswith(check.name + "::")]
            if set(same) == {"passed"}:
                stage.checks[index] = check._replace(outcome="elsewhere")
            elif require_all:
                stage.checks[index] = check._replace(outcome="failed", reason="skipped: " + check.reason)


def summary(stages: List[Stage], absent: List[str]) -> bool:
    """Print it, write .cache/test.json; True when nothing failed."""
    print("\n%-18s %-8s %7s %7s %8s %8s" % ("stage", "result", "passed", "failed", "skipped", "seconds"))
    for stage in stages:
        counts = tuple(stage.number(outcome) for outcome in ("passed", "failed", "skipped"))
        print("%-18s %-8s %7d %7d %8d %8.1f" % (stage.name, stage.outcome, *counts, stage.seconds))
    for version in absent:
        print("CPython %s is not present on this machine: not tested" % version)
    titles = {
        "elsewhere": "not run on that interpreter, passed on the main one",
        "unsteady": "failed once, passed when run again alone",
        "skipped": "skipped",
        "failed": "failed",
    }
    for outcome, title in titles.items():
        rows = [
            (stage.name, check)
            for stage in stages
            for check in stage.checks
            if (UNSTEADY if check.reason == UNSTEADY else check.outcome) == outcome
        ]
        if rows:
            print("\n%s:" % title)
        for name, check in rows:
            print("  %-18s %s%s" % (name, check.name, ": " + check.reason.split("\n")[0] if check.reason else ""))
    totals = {outcome: sum(stage.number(outcome) for stage in stages) for outcome in ("passed", "failed", "skipped")}
    CACHE.mkdir(exist_ok=True)
    rows_of = [{"stage": s.name, "seconds": s.seconds, "checks": [c._asdict() for c in s.checks]} for s in stages]
    text = json.dumps({"at": int(time.time()), "totals": totals, "absent": absent, "stages": rows_of}, indent=1)
    (CACHE / "test.json").write_text(text, encoding="utf-8")
    print("\n%(passed)d passed, %(failed)d failed, %(skipped)d skipped" % totals, flush=True)
    return not totals["failed"] and totals["passed"] > 0
