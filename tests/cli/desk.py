"""A terminal for the golden files: `aicg` in this process, at a fixed moment, over ledgers of which every row is known.

Owns the ledgers (none, empty, little, lot), how a command is run in them, and what is taken out of its output because
no clock makes it the same twice: keys, folders, sizes of files, seconds, versions.
"""

from __future__ import annotations

import contextlib
import io
import re
import sqlite3
import sys
import types
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence
from unittest import mock

from aicostguard import ledger
from aicostguard.cli import follow, main
from aicostguard.ledger import ingest
from aicostguard.pricing import registry

#: Thursday 12 March 2026, 10:00 UTC
NOW = 1_773_309_600_000
HOUR, DAY = 3_600_000, 86_400_000
#: columns of a narrow terminal
NARROW = 40

#: what differs from run to run → what stands for it, in order
_MASKS = (
    (r"aicg_[A-Za-z0-9]{32,64}", "aicg_KEY"),
    (r"aicg_[A-Za-z0-9]{4}(?=[•…\W])", "aicg_KEY1"),
    (r"aicgc_[A-Za-z0-9_-]+", "aicgc_CODE"),
    (r"(?<=/open#)\S+|(?<=code=)\S+", "CODE"),
    (r"aicgl_\w+", "aicgl_LINK"),
    (r"whsec_[\w-]+", "whsec_SECRET"),
    (r"\b[0-9a-f]{16}\b", "0123456789abcdef"),
    (r"before-restore-\w+", "before-restore-WHEN"),
    (r"forgotten-\w+", "forgotten-PSEUDONYM"),
    (r"\b\d+(\.\d+)? (MB|kB|GB)\b", "N MB"),
    (r"\b\d+(\.\d+)? (s|ms)\b(?= *$|;)", "N s"),
    (r"(?<=verified in )\d+\.\d+ s", "N s"),
    (r"(?<=longest step )\d+ ms", "N ms"),
    (r'(?<="seconds": )[\d.]+|(?<="longest_s": )[\d.]+|(?<="bytes": )\d+', "0"),
    (r"aicg \d+\.\d+\.\d+\S*", "aicg VERSION"),
    (r"\(schema version|schema version \d+", "schema version N"),
    (r'(?<="version": )\d+|(?<="schema_version": )\d+', "0"),
)


class Priced(NamedTuple):
    cost_nanousd: int | None
    row: str | None
    reason: str | None = None


def price(receipt: Mapping[str, Any], at_ms: int) -> Priced:
    """A table of its own, that no release changes: by the size that a model's name tells."""
    model = receipt["model"]
    if model == "in-house-7b" or "input_tokens" not in receipt:
        return Priced(None, None, "no price")
    rate = 150 if "mini" in model or "haiku" in model else 2_500
    return Priced(rate * (receipt["input_tokens"] + 4 * receipt.get("output_tokens", 0)), "%s:fixed" % model)


def _made(connection: sqlite3.Connection) -> None:
    """The first project is as old as the rest: SQLite's own clock has made it."""
    for name in ("organisations", "projects"):
        connection.execute(f"UPDATE {name} SET created_ms = ?", (NOW,))


