"""`state_dir/status/PID.json`: what a process tells `aicg-diagnose`, which is another process.

Owns the file's content: counters, faults, warnings, queue, spool, the last receipt's time and answer, and
what capture registers. Never holds text of a request, the key, or the URL (a hash names the destination).
If it cannot be written, that is one counted fault; nothing else depends on it.
"""

from __future__ import annotations

import json
import os
import sys
from os import getpid
from typing import Any, Callable, Dict, List, Optional

from aicostguard import health as our_health
from aicostguard.clock import clock
from aicostguard.delivery import files
from aicostguard.delivery.courier import Courier
from aicostguard.delivery.says import warn
from aicostguard.health import health

FOLDER = "status"
#: seconds between two writes at least
EVERY = 1.0
#: what ended processes leave is kept for this many seconds, and at most so many files
KEEP_SECONDS, KEEP_FILES = 86_400.0, 64

_sources: List[Callable[[], Dict[str, Any]]] = []


def register_status(source: Callable[[], Dict[str, Any]]) -> None:
    """Add what another part knows to status and `stats()`: `source` gives a JSON-safe dict, merged under `capture`.

    Capture gives `{module: state}`, one per library that was hooked; the state `patched` means that it is metered.
    """
    if source not in _sources:
        _sources.append(source)


def captured() -> Dict[str, Any]:
    """What the registered sources say now."""
    merged: Dict[str, Any] = {}
    for source in _sources:
        try:
            merged.update(source())
        except Exception as error:
            our_health.fault("status.source", error)
    return merged


def describe(courier: Courier) -> Dict[str, Any]:
    """The state of a process, as it is now, JSON-safe."""
    keeper = courier.keeper
    there = keeper.measure()
    state: Dict[str, Any] = {
        "pid": getpid(),
        "epoch": courier.epoch,
        "mode": "inline" if courier.settings.inline else "background",
        "queue": len(courier.queue),
        "queue_limit": courier.queue.limit,
        "spool": {
            "mode": keeper.mode,
            "pending": keeper.pending,
            "broken": keeper.broken,
            "slow": keeper.slow,
            "bytes": there.bytes,
            "segments": there.segments,
            "quarantined": there.quarantined,
        },
        "link": {"state": courier.link.state, "retry_in_s": round(courier.link.seconds(), 1)},
        "last": courier.answers.last,
        "capture": captured(),
    }
    state.update(health.snapshot(), counters=courier.counters())
    return state


class Status:
    """Writes the file of this process."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._started = int(clock.time() * 1000)
        self._next = 0.0
        self._before: Optional[Dict[str, Any]] = None
        self._broken = False
        self._swept = False

    def tick(self) -> None:
        """Write when something has changed and the last write is old enough."""
        if clock.monotonic() >= self._next and not self._broken:
            state = describe(self._courier)
            if state != self._before:
                self._write(state, ended=False)

    def final(self) -> None:
        """The last word of this process."""
        if not self._broken:
            self._write(describe(self._courier), ended=True)

    def _write(self, state: Dict[str, Any], ended: bool) -> None:
        self._next = clock.monotonic() + EVERY
        self._before = state
        more = {
            "schema": 1,
            "agent": self._courier.head()["agent"],
            "python": "%d.%d.%d" % sys.version_info[:3],
            "service": self._courier.settings.service,
            "destination": self._destination(),
            "started_ms": self._started,
            "written_ms": int(clock.time() * 1000),
            "ended": ended,
        }
        try:
            folder = files.private_folder(self._courier.settings.state_dir, FOLDER)
            files.replace(
                os.path.join(folder, "%d.json" % getpid()),
                json.dumps(dict(state, **more), ensure_ascii=False).encode("utf-8", "replace"),
            )
            if not self._swept:
                self._swept = True
                sweep(folder)
        except OSError as error:
            self._broken = True
            warn("status.broken", type(error).__name__)
            our_health.fault("status.write", error)

    def _destination(self) -> str:
        from aicostguard.delivery.folder import destination_of

        return destination_of(self._courier.settings)


def sweep(folder: str) -> None:
    """Remove the files of processes that ended long ago; the newest stay, so that a short run can be looked at."""
    dead: List[tuple[float, str]] = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        pid = name.split(".")[0]
        if pid.isdigit() and not alive(int(pid)):
            try:
                dead.append((os.stat(path).st_mtime, path))
            except FileNotFoundError:
                continue  # another process sweeps too
    dead.sort(reverse=True)
    for place, (modified, path) in enumerate(dead):
        if place >= KEEP_FILES or clock.time() - modified > KEEP_SECONDS:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue


def alive(pid: int) -> bool:
    """Is there a process with this id? Says yes where it cannot be known."""
    if os.name != "posix":
        return True  # there, signal 0 would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def read(state_dir: str) -> List[Dict[str, Any]]:
    """All status files, newest first, each with `alive`; one that cannot be read is `{"pid", "unreadable": True}`."""
    folder = os.path.join(state_dir, FOLDER)
    rows: List[Dict[str, Any]] = []
    try:
        names = os.listdir(folder)
    except OSError:
        return rows
    for name in names:
        pid, _, suffix = name.partition(".")
        if not pid.isdigit() or suffix != "json":
            continue
        row: Dict[str, Any] = {"pid": int(pid), "unreadable": True}
        try:
            with open(os.path.join(folder, name), "rb") as file:
                value = json.loads(file.read())
            if isinstance(value, dict) and value.get("schema") == 1:
                row = value
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            pass  # said by `unreadable`
        row["alive"] = alive(int(pid)) and not row.get("ended")
        rows.append(row)
    return sorted(rows, key=lambda row: -int(row.get("written_ms") or 0))


def worth_telling() -> bool:
    """Has anything happened that diagnose should show, though no receipt was ever made?"""
    state = health.snapshot()
    return bool(any(state["counters"].values()) or state["faults"] or state["warnings"])
