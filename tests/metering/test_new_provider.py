"""A new provider that follows OpenAI is one row and one fixture: shown in a copy of the package that gets both."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest

import aicostguard

pytest.importorskip("openai")

ROW = """
COMPATIBLE = (
    *COMPATIBLE,
    Provider("newcomer", ("api.newcomer.example",), cost=("cost_usd",), docs="https://newcomer.example/docs"),
)
"""
FIXTURE = """
from tests.metering.building import C1, JSON, add, chat, counts, says, whole

add(
    "newcomer chat", "api.newcomer.example", "/v1/chat/completions", whole(chat(counts(12, 3, cost_usd=0.25))), JSON,
    says("newcomer", (12, 3), reported_cost_nanousd=250_000_000, **C1),
)
"""
PROGRAM = """
import json, sys
from aicostguard.capture import hooks
from aicostguard.capture.state import state

receipts = []
state.deliver = receipts.append
hooks.install()
from tests.metering.building import FIXTURES, told
import tests.metering.fixtures_newcomer

(fixture,) = FIXTURES
assert [told(reading) for reading in fixture.read()] == list(fixture.expected)

import openai

library = sys.modules.get("httpx2") or sys.modules["httpx"]
head = {"content-type": "application/json"}
answer = library.MockTransport(lambda request: library.Response(200, content=fixture.body, headers=head))
url = "https://api.newcomer.example/v1"
client = openai.OpenAI(base_url=url, api_key="x", http_client=library.Client(transport=answer))

def ask():
    client.chat.completions.create(model="m-1", messages=[{"role": "user", "content": "hi"}])

ask()
json.dump(receipts, sys.stdout)
"""


@pytest.mark.ids("G07")
def test_a_new_provider_is_one_row_and_one_fixture(tmp_path: pathlib.Path) -> None:
    source, tests = pathlib.Path(aicostguard.__file__).parent, pathlib.Path(__file__).parents[1]
    shutil.copytree(source, tmp_path / "aicostguard", ignore=shutil.ignore_patterns("__pycache__", "data"))
    (tmp_path / "tests" / "metering").mkdir(parents=True)
    for name in ("__init__.py", "metering/__init__.py", "metering/building.py"):
        shutil.copy(tests / name, tmp_path / "tests" / name)
    with open(tmp_path / "aicostguard" / "metering" / "compatible_rows.py", "a") as rows:
        rows.write(ROW)
    (tmp_path / "tests" / "metering" / "fixtures_newcomer.py").write_text(FIXTURE)
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(program)], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    (receipt,) = json.loads(done.stdout)
    assert receipt.pop("latency_ms") >= 0
    assert receipt == {
        "provider": "newcomer", "model": "m-1", "input_tokens": 12, "output_tokens": 3, "feature": "ask",
        "reported_cost_nanousd": 250_000_000,
    }  # fmt: skip
