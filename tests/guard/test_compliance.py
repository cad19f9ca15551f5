"""docs/compliance.md: each policy in it is right and does what is said of it; and what it says of the trail is so."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from aicostguard import BudgetExceeded, cli
from aicostguard.guard import audit, policyfile
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import Bound, Facts, Spent
from tests.ids import ROOT

PAGE = (ROOT / "docs" / "compliance.md").read_text(encoding="utf-8")
PATTERNS: Dict[str, str] = dict(re.findall(r"```yaml\n# ([a-z-]+)\n(.*?)```", PAGE, re.DOTALL))
USD = 10**9

#: the next call: labels, what it may cost, and more about it → the name of the budget that refuses it, or None
Call = Tuple[Dict[str, str], Any, Dict[str, Any], Any]


def call(cost: float, refused: Any = None, labels: Any = None, **more: Any) -> Call:
    return labels or {}, Bound(round(cost * USD), 1000, 1000), more, refused


UNKNOWN: Call = ({}, Bound(unknown="no-maximum"), {}, "a call whose most is not known")
UNPRICED: Call = ({}, Bound(None, 1000, 1000), {"priced": False}, "a model without a price")
ACME, OTHER = {"tags.customer": "acme"}, {"tags.customer": "other"}
MODEL = {"model": "gpt-4o", "provider": "openai"}
SAYS: Dict[str, List[Call]] = {
    "hard-cap": [
        call(2), call(2.01, "per_call_limit_usd"), UNKNOWN, UNPRICED, *[call(2)] * 24, call(0.01, "daily_budget_usd"),
    ],
    "customers": [
        call(20, labels=ACME), call(0.01, "each customer", ACME), call(20, labels=OTHER),
        call(20), call(0.01, "each customer"), *[call(20, labels={"tags.customer": str(n)}) for n in range(247)],
        call(0.01, "all of them", {"tags.customer": "new"}),
    ],
    "forbidden": [
        call(0.01, "no gpt-4o in production", {**MODEL, "environment": "production"}),
        call(0.01, labels={**MODEL, "environment": "test"}),
        call(0.01, "nothing to deepseek", {"model": "deepseek-chat", "provider": "deepseek"}),
        call(0.01, labels={"model": "gpt-4o-mini", "provider": "openai", "environment": "production"}),
    ],
    "agents": [
        call(1, labels={"agent": "researcher", "session": "1"}),
        call(0.01, "the researcher", {"agent": "researcher", "session": "1"}),
        call(5, labels={"agent": "writer", "session": "2"}),
        call(0.01, "per_session_limit_usd", {"agent": "writer", "session": "2"}),
        call(5, labels={"agent": "writer", "session": "3"}),
        call(0.01, "each agent", {"agent": "writer", "session": "4"}),
        *[call(0, labels={"agent": "quick", "session": "5"})] * 30,
        call(0, "calls of an agent", {"agent": "quick", "session": "5"}),
    ],
    "look-first": [call(100, labels={"team": "a"}), call(50, labels={"team": "a"}), call(50, labels={"team": "b"})],
    "fleet": [
        call(200, labels={"environment": "production"}), call(0.01, "production", {"environment": "production"}),
        call(500, labels={"environment": "test"}),
    ],
}  # fmt: skip
#: of a Monday in November 2025, UTC
NOON = 1_763_985_600_000
needs_yaml = pytest.mark.usefixtures("yaml")


@pytest.fixture
def yaml() -> None:
    pytest.importorskip("yaml")


def written(name: str, folder: Path) -> str:
    path = folder / "policy.yaml"
    path.write_text(PATTERNS[name], encoding="utf-8")
    return str(path)


@needs_yaml
@pytest.mark.ids("B43", "B01", "B11", "B12")
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_refuses_what_it_says_and_nothing_else(name: str, tmp_path: Path) -> None:
    loaded = policyfile.load(written(name, tmp_path))
    assert loaded.notices == ()
    guard = audit.guard(loaded.policy, MemoryStore())
    guard._clock = lambda: NOON  # no day ends meanwhile
    for number, (labels, bound, more, refused) in enumerate(SAYS[name]):
        facts = Facts(labels, bound, NOON, **more)
        try:
            guard.settle(guard.ask(facts), Spent(bound.nanousd, bound.tokens))
            found = None
        except BudgetExceeded as error:
            found = error.budget
            if refused in (UNKNOWN[3], UNPRICED[3]):
                found = refused
        assert found == refused, (number, labels)
    guard.close()
    trail = str(tmp_path / "audit.jsonl")
    assert audit.verify(trail).problems == []
    events = [entry["event"] for entry in audit.entries(trail)]
    assert events.count("blocked") == sum(row[3] is not None for row in SAYS[name])
    assert events.count("warned") == (1 if name == "look-first" else 0)


@needs_yaml
@pytest.mark.ids("B43", "B33")
def test_the_agents_pattern_stops_a_runaway(tmp_path: Path) -> None:
    policy = policyfile.load(written("agents", tmp_path)).policy
    assert (policy.loop_action, policy.loop_threshold, policy.loop_window) == ("block", 5, 60.0)


@needs_yaml
@pytest.mark.ids("B43", "B01")
@pytest.mark.parametrize("name", PATTERNS)
def test_the_command_finds_a_pattern_right_and_names_its_rules(name: str, tmp_path: Path, capsys: Any) -> None:
    path = written(name, tmp_path)
    assert cli.main(["policy", "check", path]) == 0
    said = capsys.readouterr().out.splitlines()
    loaded = policyfile.load(path)
    guard = audit.guard(loaded.policy, MemoryStore())
    guard.settle(guard.ask(Facts({}, Bound(1, 1, 1), 0)), Spent(1, 2))
    guard.close()
    first = next(audit.entries(str(tmp_path / "audit.jsonl")))
    assert said[-1].strip() == "rules " + first["rules"]
    broken = Path(path)
    broken.write_text(PATTERNS[name].replace("version: 1\n", "version: 1\nbudgtes: []\n"), encoding="utf-8")
    assert cli.main(["policy", "check", path]) == 1
    assert "policy.yaml:2: budgtes: there is no such key" in capsys.readouterr().err


@pytest.mark.ids("B43")
def test_every_pattern_is_run() -> None:
    assert set(PATTERNS) == set(SAYS) and len(re.findall("```yaml", PAGE)) == len(SAYS)


@pytest.mark.ids("B43", "B41")
def test_the_page_names_every_event_and_no_other() -> None:
    table = PAGE.split("## What one entry says")[1].split("## ")[0]
    named = {word for line in table.splitlines() if line.startswith("| `") for word in
             re.findall(r"`(\w+)`", line.split("|")[1])}  # fmt: skip
    source = (ROOT / "aicostguard" / "guard" / "audit.py").read_text(encoding="utf-8")
    written_ones = set(re.findall(r'add\(\s*"(\w+)"|"(?:blocked|warned|allowed)"', source)) - {""}
    written_ones |= set(re.findall(r'"(blocked|warned|allowed)"', source))
    assert named == written_ones


@pytest.mark.ids("B43", "B41")
@pytest.mark.parametrize("key", [None, b"0123456789abcdef"])
def test_a_reader_of_ones_own_needs_no_code_of_ours(key: Any, tmp_path: Path) -> None:
    """The recipe on the page, in ten lines."""
    trail = audit.Trail(str(tmp_path / "a.jsonl"), key)
    for n in range(3):
        trail.add("allowed", id="é %d" % n, nanousd=n)
    trail.close()
    before = "0" * 64
    for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        assert entry["prev"] == before
        before = entry.pop("hash")
        text = json.dumps(entry, separators=(",", ":")).encode()
        found = hmac.new(key, text, "sha256") if key else hashlib.sha256(text)
        assert found.hexdigest() == before


@pytest.mark.ids("B43", "B41")
def test_files_that_were_given_away_can_be_verified_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = audit.Trail(str(path), most=2000, kept=3)
    for n in range(60):
        trail.add("allowed", id="ticket-%02d" % n, reasons=["r" * 50])
    trail.close()
    away = tmp_path / "away"
    away.mkdir()
    shutil.copy(str(path) + ".3", away / "audit.jsonl.1")
    shutil.copy(str(path) + ".2", away / "audit.jsonl")
    found = audit.verify(str(away / "audit.jsonl"))
    assert found.problems == [] and 1 < found.first < found.last < 60


@pytest.mark.ids("B43", "B41")
def test_an_entry_has_the_size_the_page_says(tmp_path: Path) -> None:
    """Else the page is wrong about how long a trail is kept."""
    path = str(tmp_path / "audit.jsonl")
    guard = audit.AuditedGuard(policyfile.Policy(), MemoryStore(), audit.Trail(path), None)
    labels = {"team": "search", "user": "u-4711", "session": "s-12345678", "feature": "generate_rag_answer",
              "agent": "writer", "model": "gpt-4o-2024-08-06", "provider": "openai", "service": "shop",
              "environment": "prod"}  # fmt: skip
    for _ in range(100):
        guard.settle(guard.ask(Facts(labels, Bound(123456, 1000, 500), 0)), Spent(100000, 1200))
    guard.close()
    size = (tmp_path / "audit.jsonl").stat().st_size / 100
    assert 700 < size < 800
    assert (audit.KEPT + 1) * audit.MOST / size == pytest.approx(450_000, rel=0.06)
