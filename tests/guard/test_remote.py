"""Programs on several hosts and one ledger, all of them real processes: one budget for all, whoever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from aicostguard import pricing
from aicostguard.guard import stated
from aicostguard.guard.policy import BadPolicy, Policy
from aicostguard.guard.tighten import Remote, join, read
from aicostguard.simulator import Simulator

ledger_here = pytest.mark.skipif(find_spec("fastapi") is None, reason="the ledger's extra is not installed")

#: a program with the agent's parts: it fetches the policy, asks, "calls", delivers the receipt, settles; until nothing
#: is left for a while
PROGRAM = """
import os, random, sys, time
from aicostguard.config import load
from aicostguard.delivery import Delivery
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.link import Link, Unreachable
from aicostguard.guard.plan import Rule
from aicostguard.guard.policy import Policy
from aicostguard.guard.store.lent import LentStore
from aicostguard.guard.tighten import join, read
from aicostguard.guard.values import Bound, Facts, Spent
from aicostguard.health import health
port_file, log, number = sys.argv[1:]
pick = random.Random(int(number))
settings = load(os.environ)
delivery = Delivery(settings)
link = Link(settings.url, settings.key, "test")
joined = join(Policy(), read(link.policy(None, 20.0)[0]))
store = LentStore(link.lend, lambda: delivery._epoch)
rules = {Rule(budget).name: joined.lent[budget.name] for budget in joined.policy.budgets}
store.serve(rules, joined.policy.on_store_failure == "closed")
guard = Guard(joined.policy, store)
refused, failures, renewed = 0, 0, time.monotonic()
while refused < 25:
    now = time.time_ns() // 1_000_000
    if time.monotonic() > renewed + 0.5:
        renewed = time.monotonic()
        store.renew(now)
    try:
        ticket = guard.ask(Facts({"model": "gpt-4o", "team": "a"}, Bound(1_000_000, 400, 0), now))
    except BudgetExceeded:
        failures, before = health.notes.get("guard_store_failures", 0), failures
        refused += failures == before  # the ledger said so: not that it was away
        time.sleep(0.1)
        continue
    refused = 0
    tokens = pick.randrange(100, 401)
    with open(log, "a") as file:
        file.write("%d\\n" % (tokens * 2500))
    delivery.submit(
        {"provider": "openai", "model": "gpt-4o", "input_tokens": tokens, "output_tokens": 0, "team": "a"}
    )
    guard.settle(ticket, Spent(nanousd=tokens * 2500, tokens=tokens))
    time.sleep(pick.random() * 0.02)
until = time.monotonic() + 60
while not delivery.flush(5) and time.monotonic() < until:
    time.sleep(0.2)
store.give_back(time.time_ns() // 1_000_000, 20.0)
delivery.shutdown(20)
"""
CAP = 100_000_000


def _billed(folder: Path) -> int:
    return sum(int(line) for log in folder.glob("billed-*") for line in log.read_text().split())


@ledger_here
@pytest.mark.ids("D1", "D3", "Z2", "ACC:B10")
def test_four_programs_share_one_budget_while_the_ledger_and_one_of_them_are_killed(tmp_path: Path) -> None:
    from tests.ledger.support import KEY, command, environment, served, wait_for

    def start(number: int, port: int) -> subprocess.Popen[str]:
        arguments = [str(tmp_path / "port"), str(tmp_path / f"billed-{number}"), str(number)]
        state = str(tmp_path / f"host-{number}")
        env = environment(AICG_URL=f"http://127.0.0.1:{port}", AICG_KEY=KEY, AICG_STATE_DIR=state)
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env=env, stdout=subprocess.PIPE, text=True)

    (tmp_path / "ledger.key").write_text(KEY)
    os.chmod(tmp_path / "ledger.key", 0o600)
    add = ["budgets", "add", "a", "--usd", "0.1", "--match", "team=a", "--db", str(tmp_path / "ledger.db")]
    subprocess.run(command(*add), env=environment(), check=True, timeout=60, stdout=subprocess.DEVNULL)
    programs = []
    try:
        with served(tmp_path) as (process, server):
            port = server.port
            assert server.ask("PUT", "/v1/policy", b'{"on_store_failure": "closed"}').status == 200
            programs = [start(number, port) for number in range(4)]
            logs = [tmp_path / f"billed-{number}" for number in range(4)]
            wait_for(lambda: all(map(Path.exists, logs)) and _billed(tmp_path) > CAP // 5, "calls of each of them", 60)
            process.kill()
        programs[0].kill()
        programs[0].wait(20)
        with served(tmp_path, "--port", str(port)) as (_, server):
            ended = [program.communicate(timeout=120)[0] for program in programs[1:]]
            assert [program.returncode for program in programs] == [-9, 0, 0, 0], ended
            told = server.get("/v1/budgets").body["budgets"][0]
            billed = _billed(tmp_path)
            assert billed <= CAP, "no program saw room that was another's"
            assert float(told["spent_usd"]) * 1e9 <= CAP
            spent = {n: sum(map(int, (tmp_path / f"billed-{n}").read_text().split())) for n in range(1, 4)}
            assert float(told["spent_usd"]) * 1e9 >= sum(spent.values()), "and what they spent is there"
            assert billed > CAP * 0.6, "there was room, and it was used"
    finally:
        for program in programs:
            program.kill()
            program.communicate()


# The one line, an SDK, and a variable.

SDK_PROGRAM = """
import aicostguard.auto
import json, logging, sys
import openai
from aicostguard.guard.errors import BudgetExceeded
client = openai.OpenAI(api_key="sk-test", base_url=sys.argv[1], max_retries=2)
made = 0
while made < int(sys.argv[2]):
    try:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=50)
        made += 1
    except BudgetExceeded as error:
        print(json.dumps({"made": made, "budget": error.budget, "limit": error.limit, "text": str(error)}))
        break
