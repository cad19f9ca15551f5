"""The envelope: what is around the receipts of one POST, and how a batch is written and read again.

Owns the closed list of its keys (DESIGN 7), batches, their splitting, and their form in the spool: the
same JSON without `sent_at`, which belongs to the attempt. Never writes a key outside the list. If the
head is wrong, receipts of one process are taken for another's.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aicostguard.config import Settings
from aicostguard.delivery.epoch import PATTERN
from aicostguard.delivery.queue import Entry
from aicostguard.health import COUNTERS, health
from aicostguard.receipt import FIELDS, SCHEMA, clean_label, core, encode

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
    #: it came from the spool, where it stays until it is taken
    stored: bool = False

    @property
    def epoch(self) -> str:
        """The run that made these receipts; another process's when the batch was found in the spool."""
        return str(self.head["epoch"])

    def entries(self) -> List[Entry]:
        """The batch as it came from the queue."""
        return list(zip(self.seq, self.at, self.receipts))

    def halves(self) -> List[Batch]:
        """Two batches that together are this one."""
        middle = len(self.seq) // 2
        parts = (slice(0, middle), slice(middle, None))
        return [self._replace(seq=self.seq[p], at=self.at[p], receipts=self.receipts[p]) for p in parts]

    def render(self, sent_at: Optional[int]) -> bytes:
        """The JSON: an envelope with `sent_at` in ms since 1970, or a line of the spool without it."""
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


def build(fixed: Mapping[str, Any], entries: Sequence[Entry], core_only: bool) -> Batch:
    """A batch of queue entries, with the counters as they are now. A receipt that cannot be encoded is dropped."""
    rows: List[Tuple[int, int, bytes]] = []
    for seq, at, receipt in entries:
        try:
            encoded = receipt if isinstance(receipt, bytes) else encode(core(receipt) if core_only else receipt)
        except Exception as error:
            health.count("dropped")
            health.fault("envelope.build", error)
            continue
        rows.append((seq, at, encoded))
    counters = health.snapshot()["counters"]
    return Batch(
        dict(fixed, counters=counters),
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
    )


def parse(text: bytes) -> Batch:
    """A line of the spool. Raises `ValueError` when it is not one; receipts go through the closed list again."""
    import json

    try:
        value = json.loads(text)
        if value["schema"] != SCHEMA:
            raise ValueError("schema")
        fixed: Dict[str, Any] = {"schema": SCHEMA}
        for key in _TEXTS:
            if key in value:
                fixed[key] = clean_label(value[key])[0]
        if not PATTERN.match(value["epoch"]):
            raise ValueError("epoch")
        fixed["counters"] = {key: _count(value["counters"][key]) for key in COUNTERS}
        batch = Batch(
            fixed,
            tuple(_count(item) for item in value["seq"]),
            tuple(_count(item) for item in value["at"]),
            tuple(encode(_object(item)) for item in value["receipts"]),
            stored=True,
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a batch: %s" % type(error).__name__) from None
    if not len(batch.seq) == len(batch.at) == len(batch.receipts) > 0:
        raise ValueError("seq, at and receipts differ in length")
    return batch


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


def _object(value: Any) -> Dict[str, Any]:
    # A key that we do not know comes from a newer release: set aside whole rather than sent without it.
    if type(value) is not dict or not FIELDS.keys() >= value.keys():
        raise ValueError("not a receipt")
    return value
