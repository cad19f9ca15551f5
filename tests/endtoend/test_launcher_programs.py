"""`aicg run` with what people run: gunicorn, uvicorn, celery, pytest, jupyter. One receipt per billed call, each time.

The programs are the real ones, in processes of their own, with an application that knows nothing of us. The receipts
are read from the ledger file that they were written to.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

pytest.importorskip("openai")

from aicostguard.simulator import Simulator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
APP = """
import os, openai
client = openai.OpenAI(base_url=os.environ["PROVIDER"] + "/v1", api_key="x", max_retries=0)

def answer():
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    return b"ok"

def wsgi(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [answer()]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer()})
"""


@pytest.fixture(scope="module")
def providers() -> Iterator[Simulator]:
    with Simulator(("openai",)) as simulator:
        yield simulator


class Place:
    """A folder with the application, and the ledger file that its receipts go to."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder, self.simulator = folder, simulator
        (folder / "app.py").write_text(APP)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AICG_")}
        self.env = {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "PATH": "%s%s%s" % (BIN, os.pathsep, os.environ["PATH"]),
            "AICG_URL": "sqlite:///%s" % (folder / "costs.db"),
            "AICG_STATE_DIR": str(folder / "state"),
            "AICG_HOSTS": simulator.hosts_setting(),
            "PROVIDER": simulator.urls["openai"],
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("wb")
        aicg = [sys.executable, "-m", "aicostguard.cli", "run", "--service", "shop", "--", *command]
        with log:
            return subprocess.Popen(
                aicg, cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def receipts(self) -> List[Dict[str, Any]]:
        path = self.folder / "costs.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(path)
        try:
            rows = connection.execute("SELECT * FROM inbox").fetchall()
        finally:
            connection.close()
        bodies = [next(json.loads(cell) for cell in row if is_body(cell)) for row in rows]
        return [receipt for body in bodies for receipt in body.get("receipts", [body])]

    def balance(self, calls: int) -> List[Dict[str, Any]]:
        """As many receipts as billed calls, in a while."""
        assert len(self.simulator.billed()) == calls, self.log()
        deadline = time.monotonic() + 20
        while len(self.receipts()) < calls and time.monotonic() < deadline:
            time.sleep(0.1)
        found = self.receipts()
        assert len(found) == calls, self.log()
        return found


def is_body(cell: object) -> bool:
    return isinstance(cell, (str, bytes)) and cell[:1] in ("{", b"{")


@pytest.fixture
def place(tmp_path: Path, providers: Simulator) -> Place:
    providers.reset_count()
    return Place(tmp_path, providers)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, place: Place, process: subprocess.Popen[bytes]) -> bytes:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=20) as reply:
                return bytes(reply.read())
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(place.log()) from None
            time.sleep(0.1)


SERVERS: Dict[str, List[str]] = {
    "gunicorn": ["gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "app:wsgi"],
    "gunicorn preloaded": ["gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:{port}", "app:wsgi"],
    "uvicorn": ["uvicorn", "app:asgi", "--port", "{port}"],
    "uvicorn workers": ["uvicorn", "app:asgi", "--port", "{port}", "--workers", "2"],
}


@pytest.mark.ids("E10", "Z7")
@pytest.mark.parametrize("server", SERVERS)
def test_servers(place: Place, server: str) -> None:
    """Requests are answered, and SIGTERM ends the server as it always does."""
    pytest.importorskip(server.split()[0])
    port = free_port()
    process = place.start(*[word.format(port=port) for word in SERVERS[server]])
    try:
        for _ in range(6):
            assert fetch(port, place, process) == b"ok"
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    finally:
        process.kill()
    # uvicorn's processes raise the signal anew once they have shut down: no exit hook runs, and what has not been
    # sent by then is on disk, for the next program.
    assert code in (0, -signal.SIGTERM), place.log()
    after = place.start(sys.executable, "-c", "import app, time; app.answer(); time.sleep(60)")
    try:
        deadline = time.monotonic() + 60
        while len(place.receipts()) < 7 and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        after.kill()
        after.wait()
    assert {receipt["feature"] for receipt in place.balance(7)} == {"answer"}


CELERY = """
import app, celery
tasks = celery.Celery("tasks", broker="filesystem://", backend="file://results")
tasks.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}

@tasks.task
def summarise():
    app.answer()
"""


@pytest.mark.ids("E10", "Z7")
def test_celery(place: Place) -> None:
    """Prefork workers: children of a fork, each with a sender of its own."""
    pytest.importorskip("celery")
    for name in ("queue", "results"):
        (place.folder / name).mkdir()
    (place.folder / "work.py").write_text(CELERY)
    process = place.start("celery", "-A", "work", "worker", "-c", "2", "-l", "WARNING", "--without-gossip")
    try:
        send = "import work; [work.summarise.delay() for _ in range(5)]"
        subprocess.run([sys.executable, "-c", send], cwd=place.folder, env=place.env, check=True, timeout=60)
        deadline = time.monotonic() + 60
        while len(place.simulator.billed()) < 5 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    finally:
        process.kill()
    assert code == 0, place.log()
    assert {receipt["feature"] for receipt in place.balance(5)} == {"answer"}


@pytest.mark.ids("E10", "Z7")
def test_pytest(place: Place) -> None:
    (place.folder / "test_it.py").write_text("import app\n\ndef test_one():\n    assert app.answer() == b'ok'\n")
    process = place.start("pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    assert process.wait(60) == 0, place.log()
    assert "1 passed" in place.log()
    assert place.balance(1)[0]["feature"] == "answer"


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None,
            "source": "import app\nimport aicostguard\nwith aicostguard.feature('notebook'):\n    print(app.answer())",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip


@pytest.mark.ids("E10", "Z7")
def test_jupyter(place: Place) -> None:
    """The kernel is a process that Jupyter starts."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (place.folder / "book.ipynb").write_text(json.dumps(NOTEBOOK))
    place.env["JUPYTER_DATA_DIR"] = str(place.folder / "jupyter")
    process = place.start("jupyter", "execute", "--inplace", "book.ipynb")
    assert process.wait(120) == 0, place.log()
    assert place.balance(1)[0]["feature"] == "notebook"
    assert "b'ok'" in (place.folder / "book.ipynb").read_text()
