"""Keeps clients running in their slots, as a supervisor in production would, and knows who killed whom.

Owns starting, restarting, signals and the record of deaths that the run itself caused. A program that ends with a code
that neither it nor the run has caused is a fault of the run.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from chaos_plan.plan import Slot
from chaos_plan.world import World, free_port

#: seconds between two lives of a slot; seconds that what a dead leader leaves behind may go on
PAUSE, ORPHANS = 0.5, 3.0
#: a request to the web application in so many seconds, from each of two threads
EVERY = 0.25


def commands(slot: Slot, port: int, workers: int = 2) -> List[str]:
    """What runs in a slot."""
    python = [sys.executable, "-m"]
    if slot.kind == "gunicorn":
        command = [*python, "gunicorn", "-w", str(workers), "-b", "127.0.0.1:%d" % port, "--graceful-timeout", "10"]
        return [*command, *(["--preload"] if slot.preload else []), "--no-control-socket", "chaos_plan.web:app"]
    if slot.kind == "celery":
        return [*python, "celery", "-A", "chaos_plan.jobs", "worker", "-c", str(workers), "-l", "WARNING",
                "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
    return [*python, "chaos_plan.client", slot.kind]


class Place:
    """One slot and who is in it now."""

    def __init__(self, world: World, slot: Slot, pace: float) -> None:
        self.world, self.slot, self.pace = world, slot, pace
        self.life = 0
        self.leader: Optional[subprocess.Popen[bytes]] = None
        self.port = free_port() if slot.kind == "gunicorn" else 0
        #: process ids that the run has killed, or told to end in a way that runs no hooks
        self.killed: Set[int] = set()
        #: monotonic seconds: no next life before; what is left of this one ends then
        self.not_before = self.ends = 0.0
        self.stopped: Dict[int, float] = {}
        #: exit codes of leaders, by how often
        self.codes: Dict[int, int] = {}
        #: some of this life's processes were killed, and others live on
        self.hurt = False
        #: no next life: the run ends
        self.resting = False

    def state(self) -> Path:
        """Its state directory."""
        small = self.world.device("small") if self.slot.small else None
        return small / "state" if small else self.world.folder / "state" / self.slot.state

    def environment(self) -> Dict[str, str]:
        """What an operator would set, and what the client needs to play its part."""
        world, slot = self.world, self.slot
        env = world.environment()
        url = "sqlite:///%s" % world.ledger.file if slot.sink else "http://127.0.0.1:%d" % world.proxy_port
        env.update(
            AICG_URL=url,
            AICG_KEY=world.ledger.key,
            AICG_HOSTS=world.hosts,
            AICG_SPOOL=slot.mode,
            AICG_STATE_DIR=str(self.state()),
            AICG_SERVICE=slot.name,
            CHAOS_URLS=json.dumps(world.urls),
            CHAOS_CALLS=str(world.folder / "calls"),
            CHAOS_STOP=str(world.stop_file),
            CHAOS_SEED=str(world.plan.seed),
            CHAOS_SLOT=slot.name,
            CHAOS_LIFE=str(self.life),
            CHAOS_SDKS=slot.sdks,
            CHAOS_PACE=str(self.pace),
        )
        if slot.inline:
            env["AICG_MODE"] = "inline"
        return env

    def begin(self) -> None:
        """The next life."""
        self.life += 1
        self.hurt = False
        self.leader = self.world.spawn(self.slot.name, commands(self.slot, self.port), self.environment())

    def members(self) -> List[int]:
        """Living processes of the slot, the leader first."""
        if self.leader is None:
            return []
        group, found = self.leader.pid, []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/%s/stat" % name, "rb") as file:
                        fields = file.read().rsplit(b") ", 1)[1].split()
                except OSError:
                    continue
                if int(fields[2]) == group and fields[0] not in b"ZX":
                    found.append(int(name))
        return sorted(found, key=lambda pid: (pid != group, pid))

    def reap(self) -> None:
        """Collect the slot's dead; orphans of its group are ours."""
        if self.leader is None:
            return
        try:
            while True:
                pid, status = os.waitpid(-self.leader.pid, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.leader.pid:
                    code = os.waitstatus_to_exitcode(status)
                    self.leader.returncode = code
                    self.codes[code] = self.codes.get(code, 0) + 1
                    self.ends = time.monotonic() + ORPHANS
        except ChildProcessError:
            return

    def tend(self) -> None:
        """Wake who was stopped long enough; end what a dead leader left; begin the next life when it is time."""
        now = time.monotonic()
        for pid, until in list(self.stopped.items()):
            if now >= until:
                del self.stopped[pid]
                send(pid, signal.SIGCONT)
        self.reap()
        if self.leader is not None and self.leader.returncode is not None:
            left = self.members()
            if left and now >= self.ends:
                self.kill(left)
            elif not left:
                self.leader = None
                self.not_before = max(self.not_before, now + (0.0 if self.slot.kind == "scripts" else PAUSE))
        if self.leader is None and now >= self.not_before and not self.resting:
            self.begin()

    def kill(self, pids: List[int]) -> None:
        """-9, on record before it is done."""
        self.killed.update(pids)
        self.hurt = True
        for pid in pids:
            send(pid, signal.SIGKILL)

    def stop(self, pid: int, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        if send(pid, signal.SIGSTOP):
            self.stopped[pid] = time.monotonic() + seconds

    def term(self) -> None:
        """SIGTERM to the leader: servers end in good order, a plain program at once."""
        if self.leader is not None and self.leader.returncode is None:
            if self.slot.kind not in ("gunicorn", "celery"):
                self.killed.add(self.leader.pid)
            send(self.leader.pid, signal.SIGTERM)

    def wake(self) -> None:
        """Nobody is stopped any more."""
        for pid in self.stopped:
            send(pid, signal.SIGCONT)
        self.stopped.clear()

    def empty(self) -> bool:
        """Nobody is in it."""
        self.reap()
        return not self.members()


def send(pid: int, number: int) -> bool:
    """A signal; False when there is nobody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Visitors:
    """Requests to the web applications, two at a time for each, from threads of the driver."""

    def __init__(self, places: List[Place]) -> None:
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._visit, args=(place, number), daemon=True)
            for place in places
            if place.port
            for number in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def _visit(self, place: Place, number: int) -> None:
        rng = random.Random("%d/%s/%d" % (place.world.plan.seed, place.slot.name, number))
        while not self._end.wait(rng.expovariate(place.pace / EVERY)):
            connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=10)
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                self._end.wait(0.2)  # it starts, or was killed: as planned
            finally:
                connection.close()

    def end(self) -> None:
        """No more requests."""
        self._end.set()
        for thread in self._threads:
            thread.join(15)


def states(places: List[Place]) -> Dict[str, Any]:
    """`state directory → one place that uses it`, in the order of the plan; destinations differ by sink."""
    found: Dict[str, Any] = {}
    for place in places:
        found.setdefault("%s %s" % (place.state(), place.slot.sink), place)
    return found
