"""The audit trail: every decision about a call, in a file that shows when it was changed.

Owns the closed list of what an entry holds (labels, figures, the sentence of a refusal; never text of a request), the
chain and the file. Entries are lines of JSON; each carries the hash of the one before and its own, so that none can be
changed, taken out, put in or moved without breaking the chain from there on. Who can write the file can write a whole
new chain, unless it is keyed (`AICG_AUDIT_KEY`) with a key that he does not have; and nobody sees from the file alone
that its last entries are missing. Only its owner can read the file. It grows to `MOST` bytes and is then put aside as
FILE.1, FILE.2, …, of which `KEPT` stay; the chain goes on from file to file.

If writing fails, that is counted and said, and the call goes on: an audit trail does not stop a program.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import threading
import time
from os import getpid
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional

from aicostguard import health
from aicostguard.delivery import seats
from aicostguard.delivery.files import create_to_append, open_to_append
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExhausted, LoopDetected
from aicostguard.guard.policy import Policy
from aicostguard.guard.rules import MOST as MOST_LIMIT
from aicostguard.guard.store import Store
from aicostguard.guard.values import LABELS, Alert, Facts, Spent, Ticket

MOST = 16_000_000
KEPT = 20
#: what the first entry of a trail follows
START = "0" * 64
#: the variable with the key, at least 16 characters
KEY = "AICG_AUDIT_KEY"
#: everything that an entry may hold, in order
KEYS = (
    "seq", "at_ms", "event", "id", *LABELS, "action", "dimension", "budget", "unit", "limit", "spent", "reserved",
    "estimate", "nanousd", "tokens", "requests", "estimated", "priced", "unheld", "rules", "reasons", "prev", "hash",
)  # fmt: skip


def digest(entry: Mapping[str, Any], key: Optional[bytes]) -> str:
    """The hash of an entry without its own, over the one before: SHA-256, as HMAC where there is a key."""
    text = json.dumps({name: value for name, value in entry.items() if name != "hash"}, separators=(",", ":"))
    return hmac.new(key, text.encode(), "sha256").hexdigest() if key else hashlib.sha256(text.encode()).hexdigest()


class Trail:
    """An audit trail that is written to, by threads and processes at once."""

    def __init__(self, path: str, key: Optional[bytes] = None, most: int = MOST, kept: int = KEPT) -> None:
        self.path = os.path.abspath(path)
        self._key = key
        self._most = most
        self._kept = kept
        self._lock = threading.Lock()
        self._file: Optional[int] = None
        self._known: Optional[seats.Identity] = None
        self._pid = 0
        #: where our last entry ends, its number and its hash
        self._end = -1
        self._seq = 0
        self._prev = START

    def add(self, event: str, **values: Any) -> None:
        """Write an entry. Values of None are left out; a name that is not in `KEYS` is a mistake."""
        strange = [name for name in values if name not in KEYS]
        if strange:
            raise ValueError("an audit entry has no %s" % strange[0])
        if self._pid not in (0, getpid()):
            self._lock = threading.Lock()  # a thread of the parent's may have held it when this process was forked
        try:
            with self._lock:
                self._add(event, values)
        except OSError as error:
            health.note("audit_failures")
            health.warn("audit", "The audit trail cannot be written (%s): decisions are not logged" % error.strerror)

    def _add(self, event: str, values: Mapping[str, Any]) -> None:
        import fcntl

        file = self._open()
        fcntl.flock(file, fcntl.LOCK_EX)
        while not self._current(file):  # another process has put it aside, or removed it, while we waited
            file = self._again()
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            size = os.fstat(file).st_size
            if size != self._end:
                self._catch_up(size)
            entry: Dict[str, Any] = {"seq": self._seq + 1, "at_ms": time.time_ns() // 1_000_000, "event": event}
            entry.update((name, values[name]) for name in KEYS if values.get(name) not in (None, "", ()))
            entry["prev"] = self._prev
            entry["hash"] = digest(entry, self._key)
            line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
            if os.write(file, line) != len(line):
                raise OSError(28, "the disk is full")
            self._seq, self._prev, self._end = entry["seq"], entry["hash"], size + len(line)
            if self._end >= self._most:
                self._aside()
        finally:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _current(self, file: int) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(file).st_ino
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        if self._file is None or self._pid != getpid():  # a lock taken through the parent's descriptor is shared
            return self._again()
        if seats.identity(self._file) != self._known:  # the host program has closed it
            health.note("descriptor_closed")
            return self._again()
        return self._file

    def _again(self) -> int:
        self._let_go()
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        self._file = _opened(self.path)
        self._known = seats.identity(self._file)
        self._pid, self._end = getpid(), -1
        return self._file

    def _catch_up(self, size: int) -> None:
        """Somebody else has written: go on from the last entry that is whole."""
        last = _last(self.path) or (_last(self.path + ".1") if size == 0 else None)
        if last is None:
            self._seq, self._prev = 0, START
        else:
            self._seq, self._prev = last["seq"], last["hash"]
        if size and self._file is not None and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # what a crash cut off stays, as a line that verification shows

    def _aside(self) -> None:
        for number in range(self._kept, 0, -1):
            older = "%s.%d" % (self.path, number)
            newer = "%s.%d" % (self.path, number - 1) if number > 1 else self.path
            if os.path.exists(newer):
                os.replace(newer, older)
        self._again()

    def close(self) -> None:
        """Let go of the file, when no entry is being written; a later one opens it again."""
        if self._pid != os.getpid():  # nobody here writes to it, and the lock may be held by a thread of the parent's
            self._let_go()
            return
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            seats.close(file, self._known)


def _opened(path: str) -> int:
    """Its descriptor. Other processes may make it, or put it aside, at the same time: then what is opened is not it."""
    for _ in range(100):
        for way in (open_to_append, create_to_append):
            try:
                return way(path)
            except (FileNotFoundError, FileExistsError, seats.Taken):
                continue
    raise seats.Taken()


def _last(path: str) -> Optional[Dict[str, Any]]:
    """The last whole entry of a file."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65_536))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        entry = _entry(line)
        if entry is not None:
            return entry
    return None