def _receipts(name: str) -> list[tuple[int, dict[str, Any]]]:
    """`(hours before NOW, receipt)` of a ledger."""
    if name == "little":
        return [
            (1, _receipt("openai", "gpt-4o", 1240, 312, feature="generate_rag_answer", user="ada", team="search")),
            (2, _receipt("anthropic", "claude-3-5-haiku-20241022", 830, 95, feature="summarise", user="bob")),
            (30, _receipt("openai", "in-house-7b", 200, 20, feature="classify")),
        ]
    if name != "lot":
        return []
    models = (
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini"),
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("anthropic", "claude-3-5-haiku-20241022"),
        ("gemini", "gemini-2.5-pro"),
        ("custom", "in-house-7b"),
    )
    features = [
        *("generate_rag_answer", "summarise", "classify", "Übersetzung", "要約", "doc-parse"),
        "a.feature.with.a.very.long.name.that.somebody.gave.it.without.thinking.of.terminals",
        *("feature_%02d" % number for number in range(25)),
    ]
    found = []
    for number in range(1500):
        provider, model = models[number * number % 6]
        labels = {
            "feature": features[number * 7 % len(features)],
            "user": "user-%03d@example.com" % (number % 60),
            "team": ("search", "support", "finance")[number % 3],
            "agent": ("planner", "writer", None)[number % 3],
            "parent_agent": "planner" if number % 6 == 1 else None,
        }
        receipt = _receipt(provider, model, 500 + number % 700, 50 + number % 90)
        receipt.update({key: value for key, value in labels.items() if value is not None})
        if number % 50 == 3:
            receipt["reported_cost_nanousd"] = 100_000 + number
        flag = {0: "streamed", 1: "partial", 2: "estimated"}.get(number % 40)
        if flag:
            receipt[flag] = True
        if number % 97 == 0:
            del receipt["input_tokens"], receipt["output_tokens"]
            receipt["usage_missing"] = True
        found.append((number // 2, receipt))
    return found


def _receipt(provider: str, model: str, tokens: int, output: int, **more: Any) -> dict[str, Any]:
    counts = {"input_tokens": tokens, "output_tokens": output, "latency_ms": 300 + tokens // 3}
    return {"provider": provider, "model": model, **counts, **more}


def fill(path: Path, name: str) -> None:
    """Make the ledger `name` at `path`."""
    with fixed_time():
        store = ledger.open_ledger(str(path))
        try:
            project = store.default_project()
            store.change(_made)
            for place, host in enumerate(("web-1", "batch-2")):
                rows = _receipts(name)[place::2]
                if not rows:
                    continue
                body = {
                    "schema": 1,
                    "agent": "0.1.0",
                    "epoch": "01JD8Y3W7ZK5T9Q2R4V6X8A0B%d" % place,
                    "sent_at": NOW,
                    "seq": list(range(len(rows))),
                    "at": [NOW - hours * HOUR for hours, _ in rows],
                    "receipts": [receipt for _, receipt in rows],
                    "service": "shop",
                    "host": host,
                }
                told = ingest.accept(store, project, body, NOW, price=price)
                assert told["accepted"] == len(rows), told
        finally:
            store.close()


@contextlib.contextmanager
def fixed_time() -> Iterator[None]:
    """The ledger's clock, and that of prices, stands."""
    with mock.patch.object(ledger, "now_ms", return_value=NOW), mock.patch.object(registry, "now_ms", return_value=NOW):
        yield


class _Screen(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def isatty(self) -> bool:
        return self.terminal


def run(arguments: Sequence[str], folder: Path, *, narrow: bool = False, typed: str = "") -> str:
    """What a person sees who types the command: output, then what went to stderr, and an exit code that is not 0."""
    out, err = _Screen(narrow), _Screen(narrow)
    env = {
        "AICG_DATA_DIR": str(folder),
        "AICG_STATE_DIR": str(folder / "state"),
        "AICG_ALERT_CHARTS": "0",
        "LOGNAME": "ada",
        "NO_COLOR": "1",
        "COLUMNS": str(NARROW if narrow else 80),
        "LINES": "24",
        "TERM": "xterm",
    }

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with contextlib.ExitStack() as stack:
        stack.enter_context(fixed_time())
        stack.enter_context(mock.patch.dict("os.environ", env))
        stack.enter_context(mock.patch.object(follow, "time", types.SimpleNamespace(sleep=stop)))
        stack.enter_context(mock.patch.object(sys, "stdin", io.StringIO(typed)))
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        code = main(list(arguments))
    parts = ["$ aicg %s\n" % " ".join(_quoted(word) for word in arguments), out.getvalue()]
    parts += ["! %s\n" % line if line else "!\n" for line in err.getvalue().splitlines()]
    if code:
        parts.append("[exit %d]\n" % code)
    return "".join(parts)


def _quoted(word: str) -> str:
    return "'%s'" % word if re.search(r"[\s#$&*!]", word) or not word else word


def masked(text: str, folder: Path) -> str:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace(str(folder), "DIR")
    for pattern, stands in _MASKS:
        text = re.sub(pattern, stands, text, flags=re.M)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())
