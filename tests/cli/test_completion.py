"""The tab key: what real shells are offered, bash, zsh and fish, and what zsh and fish are told when they ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("click")
from aicostguard.cli import VERBS, app, completion
from tests.ledger.support import environment

#: words before the cursor → what is offered, in order
OFFERED = {
    "co": ["costs", "compare", "compact", "completion"],
    "alerts channels ": ["add", "edit", "log", "remove"],
    "costs --compare ": ["previous"],
    "costs --by feature,mo": ["feature,month", "feature,model"],
    "costs --where te": ["team="],
    "costs --since to": ["today"],
    "keys create --role ": ["ingest", "read", "admin"],
    "budgets add x --on-exceed w": ["warn"],
    "run --s": ["--service", "--stream-usage"],
    "run --service x --d": ["--debug"],
    "policy ": ["check"],
    "policy check --j": ["--json"],
    "audit s": ["show"],
    "diagnose --j": ["--json"],
    "completion ": ["bash", "zsh", "fish"],
    "costs --nothing-like-it": [],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which `aicg` is this tree's."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "aicg"
    script.write_text('#!/bin/sh\nexec "%s" -m aicostguard.cli "$@"\n' % sys.executable)
    script.chmod(0o755)
    return "%s%s%s" % (folder, os.pathsep, os.environ["PATH"])


def test_bash_is_offered_what_comes_next(path: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    lines = ['eval "$(aicg completion bash)"', "complete -p aicg"]
    for words in OFFERED:
        # As readline does it: the words, the one with the cursor, then the function that `complete` names.
        split = "aicg %s" % words
        number = len(split.split(" ")) - 1
        quoted = " ".join('"%s"' % word for word in split.split(" "))
        lines.append("COMP_WORDS=(%s); COMP_CWORD=%d; COMPREPLY=(); _aicg_completion aicg" % (quoted, number))
        lines.append('echo "> ${COMPREPLY[*]}"')
    done = subprocess.run(
        [bash, "--norc", "-c", "\n".join(lines)],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    registered, *answers = done.stdout.splitlines()
    assert registered == "complete -o nosort -F _aicg_completion aicg"
    assert dict(zip(OFFERED, (line[1:].split() for line in answers))) == OFFERED


#: words before the cursor → what a shell with menus is offered
IN_MENUS = {
    "co": ["compact", "compare", "completion", "costs"],
    "alerts channels ": ["add", "edit", "log", "remove"],
    "costs --compare ": ["previous"],
    "run --service x --d": ["--debug"],
    "audit s": ["show"],
}


def test_fish_is_offered_what_comes_next(path: str) -> None:
    fish = shutil.which("fish")
    assert fish is not None
    lines = ["aicg completion fish | source"]
    for words in IN_MENUS:
        lines += ["echo '>'", "complete -C 'aicg %s'" % words]
    done = subprocess.run(
        [fish, "--no-config", "-c", "\n".join(lines)],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    answers = [answer.splitlines() for answer in done.stdout.split(">\n")[1:]]
    assert dict(zip(IN_MENUS, (sorted(line.split("\t")[0] for line in rows) for rows in answers))) == IN_MENUS, done
    assert "a new channel" in done.stdout, "with help beside it"


def test_zsh_is_offered_what_comes_next(path: str) -> None:
    """The script in a real zsh; what draws the menu, which needs a terminal, is a function that prints."""
    zsh = shutil.which("zsh")
    assert zsh is not None
    lines = ['compdef() { print -r -- "compdef $*" }', "compadd() { print -rl -- $completions }", "_path_files() { }"]
    lines += ["_describe() { print -rl -- ${(P)3} }", "source <(aicg completion zsh)"]
    for words in IN_MENUS:
        split = ("aicg %s" % words).split(" ")
        quoted = " ".join('"%s"' % word for word in split)
        lines += ["print '>'", "words=(%s); CURRENT=%d; _aicg_completion" % (quoted, len(split))]
    done = subprocess.run(
        [zsh, "-f", "-c", "\n".join(lines)],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "compdef _aicg_completion aicg" in done.stdout, done
    answers = [answer.splitlines() for answer in done.stdout.split(">\n")[1:]]
    assert dict(zip(IN_MENUS, (sorted(line.split(":")[0] for line in rows) for rows in answers))) == IN_MENUS, done
    assert "a new channel" in done.stdout, "with help beside it"


@pytest.mark.parametrize("words,incomplete,files", [("run -- ", "app", True), ("run --service ", "x", True)])
def test_a_command_and_a_file_are_the_shells_to_find(path: str, words: str, incomplete: str, files: bool) -> None:
    asked = {"_AICG_COMPLETE": "bash_complete", "COMP_WORDS": "aicg " + words + incomplete}
    asked["COMP_CWORD"] = str(len(asked["COMP_WORDS"].split()) - 1)
    done = subprocess.run(
        ["aicg"], env=environment(PATH=path, **asked), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines() == ["file,%s" % incomplete], done


@pytest.mark.parametrize(
    "shell,asked",
    [
        ("zsh", {"COMP_WORDS": "aicg pol", "COMP_CWORD": "1"}),
        ("fish", {"COMP_WORDS": "aicg pol", "COMP_CWORD": "pol"}),
    ],
)
def test_zsh_and_fish_are_told_with_help(path: str, shell: str, asked: dict[str, str]) -> None:
    script = subprocess.run(
        ["aicg", "completion", shell],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "_AICG_COMPLETE=%s_complete" % shell in script
    told = subprocess.run(
        ["aicg"],
        env=environment(PATH=path, _AICG_COMPLETE="%s_complete" % shell, **asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "policy" in told
    assert told.count("plain") == 1
    assert VERBS["policy"].split(",")[0] in told.replace("\\", "")


def test_a_shell_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["completion", "tcsh"]) == 2
    told = capsys.readouterr().err
    assert all(shell in told for shell in completion.SHELLS)


def test_help_and_completion_load_no_verb() -> None:
    """They are asked for at every key: the server's modules would make them seconds slow."""
    asks = "import sys; from aicostguard.cli import main; main(['--help']); print([m for m in sys.modules if %s])"
    heavy = "m in ('fastapi', 'uvicorn', 'rich', 'pydantic', 'jinja2') or m == 'aicostguard.cli.access'"
    done = subprocess.run(
        [sys.executable, "-c", asks % heavy], env=environment(), capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_verb_has_its_command() -> None:
    import click

    context = click.Context(app._group)
    for verb in VERBS:
        command = app._group.get_command(context, verb)
        assert command is not None, verb
        assert command.name == verb
