"""`flush_on_return` under the platforms' own packages: one invocation, one POST, committed before the platform hears.

In an environment of their own: functions-framework puts a file into it that every start of Python reads. Google's
server and Lambda's runtime client run as they do there, over sockets; Azure's worker calls what its package registered,
and so does the program here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.delivery.fake_ledger import Answer, FakeLedger, free_port
from tests.ids import ROOT

pytestmark = [
    pytest.mark.ids("G14", "G21"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the matrix runs on the main interpreter"),
]

PACKAGES = ("functions-framework>=3.9,<4", "azure-functions>=1.21,<2", "awslambdaric>=3,<5")

_CALLS = """
import asyncio, os, sys, time
import aicostguard
from aicostguard.config import load
from aicostguard.delivery import Delivery
delivery = Delivery(load(os.environ))
def calls():
    for n in range(3):
        delivery.submit({"provider": "openai", "model": "m%d" % n})
async def acalls():
    await delivery.asubmit([{"provider": "openai", "model": "m%d" % n} for n in range(2)])
    await asyncio.sleep(0)
    delivery.submit({"provider": "openai", "model": "m2"})
"""
GOOGLE: Dict[str, str] = {
    "http": """
import functions_framework
@functions_framework.http
@aicostguard.flush_on_return
def entry(request):
    calls()
    return "done"
""",
    "cloudevent": """
import functions_framework
@functions_framework.cloud_event
@aicostguard.flush_on_return
def entry(event):
    calls()
""",
    "http --asgi": """
import functions_framework.aio
@functions_framework.aio.http
@aicostguard.flush_on_return
async def entry(request):
    await acalls()
    return "done"
""",
}
AZURE: Dict[str, str] = {
    "sync": """
@app.route(route="x")
@aicostguard.flush_on_return
def main(req: func.HttpRequest) -> func.HttpResponse:
    calls()
    return func.HttpResponse(req.params["who"])
""",
    "async": """
@app.route(route="x")
@aicostguard.flush_on_return
async def main(req: func.HttpRequest) -> func.HttpResponse:
    await acalls()
    return func.HttpResponse(req.params["who"])
""",
}
#: what Azure's worker does with a function that was indexed
_WORKER = """
import inspect
(found,) = app.get_functions()
user = found.get_user_function()
assert list(inspect.signature(user).parameters) == ["req"], inspect.signature(user)
for _ in range(2):
    request = func.HttpRequest(method="GET", url="/x", params={"who": "done"}, body=b"")
    given = asyncio.run(user(req=request)) if inspect.iscoroutinefunction(user) else user(req=request)
    print(given.get_body().decode(), flush=True)
    assert sys.stdin.readline() == "go on\\n"
"""
LAMBDA: Dict[str, str] = {
    "sync": """
@aicostguard.flush_on_return
def handler(event, context):
    calls()
    return event["who"]
""",
    "async inside": """
@aicostguard.flush_on_return
def handler(event, context):
    asyncio.run(acalls())
    return event["who"]
""",
}


@pytest.fixture(scope="module")
def python() -> Path:
    sys.path.append(str(ROOT / "scripts"))
    from machine import CACHE, Environments

    version = sys.version_info[:2]
    at = Environments({version: sys.executable}, version, False)
    return at.other(CACHE / "matrix" / "env" / "platforms", version, PACKAGES)


@contextlib.contextmanager
def _program(
    python: Path, folder: Path, ledger: FakeLedger, code: str, *words: str, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """A program of the platform's, below which `code` stands as `main.py`."""
    (folder / "main.py").write_text(_CALLS + code, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    environ.update(AICG_URL=ledger.url, AICG_KEY="aicg_" + "K" * 40, AICG_STATE_DIR=str(folder / "state"), **more)
    environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(folder)))
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [str(python), *words],
        cwd=folder,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        log.close()


