"""Spend as a test: the pytest plugin, in a pytest of its own, against the simulated providers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple

import pytest

from aicostguard import pricing
from aicostguard.simulator import Simulator
from tests.ids import ROOT

pytestmark = pytest.mark.ids("Z8")

#: what stands in every test file below: calls by hand, because an SDK would take most of the time
HEAD = """
import json, os, pytest, urllib.request

def ask(model="gpt-4o", **more):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **more}).encode()
    address = os.environ["SIM_URL"] + "/chat/completions"
    asked = urllib.request.Request(address, body, {"content-type": "application/json", "authorization": "Bearer x"})
    with urllib.request.urlopen(asked) as answer:
        return answer.read()
"""


PLUGINS = ("xdist.plugin", "aicostguard.testing.plugin")


class Ran(NamedTuple):
    code: int
    out: str
    said: Dict[str, Any]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def run(simulator: Simulator, tmp_path: Path) -> Callable[..., Ran]:
    """Write a test file and run pytest on it, in a process of its own."""

    def run(body: str, *options: str, **environment: str) -> Ran:
        (tmp_path / "test_app.py").write_text(HEAD + body, encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        said = tmp_path / "said.json"
        env = {
            **os.environ,
            "SIM_URL": simulator.base_url("openai"),
            "AICG_HOSTS": simulator.hosts_setting(),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # those of all the libraries here take ten seconds
            **environment,
        }
        plugins = [part for name in ("no:cacheprovider", "anyio", *PLUGINS) for part in ("-p", name)]
        command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
        done = subprocess.run(
            command,
            cwd=str(tmp_path),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        return Ran(done.returncode, done.stdout, json.loads(said.read_text()) if said.is_file() else {})

    return run


def cost(simulator: Simulator) -> int:
    """What the simulated providers' own count costs, in nano-dollars."""
    total = 0
    for row in simulator.billed():
        receipt = {"provider": row.provider, "model": row.model}
        receipt.update({k: v for k, v in row.usage._asdict().items() if v})
        price = pricing.price(receipt, 1_790_000_000_000).cost_nanousd
        assert price is not None
        total += price
    return total


def test_each_test_and_all_of_them_cost_what_the_provider_billed(run: Any, simulator: Simulator) -> None:
    ran = run(
        """
def test_two():
    ask(); ask()
def test_stream():
    ask(stream=True, stream_options={"include_usage": True})
def test_nothing(): pass
""",
        "--aicg",
        "--aicg-json=said.json",
    )
    assert ran.code == 0, ran.out
    rows = {row["test"].split("::")[1]: row for row in ran.said["tests"]}
    assert {name: row["calls"] for name, row in rows.items()} == {"test_two": 2, "test_stream": 1}
    total = ran.said["total"]
    assert total["calls"] == len(simulator.billed()) == 3
    assert total["priced_nanousd"] == sum(row["priced_nanousd"] for row in rows.values()) == cost(simulator) > 0
    assert total["input_tokens"] == sum(row.usage.input_tokens or 0 for row in simulator.billed())
    shown = [line.split() for line in ran.out.splitlines() if line.endswith(("all", "::test_two", "::test_stream"))]
    assert [line[-1].split("::")[-1] for line in shown] == [
        *sorted(rows, key=lambda name: -rows[name]["priced_nanousd"]),
        "all",
    ], ran.out
    assert shown[-1][0] == "$" + ("%.9f" % (total["priced_nanousd"] / 1e9)).rstrip("0")


def test_a_test_over_its_limit_fails_and_says_why(run: Any) -> None:
    ran = run(
        """
@pytest.mark.max_cost(0.0000001)
def test_dear(): ask()
@pytest.mark.max_cost(usd=5)
def test_cheap(): ask()
@pytest.fixture
def later():
    yield
    ask()
@pytest.mark.max_cost(0)
def test_at_its_end(later): pass
@pytest.mark.max_cost(0)
def test_free(): pass
"""
    )
    assert ran.code == 1, ran.out
    assert "2 passed" not in ran.out
    assert "FAILED test_app.py::test_dear - Failed: AI calls cost $" in ran.out, ran.out
    assert "the limit is $0.0000001 (1 call; openai:gpt-4o)" in ran.out
    assert "ERROR test_app.py::test_at_its_end" in ran.out
    assert "1 failed, 3 passed, 1 error" in ran.out


def test_a_cost_that_is_not_known_is_not_within_a_limit(run: Any) -> None:
    ran = run(
        """
@pytest.mark.max_cost(5)
def test_it(): ask("of-nobody-1")
"""
    )
    assert ran.code == 1
    assert "is not known: 1 call without a price (openai:of-nobody-1: " in ran.out, ran.out
    assert "unpriced" in ran.out


