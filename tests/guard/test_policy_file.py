"""The policy file: what it says is what holds, and a mistake is told with file, line, key, value and remedy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import pytest

from aicostguard import CostConfig, cli
from aicostguard.guard import policyfile
from aicostguard.guard.policy import BadPolicy, Budget
from aicostguard.guard.store import SERVERS

SOURCE = """
    cost:
      budget_usd: 100.0 # Total budget ceiling
      per_call_limit_usd: 2.0 # Max cost per single LLM call
      per_session_limit_usd: 10.0 # Max cost per agent session
      daily_budget_usd: 50.0 # Max daily spend (resets at midnight UTC)
      per_minute_tokens: 100000 # Token rate limit (rolling 60s window)
      alert_threshold: 0.8 # Alert at 80% budget utilization
      on_exceed: block # block | warn | log
"""
WHOLE = """
    version: 1
    name: shop
    cost:
      budget_usd: 0.1
      loop_action: block
    budgets:
      - name: marketing
        limit_usd: 500
        match: {team: marketing, tags.tier: gold}
        per: [user, model]
        period: month
        timezone: Europe/Berlin
        on_exceed: warn
        alert_at: [0.75, 90%, 1]
      - name: tokens of a minute
        limit_tokens: 1_000
        period: minute
        per: team
      - name: requests
        limit_requests: 10
    store: sqlite:///budgets.db
    prices: own.json
    audit: audit.jsonl
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="aicostguard.yaml"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return str(path)

    return write


@pytest.mark.ids("B01", "B02")
@pytest.mark.parametrize("name", ["aicostguard.yaml", "aegis.yaml"])
def test_the_sources_file_is_what_the_sources_configuration_is(write, name):
    loaded = policyfile.load(write(SOURCE, name))
    config = CostConfig(
        budget_usd=100.0,
        per_call_limit_usd=2.0,
        per_session_limit_usd=10.0,
        daily_budget_usd=50.0,
        per_minute_tokens=100_000,
        alert_threshold=0.8,
        on_exceed="block",
    )
    assert loaded.policy == config.policy(loaded.path, "sqlite")
    assert loaded.notices == ()


@pytest.mark.ids("A12", "A13", "A31", "B01", "C10", "D5")
def test_every_key_means_what_it_says(write, tmp_path):
    (tmp_path / "own.json").write_text("{}")
    policy = policyfile.load(write(WHOLE)).policy
    assert policy.name == "shop"
    assert policy.loop_action == "block"
    assert policy.budgets == (
        Budget("budget_usd", 10**8, alert_at=(800,), dimension="budget"),
        Budget(
            "marketing",
            500 * 10**9,
            match={"team": "marketing", "tags.tier": "gold"},
            per=("user", "model"),
            period="month",
            timezone="Europe/Berlin",
            on_exceed="warn",
            alert_at=(750, 900, 1000),
        ),
        Budget("tokens of a minute", 1000, "tokens", per=("team",), period="minute", alert_at=()),
        Budget("requests", 10, "requests"),
    )
    assert policy.store == "sqlite:///budgets.db"
    assert (policy.prices, policy.audit) == (str(tmp_path / "own.json"), str(tmp_path / "audit.jsonl"))


@pytest.mark.parametrize("scheme", SERVERS)
def test_every_server_that_a_store_can_be_may_be_named(write, scheme: str) -> None:
    address = scheme + "://budgets.internal/0"
    assert policyfile.load(write("version: 1\nstore: %s\ncost: {budget_usd: 1}\n" % address)).policy.store == address


@pytest.mark.ids("B01")
def test_the_name_is_the_files_and_the_store_lasts(write):
    path = write(SOURCE)
    policy = policyfile.load(path).policy
    assert (policy.name, policy.store) == (path, "sqlite")


