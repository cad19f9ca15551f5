"""What kind of program we live in, as far as delivery must know: how its processes end, fork, and run threads.

Owns what is known of `multiprocessing`, billiard, Celery and uWSGI, read from modules that the host has imported; it
imports none of them. Never raises. If it is wrong, a worker's last receipts wait in the spool for the next process.
"""

from __future__ import annotations

import sys
from typing import Any, Callable

from aicostguard import health as our_health

#: libraries whose children leave by `os._exit`, past `atexit`, but run finalisers of their own:
#: module of the finalisers, module of the processes
_FAMILIES = (("multiprocessing.util", "multiprocessing.process"), ("billiard.util", "billiard.process"))
#: there in a program that uWSGI runs, from its start on
UWSGI = "uwsgi"


def follow(leave: Callable[[], None]) -> None:
    """Have `leave` called at the end of this process where `atexit` would not: in a child of one of the libraries."""
    try:
        for finalisers, processes in _FAMILIES:
            util, process = sys.modules.get(finalisers), sys.modules.get(processes)
            if util is not None and process is not None and _is_child(process):
                util.Finalize(None, leave, exitpriority=10)
                _follow_celery(leave)
    except Exception as error:
        our_health.fault("hosts.follow", error)


def _is_child(process: Any) -> bool:
    parent = getattr(process, "parent_process", None)
    if parent is not None:
        return parent() is not None
    return getattr(process.current_process(), "_parent_pid", None) is not None


def _follow_celery(leave: Callable[[], None]) -> None:
    """A worker of Celery's pool leaves past billiard's finalisers, too; what it does send is a signal of Celery's."""
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(lambda **_: leave(), weak=False, dispatch_uid="aicostguard.delivery")


def forks_in_c() -> bool:
    """Does this host fork without Python's hooks, so that nobody waits for an import of ours to end?"""
    return UWSGI in sys.modules


def about_to_fork() -> bool:
    """True while uWSGI's master imports the application, whose workers it will fork in C.

    Such a fork copies the interpreter's lock as it is, and a thread that contends for it at that instant hangs the
    child: one start in eight, measured. So no thread of ours may live there; what is called there is delivered there.
    Source: `worker_id` is 0 until a worker knows its number.
    """
    uwsgi = sys.modules.get(UWSGI)
    return uwsgi is not None and getattr(uwsgi, "worker_id", _one)() == 0


def _one() -> int:
    return 1


def frozen() -> bool:
    """True where threads stand still between two requests: uWSGI without `--enable-threads`, as older ones run.

    There a thread runs only while the request's own waits, for its provider or in `flush`.
    Source: `has_threads` of the module that uWSGI gives to its applications.
    """
    uwsgi = sys.modules.get(UWSGI)
    return uwsgi is not None and not getattr(uwsgi, "has_threads", True)