def _posts(ledger: FakeLedger) -> List[List[str]]:
    return [[row["model"] for row in seen.envelope["receipts"]] for seen in ledger.seen if seen.envelope]


ONE = [["m0", "m1", "m2"]]
#: long enough that an answer which does not wait for the ledger comes before its commit
SLOW = Answer(delay=0.3)


@pytest.mark.parametrize("kind", GOOGLE)
def test_functions_framework(python: Path, tmp_path: Path, kind: str) -> None:
    port = free_port()
    signature, *asgi = kind.split()
    words = ["-m", "functions_framework", "--target", "entry", "--source", "main.py", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--signature-type", signature, *asgi]
    with FakeLedger(then=SLOW) as ledger:
        with _program(python, tmp_path, ledger, GOOGLE[kind], *words, K_SERVICE="shop") as process:
            for turn in range(1, 3):
                _call(process, port, tmp_path)
                assert len(ledger.stored) == 3 * turn and _posts(ledger) == ONE * turn


def _call(process: subprocess.Popen[str], port: int, folder: Path) -> None:
    """One event, or one request, to the server on `port`, as soon as it listens."""
    headers = {"ce-id": "1", "ce-type": "t", "ce-source": "s", "ce-specversion": "1.0"}
    headers["Content-Type"] = "application/json"
    limit = time.monotonic() + 60
    while True:
        request = urllib.request.Request("http://127.0.0.1:%d/" % port, data=b"{}", headers=headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                assert answer.status == 200
                answer.read()
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise AssertionError((folder / "log").read_text()) from None
        except OSError:
            assert process.poll() is None and time.monotonic() < limit, (folder / "log").read_text()
            time.sleep(0.05)


@pytest.mark.parametrize("kind", AZURE)
def test_azure_functions(python: Path, tmp_path: Path, kind: str) -> None:
    code = "import azure.functions as func\napp = func.FunctionApp()\n" + AZURE[kind] + _WORKER
    with FakeLedger(then=SLOW) as ledger:
        with _program(python, tmp_path, ledger, code, "main.py", AZURE_FUNCTIONS_ENVIRONMENT="Production") as process:
            assert process.stdout is not None and process.stdin is not None
            for turn in range(1, 3):
                assert process.stdout.readline() == "done\n", (tmp_path / "log").read_text()
                assert len(ledger.stored) == 3 * turn and _posts(ledger) == ONE * turn
                process.stdin.write("go on\n")
                process.stdin.flush()
            assert process.wait(30) == 0


class _Runtime:
    """Lambda's runtime interface: hands out two invocations, and notes what the ledger had when each was answered."""

    def __init__(self, ledger: FakeLedger) -> None:
        self.answers: List[Any] = []
        self.asked = 0
        self.over = threading.Event()
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                runtime.asked += 1
                if runtime.asked > 2:
                    runtime.over.set()
                    self.close_connection = True
                    return
                self._say(200, b'{"who": "done"}')

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                runtime.answers.append((self.path.rpartition("/")[2], body, len(ledger.stored), _posts(ledger)))
                self._say(202, b"{}")

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "id-%d" % runtime.asked)
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:1:function:shop")
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self._server.server_address[1]

    def __enter__(self) -> _Runtime:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize("kind", LAMBDA)
def test_the_runtime_client_of_lambda(python: Path, tmp_path: Path, kind: str) -> None:
    with FakeLedger(then=SLOW) as ledger, _Runtime(ledger) as runtime:
        more = {
            "AWS_LAMBDA_RUNTIME_API": runtime.address,
            "AWS_LAMBDA_FUNCTION_NAME": "shop",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "LAMBDA_TASK_ROOT": str(tmp_path),
        }
        with _program(python, tmp_path, ledger, LAMBDA[kind], "-m", "awslambdaric", "main.handler", **more):
            assert runtime.over.wait(60), (tmp_path / "log").read_text()
        assert runtime.answers == [("response", b'"done"', 3 * turn, ONE * turn) for turn in (1, 2)]
