"""The application that gunicorn serves: each request makes one call. Only `gunicorn` runs it."""

from __future__ import annotations

from chaos_plan import diary

diary.watch_the_end()

import importlib  # noqa: E402
import os  # noqa: E402
from typing import Any, Callable, Dict, Iterable  # noqa: E402

import aicostguard.auto  # noqa: E402, F401
from chaos_plan.calls import Caller  # noqa: E402
from chaos_plan.life import Life  # noqa: E402

for _name in Life().sdks.split(","):
    importlib.import_module(_name)  # as a program does: at its start
_callers: Dict[int, Caller] = {}


def app(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """One call; 200 whatever became of it."""
    caller = _callers.get(os.getpid())
    if caller is None:  # the first request of this worker
        life = Life()
        caller = _callers[os.getpid()] = Caller(life.sdks, life.rng)
    caller.call()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
