"""What we import late is imported in whatever thread comes first, perhaps in two at once.

CPython takes the lock of `package.module` before it imports `package`. A thread that asks for the module while another
one imports the package, which itself needs the module, would wait for that one, and that one for it: CPython sees that
and gives the other thread a module that is not ready, whose names cannot be imported. So we ask for the package first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ids import ROOT

PROGRAM = """
import socket, sys
import aicostguard.auto
from importlib import _bootstrap

class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "aicostguard.delivery":
            print("locked:", sorted(each for each in _bootstrap._module_locks if each.startswith(name + ".")))

sys.meta_path.insert(0, Look())
%s
"""
#: what brings the package late
LATE = {
    "quality": "aicostguard.quality",
    "flush_on_return": "aicostguard.flush_on_return",
    "a library": "import requests",
    "a host that is looked up": "sys.modules['aicostguard.capture.watchdog']._is_ai = lambda *args: True\n"
    "socket.getaddrinfo('localhost', 443)",
}


@pytest.mark.parametrize("name", LATE)
def test_nobody_holds_a_part_while_the_whole_is_imported(name: str, tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("AICG_")}
    env.update(AICG_URL="sqlite:///%s/l.db" % tmp_path, AICG_STATE_DIR=str(tmp_path), AICG_WATCHDOG="1")
    env.update(PYTHONPATH=str(ROOT), AICG_TEST_RAISE="1")
    command = [sys.executable, "-c", PROGRAM % LATE[name]]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "locked: []\n"