def _entry(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("seq"), int) and isinstance(entry.get("hash"), str)
    return entry if whole else None


class Verdict(NamedTuple):
    """What verification found. `problems` are sentences with file and line; empty when the chain is whole.

    `first` and `last` are the numbers of the first and last entry (0 without any): a trail that begins above 1 has had
    its oldest files removed. `head` is the last hash: who keeps it elsewhere sees when later entries go missing.
    """

    entries: int
    first: int
    last: int
    head: str
    problems: List[str]


def files(path: str) -> List[str]:
    """The files of a trail, oldest first."""
    numbers = []
    folder, name = os.path.split(os.path.abspath(path))
    for other in os.listdir(folder):
        number = other[len(name) + 1 :] if other.startswith(name + ".") else ""
        if number.isdigit():
            numbers.append(int(number))
    return ["%s.%d" % (path, number) for number in sorted(numbers, reverse=True)] + [path]


def entries(path: str) -> Iterator[Dict[str, Any]]:
    """The entries of a trail, oldest first, those that are whole."""
    for name in files(path):
        with open(name, "rb") as file:
            for line in file:
                entry = _entry(line)
                if entry is not None:
                    yield entry


def verify(path: str, key: Optional[bytes] = None) -> Verdict:
    """Follow the chain through all files of a trail. Raises OSError for a file that cannot be read."""
    problems: List[str] = []
    count = first = last = 0
    prev: Optional[str] = None
    for name in files(path):
        with open(name, "rb") as file:
            for number, line in enumerate(file, 1):
                where = "%s:%d" % (name, number)
                entry = _entry(line)
                if entry is None:
                    problems.append("%s: is no entry" % where)
                    continue
                count += 1
                if prev is None:
                    first = entry["seq"]
                    prev = entry.get("prev") if first != 1 else START
                elif entry["seq"] != last + 1:
                    problems.append("%s: number %d follows number %d" % (where, entry["seq"], last))
                if entry.get("prev") != prev:
                    problems.append("%s: does not follow the entry before it" % where)
                if not hmac.compare_digest(digest(entry, key), entry["hash"]):
                    problems.append("%s: was changed, or written with another key" % where)
                last, prev = entry["seq"], entry["hash"]
    return Verdict(count, first, last, prev or START, problems)


def key_of(environ: Mapping[str, str]) -> Optional[bytes]:
    """The key of the trail from the environment. Raises ValueError for one that is too short to be one."""
    key = environ.get(KEY)
    if key and len(key) < 16:
        raise ValueError("%s must have at least 16 characters" % KEY)
    return key.encode() if key else None


