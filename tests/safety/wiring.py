"""The whole agent in the test's process, wired as `import aicostguard.auto` does it, and everything it lets out.

Owns switching it on and off again, and the places where text of ours can end up: the ledger's socket, the local
ledger file, the state folder, the log and stderr.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict, List

from aicostguard import auto, config
from aicostguard.capture import caller
from aicostguard.capture.state import state
from aicostguard.health import health
from tests.delivery.fake_ledger import FakeLedger

KEY = "aicg_" + "K7" * 20

#: `wired(url, MODE="inline")` switches the agent on for this test
Wire = Callable[..., config.Settings]


def switch_on(environ: Dict[str, str]) -> config.Settings:
    """Wire capture to delivery with these settings."""
    settings = config.load(environ)
    assert auto.activate(settings)
    return settings


def end_delivery() -> None:
    """Stop the sender at once; the next receipt starts another."""
    if auto._delivery is not None:
        auto._delivery._courier.leaving = True
        auto.shutdown(0.2)
    auto._delivery = None
    state.deliver = auto._deliver


def switch_off() -> None:
    """As before `switch_on`."""
    end_delivery()
    auto.uninstrument()
    auto._settings = None
    state.__init__()  # type: ignore[misc]
    caller.forget()
    health.reset()


class Outlets:
    """Everything that left the agent, as bytes that can be searched. `state` is its folder, `file` a local ledger."""

    def __init__(self, state: Path, file: Path) -> None:
        self.state = state
        self.file = file
        self.ledgers: List[FakeLedger] = []
        #: what was logged or printed, added by the test
        self.spoken: List[str] = []

    def envelopes(self) -> List[Dict[str, Any]]:
        """Every envelope on the wire and in the local file."""
        found = [seen.envelope for ledger in self.ledgers for seen in ledger.seen if seen.envelope is not None]
        return found + [json.loads(row) for row in self.rows()]

    def receipts(self) -> List[Dict[str, Any]]:
        """Every receipt on the wire and in the local file."""
        return [receipt for envelope in self.envelopes() for receipt in envelope["receipts"]]

    def rows(self) -> List[bytes]:
        """The local file's envelopes."""
        if not self.file.exists():
            return []
        connection = sqlite3.connect(self.file)
        try:
            return [bytes(row[0]) for row in connection.execute("SELECT envelope FROM inbox")]
        finally:
            connection.close()

    def bodies(self) -> bytes:
        """Bodies on the wire, unpacked."""
        parts = []
        for ledger in self.ledgers:
            for seen in ledger.seen:
                zipped = seen.headers.get("Content-Encoding") == "gzip"
                parts.append(gzip.decompress(seen.raw) if zipped else seen.raw)
        return b"\n".join(parts)

    def heads(self) -> bytes:
        """Paths and headers on the wire."""
        return repr([(seen.path, seen.headers) for ledger in self.ledgers for seen in ledger.seen]).encode()

    def files(self) -> bytes:
        """Names and content of everything in the state folder."""
        parts = [b""]
        for path in sorted(self.state.rglob("*")):
            parts.append(str(path.relative_to(self.state)).encode())
            if path.is_file():
                parts.append(path.read_bytes())
        return b"\n".join(parts)

    def all(self) -> bytes:
        """All of it but the heads of our own requests, which hold the key by design."""
        known = repr(auto.stats()) if auto._settings is not None else ""
        spoken = "\n".join([*self.spoken, known]).encode("utf-8", "replace")
        return b"\n".join([self.bodies(), *self.rows(), self.files(), spoken])
