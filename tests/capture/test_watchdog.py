"""`AICG_WATCHDOG=1`: a host that is looked up and never met is counted, shown and said; any other is not.

In processes of their own: an audit hook stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict

import pytest

from aicostguard.capture import watchdog
from aicostguard.health import health
from aicostguard.simulator import Simulator

ROOT = Path(__file__).parents[2]
START = """
import json, socket, sys, time
import aicostguard.auto
from aicostguard import health
from aicostguard.capture import state
dog = state.state.watchdog
if dog is not None:
    sys.modules["aicostguard.capture.watchdog"].GRACE = 1.0
host, port = sys.argv[1], int(sys.argv[2])
"""
END = """
print(json.dumps({"notes": health.health.notes, "warnings": list(health.health.warnings), "on": dog is not None}))
"""
#: a connection that no hook of ours sees
UNSEEN = "socket.create_connection((host, port)).close()\n"
#: until the alarm is raised
SAID = """
deadline = time.monotonic() + 30
while not any(note.startswith("unmetered_host:") for note in list(health.health.notes)) and time.monotonic() < deadline:
    time.sleep(0.1)
"""
#: a request that a hook of ours sees
SEEN = """
import httpx
httpx.post("http://%s:%d/v1/chat/completions" % (host, port), json={"model": "gpt-4o", "messages": []})
"""


@pytest.fixture(scope="module")
def providers() -> Any:
    with Simulator(("openai",)) as simulator:
        yield simulator


def run(code: str, simulator: Simulator, folder: Path, **more: str) -> Dict[str, Any]:
    host, _, port = simulator.urls["openai"].rpartition("/")[2].partition(":")
    env = {k: v for k, v in os.environ.items() if not k.startswith("AICG_")}
    env.update(AICG_URL="sqlite:///%s/l.db" % folder, AICG_STATE_DIR=str(folder), AICG_WATCHDOG="1")
    env.update(AICG_HOSTS=simulator.hosts_setting(), PYTHONPATH=str(ROOT), **more)
    command = [sys.executable, "-c", START + code, host, port]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    seen: Dict[str, Any] = json.loads(done.stdout)
    seen["stderr"], seen["host"] = done.stderr, host
    statuses = [json.loads(path.read_text()) for path in (folder / "status").glob("*.json")]
    seen["shown"] = [status.get("notes") for status in statuses]
    return seen


def alarmed(seen: Dict[str, Any]) -> bool:
    return "unmetered_host:" + seen["host"] in seen["notes"]


def test_a_host_that_nobody_met(providers: Simulator, tmp_path: Path) -> None:
    """Counted once, said once, and in the status file while the program runs."""
    seen = run(UNSEEN * 3 + SAID + UNSEEN + "time.sleep(0.5)\n" + END, providers, tmp_path)
    assert seen["notes"]["unmetered_host:" + seen["host"]] == 1
    assert seen["stderr"].count("was looked up, but no request to it was seen") == 1
    assert any("unmetered_host:" + seen["host"] in notes for notes in seen["shown"])


def test_a_program_that_ends_at_once(providers: Simulator, tmp_path: Path) -> None:
    seen = run(UNSEEN + END, providers, tmp_path)
    assert "was looked up" in seen["stderr"]
    assert any("unmetered_host:" + seen["host"] in notes for notes in seen["shown"])


EVERY_HOST = "sys.modules['aicostguard.capture.watchdog']._is_ai = lambda *args: True\n"
#: a child of a process that waits for its own look-up makes one, too
CHILD = """
import os
child = os.fork()
if child == 0:
    socket.getaddrinfo("localhost", port)
    deadline = time.monotonic() + 60
    while dog._running.locked() and time.monotonic() < deadline:  # until its thread has nothing left to say
        time.sleep(0.1)
    os._exit(0)
os.waitpid(child, 0)
"""
#: two threads look up at one moment: the second before the first has seen that it is the first
TOGETHER = """
import threading
meet = threading.Barrier(2)
class Slow(dict):
    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        meet.wait(60)  # a busy machine may start the second thread much later
dog._waiting = Slow()
calls = [threading.Thread(target=socket.getaddrinfo, args=(name, port)) for name in (host, "localhost")]
for call in calls:
    call.start()
for call in calls:
    call.join()
deadline = time.monotonic() + 60
while sum(note.startswith("unmetered_host:") for note in list(health.health.notes)) < 2 and time.monotonic() < deadline:
    time.sleep(0.1)
"""


def test_two_hosts_are_looked_up_at_one_moment(providers: Simulator, tmp_path: Path) -> None:
    seen = run(EVERY_HOST + TOGETHER + END, providers, tmp_path)
    assert alarmed(seen) and "unmetered_host:localhost" in seen["notes"]


def test_what_is_looked_up_after_the_last_look_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """By somebody who saw the thread still running."""
    monkeypatch.setattr(watchdog, "GRACE", 0.0)
    told = threading.Event()
    dog = watchdog.Watchdog(None, told.set)

    class Ending:
        def release(self) -> None:
            dog._waiting["late.example"] = time.monotonic()

    dog._wait(Ending())
    assert told.wait(60)
    assert health.notes.pop("unmetered_host:late.example") == 1
    assert dog._running.acquire(timeout=60)  # its thread is gone
    health.reset()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_watches_for_itself(providers: Simulator, tmp_path: Path) -> None:
    """It reports what it looked up itself, though no thread came along, and not what its parent did."""
    seen = run(EVERY_HOST + UNSEEN + CHILD + END, providers, tmp_path)
    assert seen["stderr"].count("localhost was looked up") == 1
    assert seen["stderr"].count(seen["host"] + " was looked up") == 1
    assert list(seen["notes"]) == ["unmetered_host:" + seen["host"]]


#: nothing to say
QUIET: Dict[str, str] = {
    "metered": SEEN,
    "metered later": "import httpx\n" + UNSEEN + SEEN,
    "another host": "try: socket.getaddrinfo('localhost', 1)\nexcept OSError: pass\n",
    "an address that is none": "try: socket.getaddrinfo(None, 80)\nexcept OSError: pass\n",
}


@pytest.mark.parametrize("what", QUIET)
def test_nothing_to_say(providers: Simulator, tmp_path: Path, what: str) -> None:
    pytest.importorskip("httpx")
    patient = "sys.modules['aicostguard.capture.watchdog'].GRACE = 60\n"
    seen = run(patient + QUIET[what] + "dog.check()\n" + END, providers, tmp_path)
    assert seen["on"] is True and not alarmed(seen)
    assert not [name for name in seen["warnings"] if name.startswith("watchdog")]
    assert "was looked up" not in seen["stderr"]


def test_our_own_ledger_does_not_count(providers: Simulator, tmp_path: Path) -> None:
    url = providers.urls["openai"]  # stands in for a ledger: it only has to be looked up
    seen = run(
        "socket.create_connection((host, port)).close()\ntime.sleep(2.5)\n" + END,
        providers, tmp_path, AICG_URL=url, AICG_KEY="aicg_" + "a" * 32,
    )  # fmt: skip
    assert seen["on"] is True and not alarmed(seen)


def test_off_by_default(providers: Simulator, tmp_path: Path) -> None:
    seen = run(UNSEEN + END, providers, tmp_path, AICG_WATCHDOG="0")
    assert seen["on"] is False and seen["notes"] == {}
