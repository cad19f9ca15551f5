"""The trust contract is itself tested: its six files run with the rest, and each fails when its promise is broken."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import List

import pytest

from tests.ids import ROOT, marks
from tests.planted import FAULTS
from tests.test_project import tree

#: id of the promise → the file of `tests/safety` that holds it
PROMISES = {
    "G16": "cannot_break_calls",
    "G17": "payload_keys_only",
    "G18": "no_api_key_leak",
    "G19": "overhead_under_2ms",
    "G20": "warnings_fire",
    "G21": "serverless_flush",
}


@pytest.mark.ids("G22")
def test_the_safety_tests_run_with_the_rest() -> None:
    runner = tree.script("test")
    assert "safety" in [folder.rsplit("/", 1)[-1] for folder in runner.folders()]
    marked = {(name, mark.node.partition("::")[0]) for mark in marks() for name in mark.names}
    for promise, name in PROMISES.items():
        assert (promise, "tests/safety/test_safety_%s.py" % name) in marked


@pytest.mark.ids("G22")
def test_no_safety_test_is_skipped_or_expected_to_fail() -> None:
    """A skip for want of a library is a failure on the main interpreter (`scripts/test --require-all`)."""
    for name in PROMISES.values():
        text = (ROOT / "tests" / "safety" / ("test_safety_%s.py" % name)).read_text(encoding="utf-8")
        assert not re.search(r"mark\.(skip\b|xfail)|pytest\.xfail", text), name


@pytest.mark.ids("G22")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="scripts/faults runs on the main interpreter")
def test_each_was_seen_to_fail() -> None:
    """Plants a fault for each promise in a copy of the tree; without a fault they run with the rest."""
    chosen: List[str] = []
    for fault in FAULTS:
        if fault.id in PROMISES:
            assert fault.test.partition("::")[0] == "tests/safety/test_safety_%s.py" % PROMISES[fault.id]
            chosen.append(fault.id)
    assert sorted(chosen) == sorted(PROMISES)
    command = [sys.executable, str(ROOT / "scripts" / "faults"), "--trust", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "6 faults planted, 0 not noticed"
