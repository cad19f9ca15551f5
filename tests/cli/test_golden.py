"""What every command prints, as text files that a person reads: `tests/cli/golden/SITUATION/VERB.txt`.

`pytest tests/cli --update` writes them anew; look at the difference before it goes in.
"""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from aicostguard.cli import VERBS
from tests.cli import desk

GOLDEN = Path(__file__).with_name("golden")
#: verb → command lines that ask; run in every situation, each in the ledger as the one before has left it
ASKS = {
    "costs": [
        "costs",
        "costs --by feature,model --since 30d --limit 8",
        "costs --by day --since 7d",
        "costs --by team --since 7d --compare previous --latency",
        "costs --by team --where team=nobody",
    ],
    "models": ["models --since 30d"],
    "compare": ["compare --since 30d"],
    "agents": ["agents --since 30d", "agents --since 30d --limit 1 --where team=search", "agents --csv"],
    "focus": ["focus --since 24h --tags team --where model=gpt-4o", "focus --since 24h --tags '' --where team=nobody"],
    "deliveries": ["deliveries --since all", "deliveries --since all --by process"],
    "tail": ["tail -n 3"],
    "top": ["top --once --minutes 180"],
    "budgets": ["budgets"],
    "alerts": ["alerts", "alerts rules", "alerts channels", "alerts list --since 7d"],
    "price": ["price reported"],
    "reprice": ["reprice --history"],
    "keys": ["keys list"],
    "projects": ["projects list", "projects audit"],
    "people": ["people list"],
    "retention": ["retention show", "retention run --dry-run"],
    "archive": ["archive list", "archive verify"],
    "forget": ["forget --history"],
    "compact": ["compact"],
    "labels": ["labels"],
    "dashboard": ["dashboard --print"],
    "backup": ["backup copy.db"],
}
#: verb → command lines that change something, in the ledger with a lot, and what they leave
CHANGES = {
    "budgets": [
        "budgets add marketing --usd 500 --match team=search --period month",
        "budgets add marketing --usd 500",
        "budgets add users --requests 100 --per user --period day --on-exceed warn",
        "budgets set marketing --usd 2",
        "budgets",
        "budgets show marketing",
        "budgets --check",
        "budgets rebuild",
        "budgets remove marketing",
        "budgets remove marketing",
    ],
    "alerts": [
        "alerts add search --threshold 0.10 --period day --match team=search",
        "alerts rules search",
        "alerts check",
        "alerts",
        "alerts ack 1",
        "alerts snooze 1 --minutes 60",
        "alerts edit search --threshold 20",
        "alerts channels add ops https://hooks.example.com/aicg",
        "alerts channels",
        "alerts channels remove ops",
        "alerts remove search",
    ],
    "keys": [
        "keys create --name ci --role ingest --expires 90d",
        "keys list",
        "keys set KEY --per-minute 60",
        "keys revoke KEY",
        "keys revoke KEY",
        "keys list",
        "keys create --name web",
        "keys rotate KEY --grace 1d",
    ],
    "projects": [
        "projects create search --organisation acme",
        "projects rename acme/search find",
        "projects archive acme/find",
        "projects list",
        "projects audit",
    ],
    "people": [
        "people add ada@example.com --name Ada --role admin --reach ledger",
        "people role ada@example.com viewer",
        "people role ada@example.com read",
        "people list",
        "people disable ada@example.com",
        "people password ada@example.com --code",
        "people list",
    ],
    "retention": [
        "retention set --days 20 --delete",
        "retention run --dry-run",
        "retention run --progress",
        "retention clear",
    ],
    "forget": [
        "forget --user user-001@example.com --yes",
        "forget --user user-001@example.com --yes",
        "forget --history",
    ],
    "labels": ["labels user --most 20", "labels user --most 30 --project default", "labels user --default"],
    "backup": ["backup copy.db", "backup copy.db", "backup copy.db --force --json"],
    "restore": ["backup copy.db", "restore copy.db", "restore copy.db --force"],
    "salvage": ["backup copy.db", "salvage copy.db"],
    "reprice": ["reprice --since 7d", "reprice --since 7d --apply", "reprice --history"],
    "price": [
        "price explain gpt-4o --tokens in=1240,out=312 --at 2026-03-12",
        "price explain no-such-model --tokens in=1",
        "price reconcile bill.csv --check",
    ],
    "dashboard": ["keys create --role admin", "dashboard --print"],
}
#: verb → command lines that are wrong, each in its own way; run where there is a little
WRONG = {
    "serve": ["serve --port 99999", "serve --prices a.json --no-prices", "serve --log-level loud"],
    "dashboard": ["dashboard --url ftp://x"],
    "costs": [
        "costs --by prompt",
        "costs --since soon",
        "costs --where prompt=x",
        "costs --limit 0",
        "costs --tz Mars/Base",
        "costs --nope",
        "costs --order sideways",
        "costs --by day --compare previous",
        "costs --chart x.gif",
        "costs --db a.db --url http://127.0.0.1:9",
        "costs --url http://127.0.0.1:9",
    ],
    "models": ["models --since soon"],
    "compare": ["compare --baseline no-such-model"],
    "agents": ["agents --since soon", "agents --limit 0", "agents --where prompt=x"],
    "focus": ["focus --since soon", "focus --tags prompt", "focus --where prompt=x", "focus --tz UTC"],
    "deliveries": ["deliveries --by model", "deliveries --where team=x"],
    "tail": ["tail -n -1", "tail --tz Mars/Base"],
    "top": ["top --by prompt", "top --every 0"],
    "budgets": [
        "budgets add x",
        "budgets add x --usd lots",
        "budgets add x --usd 5 --tokens 5",
        "budgets add x --usd 5 --match team",
        "budgets add x --usd 5 --period fortnight",
        "budgets show nobody",
        "budgets set nobody --usd 5",
    ],
    "alerts": [
        "alerts add x",
        "alerts add x --threshold lots",
        "alerts ack 99",
        "alerts rules nobody",
        "alerts test nobody",
        "alerts snooze 1",
        "alerts list --state loud",
        "alerts channels add ops ftp://x",
    ],
    "price": [
        "price reconcile note.txt",
        "price explain",
        "price explain gpt-4o --tokens in=many",
        "price explain gpt-4o --at someday",
        "price update --from nowhere.json",
    ],
    "reprice": ["reprice --since tomorrow --until today", "reprice --where prompt=x"],
    "keys": [
        "keys create --role owner",
        "keys revoke aicg_",
        "keys revoke 99",
        "keys set 99 --name x",
        "keys create --expires soon",
    ],
    "projects": ["projects rename nobody x", "projects create ''"],
    "people": ["people add not-an-address", "people role nobody@example.com read"],
    "backup": ["backup", "backup no/such/folder/copy.db"],
    "restore": ["restore nowhere.db", "restore note.txt"],
    "salvage": ["salvage nowhere.db", "salvage note.txt"],
    "retention": ["retention set", "retention set --days 0", "retention set --days 5 --project nobody"],
    "archive": ["archive restore", "archive restore yesterday"],
    "forget": ["forget"],
    "compact": ["compact --db nowhere.db"],
    "labels": ["labels user", "labels --most 5", "labels session --most 5", "labels user --most 0"],
    "completion": ["completion tcsh"],
    "policy": ["policy", "policy check", "policy check nowhere.yaml", "policy check note.txt"],
    "audit": ["audit", "audit verify nowhere.jsonl", "audit show note.txt", "audit show nowhere.jsonl"],
    "run": ["run", "run --nope -- true", "run --url ftp://x -- true"],
    "diagnose": ["diagnose --nope"],
}
SITUATIONS = ("none", "empty", "little", "lot", "narrow")


