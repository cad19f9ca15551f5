"""A ledger in a folder of its own, and one behind a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from aicostguard import ledger
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import Server, serving


@pytest.fixture(autouse=True)
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No charts in alerts, each of which takes a second and more: the tests of charts ask for them."""
    monkeypatch.setenv("AICG_ALERT_CHARTS", "0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = ledger.open_ledger(str(tmp_path / "ledger.db"))
    yield opened
    opened.close()


@pytest.fixture
def server(store: SqliteStore) -> Iterator[Server]:
    with serving(store) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    mount = shutil.which("mount")
    folder = tmp_path / "small"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None:
        pytest.skip("a full disk needs root on Linux, to mount a small tmpfs")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("a full disk needs a machine that lets root mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