MISTAKES = {
    "an unknown key": ("cots:\n  budget_usd: 1\n", 1, "cots: there is no such key: did you mean cost?"),
    "a typo in cost": (
        "cost:\n  on_exceed: block\n  bugdet_usd: 5\n",
        3,
        "cost.bugdet_usd: there is no such key: did you mean budget_usd?",
    ),
    "a negative limit": ("cost:\n  budget_usd: -5\n", 2, "cost.budget_usd: '-5' cannot be used: use an amount in USD"),
    "an amount too fine": ("cost:\n  budget_usd: 0.0000000001\n", 2, "no finer than a nano-dollar"),
    "sixty-based": ("cost:\n  per_minute_tokens: 1:30\n", 2, "'1:30' cannot be used: use a whole number of tokens"),
    "octal": ("cost:\n  per_minute_tokens: 0100\n", 2, "'0100' cannot be used"),
    "a word of YAML": ("cost:\n  on_exceed: yes\n", 2, "True cannot be used: use one of block, warn, log"),
    "no value": ("cost:\n  budget_usd:\n", 2, "cost.budget_usd: has no value: give it one, or take the line out"),
    "a list": ("cost:\n  budget_usd: [1]\n", 2, "cost.budget_usd: ['1'] cannot be used"),
    "twice": ("cost:\n  budget_usd: 1\n\n  budget_usd: 2\n", 4, "'budget_usd' stands twice"),
    "a version to come": ("version: 2\n", 1, "version: '2' cannot be used: use one of 1"),
    "an empty file": ("# nothing\n", 1, "the file is empty"),
    "no map": ("- cost\n", 1, "the policy: write keys with values below it"),
    "no list": ("budgets:\n  name: a\n", 1, "budgets: write a list"),
    "no YAML": ("cost:\n  budget_usd: 1\n oops: [\n", 3, ""),
    "an unknown zone": (
        "budgets:\n- name: a\n  limit_usd: 1\n  timezone: Europe/Berlni\n",
        4,
        "budgets[1].timezone: 'Europe/Berlni' cannot be used: did you mean Europe/Berlin?",
    ),
    "a city": ("budgets:\n- name: a\n  limit_usd: 1\n  timezone: berlin\n", 4, "did you mean Europe/Berlin?"),
    "a path as zone": ("budgets:\n- name: a\n  limit_usd: 1\n  timezone: ../../etc/passwd\n", 4, "IANA"),
    "an unknown label": (
        "budgets:\n- name: a\n  limit_usd: 1\n  per: [usr]\n",
        4,
        "budgets[1].per: ['usr'] cannot be used: did you mean user?",
    ),
    "an unknown label matched": (
        "budgets:\n- name: a\n  limit_usd: 1\n  match:\n    taem: x\n",
        4,
        "budgets[1].match: {'taem': 'x'} cannot be used: did you mean team?",
    ),
    "no name": ("budgets:\n- limit_usd: 1\n", 2, "budgets[1].name: is missing"),
    "no limit": ("budgets:\n- name: a\n", 2, "budgets[1].limit_usd: is missing: give one of limit_usd, limit_tokens"),
    "two limits": (
        "budgets:\n- name: a\n  limit_usd: 1\n  limit_tokens: 1\n",
        2,
        "limit_usd and limit_tokens are both given: give one of",
    ),
    "a name twice": (
        "budgets:\n- name: a\n  limit_usd: 1\n- name: a\n  limit_usd: 2\n",
        4,
        "budgets[2].name: 'a' stands twice (first in line 2)",
    ),
    "a name of cost": (
        "cost:\n  budget_usd: 1\nbudgets:\n- name: budget_usd\n  limit_usd: 1\n",
        4,
        "stands twice (first as a key of cost:)",
    ),
    "a label matched twice": (
        "budgets:\n- name: a\n  limit_usd: 1\n  match:\n    team: x\n    team: y\n",
        6,
        "'team' stands twice",
    ),
    "an unknown period": ("budgets:\n- name: a\n  limit_usd: 1\n  period: daily\n", 4, "use one of call, session"),
    "a whole percentage": ("budgets:\n- name: a\n  limit_usd: 1\n  alert_at: [80]\n", 4, "or a percentage such as 80%"),
    "an unknown store": ("store: mongodb://x\n", 1, "store: 'mongodb://x' cannot be used: use memory, sqlite"),
    "no price file": ("prices: nowhere.json\n", 1, "prices: 'nowhere.json' cannot be used: there is no file"),
    "within itself": ("cost: &a\n  budget_usd: *a\n", 1, "nested more than 50 deep"),
}  # fmt: skip


@pytest.mark.ids("B03")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_file_line_key_value_and_remedy(write, mistake):
    text, line, says = MISTAKES[mistake]
    path = write(text)
    with pytest.raises(BadPolicy) as caught:
        policyfile.load(path)
    told = str(caught.value)
    assert told.startswith("%s:%d: " % (path, line)) and says in told
    assert told.count("\n") == 0, "one mistake, one line"


@pytest.mark.ids("B03")
def test_all_mistakes_are_told_at_once(write):
    path = write(
        "cost:\n  budget_usd: -1\n  on_exceed: stop\nbudgets:\n- name: a\n  limit_usd: x\n  period: y\nfoo: 1\n"
    )
    with pytest.raises(BadPolicy) as caught:
        policyfile.load(path)
    assert sorted(line[len(path) + 1 :].split(":")[0] for line in str(caught.value).splitlines()) == list("23678")


@pytest.mark.ids("B01")
def test_of_an_aegis_file_only_cost_is_read(write):
    path = write("policies:\n  - deny: all\n" + textwrap.dedent(SOURCE) + "audit: {}\n", "aegis.yaml")
    loaded = policyfile.load(path)
    assert [budget.name for budget in loaded.policy.budgets][-1] == "budget_usd"
    assert loaded.notices == ("%s: only cost: is read; not read: policies, audit" % path,)
    with pytest.raises(BadPolicy, match=r"cost\.oops"):
        policyfile.load(write("cost: {oops: 1}\n", "aegis.yaml"))


