"""What was begun before this process was forked is its parent's, which goes on with it.

Owns the number that tells the two apart. If it is wrong, a stream that is open at a fork is billed twice, or what it
holds of a budget is booked while it runs.
"""

from __future__ import annotations

import os

#: how many forks lie between this process and the first
count = 0


def _in_child() -> None:
    global count
    count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
