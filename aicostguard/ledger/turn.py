"""Whose turn it is to work on a batch in Python.

Owns one lock. Only one thread can run Python at a time; several that want to take it from each other in the middle of
their work, all of them get done late, and the thread that writes, which needs it a dozen times a batch for a moment
each, stands behind every one of them. One after the other, the first batch is on its way to the disk while the second
is worked on. If it were held while waiting for a commit, that would be lost again.
"""

from __future__ import annotations

import threading

#: held while a batch is checked and priced, and again while its rows and sums are made
working = threading.Lock()
#: how long a thread that wants to run waits until it takes its turn: ten times as often as Python's own 5 ms, because
#: the one that writes has little to do in Python and much in SQLite, where it needs no turn
SWITCH_S = 0.0005
