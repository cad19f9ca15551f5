"""The envelope: what is around the receipts of one POST, and how its parts are written and read again.

Owns the closed list of its keys, batches, their splitting, and the JSON of what the spool keeps of them: the head, the
receipts, and which of them are done with. Never writes a key outside the list, and reads nothing that is outside it. If
the head is wrong, receipts of one process are taken for another's.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aicostguard.config import Settings
from aicostguard.delivery.epoch import PATTERN
from aicostguard.delivery.queue import Entry
from aicostguard.health import COUNTERS
from aicostguard.receipt import FIELDS, SCHEMA, Receipt, clean_label, core, encode

#: bodies above this many bytes are compressed
GZIP_ABOVE = 1024

_TEXTS = ("agent", "epoch", "service", "environment", "release", "host")
_MOST = 2**53  # an integer that every JSON reader holds exactly


class Batch(NamedTuple):
    """Receipts of one epoch. `head` holds every key of the envelope but `sent_at, seq, at, receipts`."""

    head: Dict[str, Any]
    seq: Tuple[int, ...]
    at: Tuple[int, ...]
    receipts: Tuple[bytes, ...]
    #: the segment of the spool that it was read from, where it stays until it is taken
    source: Any = None

    @property
    def stored(self) -> bool:
        """True for what was read back from the spool."""
        return self.source is not None

    @property
    def epoch(self) -> str:
        """The run that made these receipts; another process's when the batch was found in the spool."""
        return str(self.head["epoch"])

    def entries(self) -> List[Entry]:
        """The batch as it came from the queue."""
        return list(zip(self.seq, self.at, self.receipts))

    def halves(self) -> List[Batch]:
        """Two batches that together are this one."""
        places, middle = range(len(self.seq)), len(self.seq) // 2
        return [self.part(places[:middle]), self.part(places[middle:])]

    def part(self, places: Sequence[int]) -> Batch:
        """A batch of the receipts at these places."""
        return self._replace(
            seq=tuple(self.seq[place] for place in places),
            at=tuple(self.at[place] for place in places),
            receipts=tuple(self.receipts[place] for place in places),
        )

    def render(self, sent_at: Optional[int]) -> bytes:
        """The JSON: an envelope with `sent_at` in ms since 1970, or without it what is set aside for a person."""
        import json

        head = {key: value for key, value in self.head.items() if value is not None}
        if sent_at is not None:
            head["sent_at"] = sent_at
        head["seq"] = self.seq
        head["at"] = self.at
        text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        return b'%s,"receipts":[%s]}' % (text[:-1], b",".join(self.receipts))


def head(settings: Settings, epoch: str) -> Dict[str, Any]:
    """The part that is the same for every batch of a process; the texts are bounded like labels."""
    import socket
    import sys

    texts = {
        "agent": getattr(sys.modules.get("aicostguard"), "__version__", "0.1.0"),
        "service": settings.service,
        "environment": settings.environment,
        "release": settings.release,
        "host": socket.gethostname(),
    }
    fixed: Dict[str, Any] = {"schema": SCHEMA, "epoch": epoch}
    fixed.update((key, clean_label(value)[0]) for key, value in texts.items())
    return fixed


def encoded(receipt: Receipt, core_only: bool) -> bytes:
    """A receipt as it is sent."""
    return encode(core(receipt) if core_only else receipt)


def build(
    fixed: Mapping[str, Any], entries: Sequence[Entry], counters: Mapping[str, int], ended: bool = False
) -> Batch:
    """A batch of queue entries, with the counters as they are now.

    `ended`: this process makes no further receipt, so `generated` is how many there are.
    """
    head = dict(fixed, counters=counters)
    if ended:
        head["ended"] = True
    return Batch(
        head,
        tuple(entry[0] for entry in entries),
        tuple(entry[1] for entry in entries),
        tuple(entry[2] for entry in entries),
    )


# What the spool keeps. What is read goes through the closed list again; `ValueError` when it is not ours.


def head_text(fixed: Mapping[str, Any]) -> bytes:
    """The part that is the same for every batch of a process."""
    import json

    kept = {key: fixed[key] for key in ("schema", *_TEXTS) if fixed.get(key) is not None}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def read_head(text: bytes) -> Dict[str, Any]:
    """The head of another process."""
    value = _json(text)
    if value.get("schema") != SCHEMA or not PATTERN.match(str(value.get("epoch"))):
        raise ValueError("schema or epoch")
    fixed = bare_head(value["epoch"])
    for key in _TEXTS:
        if key != "epoch" and isinstance(value.get(key), str):
            fixed[key] = clean_label(value[key])[0]
    return fixed


def bare_head(epoch: str) -> Dict[str, Any]:
    """The least that an envelope needs, for receipts whose head is lost."""
    return {"schema": SCHEMA, "epoch": epoch}


def read_receipt(text: bytes) -> bytes:
    """A receipt, encoded anew."""
    value = _json(text)
    # A key that we do not know comes from a newer release: set aside whole rather than sent without it.
    if not FIELDS.keys() >= value.keys():
        raise ValueError("not a receipt")
    return encode(value)


def read_done(text: bytes) -> Tuple[List[Tuple[int, int]], Dict[str, int], Optional[bool]]:
    """Runs of sequence numbers that are done with, the counters of the process at that time, whether it ended."""
    value = _json(text)
    try:
        runs = [(_count(first), _count(last)) for first, last in value["seq"]]
        ended = value.get("ended")
        return runs, {key: _count(value["counters"][key]) for key in COUNTERS}, None if ended is None else ended is True
    except (KeyError, TypeError) as error:
        raise ValueError("not such a record: %s" % type(error).__name__) from None


def _json(text: bytes) -> Dict[str, Any]:
    import json

    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if type(value) is not dict:
        raise ValueError("not an object")
    return value


def compress(body: bytes) -> Tuple[bytes, bool]:
    """`(bytes to send, are they gzip?)`."""
    if len(body) <= GZIP_ABOVE:
        return body, False
    import gzip

    # Level 3: receipts repeat their keys, so higher levels win a few per cent for three times the CPU.
    return gzip.compress(body, 3), True


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("not a count")
    return value
