"""`aicg audit verify` and `aicg audit show`: an audit trail, for people.

Owns what is printed. Reads the trail's files and changes nothing. Runs with the core alone. Exit codes: 0 whole, 1
broken or unreadable, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
from typing import Any, Deque, Dict, List, Mapping

from aicostguard.guard import audit
from aicostguard.guard.values import LABELS
from aicostguard.guard.words import amounts


def parser() -> argparse.ArgumentParser:
    """What the verb takes."""
    parser = argparse.ArgumentParser(
        prog="aicg audit", description="Look at an audit trail; %s is its key, where it has one." % audit.KEY
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verify = verbs.add_parser("verify", help="is the chain whole, through all its files?")
    verify.add_argument("file")
    verify.add_argument("--head", help="the last hash that was seen: says when later entries are missing")
    verify.add_argument("--json", action="store_true", help="print what was found as JSON")
    show = verbs.add_parser("show", help="what was decided")
    show.add_argument("file")
    show.add_argument("--last", type=int, default=20, metavar="N", help="so many entries (20); 0 for all")
    show.add_argument("--json", action="store_true", help="print the entries as they stand in the file")
    return parser


def main(arguments: List[str]) -> int:
    """Run the verb. Returns the exit code."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as error:
        return int(error.code or 0)
    try:
        return _verify(options) if options.verb == "verify" else _show(options)
    except (OSError, ValueError) as error:
        named = isinstance(error, OSError) and error.filename
        said = "%s cannot be read: %s" % (error.filename, error.strerror) if named else error  # type: ignore[union-attr]
        sys.stderr.write("aicg audit: %s\n" % said)
        return 1


def _verify(options: Any) -> int:
    found = audit.verify(options.file, audit.key_of(os.environ))
    problems = list(found.problems)
    if options.head and all(entry["hash"] != options.head for entry in audit.entries(options.file)):
        problems.append("%s: the entry with hash %s is missing" % (options.file, options.head))
    if options.json:
        print(
            json.dumps(
                {
                    "file": options.file,
                    **found._asdict(),
                    "keyed": bool(os.environ.get(audit.KEY)),
                    "problems": problems,
                }
            )
        )
        return 1 if problems else 0
    for problem in problems:
        print(problem)
    if problems:
        return 1
    span = "entries %d to %d" % (found.first, found.last) if found.entries else "no entry"
    kind = "keyed" if os.environ.get(audit.KEY) else "not keyed: whoever can write the file can write it anew"
    print("%s: %s, the chain is whole (%s)" % (options.file, span, kind))
    if found.first > 1:
        print("  entries before %d were in files that have been removed" % found.first)
    print("  head %s" % found.head)
    return 0


def _show(options: Any) -> int:
    found: Deque[Dict[str, Any]] = collections.deque(audit.entries(options.file), options.last or None)
    if not found and any(os.path.getsize(name) for name in audit.files(options.file)):
        raise ValueError("%s holds no entry of an audit trail; is it another file?" % options.file)
    for entry in found:
        print(json.dumps(entry) if options.json else _line(entry))
    return 0


def _line(entry: Mapping[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry["at_ms"] / 1000))
    labels = " ".join("%s=%s" % (name, entry[name]) for name in LABELS if name in entry)
    money = next((entry[name] for name in ("nanousd", "estimate") if name in entry), None)
    cost = "" if money is None or entry.get("unit", "nanousd") != "nanousd" else amounts("nanousd", money)[0]
    parts = ["%6d" % entry["seq"], when, "%-8s" % entry["event"], cost, labels, "; ".join(entry.get("reasons", ()))]
    return "  ".join(part for part in parts if part)
