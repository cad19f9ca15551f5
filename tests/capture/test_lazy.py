"""Imports that are postponed (CPython 3.15, PEP 810): hooked when they happen, also where all of a program's are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

from aicostguard.simulator import Simulator

ROOT = Path(__file__).parents[2]
TOLD = """
stats = sys.modules["aicostguard.auto"].stats() if "aicostguard.auto" in sys.modules else {}
print(json.dumps([stats.get("counters", {}).get("generated"), stats.get("faults"), sorted(stats.get("hooks", {}))]))
"""
SDK = """
client = OpenAI(base_url=os.environ["PROVIDER"], api_key="sk-test", max_retries=0)
client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
"""
#: Python's own, because the HTTP library of current SDKs cannot be imported so (httpcore2 2.16)
BARE = """
body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).encode()
headers = {"content-type": "application/json", "authorization": "Bearer sk-test"}
asked = urllib.request.Request(os.environ["PROVIDER"] + "/chat/completions", body, headers)
with urllib.request.urlopen(asked) as answer:
    json.load(answer)
"""


def ran(code: str, simulator: Simulator, folder: Path, words: List[str], **more: str) -> Any:
    """What a program printed that made one call, in a fresh interpreter."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AICG_")}
    env: Dict[str, str] = {**kept, "AICG_URL": "sqlite:///%s/c.db" % folder, "AICG_STATE_DIR": str(folder), **more}
    env.update(PYTHONPATH=str(ROOT), AICG_TEST_RAISE="1", AICG_HOSTS=simulator.hosts_setting())
    env["PROVIDER"] = simulator.base_url("openai")
    program = folder / "program.py"
    program.write_text("import json, os, sys\n" + code + TOLD)
    done = subprocess.run(
        [*words, sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=120, cwd=str(folder)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if sys.version_info >= (3, 15):

    def test_a_library_that_is_imported_lazily_is_hooked_when_it_is_used(simulator: Simulator, tmp_path: Path) -> None:
        code = "import aicostguard.auto\nlazy from openai import OpenAI\nassert 'openai' not in sys.modules\n" + SDK
        made, faults, hooks = ran(code, simulator, tmp_path, [])
        assert (made, faults) == (1, {})
        assert "openai._base_client" in hooks

    def test_all_imports_of_a_program_are_lazy_and_our_line_is_touched(simulator: Simulator, tmp_path: Path) -> None:
        code = "import aicostguard.auto\naicostguard.auto\nimport urllib.request\n" + BARE
        made, faults, hooks = ran(code, simulator, tmp_path, [], PYTHON_LAZY_IMPORTS="all")
        assert (made, faults) == (1, {})
        assert "http.client" in hooks

    def test_all_imports_are_lazy_under_the_launcher(simulator: Simulator, tmp_path: Path) -> None:
        words = [sys.executable, "-m", "aicostguard.cli", "run", "--"]
        made, faults, _ = ran("import urllib.request\n" + BARE, simulator, tmp_path, words, PYTHON_LAZY_IMPORTS="all")
        assert (made, faults) == (1, {})
