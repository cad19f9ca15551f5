"""The tree says one version, and holds nothing of the machine it was written on."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import re
from pathlib import Path
from typing import Iterator, Set

import pytest
import tomllib

import aicostguard
from tests.test_project import tree

PYPROJECT = tomllib.loads((tree.ROOT / "pyproject.toml").read_text(encoding="utf-8"))

#: brackets keep the patterns from matching themselves
FOREIGN = {
    "a package registry's host": r"pypi\.[a-z]|pythonhosted\.[a-z]|registry\.npmj[s]|(deb|security)\.debian\.[o]rg",
    "a path of this machine": "|".join(map(re.escape, {str(tree.ROOT), str(tree.ROOT.parent / "shared")})),
    "a path of a machine": r"(?<![\w~.}$])/(root|work|opt/wheels|opt/pypi|tmp/[a-z])/",
    "a mark of unfinished work": r"\b(TOD[O]|FIXM[E])\b",
}
#: long enough to be nobody's word: upper, lower and digit mixed, or hexadecimal
TOKEN = re.compile(r"(?=[A-Za-z]*\d)[A-Za-z0-9]{20,}")


def texts() -> Iterator[tuple[Path, str]]:
    for path in tree.files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            assert path.suffix in {".gz", ".png", ".ico", ".woff2"}, "%s is neither text nor a known binary" % path


def test_one_version() -> None:
    from aicostguard import receipt

    version = PYPROJECT["project"]["version"]
    assert aicostguard.__version__ == version
    assert receipt.SCHEMA == 1
    changelog = (tree.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^##.*\b%s\b" % re.escape(version), changelog, re.M), "CHANGELOG.md says nothing of %s" % version


@pytest.mark.parametrize("what", FOREIGN)
def test_the_tree_holds_no(what: str) -> None:
    pattern = re.compile(FOREIGN[what])
    found = [
        "%s:%d: %s" % (path.relative_to(tree.ROOT), number, line.strip()[:160])
        for path, text in texts()
        if path.name != "LICENSE"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "%s:\n%s" % (what, "\n".join(found))


def test_the_tree_holds_no_recorded_traffic(corpus: Path) -> None:
    """Ids and signatures of recorded responses are unique: none of them may stand in the project."""
    recorded: Set[str] = set()
    for name in ("dev.jsonl.gz", "negatives.jsonl.gz"):
        with gzip.open(corpus / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                body = json.loads(line).get("response_body_base64") or ""
                recorded |= unique(base64.b64decode(body).decode("utf-8", "replace"))
    assert len(recorded) > 5_000, "the corpus was not read"
    for path, text in texts():
        both = unique(text) & recorded
        assert not both, "%s holds recorded traffic: %s" % (path, sorted(both)[:5])


def unique(text: str) -> Set[str]:
    return {t for t in TOKEN.findall(text) if re.search("[A-Z]", t) and re.search("[a-z]", t) and len(set(t)) > 10}


def test_no_module_is_longer_than_a_person_reads() -> None:
    long = {
        str(path.relative_to(tree.ROOT)): count
        for path in (tree.ROOT / "aicostguard").rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 440
    }
    assert not long


def test_every_module_says_what_it_owns() -> None:
    silent = [
        str(path.relative_to(tree.ROOT))
        for path in (tree.ROOT / "aicostguard").rglob("*.py")
        if path.read_text(encoding="utf-8").strip() and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent


def test_no_dependency_and_no_upper_cap() -> None:
    project = PYPROJECT["project"]
    assert project["dependencies"] == []
    asked = [line for extra in project["optional-dependencies"].values() for line in extra]
    assert not [line for line in asked if re.search(r"<|~=|==", line.split(";")[0])]
