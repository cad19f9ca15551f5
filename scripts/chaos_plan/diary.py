"""What a client process says about itself, so that its death can be judged: one line a call, one `os.write` each.

Owns the diary of a process, `FOLDER/NUMBER.log`: a call begun (B), returned to the program (R), failed in the program
(X); a flush begun (f) and its answer (F); the end of the program after every exit hook (E), or an end that hooks should
have covered (L). A line is on the kernel's side before the next statement runs, so kill -9 takes none of them. If it
lies, the books blame the agent for what never was, or excuse what it lost.

`NUMBER` is the process id, made unique should the kernel use it again. `FIRST` more than that, `who`, is the number of
input tokens of each of its calls; the call's own number is the output tokens. So a receipt names its call without a
word in it.
"""

from __future__ import annotations

import atexit
import faulthandler
import itertools
import os
import signal
import threading
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

#: above every process id that Linux gives out
WHOS = 1 << 22
#: a process that gets it says on stderr where it is; nobody else uses this one
WHERE = signal.SIGRTMIN + 5
#: input tokens of nobody's calls: those below are the scripts' own
FIRST = 16

_lock = threading.Lock()
_pid = _fd = _who = -1
_numbers: Iterator[int] = iter(())


def who() -> int:
    """The number of this process; a forked child takes its own and opens its own diary."""
    if _pid != os.getpid():
        with _lock:
            if _pid != os.getpid():
                _open()
    return _who


def _open() -> None:
    global _pid, _fd, _who, _numbers
    pid = os.getpid()
    for number in itertools.count(pid, WHOS):
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            _fd = os.open(os.path.join(os.environ["CHAOS_CALLS"], "%d.log" % number), flags, 0o600)
        except FileExistsError:
            continue
        break
    _who, _numbers = number + FIRST, itertools.count(1)
    _line("S %s %s %d" % (os.environ.get("CHAOS_SLOT", "-"), os.environ.get("CHAOS_LIFE", "0"), pid))
    _pid = pid  # the last: from here on another thread writes, and the first line is this one


def _line(text: str) -> None:
    os.write(_fd, b"%.4f %s\n" % (time.monotonic(), text.encode()))


def begin() -> int:
    """A call begins; gives its number."""
    who()
    number = next(_numbers)
    _line("B %d" % number)
    return number


def returned(number: int) -> None:
    """The program has the answer."""
    _line("R %d" % number)


def failed(number: int, error: BaseException) -> None:
    """The program has an exception instead."""
    _line("X %d %s" % (number, type(error).__name__))


def flush(timeout: float) -> bool:
    """`aicostguard.flush`, on record: what had returned before it and was confirmed may never be missing."""
    import aicostguard

    who()
    _line("f")
    done = bool(aicostguard.flush(timeout))
    _line("F %d" % done)
    return done


def leaving() -> None:
    """The program ends in a way that the agent's hooks must have covered by now."""
    if _pid == os.getpid():
        _line("L")


def ended() -> None:
    """Nothing runs after this but the interpreter's own end."""
    if _pid == os.getpid():
        _line("E")


def watch_the_end() -> None:
    """To be called before the agent is imported: exit hooks run last in, first out."""
    atexit.register(ended)
    faulthandler.register(WHERE, all_threads=True)


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


class Diary(NamedTuple):
    """One process, as it told itself. Times are `time.monotonic`, one clock for all processes of a machine."""

    who: int
    pid: int
    slot: str
    life: int
    begun: Dict[int, float]
    returned: Dict[int, float]
    failed: Dict[int, str]
    #: calls that a flush has confirmed
    flushed: Set[int]
    #: `E` or `L` was reached
    clean: bool
    last: float


def read(path: str) -> Optional[Diary]:
    """The diary at `path`; None when the process was killed before its first line."""
    with open(path, encoding="ascii") as file:
        lines = [line.split() for line in file.read().split("\n")[:-1]]
    if not lines:
        return None
    begun: Dict[int, float] = {}
    back: Dict[int, float] = {}
    failures: Dict[int, str] = {}
    flushed: Set[int] = set()
    asked: List[int] = []
    clean = False
    for at, kind, *words in lines[1:]:
        if kind == "B":
            begun[int(words[0])] = float(at)
        elif kind == "R":
            back[int(words[0])] = float(at)
        elif kind == "X":
            failures[int(words[0])] = words[1]
        elif kind == "f":
            asked = list(back)
        elif kind == "F" and words[0] == "1":
            flushed.update(asked)
        elif kind in "EL":
            clean = True
    number = int(os.path.basename(path).split(".")[0])
    _, _, slot, life, pid = lines[0]
    last = float(lines[-1][0])
    return Diary(number + FIRST, int(pid), slot, int(life), begun, back, failures, flushed, clean, last)


def read_all(folder: str) -> Dict[int, Diary]:
    """Every diary, by who."""
    found = (read(os.path.join(folder, name)) for name in sorted(os.listdir(folder)))
    return {diary.who: diary for diary in found if diary is not None}
