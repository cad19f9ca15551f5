"""The stores that every test of the protocol runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.store.sqlite import SqliteStore

#: name → a fresh store, in a folder of its own
PLACES: Dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(str(folder / "guard.db")),
}
