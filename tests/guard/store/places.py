"""The stores that every test of the protocol runs on."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.store.sqlite import SqliteStore
from tests.guard.store.servers import Server

_server: List[Server] = []


def server() -> Server:
    """One Redis for all tests of this run that leave it alive."""
    if not _server:
        _server.append(Server())
        atexit.register(_server[0].close)
    return _server[0]


def redis(folder: Path) -> Any:
    pytest.importorskip("redis")
    from aicostguard.guard.store.redis import RedisStore

    return RedisStore(server().url, str(folder), timeout=20.0)  # a busy machine is no fault of the server


#: name → a store, of those who share the folder
PLACES: Dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(str(folder / "guard.db"), patience=60.0),
    "redis": redis,
}
