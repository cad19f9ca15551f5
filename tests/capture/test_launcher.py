"""`aicg run`: the program is the program, with one import more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from aicostguard.cli import run as launcher

ROOT = Path(__file__).parents[2]
AICG = [sys.executable, "-m", "aicostguard.cli", "run"]
#: what a program sees of where it is, and whether the agent is there
LOOK = """
import json, os, signal, sys
print(json.dumps({
    "path": sys.path, "argv": sys.argv, "flags": repr(sys.flags), "active": "aicostguard.auto" in sys.modules,
    "site": getattr(sys.modules.get("sitecustomize"), "__file__", None), "executable": sys.executable,
    "pipe": signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN, "pythonpath": os.environ.get("PYTHONPATH"),
    "main": sorted(k for k in vars(sys.modules["__main__"]) if not k.startswith("__")),
}))
"""


def environ(folder: Path, **more: str) -> Dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AICG_") and k != "PYTHONPATH"}
    return {**kept, "AICG_URL": "sqlite:///%s/c.db" % folder, "AICG_STATE_DIR": str(folder), **more}


def call(command: List[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = environ(folder, **more)
    # The package is in the working tree; an installed one needs no path.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))
    return subprocess.run(command, cwd=str(folder), env=env, capture_output=True, text=True, timeout=60)


def look(command: List[str], folder: Path, **more: str) -> Dict[str, Any]:
    done = call(command, folder, **more)
    assert done.returncode == 0, done.stderr
    seen: Dict[str, Any] = json.loads(done.stdout)
    seen["stderr"] = done.stderr
    return seen


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(LOOK)
    return path


def ways(script: Path) -> Dict[str, List[str]]:
    return {
        "script": [sys.executable, str(script), "--help", "a b"],
        "module": [sys.executable, "-m", "app", "x"],
        "code": [sys.executable, "-c", LOOK, "-v"],
        "relative": [sys.executable, "app.py"],
    }


@pytest.mark.ids("E10")
@pytest.mark.parametrize("pythonpath", ["", "libs", "libs::more"], ids=["none", "one", "with an empty entry"])
@pytest.mark.parametrize("way", ["script", "module", "code", "relative"])
def test_the_program_finds_the_path_it_would_have_had(script: Path, way: str, pythonpath: str) -> None:
    """`sys.path`, arguments, flags and the names of the main module are the same; the agent is there."""
    command = ways(script)[way]
    without = look(command, script.parent, PYTHONPATH=pythonpath)
    beneath = look([*AICG, "--", *command], script.parent, PYTHONPATH=pythonpath)
    assert beneath.pop("active") is True and without.pop("active") is False
    assert beneath.pop("pythonpath") == os.pathsep.join([launcher.SITE, without.pop("pythonpath")])
    ours = beneath.pop("site")
    assert without.pop("site") in (None, ours) or ours
    assert beneath == without


@pytest.mark.ids("E10")
def test_another_sitecustomize_is_handed_over_to(script: Path) -> None:
    """The next one on the path runs, is the module of that name, and its own exception is reported as always."""
    libs = script.parent / "libs"
    libs.mkdir()
    other = libs / "sitecustomize.py"
    other.write_text("import os\nos.environ['OTHER'] = __file__\n")
    seen = look([*AICG, sys.executable, str(script)], script.parent, PYTHONPATH=str(libs))
    assert seen["site"] == str(other) and seen["active"] is True
    other.write_text("import not_there_at_all\n")
    seen = look([*AICG, sys.executable, str(script)], script.parent, PYTHONPATH=str(libs))
    assert seen["active"] is True
    # Said by the launcher's own interpreter, too.
    assert seen["stderr"].count("not_there_at_all") == 2
    alone = look([sys.executable, str(script)], script.parent, PYTHONPATH=str(libs))
    assert alone["stderr"].count("not_there_at_all") == 1


@pytest.mark.ids("E10")
def test_beneath_itself(script: Path) -> None:
    """Twice is once; and a Python that the program starts has the agent, too."""
    seen = look([*AICG, "--", *AICG, "--", sys.executable, str(script)], script.parent)
    assert seen["pythonpath"].split(os.pathsep).count(launcher.SITE) == 1 and seen["active"] is True
    child = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, %r]))" % str(script)
    assert look([*AICG, sys.executable, "-c", child], script.parent)["active"] is True


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-sE", "-IBm", "-W ignore -I", "-X utf8 -S"])
def test_an_interpreter_that_cannot_be_reached(script: Path, option: str) -> None:
    """The program runs as it is, and it is said that nothing is counted."""
    if "m" in option:
        command = [sys.executable, option, "json.tool", str(script.parent / "x.json")]
        (script.parent / "x.json").write_text("{}")
    else:
        command = [sys.executable, *option.split(), str(script)]
    done = call([*AICG, "--", *command], script.parent)
    assert done.returncode == 0, done.stderr
    assert "keeps the agent out" in done.stderr
    if "m" not in option:
        assert json.loads(done.stdout)["active"] is False
    assert "keeps" not in call([*AICG, "--", sys.executable, str(script), "-I"], script.parent).stderr
    assert "keeps" not in call([*AICG, "--", sys.executable, "-cpass", "-E"], script.parent).stderr


def test_a_script_whose_first_line_closes_the_door(script: Path) -> None:
    tool = script.parent / "tool"
    tool.write_text("#!%s -I\n%s" % (sys.executable, LOOK))
    tool.chmod(0o755)
    seen = look([*AICG, "./tool"], script.parent)
    assert seen["active"] is False and "-I keeps the agent out" in seen["stderr"]
    tool.write_text("#!%s\n%s" % (sys.executable, LOOK))
    seen = look([*AICG, "./tool"], script.parent)
    assert seen["active"] is True and seen["stderr"] == ""


def test_a_python_without_us(script: Path) -> None:
    """Another environment's interpreter: the program runs; one line says what to do, once for it and its children."""
    home = script.parent / "bare"
    venv.create(home, with_pip=False)
    python = str(home / "bin" / "python")
    twice = "import subprocess, sys; subprocess.call([sys.executable, %r]); subprocess.call([sys.executable, '-c', ''])"
    env = {**environ(script.parent), "PYTHONPATH": ""}
    away = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, %r); from aicostguard.cli import main; main()" % str(ROOT),
    ]
    done = subprocess.run(
        [*away, "run", "--", python, "-c", twice % str(script)],
        cwd=str(script.parent), env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    seen = json.loads(done.stdout)
    assert seen["active"] is False and os.path.realpath(seen["executable"]) == os.path.realpath(python)
    assert done.stderr.count("aicostguard: not active in") == 1 and "not installed there" in done.stderr


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_programs(tmp_path: Path, code: int) -> None:
    assert call([*AICG, sys.executable, "-c", "raise SystemExit(%d)" % code], tmp_path).returncode == code


def test_signals_reach_the_program(tmp_path: Path) -> None:
    """One process: the signal is the program's, and so is what becomes of it."""
    ready = tmp_path / "ready"
    program = "import os, signal, time; open(%r, 'w').write(str(os.getpid())); time.sleep(30)" % str(ready)
    env = environ(tmp_path, PYTHONPATH=str(ROOT))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        process = subprocess.Popen([*AICG, "--", sys.executable, "-c", program], env=env, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not (ready.exists() and ready.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert int(ready.read_text()) == process.pid
        process.send_signal(number)
        assert process.wait(20) == -number
        ready.unlink()


def test_what_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    missing = call([*AICG, "no-such-command-anywhere"], tmp_path)
    assert missing.returncode == 127 and "no-such-command-anywhere is not found" in missing.stderr
    assert call([*AICG, "./plain.txt"], tmp_path).returncode == 126


#: words → variable and value, or what is said
LINES: Dict[str, Any] = {
    "--feature nightly --": ("AICG_FEATURE_DEFAULT", "nightly"),
    "--service=shop": ("AICG_SERVICE", "shop"),
    "--debug": ("AICG_DEBUG", "1"),
    "--url sqlite:///x.db": ("AICG_URL", "sqlite:///x.db"),
    "--url ftp://x": "--url: use http(s)://host",
    "--debug=1": "--debug takes no value",
    "--worker 4": "--worker is not an option of aicg run",
    "--key k": "--key is not an option",
}


@pytest.mark.parametrize("line", LINES)
def test_options_are_variables(tmp_path: Path, line: str) -> None:
    expected = LINES[line]
    program = [sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"]
    done = call([*AICG, *line.split(), *program], tmp_path)
    if isinstance(expected, str):
        assert done.returncode == 2 and expected in done.stderr and done.stdout == ""
    else:
        assert json.loads(done.stdout)[expected[0]] == expected[1], done.stderr


@pytest.mark.parametrize("words, code", [([], 2), (["--"], 2), (["--feature"], 2), (["--help"], 0), (["-h"], 0)])
def test_help_and_wrong_usage(tmp_path: Path, words: List[str], code: int) -> None:
    done = call([*AICG, *words], tmp_path)
    assert done.returncode == code
    if code == 0:
        for word in ("gunicorn", "celery", "pytest", "jupyter", "uvicorn", "--feature", "exit status", "AICG_KEY"):
            assert word in done.stdout
    else:
        assert "Try: aicg run --help" in done.stderr


@pytest.mark.parametrize(
    "variable, says",
    [({"AICG_URL": ""}, "AICG_URL is not set"), ({"AICG_DISABLED": "1"}, "AICG_DISABLED is set"), ({}, None)],
)
def test_what_keeps_it_from_metering_is_said(tmp_path: Path, variable: Dict[str, str], says: Optional[str]) -> None:
    done = call([*AICG, sys.executable, "-c", "print('ran')"], tmp_path, **variable)
    assert done.stdout == "ran\n"
    assert (says or "") in done.stderr and bool(done.stderr) is (says is not None)


def test_a_launcher_that_hides_us_is_named() -> None:
    lines = launcher.remarks(["opentelemetry-instrument", "python", "app.py"], {"AICG_URL": "sqlite:///x"})
    assert lines == [
        "opentelemetry-instrument keeps the agent out when it comes second; "
        "write: opentelemetry-instrument aicg run -- …"
    ]


def test_the_rest_of_the_process_is_as_it_was(script: Path) -> None:
    """A program beneath it ends quietly at a closed pipe, as `yes | head` does."""
    tail = [*AICG, "--", "sh", "-c", "trap '' TERM; yes | head -n 1 >/dev/null; trap; kill -PIPE $$; echo survived"]
    done = call(tail, script.parent)
    assert done.returncode == -signal.SIGPIPE and "survived" not in done.stdout
