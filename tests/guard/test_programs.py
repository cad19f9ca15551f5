"""Programs of their own that share a budget through a file: no key, no ledger, and one of them is killed in a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from aicostguard.guard.engine import Guard
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store import open_store
from aicostguard.simulator import Simulator
from tests.guard.budgets import billed
from tests.ids import ROOT

PROGRAM = """
import sys
{start}
import httpx
asked = 0
with httpx.Client(timeout=30) as client:
    while asked < int(sys.argv[2]):
        body = {{"model": "gpt-4o", "max_tokens": 100, "messages": [{{"role": "user", "content": "n %d" % asked}}]}}
        try:
            client.post(sys.argv[1] + "/chat/completions", json=body)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
            break
        asked += 1
print("asked", asked, flush=True)
"""
BY_CODE = "import aicostguard; aicostguard.auto_instrument(cost=aicostguard.CostConfig(budget_usd=0.02))"
BY_FILE = "import aicostguard.auto"
#: nano-dollars: two cents
CAP = 20_000_000


def environment(simulator: Simulator, folder: Path, **more: str) -> Dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("AICG_") and not k.lower().endswith("_proxy")}
    env.update(PYTHONPATH=str(ROOT), AICG_STATE_DIR=str(folder), AICG_HOSTS=simulator.hosts_setting(), **more)
    return env


def started(script: Path, simulator: Simulator, env: Dict[str, str], calls: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), simulator.base_url("openai"), str(calls)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.ids("D3", "ACC:B10", "ACC:B15", "ACC:Z2", "G02")
@pytest.mark.parametrize("how", ["code", "file"])
def test_programs_share_one_budget(how: str, simulator: Simulator, tmp_path: Path) -> None:
    """Four at once, then a fifth: what is spent is spent for all, and stays so after they have ended."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(start=BY_CODE if how == "code" else BY_FILE))
    more = {}
    if how == "file":
        policy = tmp_path / "policy.json"
        policy.write_text('{"version": 1, "cost": {"budget_usd": 0.02}}')
        more["AICG_POLICY"] = str(policy)
    env = environment(simulator, tmp_path / "state", **more)
    programs = [started(script, simulator, env, 100) for _ in range(4)]
    told = [program.communicate(timeout=120) for program in programs]
    assert all("BudgetExceeded" in out for out, _ in told), told
    spent = billed(simulator)
    assert 0 < spent <= CAP
    before = len(simulator.exchanges)
    out, _ = started(script, simulator, env, 100).communicate(timeout=60)
    assert "asked 100" not in out and billed(simulator) <= CAP
    # Room that was too little for the others is too little for the next one, too.
    assert len(simulator.exchanges) - before <= 1


@pytest.mark.ids("D11", "ACC:Z2", "ACC:Z4")
def test_what_a_killed_program_held_is_booked_when_its_lease_ends(simulator: Simulator, tmp_path: Path) -> None:
    script, file = tmp_path / "program.py", tmp_path / "budgets.db"
    script.write_text(PROGRAM.format(start=BY_FILE))
    policy = tmp_path / "policy.json"
    policy.write_text('{"version": 1, "cost": {"budget_usd": 0.02}, "store": "sqlite:///%s"}' % file)
    simulator.set_default(first_delay_ms=20_000)
    program = started(script, simulator, environment(simulator, tmp_path, AICG_POLICY=str(policy)), 1)
    rules = Policy(name=str(policy), budgets=(Budget("budget_usd", CAP, dimension="budget"),))
    clock: List[int] = [time.time_ns() // 1_000_000]
    guard = Guard(rules, open_store("sqlite:///%s" % file, str(policy), str(tmp_path)), clock=lambda: clock[0])
    try:
        deadline = time.monotonic() + 60
        while _one(guard).reserved == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        held = _one(guard).reserved
        assert held > 0
        program.send_signal(signal.SIGKILL)
        program.communicate(timeout=30)
        assert _one(guard).reserved == held, "the provider may bill it: nothing is given back"
        clock[0] += 20 * 60_000
        guard._owed.tidy(clock[0])
        after = _one(guard)
        assert (after.reserved, after.spent, after.estimated) == (0, held, 1)
    finally:
        guard.close()
        if program.poll() is None:
            program.kill()
            program.communicate()
        simulator.set_default()


def _one(guard: Guard) -> Any:
    rows = guard.status()
    return rows[0] if rows else _Nothing


class _Nothing:
    reserved = 0


@pytest.mark.ids("ACC:B03", "A8")
def test_a_broken_policy_file_is_said_once_and_stops_nobody(simulator: Simulator, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(start=BY_FILE))
    policy = tmp_path / "policy.json"
    policy.write_text('{"version": 1, "cost": {"buget_usd": 0.02}}')
    env = environment(simulator, tmp_path, AICG_POLICY=str(policy))
    out, err = started(script, simulator, env, 3).communicate(timeout=60)
    assert "asked 3" in out
    assert err.count("no budget is enforced") == 1 and "buget_usd" in err and str(policy) in err


@pytest.mark.ids("ACC:B03", "ACC:B15")
def test_who_enforces_by_code_gets_his_mistakes(tmp_path: Path) -> None:
    import aicostguard
    from aicostguard.guard.policy import BadPolicy

    missing = str(tmp_path / "none.yaml")
    for given in (
        {},
        {"policy": missing},
        {"cost": {"budget_usd": 1}},
        {"cost": aicostguard.CostConfig(), "policy": "x"},
    ):
        with pytest.raises(BadPolicy):
            aicostguard.auto_instrument(**given)  # type: ignore[arg-type]


@pytest.mark.ids("ACC:B15", "D4")
def test_the_import_alone_never_blocks(simulator: Simulator, tmp_path: Path) -> None:
    """Though a policy lies beside the program."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(start="import aicostguard.auto"))
    (tmp_path / "aicostguard.json").write_text('{"version": 1, "cost": {"budget_usd": 0.0001}}')
    out, _ = started(script, simulator, environment(simulator, tmp_path / "state"), 5).communicate(timeout=60)
    assert "asked 5" in out
    script.write_text(PROGRAM.format(start="import aicostguard; aicostguard.auto_instrument()"))
    out, _ = started(script, simulator, environment(simulator, tmp_path / "state"), 5).communicate(timeout=60)
    assert "BudgetExceeded" in out and "asked 0" in out
    script.write_text(
        PROGRAM.format(start="import aicostguard; aicostguard.auto_instrument(); aicostguard.uninstrument()")
    )
    out, _ = started(script, simulator, environment(simulator, tmp_path / "state"), 5).communicate(timeout=60)
    assert "asked 5" in out
