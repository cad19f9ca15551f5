"""`scripts/test` and `.ci/run`: what they count, what they call a failure, and that they always end with totals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import pytest

from tests.test_project import tree

runner = tree.script("test")
machine, verdict = sys.modules["machine"], sys.modules["verdict"]  # what it stands on


def stage(name: str, *checks: tuple[str, str]) -> runner.Stage:
    made = runner.Stage(name)
    for node, outcome in checks:
        made.add(node, outcome, "because" if outcome == "skipped" else "")
    return made


def judged(stages: List[runner.Stage], require_all: bool) -> List[List[str]]:
    runner.judge(stages, (3, 11), require_all)
    return [[check.outcome for check in stage.checks] for stage in stages]


def test_require_all_turns_a_skip_into_a_failure() -> None:
    assert judged([stage("tests", ("a", "passed"), ("b", "skipped"))], False) == [["passed", "skipped"]]
    assert judged([stage("tests", ("a", "passed"), ("b", "skipped"))], True) == [["passed", "failed"]]


def test_a_skip_on_an_older_interpreter_needs_a_pass_on_the_main_one() -> None:
    main = stage("tests", ("f.py::a", "passed"), ("f.py::b", "skipped"), ("g.py::a", "passed"))
    older = stage("core-3.9", ("f.py::a", "skipped"), ("f.py::b", "skipped"), ("g.py", "skipped"), ("h.py", "skipped"))
    assert judged([main, older], True) == [
        ["passed", "failed", "passed"],
        ["elsewhere", "failed", "elsewhere", "failed"],
    ]


def test_a_skip_of_a_whole_file_needs_all_of_it_to_pass_on_the_main_one() -> None:
    main = stage("tests", ("f.py::a", "passed"), ("f.py::b", "skipped"))
    assert judged([main, stage("core-3.9", ("f.py", "skipped"))], False)[1] == ["skipped"]


def test_the_summary_ends_with_totals(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "CACHE", tmp_path)
    good = runner.summary([stage("tests", ("a", "passed"), ("b", "skipped"))], ["3.9"])
    printed = capsys.readouterr().out
    assert good
    assert printed.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"
    assert re.search(r"^  tests +b: because$", printed, re.M)
    assert "CPython 3.9 is not present" in printed
    assert not runner.summary([stage("tests", ("a", "passed"), ("b", "failed"))], [])
    assert not runner.summary([stage("tests", ("a", "skipped"))], []), "nothing passed: nothing is known"


def test_interpreters_are_cpython_and_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "python3.9": "exit 127",
        "python3.10": "echo pypy 3 10",
        "python3.12": "echo cpython 3 12",
    }.items():
        (tmp_path / name).write_text("#!/bin/sh\n%s\n" % text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setattr(machine, "FETCHED", tmp_path / "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runner.interpreters() == {(3, 12): str(tmp_path / "python3.12"), sys.version_info[:2]: sys.executable}


def test_a_command_that_does_not_end_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "PATIENCE", 1)
    start = time.monotonic()
    with pytest.raises(runner.Failed, match="ended after 1 s"):
        runner.run(["sh", "-c", "sleep 60 & echo $! > child; wait"], tmp_path)
    assert time.monotonic() - start < 30, "it waited for the child"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline, "the child of an ended command lives on"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Of a process that nobody waits for: a zombie is dead."""
    stat = Path("/proc/%d/stat" % pid)
    return stat.exists() and stat.read_text().split()[2] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_what_runs_and_begins_nothing_more(number: int, tmp_path: Path) -> None:
    """Three stages run, and one waits: each is a session of its own, which Ctrl-C does not reach by itself."""
    code = """
import os, runpy, sys
os.cpu_count = lambda: 2  # three at a time
sys.path.insert(0, "scripts")
import machine
def sleeps(stage, at, options):
    machine.run(["sh", "-c", "echo $$ > %s/$0; exec sleep 600", stage.name])
whole = runpy.run_path("scripts/test", run_name="whole")
space = whole["main"].__globals__
space["plan"] = lambda *a: [("tests-%%d" %% n, sleeps, "") for n in range(4)]
text = open("scripts/test").read()
sys.argv = ["test"]
exec(compile(text[text.index('if __name__ == "__main__"'):], "test", "exec"), {**space, "__name__": "__main__"})
"""
    command = [sys.executable, "-c", code % tmp_path]
    program = subprocess.Popen(command, cwd=tree.ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        deadline = time.monotonic() + 120
        while len([path for path in tmp_path.iterdir() if path.read_text().strip()]) < 3:
            assert time.monotonic() < deadline and program.poll() is None
            time.sleep(0.05)
        program.send_signal(number)
        _, said = program.communicate(timeout=120)
    finally:
        program.kill()
        program.communicate()
    assert (program.returncode, said.splitlines()[-1]) == (130, "interrupted; what ran was ended")
    ran = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(ran) == 3 and not any(alive(pid) for pid in ran)


def test_all_stages_run_and_one_failure_fails_the_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passes(stage: runner.Stage, at: object, options: object) -> None:
        stage.add("fine", "passed")

    def breaks(stage: runner.Stage, at: object, options: object) -> None:
        raise runner.Failed("exit 1: the index does not answer\nlong story")

    monkeypatch.setattr(verdict, "CACHE", tmp_path)
    monkeypatch.setattr(
        runner, "plan", lambda *a: [("lint", breaks, ""), ("tests", passes, ""), ("core-3.9", passes, "")]
    )
    monkeypatch.setattr(sys, "argv", ["test"])
    assert runner.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 1 failed, 0 skipped"
    monkeypatch.setattr(sys, "argv", ["test", "--only", "core"])
    assert runner.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"
    monkeypatch.setattr(sys, "argv", ["test", "--fast", "--only", "tests", "--only", "core", "--require-all"])
    assert runner.main() == 1
    assert "skipped: left out by --fast" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["test", "--only", "nothing"])
    assert runner.main() == 1


