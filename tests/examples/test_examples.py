"""Each example is run by the very command of examples/README.md, against simulated providers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
#: name → its command, as it stands in the README
COMMANDS = dict(re.findall(r"^\| `(\w+)` \| `(python examples/run\.py [^`]+)` \|", README, re.M))
#: name → rows that `aicg costs` shows afterwards (as far as they are the same every time), with calls
SHOWS = {
    "fastapi_gateway": [r"infer +gpt-4 .* 1 ", r"infer +claude-3-haiku .* 1 ", r"total .* 2 "],
    "agents_tree": [r"researcher +planner .* 2 ", r"writer +planner .* 1 ", r"planner +- .* 1 ", r"total .* 4 "],
    "langchain_app": [r"name_three .* 1 ", r"stream_three .* 1 ", r"app .* 2 ", r"total .* 4 "],
    "celery_app": [r"summarise +gpt-4o-mini .* 3 "],
    "django_app": [r"titles +nobody .* 2 "],
    "flask_app": [r"translate .* 1 ", r"words .* 1 ", r"total .* 2 "],
    "lambda_handler": [r"handler +gpt-4o-mini .* 3 "],
    "notebook": [r"ask +gpt-4o-mini .* 3 "],
    "cost_dashboard": [r"summarize +claude-sonnet-4-5 .* 1 "],
}
#: needs more than the tests install: scripts/matrix runs CrewAI's calls in an environment of its own
ALONE = {"crewai_app"}
NEEDS = {"langchain_app": "langchain_openai", "celery_app": "celery", "django_app": "django", "flask_app": "flask",
         "notebook": "nbclient"}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_example_has_a_command_and_a_test() -> None:
    folders = {path.parent.name for path in (ROOT / "examples").glob("*/*") if path.suffix in (".py", ".ipynb")}
    assert set(COMMANDS) == {*SHOWS, *ALONE}
    assert folders == {*COMMANDS, "governance", "support_desk"}


@pytest.mark.ids("A26")
def test_the_gateway_is_served_where_the_source_says() -> None:
    assert COMMANDS["fastapi_gateway"].endswith("fastapi_gateway"), "without --port, which is 8000 then"
    runner = (ROOT / "examples" / "run.py").read_text(encoding="utf-8")
    assert '"--host", "127.0.0.1", "--port", "8000"' in runner


@pytest.mark.ids("A26", "G27", "E22")
@pytest.mark.parametrize("name", sorted(SHOWS))
def test_an_example_runs_by_its_command_and_shows_its_costs(name: str, tmp_path: Path) -> None:
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}")
    command = [sys.executable, *COMMANDS[name].split()[1:], "--port", str(free_port())]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=420,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    costs = done.stdout.partition("What it cost:")[2]
    for row in SHOWS[name]:
        assert re.search(f"^{row}", costs, re.M), (row, costs, done.stderr[-2000:])
    if name == "agents_tree":
        assert "Multi-Agent Cost Attribution" in done.stdout


class Gateway:
    """The gateway, served, and a client of it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def providers() -> Iterator[Simulator]:
    with Simulator(("openai", "anthropic")) as simulator:
        yield simulator


@pytest.fixture
def gateway(providers: Simulator, tmp_path: Path) -> Iterator[Gateway]:
    pytest.importorskip("fastapi")
    providers.reset()
    port = free_port()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "AICG_URL": f"sqlite:///{tmp_path / 'gateway.db'}",
        "AICG_HOSTS": providers.hosts_setting(),
        "AICG_STATE_DIR": str(tmp_path / "state"),
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": providers.base_url("openai"),
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_BASE_URL": providers.urls["anthropic"],
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port)],
            cwd=ROOT / "examples" / "fastapi_gateway",
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield Gateway(port)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.mark.ids("A03", "A04", "A05", "A06", "ACC:A19", "ACC:A20", "ACC:A21", "A24", "A27", "A35")
def test_the_gateway_answers_with_the_providers_own_counts(gateway: Gateway, providers: Simulator) -> None:
    gateway.ask("POST", "/budgets/", {"name": "default", "limit": 50.0})
    told = 0.0
    for body, wanted in (
        ({"model": "gpt-4", "prompt": "Summarize this report"}, "gpt-4"),
        ({"model": "claude-3-haiku", "prompt": "Summarize this report"}, "claude-3-haiku"),
        ({}, "gpt-4"),  # the source's defaults
    ):
        providers.reset()
        status, answer = gateway.ask("POST", "/infer", body)
        assert status == 200, answer
        (row,) = providers.billed()
        assert row.usage is not None
        assert set(answer) == {"model", "input_tokens", "output_tokens", "estimated_cost_usd"}
        assert (answer["model"], answer["output_tokens"]) == (wanted, row.usage.output_tokens)
        assert answer["estimated_cost_usd"] > 0
        told += answer["estimated_cost_usd"]
        (budget,) = gateway.ask("GET", "/budgets/")[1]["budgets"]
        assert (float(budget["spent_usd"]), budget["reserved_usd"]) == (pytest.approx(told), "0")
    status, costs = gateway.ask("GET", "/costs")
    assert (status, costs["totals"]["calls"], costs["totals"]["unpriced_calls"]) == (200, 3, 0)
    assert {row["model"]: row["calls"] for row in costs["rows"]} == {"gpt-4": 2, "claude-3-haiku": 1}
    providers.reset()
    assert gateway.ask("POST", "/infer", {"model": "no-such-model", "prompt": "hi"}) == (
        400,
        {"detail": "No pricing configured for model: no-such-model"},
    )
    assert providers.billed() == []


