"""Sub-interpreters, as of mod_wsgi and `InterpreterPoolExecutor`: a thread that outlives one aborts the program."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys

import pytest

from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger
from tests.delivery.hosts.place import Place

PROGRAM = r"""
import os, sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
which, here, inner = sys.argv[1:4]
if here == "here":
    import app
    app.ask()
options = {} if which == "isolated" else {"isolated": False}
try:
    made = interpreters.create(**options)
except TypeError:
    made = interpreters.create("isolated" if which == "isolated" else "legacy")
code = "import sys; sys.path[:0] = %r\n%s" % (os.environ["PYTHONPATH"].split(os.pathsep), inner)
failed = interpreters.run_string(made, code)
assert failed is None, failed
interpreters.destroy(made)
print("outlived", flush=True)
"""
INNER = """
import os
os.environ["HTTP_LOGIC"] = "1"
import app, aicostguard
app.ask()
shown = aicostguard.stats()
assert shown["notes"]["subinterpreter"] == 1, shown
assert shown["delivery"]["mode"] == "inline", shown
assert not shown["faults"], shown
"""


#: what the standard library alone does: CPython 3.12.1 aborts at its end after this ("free(): invalid pointer")
BARE = "import gzip, hashlib, http.client, json, logging, queue, socket, ssl, tempfile, uuid"


@functools.lru_cache(None)
def _aborts() -> bool:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, "isolated", "not here", BARE]
    environ = dict(os.environ, PYTHONPATH=os.getcwd())
    return subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False).returncode != 0


@pytest.fixture(autouse=True)
def _sound() -> None:
    if _aborts():
        pytest.skip("CPython %s aborts after any isolated sub-interpreter, without us" % platform.python_version())


@pytest.mark.ids("E1")
@pytest.mark.parametrize("here", ["here", "not here"])
@pytest.mark.parametrize("which", ["isolated", "shared"])
def test_a_call_in_a_sub_interpreter(place: Place, ledger: FakeLedger, which: str, here: str) -> None:
    """It is metered and delivered, by the call itself; the interpreter can end, and the program goes on."""
    assert place.run(PROGRAM, which, here, INNER).strip().endswith("outlived")
    place.balance(ledger, 1 + (here == "here"), 0.0)
    assert len({epoch for epoch, _ in ledger.stored}) == len(ledger.stored)


def test_a_ledger_that_does_not_answer_does_not_end_the_program_of_a_sub_interpreter(place: Place) -> None:
    with BlackHole() as hole:
        shown = place.run(PROGRAM, "isolated", "not here", INNER.replace("app.ask()", "app.ask(); app.ask()"),
                          AICG_URL=hole.url)  # fmt: skip
    assert shown.strip().endswith("outlived")


def test_background_mode_is_not_to_be_had_there(place: Place, ledger: FakeLedger) -> None:
    ledger.answers.append(Answer(delay=0.2))
    shown = place.run(PROGRAM, "isolated", "not here", INNER, AICG_MODE="background", AICG_WATCHDOG="1")
    assert shown.strip().endswith("outlived")
    place.balance(ledger, 1, 0.0)
