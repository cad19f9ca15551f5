"""What a run does and when: everything that is drawn from the seed, drawn before the first process starts.

Owns slots (which clients run, how they are set up), faults (what is done to whom, at which second) and windows (what
the network does meanwhile). A longer run of a seed begins like a shorter one. What cannot be done on a machine (mounts
without root) is left out when its time comes, so that plans are the same everywhere.
"""

from __future__ import annotations

import random
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from chaos_plan.proxy import Window

#: kind of client → slots of it at scale 1
KINDS: Dict[str, int] = {"threads": 2, "asyncio": 2, "gunicorn": 1, "celery": 1, "forks": 1, "scripts": 2}
#: what the state of a slot may be kept by; durable is what most programs run with
MODES = ("durable", "on-failure", "off")
#: seconds before the first fault, and without faults at the end
CALM = 4.0

#: fault → its share in the deck that faults are dealt from
FAULTS: Dict[str, int] = {
    "kill": 6,
    "kill-all": 2,
    "stop": 2,
    "term": 2,
    "ledger-kill": 3,
    "ledger-stop": 1,
    "ledger-term": 1,
    "ledger-full": 1,
    "spool-full": 1,
    "damage": 2,
}
WINDOWS: Dict[str, int] = {
    "drop-reply": 2,
    "drop-reply-late": 1,
    "half-reply": 1,
    "delay": 1,
    "twice": 1,
    "at-once": 1,
    "late-copy": 2,
    "reorder": 1,
    "503": 1,
    "429": 1,
    "gateway": 1,
    "taken-but-502": 1,
    "413": 1,
    "reset": 1,
    "stall": 1,
    "half-request": 1,
    "damage": 2,
}


class Slot(NamedTuple):
    """A place in which a client runs, again and again. `state` names its state directory, shared or not."""

    name: str
    kind: str
    mode: str
    state: str
    sdks: str
    #: its state directory lies on a small device that is filled now and then
    small: bool = False
    #: it writes to the ledger's file instead of its port
    sink: bool = False
    inline: bool = False
    preload: bool = False


class Fault(NamedTuple):
    """`kind` at second `at`. `pick` (0 to 1) chooses among what is there then; `seconds` is how long it lasts."""

    at: float
    kind: str
    slot: Optional[str]
    pick: float
    seconds: float


class Plan(NamedTuple):
    """A whole run."""

    seed: int
    seconds: float
    slots: Tuple[Slot, ...]
    faults: Tuple[Fault, ...]
    windows: Tuple[Window, ...]

    def as_dict(self) -> Dict[str, Any]:
        """JSON-safe."""
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "slots": [slot._asdict() for slot in self.slots],
            "faults": [fault._asdict() for fault in self.faults],
            "windows": [list(window) for window in self.windows],
        }

    def show(self) -> str:
        """For people."""
        lines = ["seed %d, %.0f s" % (self.seed, self.seconds), "", "clients"]
        for slot in self.slots:
            more = [name for name in ("small", "sink", "inline", "preload") if getattr(slot, name)]
            row = (slot.name, slot.mode, slot.state, slot.sdks, " ".join(more))
            lines.append(("  %-12s %-10s state %-12s %-18s %s" % row).rstrip())
        lines += ["", "faults"]
        for fault in self.faults:
            lasting = "%.1f s" % fault.seconds if fault.kind in LASTING else ""
            row = (fault.at, fault.kind, fault.slot or "", fault.pick, lasting)
            lines.append(("  %7.2f  %-12s %-12s %.3f  %s" % row).rstrip())
        lines += ["", "between agents and ledger"]
        for window in self.windows:
            lines.append("  %7.2f to %7.2f  %-16s %3.0f %%" % (*window[:3], 100 * window.share))
        return "\n".join(lines)


#: faults that take time
LASTING = ("stop", "ledger-kill", "ledger-stop", "ledger-term", "ledger-full", "spool-full")
#: faults that happen to a slot
_OF_SLOT = ("kill", "kill-all", "stop", "term", "damage")


def make(seed: int, seconds: float, scale: int = 1, modes: Sequence[str] = MODES) -> Plan:
    """The plan of a seed."""
    slots = _slots(random.Random("%d/slots" % seed), scale, modes)
    faults = tuple(_faults(random.Random("%d/faults" % seed), seconds, slots))
    windows = tuple(_windows(random.Random("%d/windows" % seed), seconds))
    return Plan(seed, seconds, slots, faults, windows)


def _slots(rng: random.Random, scale: int, modes: Sequence[str]) -> Tuple[Slot, ...]:
    names = [(kind, number) for kind, count in KINDS.items() for number in range(count * scale)]
    # Each mode is there, the first two twice; the rest has the first one.
    given = [*modes, *modes[:2], *modes[:1] * len(names)][: len(names)]
    rng.shuffle(given)
    slots: List[Slot] = []
    for (kind, number), mode in zip(names, given):
        # Half of the slots share a directory with those of their mode.
        state = mode if rng.random() < 0.5 else "%s-%s%d" % (mode, kind, number)
        sdks = rng.choice(("openai", "anthropic", "httpx", "httpx", "openai,httpx"))
        if kind == "scripts":
            sdks = rng.choice(("httpx", "httpx", "httpx", "openai"))
        preload = kind == "gunicorn" and rng.random() < 0.5
        slots.append(Slot("%s-%d" % (kind, number), kind, mode, state, sdks, preload=preload))
    plain = [place for place, slot in enumerate(slots) if slot.kind in ("threads", "asyncio", "scripts")]
    small, sink, inline = rng.sample(plain, 3)
    slots[small] = slots[small]._replace(small=True, state="small")
    slots[sink] = slots[sink]._replace(sink=True)
    slots[inline] = slots[inline]._replace(inline=True)
    return tuple(slots)


def _deck(rng: random.Random, shares: Dict[str, int]) -> Iterator[str]:
    """Every kind comes round: chance decides the order, not what is left out."""
    while True:
        cards = [kind for kind, share in shares.items() for _ in range(share)]
        rng.shuffle(cards)
        yield from cards


def _faults(rng: random.Random, seconds: float, slots: Sequence[Slot]) -> Iterator[Fault]:
    at = CALM
    for kind in _deck(rng, FAULTS):
        pick, lasting, gap = rng.random(), round(rng.uniform(1.0, 7.0), 2), rng.expovariate(1 / 3.0)
        spooled = [slot.name for slot in slots if slot.mode != "off"]
        slot = rng.choice(spooled if kind == "damage" else [slot.name for slot in slots])
        if at > seconds - CALM:
            return
        yield Fault(round(at, 2), kind, slot if kind in _OF_SLOT else None, round(pick, 4), lasting)
        at += 0.2 + gap


def _windows(rng: random.Random, seconds: float) -> Iterator[Window]:
    at = CALM
    for kind in _deck(rng, WINDOWS):
        length, share, gap = rng.uniform(2.0, 6.0), rng.uniform(0.3, 1.0), rng.uniform(0.0, 2.0)
        if at > seconds - CALM:
            return
        yield Window(round(at, 2), round(min(at + length, seconds), 2), kind, round(share, 2))
        at += length + gap
