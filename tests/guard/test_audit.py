"""The audit trail: every decision once, and a change of it is seen."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from aicostguard import BudgetExceeded, CostConfig, CostPolicyEnforcer, ModelPricing, TokenUsage, cli, config
from aicostguard.delivery import seats
from aicostguard.guard import audit
from aicostguard.guard.store import StoreFailed
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import LABELS, Bound, Facts, Spent

HERE = dict(os.environ, PYTHONPATH=os.getcwd())
PRICING = ModelPricing()
PRICING.register("m", input_per_million=1000, output_per_million=1000)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "audit" / "audit.jsonl")


def trail(path, number=3, **more):
    """A trail with so many entries."""
    made = audit.Trail(path, **more)
    for n in range(number):
        made.add("allowed", id="ticket-%d" % n, model="m", nanousd=n, reasons=["because é %d" % n])
    made.close()
    return made


@pytest.mark.ids("B41")
def test_every_decision_leaves_an_entry(path):
    config = CostConfig(budget_usd=1, per_session_limit_usd=0.5, on_exceed="block", audit=path)
    asked = CostPolicyEnforcer(config, pricing=PRICING, session_id="run-42")
    asked.check_and_record(TokenUsage("m", 400), agent_id="writer")
    asked.check_and_record(TokenUsage("m", 200), agent_id="writer")
    asked.check_and_record(TokenUsage("nobodys", 200))
    asked._guard.close()
    entries = list(audit.entries(path))
    assert [entry["event"] for entry in entries] == ["rules", "allowed", "settled", "blocked", "warned", "settled"]
    rules, first, settled, blocked, warned, _ = entries
    assert rules["rules"] == audit.rules_of(config.policy())
    assert (first["agent"], first["session"], first["model"], first["estimate"]) == ("writer", "run-42", "m", 4 * 10**8)
    assert (settled["id"], settled["nanousd"], settled["tokens"]) == (first["id"], 4 * 10**8, 400)
    assert blocked["reasons"] == ["Session spend $0.60 would exceed per-session limit $0.50"]
    assert (blocked["budget"], blocked["limit"], blocked["spent"]) == ("per_session_limit_usd", 5 * 10**8, 4 * 10**8)
    assert warned["priced"] is False
    assert audit.verify(path).problems == []


@pytest.mark.ids("B41")
def test_an_entry_has_nothing_beside_the_closed_list(path):
    log = trail(path, 0)
    with pytest.raises(ValueError, match="an audit entry has no prompt"):
        log.add("allowed", prompt="tell me")
    guard = audit.guard(CostConfig(budget_usd=1, audit=path).policy(), MemoryStore())
    labels = {**dict.fromkeys(LABELS, "x"), "tags.secret": "canary"}
    guard.settle(guard.ask(Facts(labels, Bound(1, 1, 1), 0, fingerprint=b"canary")), Spent(1, 2))
    guard.close()
    with open(path, "rb") as file:
        assert b"canary" not in file.read()
    assert all(set(entry) <= set(audit.KEYS) for entry in audit.entries(path))


@pytest.mark.ids("B41")
def test_without_a_file_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guard = audit.guard(CostConfig(budget_usd=1).policy(), MemoryStore())
    assert type(guard) is audit.Guard
    guard.ask(Facts({}, Bound(1, 1, 1), 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ids("B41")
def test_only_its_owner_can_read_it(path):
    trail(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def edited(path, change):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    change(lines)
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


def rehashed(lines):
    """The second entry changed, and its hash made right."""
    entry = {**json.loads(lines[1]), "nanousd": 0}
    entry["hash"] = audit.digest(entry, None)
    lines[1] = json.dumps(entry, separators=(",", ":"))


TAMPERED = {
    "a changed figure": (lambda lines: lines.__setitem__(1, lines[1].replace('"nanousd":1', '"nanousd":0')), 2),
    "a changed reason": (lambda lines: lines.__setitem__(0, lines[0].replace("because", "despite")), 1),
    "a changed hash too": (rehashed, 3),
    "one taken out": (lambda lines: lines.pop(1), 2),
    "one put in twice": (lambda lines: lines.insert(1, lines[0]), 2),
    "two changed places": (lambda lines: lines.insert(0, lines.pop(1)), 2),
    "one cut short": (lambda lines: lines.__setitem__(2, lines[2][:40]), 3),
}


@pytest.mark.ids("B41")
@pytest.mark.parametrize("how", TAMPERED)
def test_a_change_is_seen_and_where(path, how, capsys):
    trail(path)
    assert audit.verify(path)[:3] == (3, 1, 3) and audit.verify(path).problems == []
    change, line = TAMPERED[how]
    edited(path, change)
    found = audit.verify(path)
    assert found.problems and found.problems[0].startswith("%s:%d: " % (path, line))
    assert cli.main(["audit", "verify", path]) == 1
    assert found.problems[0] in capsys.readouterr().out


@pytest.mark.ids("B41")
def test_a_key_keeps_those_out_who_can_write_the_file(path, monkeypatch, capsys):
    key = b"0123456789abcdef"
    trail(path, key=key)
    assert audit.verify(path, key).problems == []
    assert len(audit.verify(path).problems) == 3, "not with no key"
    edited(path, rehashed)
    assert audit.verify(path, key).problems
    monkeypatch.setenv(audit.KEY, key.decode())
    assert cli.main(["audit", "verify", path]) == 1
    monkeypatch.setenv(audit.KEY, "short")
    assert cli.main(["audit", "verify", path]) == 1
    assert "at least 16 characters" in capsys.readouterr().err


@pytest.mark.ids("B41")
def test_the_chain_goes_on_from_file_to_file_and_the_oldest_go(path, capsys):
    log = audit.Trail(path, most=2000, kept=3)
    for n in range(60):
        log.add("allowed", id="ticket-%02d" % n, reasons=["r" * 50])
    log.close()
    names = sorted(os.listdir(os.path.dirname(path)))
    assert names == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"]
    found = audit.verify(path)
    assert found.problems == [] and found.last == 60 and 1 < found.first < 60
    assert found.entries == found.last - found.first + 1
    assert all(os.path.getsize(os.path.join(os.path.dirname(path), name)) < 2500 for name in names)
    assert cli.main(["audit", "verify", path]) == 0
    assert "entries before %d were in files" % found.first in capsys.readouterr().out
    os.remove(path + ".2")
    assert audit.verify(path).problems, "a file in the middle is missing"


@pytest.mark.ids("B41")
def test_a_trail_goes_on_after_a_restart_and_after_a_crash(path):
    trail(path)
    trail(path, 2)
    assert audit.verify(path)[:3] == (5, 1, 5) and audit.verify(path).problems == []
    with open(path, "ab") as file:
        file.write(b'{"seq":6,"at')  # killed while it wrote
    trail(path, 2)
    found = audit.verify(path)
    assert found.problems == ["%s:6: is no entry" % path] and found.last == 7


@pytest.mark.ids("B41", "B38")
def test_threads_and_processes_write_one_chain(path):
    code = (
        "import sys, threading\n"
        "from aicostguard.guard import audit\n"
        "log = audit.Trail(%r, most=20_000, kept=50)\n"
        "work = lambda: [log.add('allowed', id='t', reasons=['r' * 20]) for _ in range(100)]\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "log.close()\n"
    ) % path
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [child.wait(120) for child in children] == [0, 0, 0]
    found = audit.verify(path)
    assert found.problems == [] and found[:3] == (900, 1, 900)
    assert len(audit.files(path)) > 2


@pytest.mark.ids("B41", "B38")
def test_a_file_that_is_put_aside_while_it_is_made_is_made_again(path, monkeypatch):
    """By another process, between the making and the look at what was made."""
    make, made = audit.create_to_append, []

    def taken_once(name):
        made.append(name)
        if len(made) == 1:
            raise seats.Taken()
        return make(name)

    monkeypatch.setattr(audit, "create_to_append", taken_once)
    log = audit.Trail(path)
    log.add("allowed", id="t")
    log.close()
    assert len(made) == 2
    assert [entry["id"] for entry in audit.entries(path)] == ["t"]


@pytest.mark.ids("B41", "E1")
def test_a_forked_child_goes_on_with_the_chain(path):
    log = audit.Trail(path)
    log.add("allowed", id="parent")
    with log._lock:  # as another thread of the parent's might
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a lock that nobody gives back must not hold the whole run
            try:
                log.add("allowed", id="child")
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    log.add("allowed", id="parent again")
    log.close()
    assert [entry["id"] for entry in audit.entries(path)] == ["parent", "child", "parent again"]
    assert audit.verify(path).problems == []


CLOSED = """
import os
from aicostguard.guard import audit
log = audit.Trail(%r)
log.add("allowed", id="before")
os.closerange(3, %d)
own = [open("own%%d" %% n, "w+b", buffering=0) for n in range(%d)]
seen = [os.fstat(file.fileno())[:3] for file in own]
log.add("allowed", id="after")
log.close()
assert [os.fstat(file.fileno())[:3] for file in own] == seen
assert not any(os.fstat(file.fileno()).st_size for file in own)
"""


@pytest.mark.ids("B41", "Z4")
@pytest.mark.parametrize("highest, files", [(200, 20), (1200, 20), (1200, 900)])
def test_a_program_that_closes_all_descriptors_keeps_its_own_files(tmp_path, path, highest, files):
    """What it opens afterwards is neither locked nor written to nor closed, whichever numbers it gets."""
    code = CLOSED % (path, highest, files)
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=HERE, timeout=60).returncode == 0
    assert [entry["id"] for entry in audit.entries(path)] == ["before", "after"]
    assert audit.verify(path).problems == []


@pytest.mark.ids("B41", "A8")
def test_a_trail_that_cannot_be_written_stops_nobody(tmp_path):
    from aicostguard.health import health

    before = health.notes.get("audit_failures", 0)
    audit.Trail(str(tmp_path)).add("allowed", id="t")  # a folder
    assert health.notes["audit_failures"] == before + 1


@pytest.mark.ids("B41")
def test_awaited_answers_are_logged_once(path):
    class Waiting(MemoryStore):
        waits = True

    async def work(store):
        guard = audit.guard(CostConfig(budget_usd=1, audit=path).policy(), store)
        await guard.asettle(await guard.aask(Facts({}, Bound(1, 1, 1), 0)), Spent(1, 2))
        await guard.arelease(await guard.aask(Facts({}, Bound(1, 1, 1), 0)))
        with pytest.raises(BudgetExceeded):
            await guard.aask(Facts({}, Bound(10**10, 1, 1), 0))
        guard.lost(guard.ask(Facts({}, Bound(1, 1, 1), 0)))
        guard.close()

    events = ["rules", "allowed", "settled", "allowed", "released", "blocked", "allowed", "settled"]
    for number, store in enumerate((MemoryStore(), Waiting()), 1):
        asyncio.run(work(store))
        assert [entry["event"] for entry in audit.entries(path)] == events * number


@pytest.mark.ids("B41", "B33")
@pytest.mark.parametrize("action", ["warn", "block"])
def test_a_loop_is_a_decision_too(path, action):
    config = CostConfig(loop_action=action, loop_threshold=2, audit=path)
    asked = CostPolicyEnforcer(config, pricing=PRICING)
    for _ in range(2):
        asked.check_and_record(TokenUsage("m", 1), agent_id="writer")
    asked._guard.close()
    after = [entry for entry in audit.entries(path) if entry["event"] != "rules"][2:]
    event = {"warn": "warned", "block": "blocked"}[action]
    assert (after[0]["event"], after[0]["dimension"], after[0]["agent"]) == (event, "loop", "writer")
    assert after[0]["reasons"][0].startswith("Loop detected: agent writer made the same call")
    assert len(after) == {"warn": 3, "block": 1}[action]


@pytest.mark.ids("B41", "A8")
def test_a_call_that_was_let_through_unheld_says_so(path):
    class Away(MemoryStore):
        def reserve(self, *args, **more):
            raise StoreFailed("away")

    guard = audit.guard(CostConfig(budget_usd=1, audit=path).policy(), Away())
    guard.ask(Facts({}, Bound(1, 1, 1), 0))
    held = audit.guard(CostConfig(budget_usd=1, audit=path).policy(), MemoryStore())
    held.ask(Facts({}, Bound(1, 1, 1), 0))
    assert [entry.get("unheld") for entry in audit.entries(path) if entry["event"] == "allowed"] == [True, None]


@pytest.mark.ids("B41")
def test_the_rules_in_force_are_named_once_and_again_when_they_change(path):
    def ask(**limits):
        guard = audit.guard(CostConfig(audit=path, **limits).policy(), MemoryStore())
        for _ in range(2):
            guard.ask(Facts({}, Bound(1, 1, 1), 0))
        guard.close()

    ask(budget_usd=1)
    ask(budget_usd=1)
    ask(budget_usd=2)
    named = [entry["rules"] for entry in audit.entries(path) if entry["event"] == "rules"]
    assert len(named) == 3 and named[0] == named[1] != named[2]


@pytest.mark.ids("B41")
def test_the_command_shows_what_was_decided(path, capsys):
    trail(path)
    assert cli.main(["audit", "show", path, "--last", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "3" and "model=m" in line and "because é 2" in line
    assert cli.main(["audit", "show", path, "--json"]) == 0
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [1, 2, 3]
    head = audit.verify(path).head
    assert cli.main(["audit", "verify", path, "--head", head]) == 0
    edited(path, lambda lines: lines.pop())
    assert audit.verify(path).problems == [], "the file alone does not tell"
    assert cli.main(["audit", "verify", path, "--head", head]) == 1
    assert cli.main(["audit", "show", path + ".not"]) == 1


@pytest.mark.ids("B41", "G24")
def test_the_key_is_a_known_setting():
    assert config.load({audit.KEY: "0123456789abcdef"}).problems == ()


@pytest.mark.ids("B41", "Z4")
def test_the_file_is_not_closed_while_an_entry_is_written(path):
    """Else its number could be another file's by the time that the entry is."""
    log = audit.Trail(path)
    log.add("allowed", id="one")
    with log._lock:  # as the thread that writes an entry
        closing = threading.Thread(target=log.close)
        closing.start()
        closing.join(0.2)
        assert log._file is not None
    closing.join(60)
    assert log._file is None
