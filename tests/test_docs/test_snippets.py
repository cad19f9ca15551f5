"""Every command and snippet of README.md and docs/ does what stands there: it runs, parses, or says why not."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any, Iterator
from unittest import mock

import pytest

pytest.importorskip("fastapi")
import click
import tomllib
import yaml

from aicostguard import CostConfig, CostPolicyEnforcer, TokenUsage, ledger
from aicostguard.cli import VERBS, app
from aicostguard.guard import audit, policyfile
from aicostguard.pricing import pricefile
from tests.cli import desk
from tests.ledger.support import KEY, Server, environment, serving
from tests.test_docs import snippets
from tests.test_docs.snippets import PAGES, ROOT, Snippet, commands, of

#: blocks that say `not run`, at most: each is a promise that nobody checks
MOST_NOT_RUN = 6
#: languages of blocks, and whether this file knows what to do with them
KNOWN = {"python", "sh", "json", "yaml", "toml", "http", "text", "ini"}
#: what is defined for the Python of a page, as a reader has it from the page's own words
BEFORE = {
    "README.md": "",
    "docs/acceptance.md": "import pytest; pytest.mark = type('M', (), {'ids': staticmethod(lambda *_: lambda f: f)})\n",
    "docs/enforcement.md": "from starlette.applications import Starlette\napp = Starlette()\n",
    "docs/testing.md": "def ask(_): ...\n",
    "docs/inline.md": "import types; same = lambda *_, **__: lambda f: f; func = types.SimpleNamespace(HttpRequest=0, "
    "HttpResponse=0); functions_framework = types.SimpleNamespace(http=lambda f: f)\n"
    "class App:\n    route = staticmethod(same)\n"
    "    async def __call__(self, scope, receive, send): ...\napp = App()\n",
}
#: pages whose commands another file runs, in the order and place that they need
ELSEWHERE = {
    "docs/access.md": "tests/ledger/test_access_doc.py",
    "docs/alerts.md": "tests/ledger/test_alert_cli.py",
}
#: words in commands → what stands for them in the folder of the test
WORDS = {
    "/backups/ledger.db": "copy.db",
    "/backups/": "copies/",
    "FILE": "copy.db",
    "https://hooks.example.com/": "https://127.0.0.1:9/",
}
#: verbs that do not end by themselves, or that change the machine: their arguments are read, and no more
READ_ONLY = {
    "serve",
    "tail",
    "top",
    "dashboard",
    "compact",
    "people",
    "restore",
    "archive",
    "salvage",
    "completion",
    "run",
}
#: the beginnings of what is no command of ours, and why it is not run
FOREIGN = {
    "pip install": "asks a package index",
    "export": "sets a variable of the reader's shell",
    "source": "is of the reader's shell: tests/cli/test_completion.py",
    "./scripts/": "is there, and tells its options",
    "scripts/": "is there, and tells its options",
    "pytest": "is run by tests/testing",
    "AICG_": "sets variables for a program of the reader's",
    "python": "a program of the reader's",
    "systemctl": "changes the machine",
    "docker": "asks a registry",
    "podman": "asks a registry",
    "sudo": "changes the machine",
    "openssl": "makes a certificate: tests/ledger/test_exposed.py",
    "aicg-diagnose": "is run below as aicg diagnose",
}


def identified(one: Snippet) -> str:
    return f"{one.page}:{one.line}"


def test_every_block_has_a_language_that_is_checked_and_few_are_not_run() -> None:
    every = [one for page in PAGES for one in snippets.snippets(page)]
    assert len(every) > 60, "the pages were not read"
    assert {one.language for one in every} <= KNOWN
    left = [f"{identified(one)}: {one.not_run}" for one in every if one.not_run]
    assert len(left) <= MOST_NOT_RUN, left


def pages(language: str) -> Any:
    """Parametrises by the pages that have a block of a language."""
    found = [page for page in PAGES if any(one.language == language for one in snippets.snippets(page))]
    return pytest.mark.parametrize("page", found, ids=lambda path: str(path.relative_to(ROOT)))


@pages("python")
def test_python_runs(page: Path, tmp_path: Path) -> None:
    """The blocks of a page, one after another, as one program with a ledger file of its own."""
    name = str(page.relative_to(ROOT))
    parts = [BEFORE.get(name, "")]
    for one in snippets.snippets(page):
        if one.language == "python" and not one.not_run:
            parts.append("\n" * 2 + f"# {name}:{one.line}\n" + one.text)
    program = tmp_path / "program.py"
    program.write_text("".join(parts), encoding="utf-8")
    for policy in ("policy.yaml", "aicostguard.yaml"):
        (tmp_path / policy).write_text("cost:\n  daily_budget_usd: 50\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment(AICG_URL=f"sqlite:///{tmp_path}/costs.db", AICG_STATE_DIR=str(tmp_path / "state")),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("one", of("json"), ids=identified)
def test_json_parses_and_a_prices_file_is_one(one: Snippet) -> None:
    if not one.not_run:
        body = json.loads(one.text)
        if isinstance(body, dict) and set(body) & {"prices", "aliases", "discounts", "premiums"}:
            pricefile.parse(one.text, one.page)


def test_toml_parses() -> None:
    for one in of("toml"):
        tomllib.loads(one.text)


@pytest.mark.parametrize("one", of("yaml"), ids=identified)
def test_yaml_parses_and_a_policy_is_one(one: Snippet, tmp_path: Path) -> None:
    body = yaml.safe_load(one.text)
    if isinstance(body, dict) and set(body) & {"cost", "budgets", "loops", "audit"}:
        path = tmp_path / "policy.yaml"
        path.write_text(one.text, encoding="utf-8")
        (tmp_path / "prices.yaml").write_text("aliases: []\n", encoding="utf-8")
        assert policyfile.load(str(path)).policy is not None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ledger with a little in it, served."""
    folder = tmp_path_factory.mktemp("served")
    desk.fill(folder / "ledger.db", "little")
    store = ledger.open_ledger(str(folder / "ledger.db"))
    try:
        with serving(store) as found:
            yield found
    finally:
        store.close()


