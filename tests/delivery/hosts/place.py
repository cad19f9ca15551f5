"""A folder with a program of somebody's, a provider to call, and a ledger that its receipts go to.

Owns real processes: what is started here is ended here. The ledger is the fake one, so that tests can make it slow or
deaf; the provider is the simulator, whose own count is what the ledger's must equal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from aicostguard.simulator import Simulator
from tests.delivery.conftest import KEY
from tests.delivery.fake_ledger import FakeLedger
from tests.ids import ROOT

BIN = Path(sys.executable).parent
#: an application that knows one line of us, and calls its provider with what every Python has
APP = """
import aicostguard.auto
import json, os, urllib.request

def ask():
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
    request = urllib.request.Request(os.environ["PROVIDER"] + "/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())["usage"]["total_tokens"]

if os.environ.get("EARLY"):  # before a server forks
    ask()

def wsgi(environ, start_response):
    ask()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""


class Place:
    """`url` is the ledger's; further variables of the environment go to `env`."""

    def __init__(self, folder: Path, simulator: Simulator, url: str) -> None:
        self.folder, self.simulator = folder, simulator
        self.state = folder / "state"
        self.log_file = folder / "log"
        self.said = ""
        (folder / "app.py").write_text(APP)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
        self.env: Dict[str, str] = {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "PATH": "%s%s%s" % (BIN, os.pathsep, os.environ["PATH"]),
            "AICG_URL": url,
            "AICG_KEY": KEY,
            "AICG_STATE_DIR": str(self.state),
            "AICG_HOSTS": simulator.hosts_setting(),
            "PROVIDER": simulator.urls["openai"],
        }
        self._started: List[subprocess.Popen[bytes]] = []

    def start(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own; its output goes to `log()`."""
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.env, **env},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def run(self, program: str, *arguments: str, code: Optional[int] = 0, **env: str) -> str:
        """Run the text of a program to its end; what it printed (`said`: on stderr). `code` None: any will do."""
        path = self.folder / "program.py"
        path.write_text(program)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(path), *arguments],
            cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if code is not None:
            assert done.returncode == code, done.stdout + done.stderr
        self.said = done.stderr
        return done.stdout

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def fetch(self, port: int, process: subprocess.Popen[bytes], path: str = "/") -> bytes:
        """One request to a server that may still be starting."""
        limit = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=20) as reply:
                    return bytes(reply.read())
            except urllib.error.HTTPError:
                raise AssertionError(self.log()) from None
            except OSError:
                if time.monotonic() > limit or process.poll() is not None:
                    raise AssertionError(self.log()) from None
                time.sleep(0.1)

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal and wait; the exit code."""
        process.send_signal(number)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError("does not end\n" + self.log()) from None

    def close(self) -> None:
        """End whatever still runs of what was started here, children included."""
        self.simulator.set_default(first_delay_ms=0)
        for process in self._started:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(10)

    def balance(self, ledger: FakeLedger, calls: int, seconds: float = 10.0) -> None:
        """The ledger holds each billed call once, and no other."""
        assert len(self.simulator.billed()) == calls, self.log()
        ledger.wait(calls, seconds)
        assert len(ledger.stored) == calls, self.log()
        assert all(receipt["model"] == "gpt-4o" for receipt in ledger.stored.values())

    def stats(self) -> List[Dict[str, Any]]:
        """What the processes of this place say of themselves."""
        from aicostguard.delivery import status

        return status.read(str(self.state))


def needs(*modules: str) -> None:
    """Skip by name where one is not installed. Not imported here: eventlet and gevent change a process."""
    for module in modules:
        if find_spec(module) is None:
            pytest.skip("%s is not installed" % module)
