"""`aicg-diagnose` and `python -m aicostguard.diagnostics`: is every call counted, and does every receipt arrive?

Owns the report: what is installed and hooked, the settings, whether the ledger answers, and what the processes
on this machine say of themselves in their status files beside what the ledger has of them. Changes nothing, sends no
receipt, gives the key to the ledger alone, and shows no text of a request. If it is wrong, a user trusts numbers that
are not complete.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aicostguard import compared, config
from aicostguard.config import Settings

WIDTH = 45
#: programs shown as text, the newest first
SHOWN = 8

HELP = """\
Shows which AI libraries are hooked, the settings, whether the ledger answers, and what running programs report
beside what the ledger has of them.

exit status:
  0  everything is in order
  1  something needs a person: no AICG_URL, no AICG_KEY, AICG_DISABLED, a setting that is wrong or unknown, the
     ledger unreachable or refusing the key, a hook that failed, and, in a program that runs or ran in the last
     24 hours for this ledger: faults, dropped receipts, a spool that cannot be written, receipts in quarantine,
     receipts that it made and that are neither here nor in the ledger
  2  wrong usage of this command

Unmetered, unrecognised and usage_missing calls are shown and do not change the exit status.
"""

#: what is printed where → where the terminal cannot print it
_ASCII = {"─": "-", "✅": "[ok]", "❌": "[--]", "⚠️": "[!!]", "•": "*", "×": "x", "…": "..."}

#: counters and notes of a process, in the order shown; True: a value above 0 is a problem
_COUNTS: Tuple[Tuple[str, bool], ...] = (
    ("generated", False),
    ("sent", False),
    ("spooled", False),
    ("dropped", True),
    ("unmetered", False),
    ("unrecognised", False),
    ("usage_missing", False),
    ("faults", True),
)


class Instrument(NamedTuple):
    """One library: `mark` is `ok`, `missing` or `warn`."""

    label: str
    version: Optional[str]
    mark: str
    text: str


def parser() -> Any:
    """What the command takes."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="aicg-diagnose", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the report; gives the exit status (see `HELP`)."""
    from aicostguard.cli import output

    options = parser().parse_args(argv)
    return output.told(lambda: _print(options.json))


def _print(as_json: bool) -> int:
    import json

    report = gather(config.load(os.environ), time.time())
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=True))
    else:
        print(printable("\n".join(render(report)), getattr(sys.stdout, "encoding", None)))
    return 1 if report["problems"] else 0


def gather(settings: Settings, now: float) -> Dict[str, Any]:
    """The whole report, JSON-safe; `now` in seconds since 1970. `problems` holds what makes the exit status 1."""
    from aicostguard import __version__
    from aicostguard.delivery import folder, status

    rows = status.read(settings.state_dir)
    ours = folder.destination_of(settings) if settings.url else None
    recent = [row for row in rows if row["alive"] or now - (row.get("written_ms") or 0) / 1000 < status.KEEP_SECONDS]
    mine = [row for row in recent if row.get("destination") == ours]
    instruments = [_instrument(group, mine) for group in _groups()]
    problems = list(settings.problems)
    report: Dict[str, Any] = {
        "version": __version__,
        "instruments": [row._asdict() for row in instruments],
        "config": _config(settings, mine, problems),
        "last_receipt": _last(mine),
        "spool": _spool(settings.state_dir, ours),
    }
    sides = compared.ask(settings, mine) if report["config"]["url_ok"] else {"told": False, "why": "it is not there"}
    report["ledger"] = {"told": sides["told"], "why": sides["why"]}
    report["workers"] = [_worker(row, ours, sides, report["spool"]["bytes"]) for row in recent]
    problems.extend("%s: %s" % (row.label, row.text) for row in instruments if row.text.startswith("hook "))
    for row in mine:
        problems.extend(_complaints(row))
        problems.extend(compared.problem(row, compared.compare(row, sides, report["spool"]["bytes"])))
    if report["spool"]["quarantined_bytes"]:
        problems.append("receipts are in quarantine under %s" % report["spool"]["folder"])
    report["problems"] = problems
    return report


def _groups() -> List[List[Any]]:
    """The rows of the table of hooks, those of one distribution together."""
    from aicostguard.capture.hooks import INSTRUMENTS

    groups: Dict[str, List[Any]] = {}
    for row in INSTRUMENTS:
        groups.setdefault(row.distribution, []).append(row)
    return list(groups.values())


def _instrument(rows: List[Any], workers: List[Dict[str, Any]]) -> Instrument:
    from importlib import metadata

    from aicostguard.capture.hooks import parse_version

    label = rows[0].label
    try:
        # a part of Python has no distribution of its own
        name = rows[0].distribution
        version = metadata.version(name) if name else "%d.%d.%d" % sys.version_info[:3]
    except metadata.PackageNotFoundError:
        return Instrument(label, None, "missing", "not installed")
    modules = {row.module for row in rows}
    for worker in sorted(workers, key=lambda worker: not worker["alive"]):
        states = {state for module, state in (worker.get("capture") or {}).items() if module in modules}
        bad = sorted(str(state) for state in states if state not in ("patched", "removed"))
        if bad:
            return Instrument(label, version, "warn", "hook %s (pid %s)" % (bad[0], worker.get("pid")))
        if "patched" in states:
            where = "patched" if worker["alive"] else "patched in the last run"
            return Instrument(label, version, *_tested(rows, parse_version(version), where))
    return Instrument(label, version, *_tested(rows, parse_version(version), "supported, no program reports it yet"))


