"""The part of the matrix that runs with every test run; `scripts/matrix` runs all of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.ids import ROOT


@pytest.mark.ids("G09", "G28", "A15", "B14")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the matrix runs on the main interpreter")
def test_every_call_has_its_one_receipt() -> None:
    """Installs old and new SDKs side by side; needs the package index the first time."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "matrix"), "--representative", "--orders", "before"],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=3000,  # a bound for what hangs; on a busy machine it takes its time
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
