"""Short slices of `scripts/kills` and `scripts/outage`: real programs, killed and cut off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def _run(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "scripts" / script), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _figure(text: str, name: str) -> int:
    found = re.search(re.escape(name) + r" +(\d+)", text)
    assert found, text
    return int(found.group(1))


@pytest.mark.ids("E8", "Z4")
def test_what_has_returned_survives_kills_at_random_instants() -> None:
    text = _run("kills", "--kills", "25")
    assert _figure(text, "returned to the program, and lost:") == 0
    assert _figure(text, "in the ledger:") > 100
    # The other mode loses some: so there was something to lose.
    text = _run("kills", "--kills", "5", "--spool", "on-failure")
    assert _figure(text, "returned to the program, and lost:") > 0


@pytest.mark.ids("Z4", "G13")
def test_a_long_outage_in_bounded_memory() -> None:
    text = _run("outage", "--receipts", "30000")
    assert "as promised" in text
