"""A piece of work that is done in a process of its own, because its libraries cannot be trusted with ours.

Owns that process: what it gets of the environment, that it is told by stdin (an argument could be read by every user of
the machine), how long it may take, and that it is ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Callable, NamedTuple, Sequence

#: of the ledger's environment nothing is handed on that could lead a library elsewhere, or is a secret
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV")
#: what can be cut off: called by whoever stops the ledger
Cuts = set[Callable[[], object]]


class Late(Exception):
    """It was not done in time, and was ended."""


class Done(NamedTuple):
    """How it ended, and what it said on stdout."""

    status: int
    said: bytes


def run(script: str, order: bytes, deadline_s: float, cuts: Cuts, kept: Sequence[str] = ()) -> Done:
    """Run a script, which gets `order` on stdin and, of the environment, `kept` besides. Raises `Late`.

    While it runs, `cuts` holds what ends it.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in (*_KEPT, *kept) if name in os.environ},
    )
    cuts.add(process.kill)
    try:
        said, _ = process.communicate(order, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Late from None
    finally:
        cuts.discard(process.kill)
    return Done(process.returncode, said)
