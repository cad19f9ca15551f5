"""The tasks that Celery's workers run: each makes one call. The broker is the worker's own memory."""

from __future__ import annotations

from chaos_plan import diary

diary.watch_the_end()

import importlib  # noqa: E402
import os  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from typing import Any, Dict  # noqa: E402

from celery import Celery, signals  # noqa: E402

import aicostguard.auto  # noqa: E402, F401
from chaos_plan.calls import Caller  # noqa: E402
from chaos_plan.life import Life  # noqa: E402

app = Celery("chaos", broker="memory://", set_as_current=True)
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True, task_ignore_result=True)
app.conf.broker_transport_options = {"polling_interval": 0.05}
for _name in Life().sdks.split(","):
    importlib.import_module(_name)  # as a program does: at its start
_callers: Dict[int, Caller] = {}


@app.task(name="call")
def call() -> None:
    """One call."""
    caller = _callers.get(os.getpid())
    if caller is None:
        life = Life()
        caller = _callers[os.getpid()] = Caller(life.sdks, life.rng)
    caller.call()


@signals.worker_ready.connect
def _feed(**_: Any) -> None:
    life = Life()

    def feed() -> None:
        while not os.path.exists(os.environ["CHAOS_STOP"]):
            call.delay()
            time.sleep(2 * life.nap())

    threading.Thread(target=feed, daemon=True).start()


@signals.worker_process_shutdown.connect
def _leaves(**_: Any) -> None:
    diary.leaving()