def _tested(rows: List[Any], version: Tuple[int, ...], text: str) -> Tuple[str, str]:
    if any(row.tested[0] <= version < row.tested[1] for row in rows):
        return "ok", text
    first, end = min(row.tested[0] for row in rows), max(row.tested[1] for row in rows)
    dotted = [".".join(str(number) for number in bound) for bound in (first, end)]
    return "warn", "%s; this version is outside the tested range (%s up to, but not, %s)" % (text, *dotted)


def _config(settings: Settings, workers: List[Dict[str, Any]], problems: List[str]) -> Dict[str, Any]:
    """The settings as they may be shown. What is wrong goes to `problems`."""
    shown: Dict[str, Any] = {
        "url": settings.url,
        "key": config.mask(settings.key) or None,
        "mode": "inline" if settings.inline else "background",
        "spool": "on-failure" if settings.spool == "durable" and settings.inline else settings.spool,
        "state_dir": settings.state_dir,
        "disabled": settings.disabled,
        "settings": list(settings.problems),
    }
    if settings.disabled:
        problems.append("AICG_DISABLED is set: nothing is metered")
    if settings.url is None:
        shown["url_state"], shown["url_ok"] = "not set", False
        problems.append("AICG_URL is not set: nothing is metered")
    else:
        from aicostguard.delivery import probe

        path = settings.sqlite_path
        answer = probe.probe_file(path) if path is not None else probe.probe_http(settings.url)
        shown["url_state"], shown["url_ok"], shown["url_ms"] = answer.text, answer.ok, answer.ms
        if not answer.ok:
            problems.append("AICG_URL: " + answer.text)
    denied = next((row for row in workers if (row.get("link") or {}).get("state") == "denied"), None)
    if settings.sqlite_path is not None:
        shown["key_state"], shown["key_ok"] = "not needed for a local file", True
    elif settings.key is None:
        shown["key_state"], shown["key_ok"] = "not set", False
        if settings.url is None:  # else the settings have said so
            problems.append("AICG_KEY is not set")
    elif denied is not None:
        shown["key_state"], shown["key_ok"] = "refused by the ledger (pid %s)" % denied.get("pid"), False
        problems.append("AICG_KEY: the ledger refuses it")
    else:
        shown["key_ok"] = config._KEY.match(settings.key) is not None
        shown["key_state"] = "valid format" if shown["key_ok"] else "malformed"
    return shown


