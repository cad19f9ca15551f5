"""CPU and memory of `import aicostguard.auto`, in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Dict, List

from benchmarks.common import KEY, ROOT, row

PROBE = r"""
import os, sys, time
def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
what = sys.argv[1]
hooking = 0
start, rss0 = time.process_time_ns(), rss()
if what == "auto":
    import aicostguard.auto
elif what == "openai":
    import openai
elif what == "auto+openai":
    import aicostguard.auto
    from aicostguard.capture import hooks
    hook = hooks._hook
    def timed(module, name):
        global hooking
        before = time.process_time_ns()
        hook(module, name)
        hooking += time.process_time_ns() - before
    hooks._hook = timed
    import openai
elif what == "wrapt":
    import wrapt
print((time.process_time_ns() - start) / 1e6, rss() - rss0, hooking / 1e6)
"""


def imports(runs: int) -> List[Dict[str, Any]]:
    """CPU and memory of the import, in fresh processes that take turns."""
    env = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        AICG_URL="http://127.0.0.1:9",
        AICG_KEY=KEY,
        AICG_STATE_DIR=str(ROOT / ".cache" / "bench"),
    )
    off = {name: value for name, value in env.items() if not name.startswith("AICG_")}
    cases = {"auto": env, "auto (no AICG_URL)": off, "openai": env, "auto+openai": env, "wrapt": env}
    cpu: Dict[str, List[float]] = {name: [] for name in cases}
    memory: Dict[str, List[float]] = {name: [] for name in cases}
    hooking: List[float] = []
    for run in range(runs + 1):
        for name, environ in cases.items():
            out = subprocess.run(
                [sys.executable, "-c", PROBE, name.split(" ")[0]],
                env=environ,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            if run:
                cpu[name].append(float(out[0]))
                memory[name].append(float(out[1]))
                if name == "auto+openai":
                    hooking.append(float(out[2]))
    print("\nImport, CPU and memory in a fresh process")
    return [
        row("import aicostguard.auto, active", cpu["auto"], "ms", "aim: at most 25"),
        row("import aicostguard.auto, no destination", cpu["auto (no AICG_URL)"], "ms"),
        row("import wrapt, for comparison", cpu["wrapt"], "ms"),
        row("hooks set during `import openai`", hooking, "ms"),
        row("memory of import aicostguard.auto", memory["auto"], "MB", "aim: at most 5"),
        row(
            "memory added to `import openai`",
            [both - one for both, one in zip(memory["auto+openai"], memory["openai"])],
            "MB",
            "aim: at most 5",
        ),
    ]