def test_the_fixture_counts_while_the_test_runs(run: Any, simulator: Simulator) -> None:
    ran = run(
        """
def test_it(ai_spend):
    ai_spend.assert_calls(0)
    ask()
    ai_spend.assert_calls(1)
    ai_spend.assert_cost_at_most(0.5)
    assert ai_spend.models == {"openai:gpt-4o": 1}
    assert str(ai_spend.cost_usd).startswith("0.0"), ai_spend.cost_usd
def test_more(ai_spend):
    ask()
    ai_spend.assert_calls(2)
def test_dearer(ai_spend):
    ask()
    ai_spend.assert_cost_at_most("0.000000001")
"""
    )
    assert "AssertionError: 1 billed call came, not 2: {'openai:gpt-4o': 1}" in ran.out, ran.out
    assert "AssertionError: AI calls cost $" in ran.out
    assert "2 failed, 1 passed" in ran.out
    assert len(simulator.billed()) == 3


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_run_over_its_limit_stops(run: Any, simulator: Simulator, workers: Any) -> None:
    body = "import time\n@pytest.mark.parametrize('n', range(60))\ndef test_it(n): ask(), time.sleep(0.2)\n"
    ran = run(body, "--aicg-max-cost=0.000000001", "--aicg-json=said.json", *workers)
    assert ran.code in (1, 2), ran.out
    assert "over --aicg-max-cost: AI calls cost $" in ran.out, ran.out
    assert ran.said["total"]["calls"] == len(simulator.billed()) < 60


def test_workers_of_xdist_tell_all_they_spent(run: Any, simulator: Simulator) -> None:
    ran = run(
        """
@pytest.fixture(scope="session", autouse=True)
def warm(): ask()
@pytest.mark.parametrize("n", range(6))
@pytest.mark.max_cost(1)
def test_it(n): ask()
""",
        "-n2",
        "--aicg",
        "--aicg-json=said.json",
    )
    assert ran.code == 0, ran.out
    assert ran.said["total"]["calls"] == len(simulator.billed()) >= 7
    assert ran.said["total"]["priced_nanousd"] == cost(simulator)
    assert len(ran.said["tests"]) == 6


def test_coroutines_and_threads(run: Any, simulator: Simulator) -> None:
    pytest.importorskip("openai")
    ran = run(
        """
import asyncio, openai, threading
@pytest.fixture
def anyio_backend(): return "asyncio"
@pytest.mark.anyio
async def test_one(ai_spend):
    async with openai.AsyncOpenAI(base_url=os.environ["SIM_URL"], api_key="x") as mine:
        say = lambda: mine.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        await asyncio.gather(say(), say())
    ai_spend.assert_calls(2)
def test_thread(ai_spend):
    thread = threading.Thread(target=ask)
    thread.start(); thread.join()
    ai_spend.assert_calls(1)
""",
        "--aicg-json=said.json",
    )
    assert ran.code == 0, ran.out
    assert ran.said["total"]["calls"] == len(simulator.billed()) == 3
    assert ran.said["total"]["priced_nanousd"] == cost(simulator)


def test_receipts_go_on_to_where_they_are_sent_marked_as_of_tests(run: Any, tmp_path: Path) -> None:
    sink = "sqlite:///%s/costs.db" % tmp_path
    ran = run("import aicostguard.auto\ndef test_it(): ask()\n", "--aicg", "--aicg-json=said.json", AICG_URL=sink)
    assert ran.code == 0, ran.out
    kept = sqlite3.connect(str(tmp_path / "costs.db"))
    try:
        envelopes = [json.loads(row[0]) for row in kept.execute("SELECT envelope FROM inbox")]
    finally:
        kept.close()
    assert [receipt["model"] for envelope in envelopes for receipt in envelope["receipts"]] == ["gpt-4o"]
    assert {envelope["environment"] for envelope in envelopes} == {"test"}
    assert ran.said["total"]["calls"] == 1


def test_pytest_finds_it_by_itself() -> None:
    found = importlib.metadata.distribution("aicostguard").entry_points
    assert [entry.value for entry in found if entry.group == "pytest11"] == [PLUGINS[-1]]


def test_until_it_is_asked_it_does_nothing(run: Any) -> None:
    ran = run(
        """
import sys
def test_it():
    ask()
    heavy = tuple("aicostguard." + name for name in ("capture", "auto", "pricing"))
    assert not [name for name in sys.modules if name.startswith(heavy)]
    assert "AICG_ENVIRONMENT" not in os.environ
"""
    )
    assert ran.code == 0, ran.out
    assert "AI calls" not in ran.out


@pytest.mark.parametrize(
    "body, options, said",
    [
        ("def test_it(): pass", ("--aicg-max-cost=lots",), "--aicg-max-cost takes dollars"),
        ("@pytest.mark.max_cost(-1)\ndef test_it(): pass", (), "max_cost of test_app.py::test_it takes dollars"),
        ("@pytest.mark.max_cost()\ndef test_it(): pass", (), "max_cost takes one limit in dollars"),
        ("@pytest.mark.max_cost(eur=1)\ndef test_it(): pass", (), "max_cost takes one limit in dollars"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(run: Any, body: str, options: Any, said: str) -> None:
    ran = run(body, *options)
    assert ran.code == 4, ran.out
    assert said in ran.out


def test_switched_off_it_says_that_it_does_not_know(run: Any) -> None:
    ran = run("def test_it(): ask()\n", "--aicg", AICG_DISABLED="1")
    assert ran.code == 0
    assert "what AI calls cost is not known: AICG_DISABLED is set" in ran.out