class AuditedGuard(Guard):
    """A guard whose every answer is written into a trail."""

    def __init__(self, policy: Policy, store: Store, trail: Trail, tell: Optional[Callable[[Alert], None]]) -> None:
        super().__init__(policy, store, tell=tell)
        self._trail = trail
        self._named = 0

    def ask(self, facts: Facts) -> Ticket:
        """As `Guard.ask`."""
        try:
            ticket = super().ask(facts)
        except BudgetExhausted as error:
            self._blocked(facts, error)
            raise
        self._allowed(facts, ticket)
        return ticket

    async def aask(self, facts: Facts) -> Ticket:
        """As `Guard.aask`."""
        if not self._store.waits:
            return self.ask(facts)
        try:
            ticket = await super().aask(facts)
        except BudgetExhausted as error:
            self._blocked(facts, error)
            raise
        self._allowed(facts, ticket)
        return ticket

    def settle(self, ticket: Ticket, spent: Spent) -> None:
        """As `Guard.settle`."""
        super().settle(ticket, spent)
        self._settled(ticket, spent)

    async def asettle(self, ticket: Ticket, spent: Spent) -> None:
        """As `Guard.asettle`."""
        if not self._store.waits or not ticket.held:
            self.settle(ticket, spent)
            return
        await super().asettle(ticket, spent)
        self._settled(ticket, spent)

    def release(self, ticket: Ticket) -> None:
        """As `Guard.release`."""
        super().release(ticket)
        self._add("released", id=ticket.id)

    async def arelease(self, ticket: Ticket) -> None:
        """As `Guard.arelease`."""
        if not self._store.waits or not ticket.held:
            self.release(ticket)
            return
        await super().arelease(ticket)
        self._add("released", id=ticket.id)

    def close(self) -> None:
        """As `Guard.close`."""
        super().close()
        self._trail.close()

    def decided(self, facts: Facts, error: BudgetExhausted, blocked: bool) -> None:
        """As `Guard.decided`."""
        self._said("blocked" if blocked else "warned", facts, error)

    def cut(self, ticket: Ticket, error: BudgetExhausted) -> None:
        """As `Guard.cut`."""
        self._add("cut", id=ticket.id, reasons=[str(error)], **_figures(error))

    def _add(self, event: str, **values: Any) -> None:
        """An entry; the first one of a process comes after one that names the rules in force."""
        if self._named != getpid():
            self._named = getpid()
            self._trail.add("rules", rules=rules_of(self.policy))
        self._trail.add(event, **values)

    def _allowed(self, facts: Facts, ticket: Ticket) -> None:
        event = "warned" if ticket.reasons else "allowed"
        unheld = bool(ticket.keys and not ticket.held) or None
        self._add(event, id=ticket.id, reasons=list(ticket.reasons), unheld=unheld, **_facts(facts))

    def _blocked(self, facts: Facts, error: BudgetExhausted) -> None:
        self._said("blocked", facts, error)

    def _said(self, event: str, facts: Facts, error: BudgetExhausted) -> None:
        self._add(event, reasons=[str(error)], **{**_facts(facts), **_figures(error)})

    def _settled(self, ticket: Ticket, spent: Spent) -> None:
        self._add(
            "settled",
            id=ticket.id,
            nanousd=spent.nanousd,
            tokens=spent.tokens,
            requests=spent.requests,
            estimated=spent.estimated or None,
        )


def _facts(facts: Facts) -> Dict[str, Any]:
    known = {name: facts.labels.get(name) for name in LABELS}
    return {
        **known,
        "action": facts.action,
        "estimate": facts.bound.nanousd,
        "tokens": facts.bound.tokens,
        "priced": None if facts.priced else False,
    }


def _figures(error: BudgetExhausted) -> Dict[str, Any]:
    if isinstance(error, LoopDetected):
        return {"dimension": "loop", "limit": error.count, "unit": "requests"}
    names = ("budget", "dimension", "unit", "limit", "spent", "reserved", "estimate")
    return {name: getattr(error, name, None) for name in names}


def rules_of(policy: Policy) -> str:
    """A name for the rules of a policy, whatever its file is called: SHA-256 over all that decides about calls."""
    kept = {name: value for name, value in policy._asdict().items() if name not in ("name", "store", "prices", "audit")}
    # What an enforcer counts for its report limits nothing: it is no rule.
    kept["budgets"] = [budget._asdict() for budget in policy.budgets if budget.limit < MOST_LIMIT]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def guard(policy: Policy, store: Store, tell: Optional[Callable[[Alert], None]] = None) -> Guard:
    """The guard of a policy: one that keeps an audit trail where the policy names its file."""
    if policy.audit is None:
        return Guard(policy, store, tell=tell)
    return AuditedGuard(policy, store, Trail(policy.audit, key_of(os.environ)), tell)
