"""The snippets of README.md and docs/, and the places in which they run.

Owns how a page is read: fenced blocks with a language, in order, and `<!-- not run: why -->` on the line before one
that a test cannot run. Python of a page runs as one program, block after block; lines of shell run one after another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: pages with snippets
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(path for path in [ROOT / "examples" / "README.md"] if path.is_file()),
]
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.M | re.S)
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n*\Z")


class Snippet(NamedTuple):
    """A fenced block: where it is, its language, its text, and why it is not run (empty when it is)."""

    page: str
    line: int
    language: str
    text: str
    not_run: str


def snippets(page: Path) -> Iterator[Snippet]:
    """The blocks of a page that name a language."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent, language, body = found.groups()
        why = _NOT_RUN.search(text[: found.start()])
        body = re.sub(rf"^{indent}", "", body, flags=re.M)
        if language:
            line = text.count("\n", 0, found.start()) + 2
            yield Snippet(str(page.relative_to(ROOT)), line, language, body, why[1] if why else "")


def of(language: str) -> list[Snippet]:
    """All blocks of a language, whether they are run or not."""
    return [one for page in PAGES for one in snippets(page) if one.language == language]


def commands(text: str) -> Iterator[str]:
    """The command lines of a shell block, without comments; a line that ends with a backslash goes on."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if line:
            yield line
