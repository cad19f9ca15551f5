"""What the ledger's answer means for a batch: the reply rules of the protocol as a table.

Owns the meaning of a status and nothing else: no I/O. If a row is wrong, receipts are lost or counted twice.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from aicostguard.clock import clock

#: the ledger has the batch: never send it again, whatever the rest of the answer looks like
TAKEN = "taken"
#: too large: send it in halves
SPLIT = "split"
#: asked to wait
WAIT = "wait"
#: the key is wrong: keep everything and pause
DENIED = "denied"
#: somebody else answers at this address: keep everything and pause
MOVED = "moved"
#: the ledger will never take this batch: quarantine
REJECTED = "rejected"
#: no answer, or a server that is down: keep, back off
LOST = "lost"
#: the local file cannot be written: keep, back off, and a fault of this machine
BROKEN = "broken"

_STATUS: Dict[int, str] = {
    401: DENIED,
    403: DENIED,
    407: LOST,  # a proxy on the way, never the ledger
    408: LOST,  # the server did not read the request in time: by definition worth another try
    413: SPLIT,
    425: LOST,
    429: WAIT,
    503: WAIT,
}
_CLASS: Dict[int, str] = {2: TAKEN, 3: MOVED, 4: REJECTED, 5: LOST}

#: an answer is read to this size; what is beyond cannot change its meaning
MAX_REPLY = 1 << 20
#: the longest Retry-After that is obeyed, in seconds
MAX_WAIT = 3600.0


class Reply(NamedTuple):
    """One exchange. `status` is None when there was none; `detail` names an exception's type, never its text."""

    kind: str
    status: Optional[int] = None
    #: seconds
    retry_after: Optional[float] = None
    refused: int = 0
    #: the first refusal, for the user: `field: error`, bounded
    refusal: Optional[str] = None
    detail: Optional[str] = None


def judge(status: int, retry_after: Optional[str] = None, body: bytes = b"", now: Optional[float] = None) -> Reply:
    """The meaning of a status line, its Retry-After header and its body. `now` in seconds since 1970."""
    kind = _STATUS.get(status) or _CLASS.get(status // 100, LOST)
    if kind == TAKEN:
        rows = _refused(body)
        return Reply(kind, status, refused=len(rows), refusal=_sentence(rows[0]) if rows else None)
    return Reply(kind, status, retry_after=_seconds(retry_after, now))


def _refused(body: bytes) -> List[Any]:
    """The refused rows of a 2xx; a body that cannot be read does not make it less taken."""
    import json

    try:
        rows = json.loads(body)["refused"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return []
    return rows if isinstance(rows, list) else []


def _sentence(row: Any) -> str:
    if not isinstance(row, dict):
        return "no reason given"
    text = "%s: %s" % (row.get("field", "?"), row.get("error", "?"))
    return "".join(character if character.isprintable() else " " for character in text)[:160]


def _seconds(value: Optional[str], now: Optional[float]) -> Optional[float]:
    """Retry-After in seconds: a number, or an HTTP date (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(value).timestamp() - (clock.time() if now is None else now)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    # `not >=` also takes out NaN
    return min(seconds, MAX_WAIT) if seconds >= 0 else 0.0 if seconds < 0 else None
