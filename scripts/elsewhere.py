"""What a script does about packages that its interpreter lacks: it goes on in the environment of `scripts/test`."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-test"


def needs(*packages: str, extras: str) -> None:
    """Return if all these can be imported here; else start the script again where they can, or end with a remedy."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if not absent:
        return
    python = VENV / "bin" / "python"
    if python.is_file() and Path(sys.prefix) != VENV:
        os.execv(str(python), [str(python), *sys.argv])
    sys.exit(
        "scripts/%s needs %s: run scripts/test once (it is used from there), or pip install -e '.[%s]'"
        % (Path(sys.argv[0]).name, ", ".join(absent), extras)
    )
