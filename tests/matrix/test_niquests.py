"""What is tried in an environment of its own: niquests, which replaces urllib3, and trio, which gevent trips over."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from typing import Any, Dict, List

import pytest

from tests.ids import ROOT

#: what is tried → arguments of pytest. Faults are injected into the files that bring niquests to run.
RUNS: Dict[str, List[str]] = {
    "ways to read": ["tests/capture/niquests_cases.py"],
    "under trio": ["tests/capture/trio_cases.py"],
    "faults of ours": [
        "tests/safety/test_safety_cannot_break_calls.py",
        "-k",
        "any_function_changes_no_result and (niquests or urllib3_future)",
    ],
}


@pytest.mark.ids("A1", "A4", "A5", "A8", "A22", "A17", "B1", "B10", "B17", "G09")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the matrix runs on the main interpreter")
@pytest.mark.parametrize("what", list(RUNS))
def test_niquests(what: str) -> None:
    matrix: Dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "matrix"))
    python = matrix["python_of"]("raw-niquests")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *RUNS[what]],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