@pages("sh")
def test_shell_runs(page: Path, tmp_path: Path, server: Server) -> None:
    """Lines with `aicg` run over a ledger file, one after another; those with `curl` ask a ledger that is served."""
    name = str(page.relative_to(ROOT))
    if name in ELSEWHERE:
        assert Path(name).name in (ROOT / ELSEWHERE[name]).read_text(encoding="utf-8")
        return
    folder = tmp_path / "here"
    (folder / "copies").mkdir(parents=True)
    desk.fill(folder / "ledger.db", "little")
    desk.run(["keys", "create", "--name", "ci", "--role", "admin"], folder)
    for policy in ("policy.yaml", "aegis.yaml", "aicostguard.yaml"):
        (folder / policy).write_text("cost:\n  daily_budget_usd: 50\n", encoding="utf-8")
    enforcer = CostPolicyEnforcer(CostConfig(budget_usd=100, audit=str(folder / "audit.jsonl")))
    enforcer.check_and_record(TokenUsage("gpt-4o", input_tokens=5000, output_tokens=1000))
    told = {"6f2c…": audit.verify(str(folder / "audit.jsonl")).head}
    for one in snippets.snippets(page):
        for line in commands(one.text) if one.language == "sh" and not one.not_run else ():
            carried_out(line, folder, server, told)


def carried_out(line: str, folder: Path, server: Server, told: dict[str, str]) -> None:
    for word, stands in {**WORDS, **told}.items():
        line = line.replace(word, stands)
    if line.startswith("curl "):
        answer = asked_by_curl(line, server)
        if '"ticket"' in answer:
            told["t019…"] = json.loads(answer)["ticket"]
        return
    if not line.startswith("aicg "):
        why = next((why for beginning, why in FOREIGN.items() if line.startswith(beginning)), None)
        assert why is not None, f"{line!r}: say in FOREIGN why it is not run"
        if "scripts/" in line.split()[0]:
            assert os.access(ROOT / line.split()[0], os.X_OK), line
        return
    words = shlex.split(re.split(r"\s(?:[|>&]|2>)", line)[0])[1:]
    assert words[0].startswith("-") or words[0] in VERBS, line
    if words[0] in READ_ONLY:
        parsed(words, click.Context(app._group))
        return
    shown = desk.run(words, folder)
    code = re.search(r"^\[exit (\d+)\]$", shown, re.M)
    # 3 and 4 are answers; diagnose ends with 1 where no program sends anything
    assert code is None or int(code[1]) in (3, 4) or words[0] == "diagnose", shown


def parsed(words: list[str], context: click.Context) -> None:
    """The command is there, and takes these arguments."""
    command = app._group.get_command(context, words[0])
    assert command is not None
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        assert inner is not None, words
        command, rest = inner, rest[1:]
    with mock.patch("sys.stdout", io.StringIO()):
        command.make_context(words[0], list(rest), resilient_parsing="--help" in rest)


def asked_by_curl(line: str, server: Server) -> str:
    env = {**environment(), "AICG_KEY": KEY, "AICG_URL": f"http://127.0.0.1:{server.port}"}
    line = line.replace("http://127.0.0.1:8090", "$AICG_URL")
    done = subprocess.run(
        ["bash", "-c", line.replace("curl ", "curl --fail-with-body --noproxy '*' ", 1)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("one", of("http"), ids=identified)
def test_requests_are_answered(one: Snippet, server: Server) -> None:
    if one.not_run:
        return
    for line in one.text.splitlines():
        method, _, target = line.partition(" ")
        if method != "GET":
            continue
        path, _, query = target.partition("?")
        reply = server.get(path + ("?" + urllib.parse.quote(query, safe="=&%,:!+") if query else ""))
        assert reply.status == 200, (line, reply.raw)


def test_every_setting_stands_in_the_readme() -> None:
    from aicostguard import config

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in config._ROWS if name not in text]


def test_links_between_pages_lead_somewhere() -> None:
    missing: list[Any] = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                missing.append((str(page.relative_to(ROOT)), target))
    assert not missing
