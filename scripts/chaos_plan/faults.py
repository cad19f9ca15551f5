"""Does the plan's faults, and remembers what they may have cost.

Owns signals to clients and ledger, full devices, and damage to spools of the dead. Of damage it notes which receipts
lay under it, read from the bytes before: those may be missing, and no others.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, Optional, Set, Tuple

from chaos_plan.plan import Fault
from chaos_plan.spools import waiting
from chaos_plan.supervise import Place
from chaos_plan.world import World

Call = Tuple[int, int]
_NAMES = re.compile(rb'"input_tokens":(\d+),"output_tokens":(\d+)')
#: seconds that the dead may take to be dead
DYING = 2.0


class Faults:
    """The hands of the plan."""

    def __init__(self, world: World, places: List[Place]) -> None:
        self.world, self.places = world, {place.slot.name: place for place in places}
        self.did: Counter[str] = Counter()
        #: why a fault could not be done
        self.left_out: Counter[str] = Counter()
        #: `(who, number)` of receipts under damaged bytes
        self.damaged: Set[Call] = set()
        self.damaged_files: List[str] = []
        #: when the device of spools was full, monotonic seconds
        self.full: List[Tuple[float, float]] = []
        #: monotonic seconds → what is over then
        self._until: List[Tuple[float, Callable[[], None]]] = []

    def do(self, fault: Fault) -> None:
        """Do one; what cannot be done is counted with its reason."""
        place = self.places[fault.slot] if fault.slot else None
        reason = _DO[fault.kind](self, fault, place)
        if reason:
            self.left_out["%s: %s" % (fault.kind, reason)] += 1
        else:
            self.did[fault.kind] += 1

    def tend(self) -> None:
        """End what has lasted long enough."""
        now = time.monotonic()
        for row in [row for row in self._until if row[0] <= now]:
            self._until.remove(row)
            row[1]()

    def heal(self) -> None:
        """End everything that still lasts."""
        for _, over in self._until:
            over()
        self._until.clear()
        for place in self.places.values():
            place.wake()

    def _kill(self, fault: Fault, place: Optional[Place]) -> str:
        assert place is not None
        members = place.members()
        if not members:
            return "nobody was there"
        place.kill([members[int(fault.pick * len(members))]])
        return ""

    def _kill_all(self, fault: Fault, place: Optional[Place]) -> str:
        assert place is not None
        members = place.members()
        place.kill(members)
        return "" if members else "nobody was there"

    def _stop(self, fault: Fault, place: Optional[Place]) -> str:
        assert place is not None
        members = place.members()
        if not members:
            return "nobody was there"
        place.stop(members[int(fault.pick * len(members))], fault.seconds)
        return ""

    def _term(self, fault: Fault, place: Optional[Place]) -> str:
        assert place is not None
        place.term()
        return ""

    def _ledger_kill(self, fault: Fault, place: Optional[Place]) -> str:
        self.world.ledger.signal(signal.SIGKILL, fault.seconds)
        return ""

    def _ledger_term(self, fault: Fault, place: Optional[Place]) -> str:
        self.world.ledger.signal(signal.SIGTERM, fault.seconds)
        return ""

    def _ledger_stop(self, fault: Fault, place: Optional[Place]) -> str:
        ledger = self.world.ledger
        ledger.signal(signal.SIGSTOP)
        self._until.append((time.monotonic() + fault.seconds, lambda: ledger.signal(signal.SIGCONT)))
        return ""

    def _ledger_full(self, fault: Fault, place: Optional[Place]) -> str:
        return self._fill("ledger", fault.seconds)

    def _spool_full(self, fault: Fault, place: Optional[Place]) -> str:
        return self._fill("small", fault.seconds)

    def _fill(self, name: str, seconds: float) -> str:
        device = self.world.device(name)
        if device is None:
            return "no small device here (mount needs root)"
        filler = device / "filler"
        if filler.exists():
            return "full already"
        with filler.open("wb") as file:
            room = os.statvfs(device)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize))
            except OSError:
                while _write(file.fileno()):  # somebody took a part meanwhile
                    pass
        if name == "small":
            self.full.append((time.monotonic(), time.monotonic() + seconds + 1.0))
        self._until.append((time.monotonic() + seconds, lambda: filler.unlink(missing_ok=True)))
        return ""

    def _damage(self, fault: Fault, place: Optional[Place]) -> str:
        assert place is not None
        place.kill(place.members())
        limit = time.monotonic() + DYING
        while not place.empty() and time.monotonic() < limit:
            time.sleep(0.01)
        root = os.path.join(str(place.state()), "spool")
        for path in sorted(waiting(root)):
            if _of_the_dead(path, lambda path=path: self.spoil(Path(path), fault.pick)):  # type: ignore[misc]
                return ""
        return "no spool of a dead process lay there"

    def spoil(self, path: Path, pick: float) -> bool:
        """Damage a file in the way and at the place that `pick` says, and nowhere else; False when it is of no use."""
        data = path.read_bytes()
        if not _NAMES.search(data):
            return False
        place = int(pick * len(data))
        way = int(pick * 1000) % 4
        if way == 0:
            begin, end, after = place, place + 1, bytes((data[place] ^ 0x15,))
        elif way == 1:
            begin, end, after = place, min(len(data), place + 64), b""
            after = b"\0" * (end - begin)
        elif way == 2:
            begin, end, after = place, len(data), b""
        else:
            begin, end, after = len(data), len(data), b"neither a line nor a checksum"
        self.damaged |= under(data, begin, end)
        self.damaged_files.append("%s: bytes %d to %d of %d" % (path.name, begin, end, len(data)))
        with path.open("r+b") as file:
            if end == len(data):
                file.truncate(begin)
            file.seek(begin)
            file.write(after)
        return True


def _write(descriptor: int) -> bool:
    try:
        return os.write(descriptor, b"\0" * 4096) > 0
    except OSError:
        return False


def _of_the_dead(path: str, then: Callable[[], bool]) -> bool:
    """Do it while nobody owns the file, so that nobody reads it halfway; False when somebody does."""
    try:
        with open(path, "r+b") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file.fileno()), os.stat(path)) and then()
    except OSError:
        return False


def under(data: bytes, begin: int, end: int) -> Set[Call]:
    """The calls of the lines that bytes from `begin` to `end` belong to; a lost line end takes the next line along."""
    lost: Set[Call] = set()
    at, broken = 0, False
    for line in data.split(b"\n"):
        after = at + len(line) + 1
        if broken or (at < end and begin < after) or (begin == end == at and line):
            lost.update((int(who), int(number)) for who, number in _NAMES.findall(line))
            broken = begin < after <= end
        at = after
    return lost


_DO: Dict[str, Callable[[Faults, Fault, Optional[Place]], str]] = {
    "kill": Faults._kill,
    "kill-all": Faults._kill_all,
    "stop": Faults._stop,
    "term": Faults._term,
    "damage": Faults._damage,
    "ledger-kill": Faults._ledger_kill,
    "ledger-term": Faults._ledger_term,
    "ledger-stop": Faults._ledger_stop,
    "ledger-full": Faults._ledger_full,
    "spool-full": Faults._spool_full,
}
