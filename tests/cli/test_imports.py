"""What a command loads: what it needs, and no more. Counted, not timed: every module is a file that is looked for.

A server's framework costs seconds on a small machine, and a person who asks for a table waits for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from aicostguard.cli import VERBS
from tests.cli import desk
from tests.ids import ROOT

#: what serves or speaks over a network, or draws; each brings dozens of modules
HEAVY = {
    *("fastapi", "starlette", "uvicorn", "jinja2", "pydantic", "anyio", "asyncio", "multiprocessing"),
    *("ssl", "http.client", "urllib.request", "email", "vl_convert", "yaml", "redis", "pandas", "polars", "IPython"),
}
#: and what help and completion have no use for, either
OF_LEDGER = {"sqlite3", "rich", "zoneinfo", "aicostguard.ledger"}
#: command line → what of `HEAVY` it may load, and why
LINES: dict[str, set[str]] = {
    "--help": set(),
    "completion bash": set(),
    "costs": set(),
    "costs --by day --csv": set(),
    "models": set(),
    "compare": set(),
    "agents": set(),
    "focus": set(),
    "deliveries": set(),
    "tail -n -1": set(),  # refused, or it would follow
    "top --once": set(),
    "budgets": set(),
    "alerts": set(),
    "price explain gpt-4o --tokens in=1": set(),
    "price reported": set(),
    "reprice --history": set(),
    "keys list": set(),
    "projects list": set(),
    "people list": set(),
    "retention show": set(),
    "archive list": set(),
    "labels": set(),
    "compact": set(),
    "forget --history": set(),
    "dashboard --print": set(),
    "backup copy.db": set(),
    "restore copy.db --force": set(),
    "salvage copy.db": set(),
    "audit show nowhere.jsonl": set(),
    "policy check nowhere.yaml": set(),
    "diagnose": {"ssl", "http.client", "email"},  # asks whether the ledger is there, and which SDKs are
    "serve --log-level loud": set(),  # refused before the server is loaded
    "run --nope": set(),
}
PROGRAM = """
import json, sys
from aicostguard.cli import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump(sorted(sys.modules), file)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("imports")
    desk.fill(made / "ledger.db", "little")
    assert "aicg_" in desk.run(["keys", "create", "--role", "admin"], made)
    return made


def loaded(line: str, folder: Path) -> set[str]:
    """The modules that a process of its own has at the end of a command."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("AICG_")}
    env.update(PYTHONPATH=str(ROOT), AICG_DATA_DIR=str(folder), AICG_STATE_DIR=str(folder / "state"), COLUMNS="80")
    command = [sys.executable, "-c", PROGRAM, str(folder / "modules"), *line.split()]
    subprocess.run(command, cwd=folder, env=env, capture_output=True, check=True, timeout=120)
    return set(json.loads((folder / "modules").read_text()))


@pytest.mark.parametrize("line", LINES)
def test_a_command_loads_what_it_needs(line: str, folder: Path) -> None:
    found = loaded(line, folder)
    assert found & HEAVY <= LINES[line]


@pytest.mark.parametrize("line", ["--help", "--version", "completion zsh", "run --help"])
def test_help_loads_no_ledger(line: str, folder: Path) -> None:
    assert loaded(line, folder) & (HEAVY | OF_LEDGER) == set()


def test_every_verb_is_tried() -> None:
    assert {line.split()[0] for line in LINES} - {"--help"} == set(VERBS)