@pytest.mark.ids("A09", "A16")
def test_a_call_that_the_provider_refuses_holds_nothing_of_a_budget(gateway: Gateway, providers: Simulator) -> None:
    gateway.ask("POST", "/budgets/", {"name": "default", "limit": 50.0})
    for body in ({"model": 5}, {"model": None}, {"prompt": 5}, {"prompt": None}, {"team": []}, []):
        status, answer = gateway.ask("POST", "/infer", body)
        assert status == 422 and answer["detail"][0]["loc"] == ["body", *(body if isinstance(body, dict) else ())]
    providers.set_default(status=400)
    try:
        for model in ("gpt-4", "claude-3-haiku"):
            status, answer = gateway.ask("POST", "/infer", {"model": model, "prompt": "hi"})
            assert (status, answer) == (502, {"detail": f"The provider of {model} answers 400"})
    finally:
        providers.reset()
    (budget,) = gateway.ask("GET", "/budgets/")[1]["budgets"]
    assert [scope["reserved_usd"] for scope in budget["scopes"]] in ([], ["0"]), budget


@pytest.mark.ids("A09", "A16")
def test_a_call_that_the_provider_does_not_answer_stays_held(gateway: Gateway, providers: Simulator) -> None:
    """It may be billed: nobody may spend its room until its lease ends."""
    gateway.ask("POST", "/budgets/", {"name": "default", "limit": 50.0})
    held = 0.0
    for model in ("gpt-4", "claude-3-haiku"):
        providers.reset()
        providers.set_default(cut_after=-1)
        try:
            status, answer = gateway.ask("POST", "/infer", {"model": model, "prompt": "hi"})
        finally:
            providers.reset()
        assert (status, answer) == (504, {"detail": f"The provider of {model} does not answer"})
        (budget,) = gateway.ask("GET", "/budgets/")[1]["budgets"]
        assert float(budget["reserved_usd"]) > held, budget
        held = float(budget["reserved_usd"])


@pytest.mark.ids("A09", "A11", "A15", "A16", "ACC:A22", "ACC:A23")
def test_a_used_up_budget_keeps_the_call_from_the_provider_and_is_told(gateway: Gateway, providers: Simulator) -> None:
    assert gateway.ask("GET", "/alerts/") == (200, {"alerts": [], "cursor": None})
    status, made = gateway.ask("POST", "/budgets/", {"name": "default", "limit": 50.0, "spent": 0.0})
    assert (status, made["limit"]) == (201, 50.0)
    assert gateway.ask("POST", "/infer", {"model": "gpt-4", "prompt": "hi"})[0] == 200
    status, changed = gateway.ask("POST", "/budgets/", {"name": "default", "limit": 0.000001})
    assert (status, changed["limit_usd"]) == (200, "0.000001")
    providers.reset()
    status, refused = gateway.ask("POST", "/infer", {"model": "gpt-4", "prompt": "hi"})
    assert (status, refused["detail"]) == (402, "Budget limit reached. Inference blocked.")
    assert providers.billed() == []

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        alerts = gateway.ask("GET", "/alerts/")[1]["alerts"]
        if alerts:
            break
        time.sleep(0.2)
    assert "Budget utilization" in alerts[0]["text"]
    (budget,) = gateway.ask("GET", "/budgets/")[1]["budgets"]  # when it is told of, the call is counted
    assert float(budget["scopes"][0]["spent_usd"]) > 0
    assert gateway.ask("GET", "/compare/")[1][0]["model"] == "gpt-4"
