"""Both sides of diagnose: what a process on this machine says it made, beside what the ledger has of it.

Owns the difference and its name: a receipt that the ledger has not was dropped, waits in the queue, in the spool or
in a file's inbox, or nobody knows of it. Asks, and changes nothing. If this is wrong, a loss is explained away.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from aicostguard.config import Settings
from aicostguard.delivery.inquiry import MOST, Told


def ask(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """`{"told": bool, "why", "rows": {process: row}, "inbox": {process: receipts}}` for these status files."""
    from aicostguard.delivery import inquiry

    epochs = [str(row["epoch"]) for row in rows if _made(row) and isinstance(row.get("epoch"), str)][:MOST]
    inbox: Dict[str, int] = {}
    if not epochs:
        found = Told(None, "no process has made a receipt yet")
    elif settings.sqlite_path is not None:
        found, inbox = _ask_file(settings.sqlite_path, epochs)
    elif settings.url and settings.key:
        found = inquiry.ask(settings.url, settings.key, epochs)
    else:
        found = Told(None, "there is no address or no key to ask with")
    return {"told": found.rows is not None, "why": found.why, "rows": found.rows or {}, "inbox": inbox}


def _ask_file(path: str, epochs: List[str]) -> Any:
    from aicostguard.delivery import inquiry

    if sys.version_info < (3, 11):
        return Told(None, "a file is read with Python 3.11 or later"), {}
    from aicostguard.ledger.errors import LedgerError
    from aicostguard.ledger.sqlite import peek

    try:
        rows, inbox = peek.books(path, epochs, int(time.time() * 1000))
        return inquiry.told(rows), inbox
    except LedgerError as error:
        return Told(None, str(error)), {}


def _made(row: Mapping[str, Any]) -> int:
    counters = row.get("counters")
    made = counters.get("generated") if isinstance(counters, dict) else 0
    return made if isinstance(made, int) else 0


def compare(row: Mapping[str, Any], answer: Mapping[str, Any], spool_bytes: int) -> Optional[Dict[str, Any]]:
    """A status file beside the ledger's row; None when there is nothing to compare.

    `here` receipts are in the ledger; of those that are not, `dropped`, `queue`, `spool` and `inbox` say where they
    are, and `unexplained` how many are left: on their way while the process runs, else lost. `spool_bytes` is what lies
    in the spool of this machine.
    """
    made = _made(row)
    if not answer["told"] or not made:
        return None
    had = answer["rows"].get(str(row.get("epoch")))
    expected = max(made, had["expected"]) if had else made
    here = had["expected"] - had["missing"] if had else 0
    absent = left = expected - here
    spool = row.get("spool") if isinstance(row.get("spool"), dict) else {}
    places = {
        "inbox": answer["inbox"].get(str(row.get("epoch")), 0),
        "dropped": (row.get("counters") or {}).get("dropped", 0),
        # What it had in memory when it ended is in the spool, or it is gone.
        "queue": row.get("queue") if row.get("alive") else 0,
        "spool": (spool or {}).get("pending", 0) if spool_bytes else 0,
    }
    out: Dict[str, Any] = {"expected": expected, "here": here, "absent": absent}
    for name, count in places.items():
        out[name] = min(left, count) if isinstance(count, int) else 0
        left -= out[name]
    out["unexplained"] = left
    for name in ("refused", "duplicates", "late", "state", "gaps"):
        out[name] = had[name] if had else None
    return out


_PLACES = {
    "inbox": "{0} in the file's inbox until somebody opens the ledger",
    "dropped": "{0} dropped here",
    "queue": "{0} in its queue",
    "spool": "{0} in the spool",
}


def lines(compared: Optional[Mapping[str, Any]], alive: bool, ended: bool) -> List[str]:
    """What is said of a process below its own numbers."""
    if compared is None:
        return []
    out = ["the ledger has %d of %d" % (compared["here"], compared["expected"])]
    parts = [says.format(compared[name]) for name, says in _PLACES.items() if compared[name]]
    if compared["unexplained"]:
        says = "%d on their way" if alive else "%d lost: it made them, and they are nowhere"
        parts.append(says % compared["unexplained"])
    if parts:
        out[0] += "; " + ", ".join(parts)
    more = [(name, compared[name]) for name in ("refused", "duplicates", "late") if compared[name]]
    if more:
        out.append("there: " + ", ".join("%s %d" % pair for pair in more))
    if compared["gaps"]:
        runs = ["%d" % first if first == last else "%d to %d" % (first, last) for first, last in compared["gaps"]]
        out.append("never came: " + ", ".join(runs))
    if not alive and not ended:
        out.append("it ended without a word: what it did after this is unknown")
    return out


def problem(row: Mapping[str, Any], compared: Optional[Mapping[str, Any]]) -> List[str]:
    """What of it needs a person."""
    if compared is None or row.get("alive") or not compared["unexplained"]:
        return []
    return ["pid %s: %d of its receipts are lost" % (row.get("pid"), compared["unexplained"])]
