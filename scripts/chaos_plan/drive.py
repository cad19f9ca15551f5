"""One run: start, faults by the clock, the end, the drain, the books.

Owns the order of things and the result. Whatever happens in it, what it started is ended.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from chaos_plan import books, diary, guardian
from chaos_plan.faults import Faults
from chaos_plan.plan import Plan
from chaos_plan.spools import waiting
from chaos_plan.supervise import Place, Visitors, commands, send, states
from chaos_plan.world import World

#: seconds that clients may take to end in good order, and one recovery. A program that has only just been started ends
#: when it has loaded its libraries: on a machine with much else to do that alone took more than a minute.
GOODBYE, RECOVERY = 150.0, 120.0
TURN, SAY_EVERY = 0.05, 10.0
_TRACEBACK = re.compile(r"^Traceback .*\n(?:[ \t].*\n)*  File .*\n(?:[ \t].*\n)*", re.MULTILINE)
_FRAME = re.compile(r"^  File .*", re.MULTILINE)
#: exit codes that the run itself causes
EXPECTED = (0, -signal.SIGKILL, -signal.SIGTERM)


def run(plan: Plan, parent: Optional[Path], pace: float, keep: bool, quiet: bool) -> Dict[str, Any]:
    """Run the plan; gives the result, JSON-safe. Its `folder` is gone when nothing was found and nothing is kept."""
    say = Progress(quiet)
    world = World(plan, parent)
    result: Dict[str, Any] = {"seed": plan.seed, "seconds": plan.seconds, "faults": ["the run did not finish"]}
    try:
        with world:
            places = [Place(world, slot, pace) for slot in plan.slots]
            hands = Faults(world, places)
            _live(world, places, hands, say)
            unfinished = _end(world, places, hands, say)
            unfinished += _recover(world, places, say)
            result.update(_judge(world, places, hands, say))
            result["faults"] += unfinished
            good = not result["faults"] and not keep
            left = world.close(keep=not good)
            result["faults"] += ["left behind: " + what for what in left]
    except KeyboardInterrupt:
        result["faults"] = []  # nobody wants to look at half a run
        raise
    finally:
        world.close(keep=bool(result["faults"]) or keep)
        if result["faults"] or keep:
            result["folder"] = str(world.folder)
        else:
            shutil.rmtree(world.folder, ignore_errors=True)
    return result


class Progress:
    """One line that is written over on a terminal, and a line now and then elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._next, self._tty = quiet, 0.0, sys.stderr.isatty()

    def __call__(self, text: str, force: bool = False) -> None:
        now = time.monotonic()
        if self._quiet or (now < self._next and not force):
            return
        self._next = now + (0.5 if self._tty else SAY_EVERY)
        sys.stderr.write("\r\x1b[K" + text if self._tty else text + "\n")
        sys.stderr.flush()


def _live(world: World, places: List[Place], hands: Faults, say: Progress) -> None:
    visitors = Visitors(places)
    to_do = list(world.plan.faults)
    try:
        while True:
            now = time.monotonic() - world.start
            while to_do and to_do[0].at <= now:
                hands.do(to_do.pop(0))
            hands.tend()
            world.ledger.tend()
            for place in places:
                place.tend()
            if now >= world.plan.seconds:
                return
            done = sum(hands.did.values())
            row = (now, world.plan.seconds, done, len(world.plan.faults), _calls(world), sum(p.life for p in places))
            say("%5.0f of %.0f s  faults %d of %d  calls returned about %d  lives %d" % row)
            time.sleep(TURN)
    finally:
        visitors.end()


def _calls(world: World) -> int:
    """About how many calls were made: two lines of 20 bytes for each."""
    with os.scandir(world.folder / "calls") as found:
        return sum(entry.stat().st_size for entry in found) // 40


def _end(world: World, places: List[Place], hands: Faults, say: Progress) -> List[str]:
    """Everything heals; clients end by themselves. What does not says where it is, and is killed. Gives faults."""
    faults = []
    say("the clients end", force=True)
    hands.heal()
    world.proxy.send_signal(signal.SIGUSR1)
    world.ledger.away_until = 0.0
    world.stop_file.touch()
    for place in places:
        place.resting = True
        if place.slot.kind in ("gunicorn", "celery"):
            place.term()
    limit = time.monotonic() + GOODBYE
    while time.monotonic() < limit and not all(place.empty() for place in places):
        world.ledger.tend()
        time.sleep(TURN)
    for place in places:
        left = place.members()
        if left:
            for pid in left:
                send(pid, diary.WHERE)
            time.sleep(0.5)
            place.kill(left)
            if place.slot.kind == "celery" and place.hurt:
                hands.did["celery waited for a lock of a child that was killed"] += 1  # as it does without us
                continue
            row = (place.slot.name, GOODBYE, place.slot.name)
            faults.append("%s did not end within %.0f s; where it was is in logs/%s.log" % row)
    while not all(place.empty() for place in places):
        time.sleep(TURN)
    world.ledger.begin_again(60)
    return faults


def _recover(world: World, places: List[Place], say: Progress) -> List[str]:
    """A last healthy process for each state directory, as the next start of a program would be. Gives faults."""
    faults = []
    for place in states(places).values():
        say("a last process empties the spool of %s" % place.slot.name, force=True)
        place.life += 1
        env = place.environment()
        env["CHAOS_SDKS"], env["AICG_MODE"] = "httpx", "background"
        command = commands(place.slot._replace(kind="recover"), 0)
        process = world.spawn(place.slot.name, command, env)
        try:
            code = process.wait(RECOVERY)
        except subprocess.TimeoutExpired:
            place.kill([process.pid])
            process.wait()
            code = None
        if code != 0:
            faults.append("the last process of %s ended with %s" % (place.slot.name, code))
    return faults


