"""From an envelope or a bare receipt to stored, priced rows: exactly once.

Owns what an envelope may hold, when a receipt is said to have happened, and the reply. Everything up to the
store is a function on values; the store applies the result in one transaction. If this is wrong, money is
lost or counted twice: `tests/ledger/test_exactly_once.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Callable, Mapping, Protocol, Sequence

from aicostguard import pricing
from aicostguard.health import COUNTERS
from aicostguard.ledger import turn
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DAY_MS, OF_ENVELOPE, Batch, Refusal, Row
from aicostguard.receipt import FIELDS, SCHEMA, Problem, check, clean_label

if TYPE_CHECKING:
    from aicostguard.ledger.store import Store

MAX_RECEIPTS = 5_000
#: a receipt may be this old when it arrives: a spool that waited out a long holiday
MAX_AGE_MS = 400 * DAY_MS
#: clocks step back a little all the time; beyond this a receipt is said to have been moved
CLOCK_SLACK_MS = 5_000
#: one receipt above this is a mistake somewhere, and would eat the room of 64-bit sums
MAX_COST_NANOUSD = 10**14
_MAX_INTEGER = 2**53

#: the keys of an envelope: type, and whether it must be there
_KEYS: Mapping[str, tuple[type, bool]] = {
    "schema": (int, True),
    "agent": (str, False),
    "epoch": (str, True),
    "sent_at": (int, True),
    "service": (str, False),
    "environment": (str, False),
    "release": (str, False),
    "host": (str, False),
    "counters": (dict, False),
    "ended": (bool, False),
    "seq": (list, True),
    "at": (list, True),
    "receipts": (list, True),
}
_TYPES = {int: "an integer", str: "text", dict: "an object", list: "a list", bool: "true"}
_EPOCH = re.compile(r"[0-9A-Za-z_-]{8,64}\Z")
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,32}\Z")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


class Priced(Protocol):
    """What a price function returns; `aicostguard.pricing.Price` is one."""

    @property
    def cost_nanousd(self) -> int | None: ...
    @property
    def row(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...


Pricer = Callable[[Mapping[str, Any], int], Priced]


def accept(
    store: Store,
    project_id: int,
    body: object,
    received_ms: int,
    *,
    idempotency_key: str | None = None,
    price: Pricer | None = None,
) -> dict[str, Any]:
    """Store what `body` (parsed JSON) brings, and give the answer.

    The answer is `{"accepted": n, "duplicate": n, "refused": [{"index", "field", "error"}]}`, after the commit.
    Raises `Refused` when nothing of it can be taken, and the store's `Full`, `Busy` or `Corrupt` when the
    sender should try again.
    """
    with turn.working:
        batch = prepare(project_id, body, received_ms, idempotency_key=idempotency_key, price=price)
    added = store.add(batch)
    refused = [{"index": item.place, "field": item.field, "error": item.error} for item in batch.refusals]
    return {"accepted": added.accepted, "duplicate": added.duplicate, "refused": refused}


def prepare(
    project_id: int,
    body: object,
    received_ms: int,
    *,
    idempotency_key: str | None = None,
    price: Pricer | None = None,
) -> Batch:
    """Check, time and price what `body` brings, without storing it. Raises `Refused`."""
    price = price or pricing.default_book().cost
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object: an envelope or one receipt")
    if "receipts" in body or "schema" in body:
        if idempotency_key is not None:
            raise Refused(400, "Idempotency-Key belongs to a bare receipt; an envelope has epoch and seq")
        return _envelope(project_id, body, received_ms, price)
    return _bare(project_id, body, received_ms, idempotency_key, price)


def _envelope(project_id: int, body: dict[str, Any], received_ms: int, price: Pricer) -> Batch:
    newer = _check_keys(body)
    receipts, seqs, ats = body["receipts"], body["seq"], body["at"]
    if len(receipts) > MAX_RECEIPTS:
        raise Refused(413, f"{len(receipts)} receipts in one envelope; at most {MAX_RECEIPTS}: split it", "receipts")
    for name, values in (("seq", seqs), ("at", ats)):
        if len(values) != len(receipts):
            raise Refused(422, f"has {len(values)} entries for {len(receipts)} receipts", name)
        if values and not (set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= _MAX_INTEGER):
            raise Refused(422, "must hold integers from 0 to 2^53", name)
    if newer:
        receipts = [_known_keys(receipt) for receipt in receipts]
    rows, refusals = _rows(receipts, seqs, _times(received_ms, body["sent_at"], ats), price)
    agent = body.get("agent", "")
    return Batch(
        project_id=project_id,
        epoch=body["epoch"],
        received_ms=received_ms,
        sent_ms=body["sent_at"],
        origin={name: clean_label(body.get(name))[0] or "" for name in OF_ENVELOPE},
        agent_version=agent if _VERSION.match(agent) else "",
        counters={name: value for name, value in body.get("counters", {}).items() if name in COUNTERS},
        rows=tuple(rows),
        refusals=tuple(refusals),
        ended="ended" in body,
    )


def _bare(project_id: int, body: dict[str, Any], received_ms: int, key: str | None, price: Pricer) -> Batch:
    if key is not None and not _IDEMPOTENCY_KEY.match(key):
        raise Refused(422, "must be 1 to 255 visible ASCII characters", "Idempotency-Key")
    rows, refusals = _rows([body], [0], [(received_ms, False)], price)
    for refusal in refusals:
        raise Refused(422, refusal.error, refusal.field)
    key_hash = body_hash = None
    identity = secrets.token_hex(16)
    if key is not None:
        key_hash = _hash(key)
        body_hash = _hash(json.dumps(body, sort_keys=True, separators=(",", ":")))
        identity = key_hash[:32]
    return Batch(
        project_id=project_id,
        # A colon cannot stand in an agent's epoch, so the two never meet.
        epoch="bare:" + identity,
        received_ms=received_ms,
        sent_ms=received_ms,
        origin=dict.fromkeys(OF_ENVELOPE, ""),
        agent_version="",
        counters={},
        rows=tuple(rows),
        bare_key=key_hash,
        bare_body=body_hash,
    )


def happened(received_ms: int, sent_ms: int, at_ms: int) -> tuple[int, bool]:
    """`(when the call happened by the ledger's clock, was the sender's clock beyond belief?)`, in ms.

    Only the difference of two readings of the sender's clock counts, so a wrong clock does no harm. What
    would lie in the future, or further back than `MAX_AGE_MS`, is put at the time it was received.
    """
    waited = sent_ms - at_ms
    if waited > min(MAX_AGE_MS, received_ms) or waited < -CLOCK_SLACK_MS:
        return received_ms, True
    return received_ms - max(0, waited), False


def _times(received_ms: int, sent_ms: int, ats: Sequence[int]) -> Sequence[tuple[int, bool]]:
    """`happened` for each of these readings of the sender's clock."""
    if ats and sent_ms >= max(ats) and not happened(received_ms, sent_ms, min(ats))[1]:
        # The usual batch: all of it is in the past, and not too far, so that one difference is everybody's.
        ahead = sent_ms - received_ms
        return [(at - ahead, False) for at in ats]
    return [happened(received_ms, sent_ms, at) for at in ats]


