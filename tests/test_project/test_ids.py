"""The ids of docs/acceptance.md, the marks in the tests, and what is remembered of outcomes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests import ids
from tests.test_project import tree

acceptance = tree.script("acceptance")
KNOWN = ids.table()


def test_the_document_has_every_id() -> None:
    letters = {"X": 8, "G": 28, "Z": 10}
    want = {"%s%d" % (letter, n) for letter, most in {"X": 8, "Z": 10}.items() for n in range(1, most + 1)}
    want |= {"%s%02d" % ("G", n) for n in range(1, letters["G"] + 1)}
    for letter, most in {"A": 36, "B": 43, "D": 16, "E": 22}.items():
        rows = ["%s%02d" % (letter, n) for n in range(1, most + 1)]
        want |= {row if ids.is_acceptance(row) else "ACC:" + row for row in rows}
    for letter, most in {"A": 23, "B": 17, "C": 10, "D": 12, "E": 10}.items():
        want |= {"%s%d" % (letter, n) for n in range(1, most + 1)}
    assert set(KNOWN) == want


def test_the_document_has_every_id_of_the_specification() -> None:
    specified = acceptance.specified(tree.ROOT.parent / "shared")
    if not specified:
        pytest.skip("no specification beside the tree: ../shared/ACCEPTANCE.md")
    assert specified == set(KNOWN)


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("A9", "A9"),
        ("A09", "A09"),
        ("A10", "A10"),
        ("P:A10", "A10"),
        ("ACC:A10", "ACC:A10"),
        ("ACC:A09", "A09"),
        ("A24", "A24"),
        ("C10", "C10"),
        ("G10", "G10"),
        ("Z3", "Z3"),
        ("P:A24", None),
        ("P:A09", None),
        ("ACC:A9", None),
        ("A37", None),
        ("PA10", None),
        ("", None),
    ],
)
def test_spellings(written: str, means: str) -> None:
    assert ids.canonical(written, KNOWN) == means


def test_every_mark_of_the_tree_names_an_id() -> None:
    _, complaints = ids.tests_by_id(KNOWN, list(ids.marks()))
    assert complaints == []


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    doc = tmp_path / "acceptance.md"
    doc.write_text("| id | what |\n|---|---|\n| A1 | one |\n| A1 | again |\n", encoding="utf-8")
    with pytest.raises(ValueError, match="A1 stands twice"):
        ids.table(doc)


# A tree of its own, with the real recorder, table and report.

TESTS = """
import sys
import pytest

pytestmark = pytest.mark.ids("X4")

@pytest.mark.ids("A9", "P:A10")
def test_good(): pass

class TestGroup:
    @pytest.mark.ids("B1")
    @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.ids("B3"))])
    def test_rows(self, n): assert n == 1

@pytest.mark.ids("C3")
@pytest.mark.skipif(sys.version_info < (3, 99), reason="from the future")
def test_later(): pass

@pytest.mark.ids("E9")
def test_teardown(request): request.addfinalizer(lambda: 1 / 0)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree with this one's machinery and one test file; no specification beside it."""
    root = tmp_path / "tree"
    for name in ("tests/__init__.py", "tests/conftest.py", "tests/ids.py", "docs/acceptance.md", "scripts/acceptance"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree.ROOT / name, root / name)
    shutil.copy2(tree.ROOT / "pyproject.toml", root)
    (root / "tests/test_it.py").write_text(TESTS, encoding="utf-8")
    return root


def call(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=str(root), capture_output=True, text=True, timeout=120)


def rows(root: Path, *options: str) -> Dict[str, Dict[str, Any]]:
    done = call(root, "scripts/acceptance", "--json", *options)
    assert done.returncode == 0, done.stderr
    return {row["id"]: row for row in json.loads(done.stdout)["rows"]}


