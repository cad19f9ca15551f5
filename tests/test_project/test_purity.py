"""What `import aicostguard.auto` does to the process that says it: next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.test_project import tree

#: each costs milliseconds, or changes how a program behaves when it comes too early
HEAVY = (
    "wrapt",
    "asyncio",
    "ssl",
    "http.client",
    "urllib.request",
    "sqlite3",
    "email",
    "inspect",
    "multiprocessing",
    "dataclasses",
)
KEY = "aicg_" + "a" * 32
SETTINGS = {
    "nothing set": {},
    "http": {"AICG_URL": "http://127.0.0.1:9", "AICG_KEY": KEY},
    "sqlite": {"AICG_URL": "sqlite:///ledger.db"},
    "disabled": {"AICG_URL": "http://127.0.0.1:9", "AICG_KEY": KEY, "AICG_DISABLED": "1"},
    "serverless": {"AICG_URL": "http://127.0.0.1:9", "AICG_KEY": KEY, "AWS_LAMBDA_FUNCTION_NAME": "f"},
}
#: sockets are counted by an audit hook, which sees them whoever opens them
PROGRAM = """
import sys
sockets = []
sys.addaudithook(lambda event, args: sockets.append(event) if event.startswith("socket.") else None)
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import aicostguard.auto
loaded = set(sys.modules) - before
threads = sys.modules["threading"].active_count() if "threading" in sys.modules else 1
hooks = [type(finder).__module__ for finder in sys.meta_path if type(finder).__module__.startswith("aicostguard")]
import json
print(json.dumps({"loaded": sorted(loaded), "threads": threads, "sockets": sockets, "hooks": hooks}))
"""


def fresh(settings: Dict[str, str], folder: Path, program: str = PROGRAM) -> Dict[str, Any]:
    """Run a program in an interpreter without site-packages, in an empty folder that is also its home."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program, str(tree.ROOT)],
        cwd=str(folder),
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "AICG_TEST_RAISE": "1", **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said: Dict[str, Any] = json.loads(done.stdout)
    said["stderr"] = done.stderr
    return said


@pytest.mark.ids("A16")
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_import_loads_nothing_heavy(settings: Dict[str, str], tmp_path: Path) -> None:
    loaded = fresh(settings, tmp_path)["loaded"]
    assert "aicostguard.auto" in loaded
    heavy = [name for name in loaded if name in HEAVY or name.partition(".")[0] in HEAVY]
    assert not heavy
    assert not [name for name in loaded if name.startswith(("aicostguard.ledger", "aicostguard.simulator"))]


@pytest.mark.ids("G02")
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_import_touches_neither_network_nor_disk(settings: Dict[str, str], tmp_path: Path) -> None:
    """Not even with a destination: thread, file and socket wait for the first receipt."""
    said = fresh(settings, tmp_path)
    assert said["sockets"] == []
    assert said["threads"] == 1
    assert said["stderr"] == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ids("G01", "G02", "G24")
def test_hooks_wait_only_where_there_is_a_destination(tmp_path: Path) -> None:
    hooked = {name: bool(fresh(settings, tmp_path)["hooks"]) for name, settings in SETTINGS.items()}
    assert hooked == {"nothing set": False, "http": True, "sqlite": True, "disabled": False, "serverless": True}