@pytest.mark.ids("B39")
def test_a_json_policy_needs_no_package(tmp_path):
    path = tmp_path / "aicostguard.json"
    path.write_text('{"version": 1,\n "cost": {"budget_usd": 0.1, "on_exceed": "warn"},\n "budgets": []}\n')
    yaml = tmp_path / "aicostguard.yaml"
    yaml.write_text("cost: {budget_usd: 1}\n")
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "from aicostguard.guard import policyfile\n"
        "print(policyfile.load(%r).policy.budgets[0].limit)\n"
        "try: policyfile.load(%r)\n"
        "except ValueError as error: print(error)\n"
    ) % (str(path), str(yaml))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "100000000",
        "%s:1: YAML needs PyYAML (pip install 'aicostguard[guard]'); the same file can be written as JSON" % yaml,
    ], done.stderr


@pytest.mark.ids("B03")
@pytest.mark.parametrize(
    "text, line, says",
    [
        ('{"cost":\n {"budget_uds": 1}}', 2, "did you mean budget_usd?"),
        ('{"cost": {"budget_usd": 1,\n "budget_usd": 2}}', 2, "'budget_usd' stands twice"),
        ('{"cost": {\n"budget_usd": 1,}}', 2, "a name in double quotes is expected"),
        ('{"cost": {"on_exceed": block}}', 1, "a value is expected, not 'b'"),
        ('{"cost": {}\n', 2, "a comma or } is expected"),
        ('{"cost": {}}\n{}', 2, "more text behind the end"),
        ('{"name": "a\n"}', 1, "Invalid control character"),
        ("[" * 200_000, 1, "nested more than 50 deep"),
        ("", 1, "a value is expected, but the text ends"),
        ('{"name": }', 1, "a value is expected, not '}'"),
    ],
)
def test_mistakes_in_json_have_lines_too(write, text, line, says):
    path = write(text, "policy.json")
    with pytest.raises(BadPolicy) as caught:
        policyfile.load(path)
    assert str(caught.value).startswith("%s:%d: " % (path, line)) and says in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"cost: {budget_usd: \xe4}", b"#" * 1_000_001])
def test_a_file_that_is_no_text_is_refused(tmp_path, data):
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    with pytest.raises(BadPolicy, match=str(path)):
        policyfile.load(str(path))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadPolicy, match=r"p\.yaml: cannot be read \(No such file or directory\)"):
        policyfile.load(str(tmp_path / "p.yaml"))


@pytest.mark.ids("B01")
def test_the_file_is_looked_for_beside_the_entry_script(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    script = folder / "main.py"
    script.write_text("from aicostguard.guard import policyfile\nprint(policyfile.find())\n")

    def found():
        done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    (tmp_path / "aicostguard.yaml").write_text("cost: {}\n")  # not the current folder
    assert found() == "None"
    (folder / "aegis.yaml").write_text("cost: {}\n")
    assert found() == str(folder / "aegis.yaml")
    (folder / "aicostguard.yaml").write_text("cost: {}\n")
    assert found() == str(folder / "aicostguard.yaml")


@pytest.mark.ids("B01", "B03")
def test_the_command_shows_the_rules_as_they_are_read(write, tmp_path, capsys):
    (tmp_path / "own.json").write_text("{}")
    path = write(WHOLE)
    assert cli.main(["policy", "check", path]) == 0
    *told, rules = capsys.readouterr().out.splitlines()
    assert re.fullmatch("  rules [0-9a-f]{64}", rules)  # as the audit trail names them
    assert told == [
        "%s: 4 budgets" % path,
        "  budget_usd: $0.10; in all, for ever; block beyond it; tell at 80%",
        "  marketing: $500.00; each month of Europe/Berlin; of team=marketing, tags.tier=gold; for each user, model; "
        "warn beyond it; tell at 75%, 90%, 100%",
        "  tokens of a minute: 1,000 tokens; in any 60 seconds; for each team; block beyond it",
        "  requests: 10 requests; in all, for ever; block beyond it; tell at 75%, 90%, 100%",
        "  name shop, store sqlite:///budgets.db",
        "  a model without a price: warn",
        "  a call whose most is not known: observed",
        "  a store that fails: open",
        "  loops: 5 same calls in 60 seconds: block",
        "  prices: %s" % (tmp_path / "own.json"),
        "  audit: %s" % (tmp_path / "audit.jsonl"),
    ]
    assert cli.main(["policy", "check", path, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["budgets"][0]["limit"] == 10**8 and shown["name"] == "shop"


@pytest.mark.ids("B03")
def test_the_command_tells_mistakes_by_its_exit_code(write, tmp_path, capsys, monkeypatch):
    path = write("cost: {budget_usd: -1}\n")
    assert cli.main(["policy", "check", path]) == 1
    assert "cost.budget_usd: '-1' cannot be used" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert cli.main(["policy", "check"]) == 1, "the file of this folder"
    (tmp_path / "aicostguard.yaml").unlink()
    assert cli.main(["policy", "check"]) == 2
    assert cli.main(["policy"]) == 2
    assert cli.main(["policy", "--help"]) == 0
