"""`python -m chaos_plan.guardian MARK FOLDER`: cleans up after a run whose driver was itself killed.

Owns the last resort: it waits for its standard input to end, which happens however the driver ends, then kills every
process that carries the run's mark in its environment and unmounts what lies under the run's folder. The driver cleans
up by the same functions and then has nothing left for it to do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

#: the variable that marks a run's processes
MARK = "CHAOS_RUN"


def marked(mark: str) -> List[int]:
    """Living processes of the run, ourselves left out."""
    wanted = ("%s=%s" % (MARK, mark)).encode()
    found: List[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue  # gone, or another user's
    return found


def kill_marked(mark: str, patience: float = 10.0) -> List[int]:
    """Kill them until none is left; gives those that would not go."""
    limit = time.monotonic() + patience
    left = marked(mark)
    while left and time.monotonic() < limit:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
        reap()
        left = marked(mark)
    return left


def reap() -> None:
    """Collect our dead, orphans that were given to us included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def mounts(folder: Path) -> List[str]:
    """What is mounted under `folder`, the deepest first."""
    rows = Path("/proc/self/mounts").read_text().splitlines()
    points = [row.split(" ")[1].replace("\\040", " ") for row in rows]
    return sorted((point for point in points if point.startswith(str(folder) + "/")), reverse=True)


def unmount_all(folder: Path) -> List[str]:
    """Unmount them, lazily where something still holds on; gives those that would not go."""
    for point in mounts(folder):
        if subprocess.run(["umount", point], capture_output=True).returncode:
            subprocess.run(["umount", "-l", point], capture_output=True)
    return mounts(folder)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C reaches the whole group; the pipe says when it is over
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])
    unmount_all(Path(sys.argv[2]))