#: key → texts that were found to fit it: a few names come again and again, and a look-up is cheaper than a pattern
_fitting: dict[str, set[str]] = {
    key: set() for key, field in FIELDS.items() if field.kind not in ("int", "flag", "tags")
}
#: texts remembered for a key: what comes from outside has no end
_MOST_FITTING = 20_000
_MOST = {key: field.most for key, field in FIELDS.items() if field.kind == "int"}
_FLAGS = {key for key, field in FIELDS.items() if field.kind == "flag"}


def _problems(receipt: Any) -> list[Problem]:
    """As `check`, which is asked only where something does not fit at first sight, and for tags."""
    if type(receipt) is dict and "provider" in receipt and "model" in receipt:
        for key, value in receipt.items():
            if type(value) is int:
                if not 0 <= value <= _MOST.get(key, -1):
                    break
            elif type(value) is str:
                fitting = _fitting.get(key)
                if fitting is None or (value not in fitting and not _fits(key, value, fitting)):
                    break
            elif value is not True or key not in _FLAGS:
                break
        else:
            return []
    return check(receipt)


def _fits(key: str, value: str, fitting: set[str]) -> bool:
    if not FIELDS[key].fits(value):
        return False
    if len(fitting) >= _MOST_FITTING:
        fitting.clear()
    fitting.add(value)
    return True


