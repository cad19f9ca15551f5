"""A ledger in a folder of its own, and one behind a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from aicostguard import ledger
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import Server, serving


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = ledger.open_ledger(str(tmp_path / "ledger.db"))
    yield opened
    opened.close()


@pytest.fixture
def server(store: SqliteStore) -> Iterator[Server]:
    with serving(store) as running:
        yield running