def test_the_report_follows_the_runs(copy: Path) -> None:
    before = rows(copy)
    assert before["A9"]["result"] == "none yet"
    assert before["A9"]["tests"] == ["tests/test_it.py::test_good"]
    assert before["A1"]["tests"] == []

    assert call(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider").returncode == 1
    after = rows(copy)
    assert {name: after[name]["result"] for name in ("A9", "A10", "B1", "B3", "C3", "E9", "X4", "A1")} == {
        "A9": "passed",
        "A10": "passed",
        "B1": "failed",
        "B3": "failed",
        "C3": "skipped",
        "E9": "failed",  # the test passed and its teardown did not
        "X4": "failed",
        "A1": "none yet",
    }
    assert after["B3"]["tests"] == ["tests/test_it.py::TestGroup::test_rows"]
    assert "A9" not in rows(copy, "--open")
    assert "A1" in rows(copy, "--open")

    # A later run of one test replaces its outcome alone; a test that is gone no longer counts.
    (copy / "tests/test_it.py").write_text(TESTS.replace("assert n == 1", "pass").replace("test_good", "test_new"))
    call(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "test_rows")
    again = rows(copy)
    assert (again["B1"]["result"], again["A9"]["result"], again["C3"]["result"]) == ("passed", "none yet", "skipped")


def test_a_pass_elsewhere_outweighs_a_skip_but_not_a_failure(copy: Path) -> None:
    folder = copy / ".cache/results"
    folder.mkdir(parents=True)
    node = "tests/test_it.py::test_good"
    outcomes: List[str] = []
    for first, second in (("skipped", "passed"), ("passed", "skipped"), ("passed", "failed"), ("failed", "skipped")):
        for version, outcome in (("3.11", first), ("3.9", second)):
            (folder / (version + ".json")).write_text(json.dumps({node: {"ids": ["A9"], "outcome": outcome}}))
        outcomes.append(rows(copy)["A9"]["result"])
    assert outcomes == ["passed", "passed", "failed", "failed"]


def test_an_unknown_id_stops_the_run_and_the_report(copy: Path) -> None:
    (copy / "tests/test_it.py").write_text(TESTS.replace('"B3"', '"B99"'), encoding="utf-8")
    ran = call(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert ran.returncode == 4
    assert "'B99' is not an id" in ran.stdout + ran.stderr
    told = call(copy, "scripts/acceptance")
    assert told.returncode == 1
    assert "'B99', which is not an id" in told.stderr


def test_the_shell_of_a_person_decides_no_outcome(copy: Path) -> None:
    (copy / "tests/test_it.py").write_text(
        "import os\n"
        "def test_env():\n"
        "    assert not {'AICG_URL', 'VERCEL', 'https_proxy'} & set(os.environ)\n"
        "    assert os.environ['AICG_TEST_RAISE'] == '1'\n"
        "    assert 'aicg-test-home-' in os.environ['XDG_STATE_HOME']\n",
        encoding="utf-8",
    )
    import os

    shell = {**os.environ, "AICG_URL": "http://127.0.0.1:1", "VERCEL": "1", "https_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=str(copy), env=shell, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


#: the folder is left after the file, and before the next one; the cycle is for the garbage collector alone
LEAVES = """
import socket
import pytest

def test_leaves(request):
    held = [[socket.socket()]]
    held[0].append(held[0])
    request.node.getparent(pytest.Dir).addfinalizer(held.clear)
"""


def test_what_is_left_open_between_two_files_fails_the_run(copy: Path) -> None:
    for name, text in (("a/test_a.py", LEAVES), ("b/test_b.py", "def test_good(): pass")):
        (copy / "tests" / name).parent.mkdir()
        (copy / "tests" / name).write_text(text, encoding="utf-8")
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--results-to", "told.json")
    done = call(copy, *command, "tests/a", "tests/b")
    assert done.returncode == 1, done.stdout
    assert "2 passed" in done.stdout
    assert re.search(r"between \S*test_a\.py and \S*test_b\.py: unclosed <socket\.socket", done.stdout)
    told = json.loads((copy / "told.json").read_text())
    assert [name for name, row in told.items() if row["outcome"] == "failed"] == ["left open between two files"]
    assert call(copy, *command, "tests/b").returncode == 0
