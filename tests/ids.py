"""The ids that tests close: how they are written, which exist, and which tests name them.

Owns the reading of `docs/acceptance.md` and of the `ids` marks in the test files. Reads files and nothing
else, on CPython 3.9 and with no package installed, because both `scripts/acceptance` and the pytest
plugin in `conftest.py` stand on it. If it is wrong, an open row looks closed.

Acceptance ids and pitfall ids share letters. The first column of the tables is how an id is written in a
mark, and no two rows share a spelling: `A01` is an acceptance row, `A1` and `A10` are pitfalls,
`ACC:A10` is the acceptance row of that number. `P:A10` may be written for `A10`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
DOC = ROOT / "docs" / "acceptance.md"

_ROW = re.compile(r"\|\s*`?((?:ACC:)?[A-Z]\d{1,2})`?\s*\|\s*(.+?)\s*\|\s*\Z")


class Mark(NamedTuple):
    """One `ids` mark: the names as written, and the test (`path::Class::function`), class or file it stands on."""

    names: Tuple[str, ...]
    node: str
    line: int


def table(doc: Path = DOC) -> Dict[str, str]:
    """id → summary, in the order of the document; empty when there is no document. ValueError: an id twice."""
    rows: Dict[str, str] = {}
    if not doc.is_file():
        return rows
    for line in doc.read_text(encoding="utf-8").splitlines():
        match = _ROW.match(line.strip())
        if match:
            if match.group(1) in rows:
                raise ValueError("%s stands twice in %s" % (match.group(1), doc.name))
            rows[match.group(1)] = match.group(2)
    return rows


def canonical(name: str, known: Dict[str, str]) -> Optional[str]:
    """The spelling of the tables for any accepted spelling, or None for an id that does not exist."""
    if name in known:
        return name
    prefix, _, bare = name.rpartition(":")
    if prefix == "P" and bare in known and not is_acceptance(bare):
        return bare
    if prefix == "ACC" and bare in known and is_acceptance(bare):
        return bare
    return None


def is_acceptance(name: str) -> bool:
    """True for an acceptance id in the spelling of the tables, False for a pitfall."""
    if name.startswith("ACC:") or name[0] in "XGZ" or name[1] == "0":
        return True
    return int(name[1:]) > {"A": 23, "B": 17, "C": 10, "D": 12, "E": 10}.get(name[0], 0)


def marks(tests: Path = ROOT / "tests") -> Iterator[Mark]:
    """Every `ids` mark in the test files, without importing them."""
    for path in sorted(tests.rglob("test_*.py")):
        where = path.relative_to(tests.parent).as_posix()
        yield from _marks_in(ast.parse(path.read_text(encoding="utf-8"), str(path)), where)


def _marks_in(node: ast.AST, where: str) -> Iterator[Mark]:
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = "%s::%s" % (where, child.name)
        elif isinstance(child, ast.Call) and _is_ids(child.func):
            names = tuple(str(a.value) for a in child.args if isinstance(a, ast.Constant))
            yield Mark(names, where, child.lineno)
        # A decorator is a child of the function that it stands on, so its `where` is that function.
        yield from _marks_in(child, inner)


def _is_ids(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and func.attr == "ids" and isinstance(func.value, ast.Attribute)


def tests_by_id(known: Dict[str, str], found: List[Mark]) -> Tuple[Dict[str, List[str]], List[str]]:
    """`(id → tests that name it, complaints about marks that name no known id)`."""
    closed: Dict[str, List[str]] = {name: [] for name in known}
    complaints: List[str] = []
    for mark in found:
        for written in mark.names:
            name = canonical(written, known)
            if name is None:
                complaints.append("%s line %d names %r, which is not an id" % (mark.node, mark.line, written))
            elif mark.node not in closed[name]:
                closed[name].append(mark.node)
    return closed, complaints