def test_functions_on_values_run_on_the_oldest_the_main_and_the_newest_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selected = {}
    monkeypatch.setattr(runner, "suite", lambda version, selection, extras: selected.__setitem__(version, selection))
    runner.plan({(3, minor): "" for minor in range(9, 14)}, (3, 11), False)
    without = [version for version in selected if version and "--ignore=tests/metering" in selected[version]]
    assert without == [(3, 10), (3, 12)]
    faults = "--ignore=tests/safety/test_safety_cannot_break_calls.py"
    assert [version for version in selected if version and faults in selected[version]] == [(3, 10), (3, 12), (3, 13)]
    assert not any("--ignore=tests/delivery" in selection for selection in selected.values())


def test_what_is_left_out_on_some_interpreters_is_there() -> None:
    for name in (*runner.MAIN_ONLY, *runner.FIRST_TWO, *runner.ENDS):
        assert (tree.ROOT / name).exists(), name
    file, _, test = runner._LONG.partition("::")
    assert "def %s(" % test in (tree.ROOT / file).read_text(encoding="utf-8")


def test_a_settings_variable_of_the_shell_does_not_reach_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AICG_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AICG_CORPUS", "somewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "elsewhere")
    env = runner.environment()
    assert "AICG_URL" not in env
    assert "VIRTUAL_ENV" not in env
    assert env["AICG_CORPUS"] == "somewhere"


def test_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/test", "--help"], cwd=str(tree.ROOT), capture_output=True, text=True
    )
    assert done.returncode == 0
    for option in ("--require-all", "--fast", "--only", "--python", "--fresh", "-k"):
        assert option in done.stdout


@pytest.mark.parametrize("name", ["scripts/test", "scripts/acceptance", "scripts/layers", ".ci/run"])
def test_scripts_start_by_themselves(name: str) -> None:
    path = tree.ROOT / name
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env ")


def test_ci_runs_the_whole() -> None:
    text = (tree.ROOT / ".ci/run").read_text(encoding="utf-8")
    assert re.search(r"^exec python3 scripts/test --require-all$", text, re.M)
    assert subprocess.run(["bash", "-n", str(tree.ROOT / ".ci/run")]).returncode == 0
