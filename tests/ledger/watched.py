"""A real Prometheus that scrapes a ledger of the tests with the configuration of examples/deploy."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
from pathlib import Path
from typing import Any, Iterator
from urllib.request import urlopen

import pytest

from aicostguard.ledger import api, query, spend
from aicostguard.ledger.model import DAY_MS
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, NOW, ROOT, Server

DEPLOY = ROOT / "examples" / "deploy"
#: when everything happens in these tests, for a ledger whose clock `at_noon` has stopped: no day ends in one of them
AT = NOW - NOW % DAY_MS + DAY_MS // 2


def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of ledgers that are served from here on, and let nothing be told from what was kept."""
    monkeypatch.setattr(api, "now_ms", lambda: AT)
    monkeypatch.setattr(spend, "FRESH_S", 0.0)


def costs(store: SqliteStore, **parameters: str) -> dict[str, Any]:
    """What the query path says at that time."""
    given = {name: [value] for name, value in {"since": "all", "limit": "10000", **parameters}.items()}
    return query.run(store, query.parse(given, store.default_project(), AT))


def configured(folder: Path, port: int = 8090, every: str = "15s") -> Path:
    """The configuration with its rules and the key, as somebody has it who follows the example."""
    config = (DEPLOY / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8090", f"127.0.0.1:{port}").replace("15s", every)
    (folder / "prometheus.yml").write_text(config)
    (folder / "aicostguard.key").write_text(KEY)
    shutil.copy(DEPLOY / "prometheus-rules.yml", folder)
    return folder / "prometheus.yml"


@contextlib.contextmanager
def watching(server: Server, folder: Path) -> Iterator[str]:
    """The address of one that scrapes every 100 ms."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    config = configured(folder, server.port, "100ms")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [f"--storage.tsdb.path={folder / 'series'}", f"--config.file={config}"]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=said, stderr=said, cwd=folder
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def asked(address: str, expression: str, **more: str) -> list[dict[str, Any]]:
    """What an expression gives; nothing while it starts. One that it does not understand is an error."""
    query = urllib.parse.urlencode({"query": expression, **more})
    try:
        with urlopen(f"{address}/api/v1/query?{query}", timeout=5) as reply:
            found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
            return found
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise ValueError(f"{expression}: {error.read().decode()}") from error
        return []
    except OSError:  # it starts, or reads its own log
        return []