def _last(workers: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """The newest answer that any process of ours got."""
    answers = [row["last"] for row in workers if isinstance(row.get("last"), dict)]
    newest: Optional[Dict[str, Any]] = max(answers, key=lambda answer: int(answer.get("at_ms") or 0), default=None)
    return newest


def _spool(state_dir: str, ours: Optional[str]) -> Dict[str, Any]:
    from aicostguard.delivery import folder as folders

    root = os.path.join(state_dir, folders.ROOT)
    folder = os.path.join(root, ours or "")
    here = folders.measure(folder) if ours else folders.Usage(0, 0, 0)
    try:
        others = [name for name in os.listdir(root) if name != ours]
    except OSError:
        others = []
    return {
        "folder": folder,
        "bytes": here.bytes,
        "segments": here.segments,
        "quarantined_bytes": here.quarantined,
        "other_destinations_bytes": sum(folders.measure(os.path.join(root, name)).bytes for name in others),
    }


def _worker(row: Dict[str, Any], ours: Optional[str], sides: Mapping[str, Any], spool_bytes: int) -> Dict[str, Any]:
    """What is shown of one status file."""
    counters, notes = dict(row.get("counters") or {}), dict(row.get("notes") or {})
    counts = {name: counters.get(name, notes.pop(name, 0)) for name, _ in _COUNTS}
    keys = (
        "pid",
        "epoch",
        "alive",
        "ended",
        "unreadable",
        "service",
        "mode",
        "python",
        "started_ms",
        "written_ms",
        "queue",
        "spool",
    )
    shown = {key: row.get(key) for key in keys}
    shown.update(
        counts=counts,
        notes=notes,
        faults=row.get("faults") or {},
        warnings=row.get("warnings") or {},
        link=row.get("link") or {},
        last=row.get("last"),
        this_ledger=row.get("destination") == ours,
    )
    shown["ledger"] = compared.compare(row, sides, spool_bytes) if shown["this_ledger"] else None
    return shown


def _complaints(row: Mapping[str, Any]) -> List[str]:
    counters = row.get("counters") or {}
    found = [
        "pid %s: %s %s" % (row.get("pid"), counters[name], name)
        for name, problem in _COUNTS
        if problem and counters.get(name)
    ]
    if (row.get("spool") or {}).get("broken"):
        found.append("pid %s: its spool cannot be written" % row.get("pid"))
    return found


# From here on: the report as text.


def render(report: Mapping[str, Any]) -> List[str]:
    """The lines of the report, with every symbol; `printable` fits them to a terminal."""
    rule = "─" * WIDTH
    lines = ["AI Cost Guard auto-instrumentation v%s" % report["version"], rule, "Instruments:"]
    marks = {"ok": "✅", "missing": "❌", "warn": "⚠️"}
    for row in report["instruments"]:
        name = "%s %s" % (row["label"], row["version"]) if row["version"] else row["label"]
        lines.append("  %s %-22s %s" % (marks[row["mark"]], name, row["text"]))
    shown = report["config"]
    lines += [rule, "Config:"]
    lines.append("  AICG_URL  %s(%s)" % (_spaced(shown["url"], " "), shown["url_state"]))
    lines.append("  AICG_KEY  %s(%s)" % (_spaced(shown["key"], "  "), shown["key_state"]))
    lines.append("  mode      %s, spool %s, state in %s" % (shown["mode"], shown["spool"], shown["state_dir"]))
    lines += ["  ⚠️ %s" % problem for problem in shown["settings"]]
    lines += [rule, "Last receipt: %s" % _answer(report["last_receipt"])]
    spool = report["spool"]
    lines.append("Spool: %d bytes in %d segments, %d in quarantine" % _sizes(spool))
    if spool["other_destinations_bytes"]:
        lines.append("  and %d bytes for another AICG_URL or AICG_KEY" % spool["other_destinations_bytes"])
    if report["workers"] and not report["ledger"]["told"]:
        lines.append("What the ledger has of these programs is not known: %s" % report["ledger"]["why"])
    for worker in report["workers"][:SHOWN]:
        lines += [rule, *_worker_lines(worker)]
    if len(report["workers"]) > SHOWN:
        lines += [rule, "and %d more; --json shows all" % (len(report["workers"]) - SHOWN)]
    if not report["workers"]:
        lines += [rule, "No program has reported yet: status appears with its first receipt."]
    lines.append(rule)
    lines += ["❌ %s" % problem for problem in report["problems"]] or ["✅ everything is in order"]
    return lines


def _spaced(value: Optional[str], gap: str) -> str:
    return value + gap if value else ""


def _sizes(spool: Mapping[str, Any]) -> Tuple[int, int, int]:
    return spool["bytes"], spool["segments"], spool["quarantined_bytes"]


def _answer(last: Optional[Mapping[str, Any]]) -> str:
    from http import HTTPStatus

    if not last:
        return "none yet"
    when = time.strftime("%H:%M:%S UTC", time.gmtime((last.get("at_ms") or 0) / 1000))
    status = last.get("status")
    if status is None:
        what = "stored" if last.get("kind") == "taken" else "%s: %s" % (last.get("kind"), last.get("detail"))
        return "%s  (%s)" % (when, what)
    try:
        return "%s  (%d %s)" % (when, status, HTTPStatus(status).phrase)
    except ValueError:
        return "%s  (%d)" % (when, status)


def _worker_lines(worker: Mapping[str, Any]) -> List[str]:
    if worker["unreadable"]:
        return ["pid %s: its status file cannot be read" % worker["pid"]]
    state = "running" if worker["alive"] else "ended"
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime((worker["written_ms"] or 0) / 1000))
    service = " %s," % worker["service"] if worker["service"] else ""
    lines = ["Program:%s pid %s, %s, %s, as of %s" % (service, worker["pid"], state, worker["mode"], told)]
    if not worker["this_ledger"]:
        lines.append("  (delivers with another AICG_URL or AICG_KEY)")
    lines.append("  " + ", ".join("%s %s" % (name, worker["counts"][name]) for name, _ in _COUNTS))
    waiting = (worker["spool"] or {}).get("pending", 0)
    lines.append("  queue %s, waiting in the spool %s, link %s" % (worker["queue"], waiting, _link(worker["link"])))
    lines += ["  " + text for text in compared.lines(worker["ledger"], worker["alive"], bool(worker["ended"]))]
    if worker["notes"]:
        lines.append("  " + ", ".join("%s %s" % pair for pair in sorted(worker["notes"].items())))
    lines += ["  ❌ fault %s ×%s" % pair for pair in sorted(worker["faults"].items())]
    lines += ["  ⚠️ %s" % text for text in worker["warnings"].values()]
    return lines


def _link(link: Mapping[str, Any]) -> str:
    state = link.get("state", "unknown")
    return "%s, next attempt in %s s" % (state, link["retry_in_s"]) if link.get("retry_in_s") else str(state)


def printable(text: str, encoding: Optional[str]) -> str:
    """`text` as a terminal of this encoding can show it: symbols become ASCII where one of them cannot be shown."""
    encoding = encoding or "ascii"
    try:
        "".join(_ASCII).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for symbol, plain in _ASCII.items():
            text = text.replace(symbol, plain)
        encoding = "ascii"
    return text.encode(encoding, "replace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