else:
    print(json.dumps({"made": made}))
"""
SDK_CAP = 4_000_000


def _cost(simulator: Simulator) -> int:
    """What the provider billed, by the price book."""
    costs = [
        pricing.price(
            {"provider": row.provider, "model": row.model, **_counts(row.usage)}, 1_796_000_000_000
        ).cost_nanousd
        for row in simulator.billed()
    ]
    assert None not in costs
    return sum(cost or 0 for cost in costs)


def _counts(usage: Any) -> Any:
    return {name: value for name, value in usage._asdict().items() if value is not None}


@ledger_here
@pytest.mark.ids("Z2", "D3", "D12", "ACC:B11")
def test_the_ledgers_budget_holds_for_programs_that_say_one_line_and_for_one_that_starts_without_it(
    tmp_path: Path, simulator: Simulator
) -> None:
    from tests.ledger.support import KEY, command, environment, served

    def start(port: int, host: str, most: int = 200) -> subprocess.Popen[str]:
        env = environment(
            AICG_URL=f"http://127.0.0.1:{port}",
            AICG_KEY=KEY,
            AICG_ENFORCE="ledger",
            AICG_HOSTS=simulator.hosts_setting(),
            AICG_STATE_DIR=str(tmp_path / host),
        )
        arguments = [simulator.base_url("openai"), str(most)]
        return subprocess.Popen(
            [sys.executable, "-c", SDK_PROGRAM, *arguments], env=env, stdout=subprocess.PIPE, text=True
        )

    (tmp_path / "ledger.key").write_text(KEY)
    os.chmod(tmp_path / "ledger.key", 0o600)
    add = ["budgets", "add", "all of us", "--usd", "0.004", "--db", str(tmp_path / "ledger.db")]
    subprocess.run(command(*add), env=environment(), check=True, timeout=60, stdout=subprocess.DEVNULL)
    with served(tmp_path) as (_, server):
        programs = [start(server.port, "a"), start(server.port, "b")]
        told = [json.loads(program.communicate(timeout=120)[0]) for program in programs]
        budget = server.get("/v1/budgets").body["budgets"][0]
        port = server.port
    assert [row["budget"] for row in told] == ["all of us"] * 2
    assert told[0]["limit"] == SDK_CAP
    billed = _cost(simulator)
    assert 0.5 * SDK_CAP < billed <= SDK_CAP, "together"
    assert float(budget["spent_usd"]) * 1e9 == pytest.approx(billed), "and the ledger has all of it"
    assert float(budget["reserved_usd"]) == 0, "what was not used was given back at the end"
    simulator.reset()
    alone = json.loads(start(port, "a").communicate(timeout=120)[0])
    assert alone["budget"] == "all of us", "nobody answers, and the copy is enforced"
    assert 0 < _cost(simulator) <= SDK_CAP
    without = json.loads(start(port, "c", 5).communicate(timeout=120)[0])
    assert without == {"made": 5}, "without a copy the program goes on"


@ledger_here
@pytest.mark.ids("ACC:A14", "D3")
def test_programs_of_two_projects_share_the_budget_of_their_organisation(tmp_path: Path, simulator: Simulator) -> None:
    from tests.ledger.support import KEY, aicg, command, environment, served

    file = ("--db", str(tmp_path / "ledger.db"))
    (tmp_path / "ledger.key").write_text(KEY)
    os.chmod(tmp_path / "ledger.key", 0o600)
    for words in (
        *(("projects", "create", name, "--organisation", "acme") for name in ("search", "shop")),
        ("budgets", "add", "cap", "--usd", "0.004", "--organisation", "acme"),
    ):
        subprocess.run(command(*words, *file), env=environment(), check=True, timeout=60, stdout=subprocess.DEVNULL)
    keys = [
        aicg("keys", "create", "--project", "acme/" + name, "--role", "ingest", *file).stdout.split()[0]
        for name in ("search", "shop")
    ]

    def start(port: int, key: str) -> subprocess.Popen[str]:
        env = environment(
            AICG_URL=f"http://127.0.0.1:{port}",
            AICG_KEY=key,
            AICG_ENFORCE="ledger",
            AICG_HOSTS=simulator.hosts_setting(),
            AICG_STATE_DIR=str(tmp_path / key[-6:]),
        )
        arguments = [simulator.base_url("openai"), "200"]
        return subprocess.Popen(
            [sys.executable, "-c", SDK_PROGRAM, *arguments], env=env, stdout=subprocess.PIPE, text=True
        )

    with served(tmp_path) as (_, server):
        programs = [start(server.port, key) for key in keys]
        told = [json.loads(program.communicate(timeout=120)[0]) for program in programs]
    assert [row["budget"] for row in told] == ["cap"] * 2, "each is blocked by what both have spent"
    billed = _cost(simulator)
    assert 0.5 * SDK_CAP < billed <= SDK_CAP, "together"
    shown = json.loads(aicg("budgets", "--organisation", "acme", "--json", *file).stdout)["budgets"][0]
    assert float(shown["spent_usd"]) * 1e9 == pytest.approx(billed), "and the ledger has all of it"


# What the ledger may say, and what it may not.


def _policy(**words: Any) -> Policy:
    return Policy("mine", (stated.budget({"name": "daily", "limit_usd": 5}),), **words)


def test_a_looser_policy_of_the_ledgers_changes_nothing() -> None:
    own = _policy(on_unpriced="block", on_unknown_bound="refuse", on_store_failure="closed", loop_action="block")
    loose = {
        "version": 1,
        "budgets": [{"name": "daily", "limit_usd": 100, "on_exceed": "warn"}],
        "on_unpriced": "allow",
        "on_unknown_bound": "observed",
        "on_store_failure": "open",
        "loop_action": "off",
        "loop_threshold": 1000,
        "loop_window": 1,
    }
    joined = join(own, read(loose))
    assert joined.policy.budgets[0] == own.budgets[0], "the program's own stands as it was"
    assert joined.policy.budgets[1].name == "daily (ledger)"
    assert joined.lent == {"daily (ledger)": "daily"}
    assert joined.policy._replace(budgets=own.budgets) == own


def test_a_stricter_one_tightens_and_a_silent_one_says_nothing() -> None:
    own = _policy(loop_action="off")
    assert join(own, Remote()) == (own, {})
    strict = {"version": 1, "budgets": [], "on_unpriced": "block", "loop_threshold": 3, "loop_window": 120, "later": 1}
    joined = join(own, read(strict)).policy
    assert (joined.on_unpriced, joined.loop_threshold, joined.loop_window) == ("block", 3, 120.0)
    assert joined.loop_action == "off"


@pytest.mark.parametrize(
    "given", [{}, {"version": 2, "budgets": []}, {"version": 1}, {"version": 1, "budgets": [{"name": "x"}]}]
)
def test_a_policy_that_cannot_be_read_is_refused_whole(given: Any) -> None:
    with pytest.raises(BadPolicy):
        read(given)
