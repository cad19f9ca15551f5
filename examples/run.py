"""Run an example against simulated providers, and show what it cost.

    python examples/run.py NAME        NAME: a folder beside this file
    python examples/run.py NAME --keep    leave a server up, with the simulated providers, until Ctrl-C

No account and no key is needed: the SDKs' usual variables point at providers on loopback, and `AICG_URL` at a file in a
temporary folder. What an example serves is asked for a few things; then `aicg costs` shows what came of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from aicostguard.simulator import Simulator

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
Request = tuple[str, str, object]


class Example(NamedTuple):
    """How it is started, what it is asked for then, and by what its costs are shown."""

    command: list[str]
    requests: list[Request] = []
    then: list[str] = []
    by: str = "feature,model"
    needs: tuple[str, ...] = ("openai",)
    environ: dict[str, str] = {}


def serves(*command: str) -> list[str]:
    return [PYTHON, "-m", *command]


EXAMPLES = {
    "fastapi_gateway": Example(
        serves("uvicorn", "main:app", "--host", "127.0.0.1", "--port", "8000", "--log-level", "warning"),
        [
            ("POST", "/budgets/", {"name": "default", "limit": 50.0, "spent": 0.0}),
            ("POST", "/infer", {"model": "gpt-4", "prompt": "Summarize this report"}),
            ("POST", "/infer", {"model": "claude-3-haiku", "prompt": "Summarize this report"}),
            ("POST", "/infer", {"model": "no-such-model", "prompt": "Summarize this report"}),
            ("GET", "/costs", None),
            ("GET", "/compare/", None),
            ("GET", "/budgets/", None),
            ("GET", "/alerts/", None),
        ],
        needs=("fastapi", "uvicorn", "openai", "anthropic", "httpx"),
    ),
    "agents_tree": Example([PYTHON, "app.py"], by="agent,parent_agent"),
    "langchain_app": Example([PYTHON, "app.py"], needs=("langchain_openai",)),
    "crewai_app": Example([PYTHON, "app.py"], by="agent,model", needs=("crewai",)),
    "celery_app": Example(
        serves("celery", "-A", "tasks", "worker", "-P", "solo", "-l", "WARNING", "--without-gossip"),
        then=[PYTHON, "send.py"],
        needs=("celery", "openai"),
    ),
    "django_app": Example(
        [PYTHON, "app.py", "8000"],
        [("GET", "/titles/rivers", None), ("GET", "/titles/lakes", None)],
        needs=("django", "openai"),
        by="feature,user",
    ),
    "flask_app": Example(
        serves("flask", "--app", "app", "run", "--port", "8000"),
        [("POST", "/translate", "Guten Morgen"), ("GET", "/story", None)],
        needs=("flask", "anthropic"),
    ),
    "lambda_handler": Example([PYTHON, "app.py"], environ={"AWS_LAMBDA_FUNCTION_NAME": "example"}),
    "notebook": Example(
        serves("jupyter", "execute", "costs.ipynb", "--output=done.ipynb"), needs=("nbclient", "ipykernel", "openai")
    ),
    "cost_dashboard": Example([PYTHON, "summarize.py"], needs=("anthropic",)),
}


def ask(port: int, request: Request) -> None:
    """Print one request and its answer."""
    method, path, body = request
    data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = {"Content-Type": "text/plain" if isinstance(body, str) else "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, kind, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
    try:
        with direct.open(asked, timeout=60) as reply:
            status, text = reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
        error.close()
    print(f"{method} {path} -> {status} {text.strip()[:300]}", flush=True)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until somebody listens."""
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("The example ended before it served anything.")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("Nobody listens at 127.0.0.1:%d after a minute." % port)


def environment(simulator: Simulator, folder: Path) -> dict[str, str]:
    """The SDKs' own variables, and ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    env.update(
        AICG_URL=f"sqlite:///{folder / 'costs.db'}",
        AICG_HOSTS=simulator.hosts_setting(),
        AICG_STATE_DIR=str(folder / "state"),
        OPENAI_API_KEY="not-a-real-key",
        OPENAI_BASE_URL=simulator.urls["openai"] + "/v1",
        OPENAI_API_BASE=simulator.urls["openai"] + "/v1",
        ANTHROPIC_API_KEY="not-a-real-key",
        ANTHROPIC_BASE_URL=simulator.urls["anthropic"],
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
    )
    return env


def settled(simulator: Simulator, calls: int) -> None:
    """Until the providers have been asked so often."""
    for _ in range(600):
        if len(simulator.billed()) >= calls:
            return
        time.sleep(0.1)


def serve(example: Example, folder: Path, env: dict[str, str], port: int, simulator: Simulator, keep: bool) -> int:
    """Start a server, ask it, and end it again."""
    command = [str(port) if word == "8000" else word for word in example.command]
    server = subprocess.Popen(command, cwd=folder, env=env)
    try:
        if example.requests:
            wait_for(port, server)
        for request in example.requests:
            ask(port, request)
        if example.then:
            subprocess.run(example.then, cwd=folder, env=env, check=True)
            settled(simulator, 3)
        if keep:
            print(f"It goes on at http://127.0.0.1:{port}; end it with Ctrl-C.", flush=True)
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.send_signal(signal.SIGINT if "celery" not in command else signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(EXAMPLES))
    parser.add_argument("--keep", action="store_true", help="leave a server up until Ctrl-C")
    parser.add_argument("--port", type=int, default=8000, help="where a server listens (default: %(default)s)")
    options = parser.parse_args()
    example = EXAMPLES[options.name]
    from importlib.util import find_spec

    missing = [name for name in example.needs if find_spec(name) is None]
    if missing:
        sys.exit("This example needs: pip install " + " ".join(missing).replace("_", "-"))
    with tempfile.TemporaryDirectory(prefix="aicg-example-") as name, Simulator(("openai", "anthropic")) as simulator:
        folder = Path(name) / options.name
        shutil.copytree(HERE / options.name, folder)
        env = {**environment(simulator, folder), **example.environ}
        if example.requests or example.then:
            code = serve(example, folder, env, options.port, simulator, options.keep)
        else:
            code = subprocess.run(example.command, cwd=folder, env=env).returncode
        billed = len(simulator.billed())
        print(f"\nThe providers were asked {billed} times. What it cost:", flush=True)
        file = "ai_costs.db" if options.name == "cost_dashboard" else "costs.db"
        costs = [PYTHON, "-m", "aicostguard.cli", "costs", "--db", str(folder / file), "--by", example.by]
        return code or subprocess.run(costs, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