def _rows(
    receipts: Sequence[Any], seqs: Sequence[int], times: Sequence[tuple[int, bool]], price: Pricer
) -> tuple[list[Row], list[Refusal]]:
    """Receipts as they are stored, and those that are not taken."""
    rows: list[Row] = []
    refusals: list[Refusal] = []
    made = Row._make  # half the cost of `Row(…)`, which is much for something that every receipt goes through
    for place, (receipt, seq, (at_ms, adjusted)) in enumerate(zip(receipts, seqs, times)):
        problems = _problems(receipt)
        if not problems:
            priced = price(receipt, at_ms)
            cost = priced.cost_nanousd
            if cost is None or 0 <= cost <= MAX_COST_NANOUSD:
                saved = None if cost is None or CACHED.isdisjoint(receipt) else savings(receipt, cost, at_ms, price)
                rows.append(made((seq, at_ms, adjusted, receipt, cost, priced.row, priced.reason, saved)))
                continue
            most = MAX_COST_NANOUSD // 10**9
            problems = [Problem("input_tokens", f"gives a cost outside 0 to {most} dollars for one call")]
        refusals.append(_refusal(place, seq, problems))
    return rows, refusals


def _refusal(place: int, seq: int, problems: Sequence[Problem]) -> Refusal:
    # A key of the sender's own making may hold anything, halves of surrogate pairs included.
    first, *rest = [Problem(ascii(problem.field)[1:-1], problem.error) for problem in problems]
    more = "".join(f"; {problem.field} {problem.error}" for problem in rest[:5])
    return Refusal(place, seq, first.field, first.error + more)


def _known_keys(receipt: Any) -> Any:
    return {key: value for key, value in receipt.items() if key in FIELDS} if isinstance(receipt, dict) else receipt


#: what says that input was cached or written to a cache
CACHED = frozenset(name for name in FIELDS if name.startswith("cache_"))


def savings(receipt: Mapping[str, Any], cost: int, at_ms: int, price: Pricer) -> int | None:
    """What a receipt would cost at the same prices had nothing been cached, less its cost.

    Below 0 where writing to a cache cost more than reading from it saved; None where nothing was cached.
    """
    if CACHED.isdisjoint(receipt):
        return None
    plain = price({key: value for key, value in receipt.items() if key not in CACHED}, at_ms).cost_nanousd
    return None if plain is None else plain - cost


def _check_keys(body: dict[str, Any]) -> bool:
    """Check the envelope's own keys; True when it was written by the next release, whose new keys are skipped."""
    schema = body.get("schema")
    if type(schema) is not int:
        raise Refused(422, "is required and must be an integer", "schema")
    if not SCHEMA - 1 <= schema <= SCHEMA + 1:
        older = schema < SCHEMA
        way_out = "upgrade the agent" if older else "upgrade the ledger"
        raise Refused(400, f"is {schema}; this ledger reads {SCHEMA - 1} to {SCHEMA + 1}: {way_out}", "schema")
    newer = schema > SCHEMA
    for key in body:
        if key not in _KEYS and not newer:
            raise Refused(422, "is not a key of an envelope", key[:64])
    for key, (kind, required) in _KEYS.items():
        if key not in body:
            if required:
                raise Refused(422, "is required", key)
        elif type(body[key]) is not kind or body[key] is False:
            raise Refused(422, f"must be {_TYPES[kind]}", key)
    if not _EPOCH.match(body["epoch"]):
        raise Refused(422, "must be 8 to 64 letters, digits, _ or -", "epoch")
    if not _is_count(body["sent_at"]):
        raise Refused(422, "must be milliseconds since 1970", "sent_at")
    for name, value in body.get("counters", {}).items():
        if name not in COUNTERS and not newer:
            raise Refused(422, "is not one of " + ", ".join(COUNTERS), f"counters.{name[:64]}")
        if not _is_count(value):
            raise Refused(422, "must be an integer from 0 to 2^53", f"counters.{name[:64]}")
    return newer


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_INTEGER


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parse(data: bytes) -> object:
    """JSON as RFC 8259 has it. Raises `Refused` for anything else, NaN and endless nesting included."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        kind = "nested too deeply" if isinstance(error, RecursionError) else "not valid"
        raise Refused(400, f"the body is not JSON: {kind}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)
