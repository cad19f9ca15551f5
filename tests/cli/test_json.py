"""`--json` of every command: which keys an answer has and of what type, kept in `golden/json`, and in docs/cli.md.

A key that goes, or that changes its type, breaks somebody's program: it shows here as a difference. `--update` writes
the files anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator

import click
import pytest

pytest.importorskip("fastapi")
from aicostguard.cli import app
from tests.cli import desk
from tests.cli.test_golden import ledgers, placed, same, words

__all__ = ["ledgers"]  # a fixture

#: commands in order, over the ledger with a lot; what a command says is put together over its lines
LINES = (
    "keys create --name ci --role admin",
    "costs --by feature,model --latency --compare previous",
    "costs --by day",
    "models",
    "compare --baseline gpt-4o-mini",
    "agents --since 30d",
    "focus --since 7d",
    "deliveries --by process",
    "tail -n 3",
    "budgets add marketing --usd 0.10 --match team=search --period month",
    "budgets add tokens --tokens 100",
    "budgets set marketing --usd 0.20",
    "budgets show marketing",
    "budgets",
    "budgets rebuild",
    "top",
    "budgets remove tokens",
    "alerts add dear --threshold 0.01 --period day",
    "alerts edit dear --threshold 0.02",
    "alerts check",
    "alerts",
    "alerts list",
    "alerts rules",
    "alerts rules dear",
    "alerts ack 1",
    "alerts snooze 1 --minutes 5",
    "alerts channels add ops https://127.0.0.1:9/hook",
    "alerts channels edit ops --rename pager",
    "alerts channels",
    "alerts channels log pager",
    "alerts test pager",
    "alerts channels remove pager",
    "alerts remove dear",
    "alerts restore",
    "price explain gpt-4o --tokens in=1240,out=312 --at 2026-03-12",
    "price explain no-such-model --tokens in=1",
    "price reported",
    "price reconcile bill.csv",
    "reprice --since 7d",
    "reprice --since 7d --apply",
    "reprice --history",
    "keys set KEY --per-minute 60",
    "keys list",
    "keys rotate KEY --grace 1d",
    "keys revoke KEY",
    "dashboard --print",
    "projects create search --organisation acme",
    "projects rename acme/search find",
    "projects archive acme/find",
    "projects list",
    "projects audit",
    "people add ada@example.com --role admin --reach ledger",
    "people role ada@example.com read",
    "people password ada@example.com --code",
    "people disable ada@example.com",
    "people list",
    "backup copy.db",
    "restore copy.db --force",
    "salvage copy.db",
    "retention show",
    "retention set --days 20",
    "retention run --dry-run",
    "retention run",
    "archive list",
    "archive verify",
    "archive restore --all",
    "retention clear",
    "forget --user user-001@example.com --yes",
    "forget --history",
    "labels user --most 20",
    "compact",
)
#: what has no --json, and why
WITHOUT = {
    "serve": "runs until it is stopped; --log-format json",
    "completion": "prints a script",
    "price update": "asks the network, or a table compiled elsewhere: tests/ledger/test_prices.py",
    "audit": "has its own: tests/guard",
    "policy": "has its own: tests/guard",
    "diagnose": "has its own: tests/safety",
    "run": "becomes the program",
}


@pytest.fixture(scope="module")
def shapes(ledgers: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """command → path of a key → its types, over all lines."""
    folder = placed(ledgers, tmp_path_factory.mktemp("json"), "lot")
    found: dict[str, dict[str, set[str]]] = {}
    key = ""
    for line in LINES:
        told = desk.run([*words(line.replace("KEY", key[:9])), "--json"], folder)
        body = "".join(row + "\n" for row in told.splitlines()[1:] if not row.startswith(("! ", "[exit")))
        answers = [json.loads(row) for row in body.splitlines()] if line.startswith("tail") else [json.loads(body)]
        for answer in answers:
            if line.startswith("keys create"):
                key = answer["key"]
            for path, kind in shape(answer):
                found.setdefault(named(line), {}).setdefault(path, set()).add(kind)
    return found


def shape(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """`(path, type)` of every value in an answer; `[]` stands for each of a list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from shape(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path + "[]", "list"
        for inner in value:
            yield from shape(inner, path + "[]")
    else:
        kinds: dict[type, str] = {bool: "true or false", int: "integer", float: "number", str: "text"}
        yield path, kinds.get(type(value), "null")


def named(line: str) -> str:
    """The command of a line: its words up to the first that is none."""
    command: click.Command = app._group
    taken = []
    for word in line.split():
        inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        command = inner
        taken.append(word)
    return " ".join(taken)


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, (*path, name))
    if path and (not isinstance(command, click.Group) or command.invoke_without_command):
        yield " ".join(path), command


def test_every_command_has_it_and_is_tried() -> None:
    every = dict(leaves(app._group))
    tried = {named(line) for line in LINES}
    assert tried | set(WITHOUT) == set(every)
    silent = [name for name in tried if not any("--json" in option.opts for option in every[name].params)]
    assert not silent


def test_answers_keep_their_keys_and_types(shapes: dict[str, dict[str, set[str]]], pytestconfig: pytest.Config) -> None:
    verbs: dict[str, list[str]] = {}
    for command in sorted(shapes):
        rows = [f"  {path or '(the line)'}: {' or '.join(sorted(kinds))}" for path, kinds in shapes[command].items()]
        verbs.setdefault(command.split()[0], []).extend([f"aicg {command} --json", *rows, ""])
    for verb, lines in verbs.items():
        same("\n".join(lines), "json", verb, pytestconfig)


def test_no_amount_is_a_float(shapes: dict[str, dict[str, set[str]]]) -> None:
    """Money is an integer of nano-dollars, or exact text; how fast it goes is a guess, and may be one."""
    money = [
        (command, path)
        for command, paths in shapes.items()
        for path, kinds in paths.items()
        if "usd" in path.rpartition(".")[2] and "burn_per_hour" not in path and "number" in kinds
    ]
    assert not money
