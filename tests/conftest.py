"""What every test stands on: a clean environment, checked `ids` marks, and a record of outcomes.

Outcomes go to `.cache/results/X.Y.json` (one file per interpreter, merged run by run), where
`scripts/acceptance` finds them; `--results-to FILE` also writes those of this run alone, for `scripts/test`.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests import ids

RESULTS = ids.ROOT / ".cache" / "results"

# Before anything of ours is imported: faults of ours re-raise, and nobody's shell decides an outcome.
_KEPT = ("AICG_TEST_RAISE", "AICG_CORPUS")
_FOREIGN = (
    "VERCEL",
    "AWS_LAMBDA_FUNCTION_NAME",
    "K_SERVICE",
    "FUNCTION_NAME",
    "FUNCTION_TARGET",
    "AZURE_FUNCTIONS_ENVIRONMENT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
)
for _name in list(os.environ):
    if (_name.startswith("AICG_") and _name not in _KEPT) or _name.upper() in _FOREIGN:
        del os.environ[_name]
os.environ.setdefault("AICG_TEST_RAISE", "1")
# Where subprocess forks (before CPython 3.10), gRPC's own fork handlers abort the programs that later tests start.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def _same_examples() -> None:
    """A run of the suite tells of a change, so its examples are the same every time.

    New ones are searched for with `--hypothesis-profile=search`, which is read after this, and by `scripts/fuzz`.
    """
    try:
        from hypothesis import settings
    except ImportError:  # then no test that needs it runs
        return
    settings.register_profile("same", derandomize=True, database=None)
    settings.register_profile("search", derandomize=False)
    settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results-to", metavar="FILE", help="write the outcomes of this run as JSON")
    parser.addoption("--update", action="store_true", help="write the golden files of tests/cli anew")


def pytest_configure(config: pytest.Config) -> None:
    _same_examples()
    home = tempfile.mkdtemp(prefix="aicg-test-home-")
    os.environ["XDG_STATE_HOME"] = os.path.join(home, "state")
    os.environ["XDG_DATA_HOME"] = os.path.join(home, "data")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    if not hasattr(config, "workerinput"):  # under xdist the reports arrive at the controller
        config.pluginmanager.register(_Recorder(config), "aicg-recorder")


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Attach the ids to each test, in the spelling of the tables. A mark with an unknown id stops the run."""
    known = ids.table()
    for item in items:
        names: List[str] = []
        for mark in item.iter_markers("ids"):
            for written in mark.args:
                name = ids.canonical(written, known) if known else written
                if name is None:
                    raise pytest.UsageError("%s: %r is not an id of docs/acceptance.md" % (item.nodeid, written))
                names.append(name)
        item.user_properties.append(("ids", sorted(set(names))))


class _Recorder:
    """Keeps per test: ids, outcome (the worst of its phases), reason of a skip, seconds."""

    def __init__(self, config: pytest.Config) -> None:
        self.to = config.getoption("--results-to")
        self.rows: Dict[str, Dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.rows.setdefault(
            report.nodeid, {"ids": dict(report.user_properties).get("ids", []), "outcome": "passed", "seconds": 0.0}
        )
        row["seconds"] = round(row["seconds"] + report.duration, 3)
        if report.failed:
            row["outcome"] = "failed"
        elif report.skipped and row["outcome"] != "failed":
            row["outcome"] = "skipped"
            row["reason"] = _reason(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # A file that cannot be read, or that skips itself whole, has no test to report it.
        if report.failed:
            self.rows[report.nodeid] = {"ids": [], "outcome": "failed", "seconds": 0.0}
        elif report.skipped:
            self.rows[report.nodeid] = {"ids": [], "outcome": "skipped", "reason": _reason(report), "seconds": 0.0}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        now = int(time.time())
        for row in self.rows.values():
            row["at"] = now
        told = self.rows
        if _left:
            told = {**told, LEFT: {"ids": [], "outcome": "failed", "seconds": 0.0, "at": now}}
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.to:
            _write(Path(self.to), told)
        merged = RESULTS / ("%d.%d.json" % sys.version_info[:2])
        try:
            old = json.loads(merged.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = {}
        _write(merged, {**old, **self.rows})


def _reason(report: Any) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(getattr(report, "wasxfail", ""))
    return text[len("Skipped: ") :] if text.startswith("Skipped: ") else text


def _write(path: Path, rows: Dict[str, Dict[str, Any]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name("%s.%d" % (path.name, os.getpid()))
        beside.write_text(json.dumps(rows, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        sys.stderr.write("outcomes not recorded in %s: %s\n" % (path, error))


LEFT = "left open between two files"
#: what was left open, each with the files before and after it
_left: List[str] = []
#: the files so far
_file: List[str] = ["the start"]


@pytest.fixture(scope="module", autouse=True)
def swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a file leaves open is its own failure: else a socket is found at the end, when nobody knows whose it is.

    What becomes garbage between two files is no file's: it is told at the end of the run, with both names, and the run
    fails, which no test in it did.
    """
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    _left.extend("between %s and %s: %s" % (_file[-1], request.node.name, told.message) for told in found)
    _file.append(request.node.name)
    # Some 350,000 objects of SDKs and of pytest are there to stay: each of the many collections that tests ask for
    # would look at them all, for a third of a second.
    gc.freeze()
    yield
    gc.collect()
    once = sys.modules.get("aicostguard.capture.once")
    if once is not None:  # work that a test left unfinished sends every later call the long way
        once.pending.clear()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _left:
        terminalreporter.section(LEFT)
        for line in _left:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of recorded traffic, which is not part of the project; a test without it skips by name."""
    named = os.environ.get("AICG_CORPUS")
    folder = Path(named) if named else ids.ROOT.parent / "shared" / "corpus"
    if not folder.is_dir():
        pytest.skip("no corpus: set AICG_CORPUS to its folder")
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path) + ".key", "-out", str(path) + ".crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(Path(str(path) + ".key").read_text() + Path(str(path) + ".crt").read_text())
    return path
