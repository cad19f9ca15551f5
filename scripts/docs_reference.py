"""Reference pages made from the code, for `scripts/docs`: commands, Python names, settings, HTTP, receipt, metrics.

Each page says what it is made from. Nothing here is written by hand but the sentence above each table, so nothing here
can be behind the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple


def pages(root: Path) -> Dict[str, str]:
    """File name → Markdown."""
    return {
        "cli.md": commands(root),
        "python.md": names(),
        "settings.md": settings(root),
        "http.md": http(),
        "receipt.md": receipt(),
        "metrics.md": metrics(),
    }


def commands(root: Path) -> str:
    """Help of every command, and the keys of its JSON from the golden files."""
    import click

    from aicostguard.cli import CORE, app

    shapes = {}
    for path in sorted((root / "tests" / "cli" / "golden" / "json").glob("*.txt")):
        for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
            head, *rows = block.splitlines()
            shapes[head.replace(" --json", "")] = [row.strip() for row in rows]
    parts = ["# Every command\n\nFrom `aicg … --help`, and the keys that [`--json`](../cli.md#json) has.\n"]

    def walk(command: Any, path: Tuple[str, ...], parent: Any) -> None:
        context = click.Context(command, info_name=path[-1], parent=parent, max_content_width=100, terminal_width=100)
        if len(path) > 1:
            called = " ".join(path)
            text = core_help(path[1]) if path[1] in CORE else command.get_help(context)
            parts.append("%s `%s`\n\n```text\n%s\n```\n" % ("#" * min(len(path), 3), called, text.strip()))
            if called in shapes:
                rows = ["| `%s` | %s |" % tuple(row.rpartition(": ")[::2]) for row in shapes[called]]
                parts.append("JSON:\n\n| key | type |\n|---|---|\n" + "\n".join(rows) + "\n")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                walk(command.get_command(context, name), (*path, name), context)

    walk(app._group, ("aicg",), None)
    return "\n".join(parts)


def core_help(verb: str) -> str:
    """What `aicg VERB --help` prints, of a verb that is not click's."""
    import contextlib
    import io

    from aicostguard.cli import core

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        core(verb, ["--help"])
    return out.getvalue()


def names() -> str:
    """The public names, by their signatures and docstrings."""
    import aicostguard

    parts = ["# Python names\n\nAll public names of `aicostguard`, from their signatures and docstrings.\n"]
    for name in sorted(aicostguard.__all__, key=str.lower):
        found = getattr(aicostguard, name)
        home = getattr(found, "__module__", None)
        if home is None or not hasattr(found, "__qualname__"):
            continue
        parts.append("::: %s.%s\n" % (home, found.__qualname__))
    return "\n".join(parts)


def settings(root: Path) -> str:
    """The table of README, and which of them the code reads."""
    from aicostguard import config

    text = (root / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Settings\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section is not None, "README.md has no section Settings"
    missing = sorted(name for name in config._ROWS if name not in section[1])
    assert not missing, "README.md does not describe %s" % ", ".join(missing)
    body = re.sub(r"\]\(docs/", "](../", section[1])
    return "# Settings\n\nRead once, at the import; a bad value is said once, and the default used.\n" + body


def http() -> str:
    """Paths, parameters and answers, from the description that the ledger serves itself."""
    import tempfile

    from aicostguard import ledger
    from aicostguard.ledger.api import create_app

    with tempfile.TemporaryDirectory() as folder:
        store = ledger.open_ledger(str(Path(folder) / "ledger.db"))
        try:
            document = create_app(store=store).openapi()
        finally:
            store.close()
    parts = [
        "# HTTP API\n\nFrom the OpenAPI description, which a running ledger serves at `/docs/openapi.json` "
        "and shows at `/docs`. A key goes into `Authorization: Bearer …`.\n"
    ]
    for path, methods in sorted(document["paths"].items()):
        for method, found in methods.items():
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            parts.append("## `%s %s`\n" % (method.upper(), path))
            parts.append((found.get("description") or found.get("summary") or "").strip() + "\n")
            rows = [
                "| `%s` | %s | %s |" % (one["name"], one["in"], cell(one.get("description", "")))
                for one in found.get("parameters", ())
            ]
            if rows:
                parts.append("| parameter | in | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
            codes = [
                "| %s | %s |" % (code, cell(one.get("description", ""))) for code, one in found["responses"].items()
            ]
            parts.append("| answer | |\n|---|---|\n" + "\n".join(codes) + "\n")
    return "\n".join(parts)


def receipt() -> str:
    """The closed list of keys."""
    from aicostguard.receipt import FIELDS

    rows = ["| `%s` | %s |" % (name, cell(field.expects)) for name, field in FIELDS.items()]
    return (
        "# Keys of a receipt\n\nFrom `aicostguard/receipt.py`: no other key is ever sent. The first six are all "
        "that a plain call has, and all that `AICG_RECEIPT=core` sends.\n\n| key | value |\n|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def metrics() -> str:
    """What `GET /metrics` and `GET /v1/metrics` tell, asked of a ledger that is empty."""
    rows = ["| `%s` | %s | %s |" % (name, kind, cell(says)) for name, kind, says in families()]
    return (
        "# Metrics\n\nFrom `GET /metrics` and, with a key, `GET /v1/metrics` of an empty ledger.\n\n"
        "| name | type | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def families() -> Iterator[Tuple[str, str, str]]:
    import tempfile

    from fastapi.testclient import TestClient

    from aicostguard import ledger
    from aicostguard.ledger import keys
    from aicostguard.ledger.api import create_app

    key = "aicg_" + "d" * 40
    with tempfile.TemporaryDirectory() as folder:
        store = ledger.open_ledger(str(Path(folder) / "ledger.db"))
        try:
            store.add_key(key, "docs", tuple(keys.SCOPES), store.default_project(), ledger.now_ms())
            with TestClient(create_app(store=store), base_url="http://127.0.0.1") as client:
                told = {"Authorization": "Bearer " + key}
                text = "".join(client.get(path, headers=told).text for path in ("/metrics", "/v1/metrics"))
        finally:
            store.close()
    says = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    found: List[Tuple[str, str]] = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    assert found, "GET /metrics told nothing: %s" % text[:200]
    for name, kind in found:
        yield name, kind, says.get(name, "")


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
