"""The command `aicg`.

Owns which verbs exist and what each needs. Those of `CORE` run with the core alone; the others need the extra
`server`, and say so when it is missing. Exit codes: 0 done, 1 error, 2 wrong usage, 3 a budget is used up.
Runs on CPython 3.9, where the server's own modules do not.
"""

from __future__ import annotations

import sys
from typing import List, Optional, Sequence

from aicostguard.cli import output

#: verb → one line of help; what needs the extra `server`
VERBS = {
    "serve": "run the ledger: receive, price and store receipts",
    "dashboard": "open the dashboard of a running ledger in a browser, logged in",
    "costs": "what calls cost, by feature, model, user, day, …",
    "models": "which models are in use, and what they cost",
    "compare": "models beside each other: cost, latency, quality, and savings against another",
    "agents": "who called whom: a tree of agents, each with what it cost itself, handed on, and both",
    "focus": "what calls cost as a FOCUS file, for tools that read bills",
    "deliveries": "is everything here? what came of each host beside what it made",
    "tail": "receipts as they come in",
    "top": "what costs money right now, by feature, model and agent; budgets",
    "budgets": "what may be spent, what is, and how long it lasts; add, set, remove",
    "alerts": "what fires, and who is told; rules, channels, acknowledge, snooze, test",
    "price": "what a call costs and why; newer prices; what providers themselves say",
    "reprice": "price stored receipts again: an explicit, recorded act",
    "keys": "create, list, limit, rotate and revoke keys",
    "projects": "projects and organisations; the audit log",
    "people": "accounts of people, and what each may",
    "backup": "copy the ledger while it is served, and verify the copy",
    "restore": "put a backup in place as the ledger",
    "salvage": "take over what can be read of a damaged ledger",
    "retention": "how long single receipts stay; sums stay for good",
    "archive": "list, verify and restore receipts that retention has put into files",
    "labels": "which labels have too many different values, and how many sums have room for",
    "compact": "give free pages of the file back to the device",
    "forget": "put a pseudonym in place of a user's name, everywhere and for good",
    "completion": "make the tab key complete verbs and options, in bash, zsh and fish",
    "policy": "check a policy file, and show its rules as they are read (needs no extra)",
    "audit": "verify and show an audit trail of decisions (needs no extra)",
    "run": "run a program with metering on: aicg run -- python app.py (needs no extra)",
    "diagnose": "is the agent working in my programs? (needs no extra)",
}
#: verb → module and function that take its arguments and give the exit code, without any extra
CORE = {
    "diagnose": ("aicostguard.diagnostics", "main"),
    "run": ("aicostguard.cli.run", "main"),
    "policy": ("aicostguard.cli.policy", "main"),
    "audit": ("aicostguard.cli.audit", "main"),
}
#: third-party modules behind the extra, the first missing one decides
_NEEDS = ("click", "rich", "fastapi", "uvicorn", "fastapi_offline", "argon2", "jinja2")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run `aicg`; `argv` without the program's name. Returns the exit code."""
    arguments: List[str] = list(sys.argv[1:] if argv is None else argv)
    return output.told(lambda: _run(arguments))


def _run(arguments: List[str]) -> int:
    verb = next((item for item in arguments if not item.startswith("-")), "")
    if arguments[:1] and arguments[0] in CORE:
        return core(arguments[0], arguments[1:])
    missing = _missing()
    if not missing:
        from aicostguard.cli import app

        return app.run(arguments)
    if verb in VERBS:
        sys.stderr.write("aicg %s needs pip install 'aicostguard[server]' (%s)\n" % (verb, missing))
        return 1
    return _plain_help(arguments)


def core(verb: str, arguments: Sequence[str]) -> int:
    """Run a verb that needs no extra."""
    from importlib import import_module

    module, function = CORE[verb]
    try:
        return int(getattr(import_module(module), function)(list(arguments)) or 0)
    except SystemExit as error:  # argparse, for --help and for what it refuses
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1


def _missing() -> str:
    """Why the server's verbs cannot run here; empty when they can."""
    import importlib.util

    if sys.version_info < (3, 11):
        return "and Python 3.11 or later; this is %d.%d" % sys.version_info[:2]
    for name in _NEEDS:
        if importlib.util.find_spec(name) is None:
            return "%s is missing" % name
    return ""


def _plain_help(arguments: List[str]) -> int:
    if arguments == ["--version"]:
        import aicostguard

        sys.stdout.write("aicg %s\n" % getattr(aicostguard, "__version__", "unknown"))
        return 0
    asked = not arguments or arguments[0] in ("--help", "-h")
    out = sys.stdout if asked else sys.stderr
    if not asked:
        out.write("aicg: unknown command %r\n" % arguments[0])
    out.write("usage: aicg VERB …\n\n")
    for verb, says in VERBS.items():
        out.write("  %-12s%s\n" % (verb, says))
    out.write("\nAll but %s need: pip install 'aicostguard[server]'\n" % ", ".join(CORE))
    return 0 if asked else 2