def _judge(world: World, places: List[Place], hands: Faults, say: Progress) -> Dict[str, Any]:
    say("the books", force=True)
    proxy = world.end_proxy()
    billed, not_counted = world.billed()
    time.sleep(1.5)  # a sink's last envelope is taken in within a second
    gaps, told, counted = _gaps(world)
    code = world.ledger.end()
    rows, sums, integrity = books.ledger_rows(world.ledger.file)
    evidence = books.Evidence(
        billed=billed,
        diaries=diary.read_all(str(world.folder / "calls")),
        rows=rows,
        slots={place.slot.name: place.slot for place in places},
        killed={pid for place in places for pid in place.killed},
        damaged=hands.damaged,
        gaps=gaps,
        sums=sums,
        full=hands.full,
    )
    verdict = books.compare(evidence)
    faults = verdict.faults + counted
    if not_counted:
        faults.append("the simulators counted %d calls that they could not keep: run for less long" % not_counted)
    if integrity != "ok":
        faults.append("the ledger's file is damaged: %s" % integrity.split("\n")[0])
    if code:
        faults.append("the ledger ended with %s when it was asked to stop" % code)
    faults += ["the ledger ended by itself with %d" % ended for ended in world.ledger.ended]
    faults += _left_in_spools(places) + _programs(world, places)
    (world.folder / "missing.txt").write_text("\n".join(verdict.lost))
    return {
        "faults": faults,
        "numbers": verdict.numbers,
        "did": dict(hands.did),
        "left_out": dict(hands.left_out),
        "proxy": proxy,
        "damaged": hands.damaged_files,
        "lives": sum(place.life for place in places),
        "no room to start": world.ledger.no_room,
        "ledger": told,
        "modes": _by_mode(evidence),
    }


def _gaps(world: World) -> Tuple[Dict[str, Tuple[int, bool]], Dict[str, int], List[str]]:
    """`(epoch → what the ledger misses, and whether it is sure; its totals; faults that agents have counted)`.

    A full device is a fault that an agent counts, rightly; elsewhere it has none to count.
    """
    told = world.ledger.ask("deliveries?group_by=process,service&limit=10000")
    gaps = {row["process"]: (row["missing"], row["state"] == "ended") for row in told["rows"]}
    names = ("received", "missing", "known_lost", "waiting", "lost", "duplicates", "late", "faults")
    troubled = {slot.name for slot in world.plan.slots if slot.small or slot.sink}
    faults = [
        "the agent counted %d faults of its own in %s (%s)" % (row["faults"], row["service"], row["process"])
        for row in told["rows"]
        if row["faults"] and row["service"] not in troubled
    ]
    return gaps, {name: told["totals"][name] for name in names}, faults


def _by_mode(found: books.Evidence) -> Dict[str, int]:
    """Calls that returned, by the spool mode of their program."""
    modes: Dict[str, int] = {}
    for one in found.diaries.values():
        slot = found.slots.get(one.slot)
        mode = slot.mode if slot is not None else "?"
        modes[mode] = modes.get(mode, 0) + len(one.returned)
    return modes


def _left_in_spools(places: List[Place]) -> List[str]:
    """Files that no recovery has emptied."""
    faults = []
    for place in states(places).values():
        left = {path: size for path, size in waiting(str(place.state() / "spool")).items() if size}
        if left and not place.slot.sink:
            name = os.path.relpath(next(iter(left)), place.world.folder)
            faults.append("%d file(s) are left in the spool of %s: %s" % (len(left), place.slot.name, name))
    return faults


def _programs(world: World, places: List[Place]) -> List[str]:
    """Programs that ended as no program of theirs ends, and words of ours in their output."""
    faults = []
    for place in places:
        for code, times in place.codes.items():
            if code not in EXPECTED:
                faults.append("%s ended with %d, %d time(s)" % (place.slot.name, code, times))
    for log in sorted((world.folder / "logs").glob("*.log")):
        text = log.read_text(errors="replace")
        if log.stem.split("-")[0] in ("ledger", "proxy", "simulator"):
            continue
        if any("/aicostguard/" in _FRAME.findall(traceback)[-1] for traceback in _TRACEBACK.findall(text)):
            faults.append("the agent raised what nobody caught: logs/%s" % log.name)
        if "Fatal Python error" in text or "Segmentation fault" in text:
            faults.append("the interpreter failed; see logs/%s" % log.name)
    return faults


def show(result: Mapping[str, Any]) -> str:
    """The result for people."""
    numbers = result.get("numbers", {})
    lines = []
    if numbers:
        row = (numbers["billed"], numbers["returned"], numbers["held"], numbers["processes"], numbers["epochs"])
        lines.append("billed %d, returned to programs %d, in the ledger %d; %d processes, %d known epochs" % row)
        for name in ("modes", "did", "left_out", "ledger"):
            lines.append("%-9s %s" % (name.replace("_", " "), _pairs(result[name])))
        lines.append("%-9s %s" % ("proxy", _pairs(result["proxy"]["did"])))
        plain = ("billed", "returned", "held", "processes", "epochs")
        for why, times in sorted(numbers.items()):
            if why not in plain:
                lines.append("  %5d  %s" % (times, why))
    for fault in result["faults"][:40]:
        lines.append("FAULT  " + fault)
    if len(result["faults"]) > 40:
        lines.append("… and %d more" % (len(result["faults"]) - 40))
    lines.append("The books do NOT balance." if result["faults"] else "The books balance.")
    return "\n".join(lines)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join("%s %s" % pair for pair in sorted(values.items())) or "-"


def clean(mark: str, folder: Path) -> List[str]:
    """What a run left behind, ended now: for tests."""
    return ["process %d" % pid for pid in guardian.kill_marked(mark)] + guardian.unmount_all(folder)