@pytest.fixture(scope="session")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each situation, with its ledger."""
    root = tmp_path_factory.mktemp("ledgers")
    for name in ("empty", "little", "lot"):
        (root / name).mkdir()
        desk.fill(root / name / "ledger.db", name)
    return root


def placed(ledgers: Path, tmp_path: Path, name: str) -> Path:
    """A copy of a ledger's folder, which a test may change."""
    folder = tmp_path / "here"
    if name == "none":
        folder.mkdir()
    else:
        shutil.copytree(ledgers / name, folder)
    (folder / "note.txt").write_text("This is no policy, no trail and no ledger.\n", encoding="utf-8")
    bill = "day,model,provider,calls,cost_usd\n2026-03-11,gpt-4o,openai,10,0.05\n2026-03-11,gpt-5,openai,1,0.01\n"
    (folder / "bill.csv").write_text(bill, encoding="utf-8")
    return folder


def same(told: str, situation: str, verb: str, config: pytest.Config) -> None:
    """Compare with the golden file, or write it."""
    path = GOLDEN / situation / (verb + ".txt")
    if config.getoption("--update"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(told, encoding="utf-8")
    assert "Traceback" not in told
    assert path.is_file(), "no golden file %s: run with --update and look at it" % path
    kept = path.read_text(encoding="utf-8")
    if told != kept:
        lines = difflib.unified_diff(kept.splitlines(), told.splitlines(), str(path.name), "now", lineterm="", n=2)
        pytest.fail("%s/%s\n%s" % (situation, verb, "\n".join(lines)), pytrace=False)


def session(lines: list[str], folder: Path, *, narrow: bool = False) -> str:
    """The commands one after another. `KEY` in one is the latest key that an earlier one has made."""
    told, key = [], ""
    for line in lines:
        raw = desk.run(words(line.replace("KEY", key[:9])), folder, narrow=narrow)
        key = next(iter(re.findall(r"^aicg_\w{32,}", raw, re.M)), key)
        told.append(desk.masked(raw, folder))
    return "\n".join(told)


def words(line: str) -> list[str]:
    return ["" if word == "''" else word for word in line.split()]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("verb", ASKS)
def test_what_is_asked(verb: str, situation: str, ledgers: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    folder = placed(ledgers, tmp_path, "lot" if situation == "narrow" else situation)
    same(session(ASKS[verb], folder, narrow=situation == "narrow"), situation, verb, pytestconfig)


@pytest.mark.parametrize("verb", CHANGES)
def test_what_is_changed(verb: str, ledgers: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    same(session(CHANGES[verb], placed(ledgers, tmp_path, "lot")), "changes", verb, pytestconfig)


@pytest.mark.parametrize("verb", WRONG)
def test_what_is_wrong(verb: str, ledgers: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Each is refused: with an exit code that says so, and a sentence that is not a traceback."""
    told = session(WRONG[verb], placed(ledgers, tmp_path, "little"))
    same(told, "wrong", verb, pytestconfig)
    assert len(re.findall(r"^\[exit [12]\]$", told, re.M)) == len(WRONG[verb])


@pytest.mark.parametrize("verb", [*VERBS, ""])
def test_help(verb: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    same(
        desk.masked(desk.run([verb, "--help"] if verb else ["--help"], tmp_path), tmp_path),
        "help",
        verb or "aicg",
        pytestconfig,
    )


def test_every_verb_is_here() -> None:
    assert not set(VERBS) - {*ASKS, *CHANGES, *WRONG}
    here = {(path.parent.name, path.stem) for path in GOLDEN.rglob("*.txt") if path.parent.name != "json"}
    wanted = {(situation, verb) for situation in SITUATIONS for verb in ASKS}
    wanted |= {("changes", verb) for verb in CHANGES} | {("wrong", verb) for verb in WRONG}
    assert here == wanted | {("help", verb or "aicg") for verb in [*VERBS, ""]}
