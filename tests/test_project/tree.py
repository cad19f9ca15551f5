"""The files of the tree, and the scripts that have no ending, for the tests of the tree itself."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import List

ROOT = Path(__file__).resolve().parents[2]
#: what a run leaves behind; everything else in the folder is the project
LEFT_BEHIND = {".git", ".cache", "build", "dist", "__pycache__", ".hypothesis"}


def files() -> List[Path]:
    """Every file that git holds or would take; outside a git tree (an unpacked sdist), every file."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=str(ROOT),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        paths = [ROOT / name for name in listed]
    except (OSError, subprocess.CalledProcessError):
        paths = [p for p in ROOT.rglob("*") if not _left_behind(p.relative_to(ROOT).parts)]
    return sorted(path for path in paths if path.is_file())


def _left_behind(parts: tuple[str, ...]) -> bool:
    return any(part in LEFT_BEHIND or part.startswith((".venv", ".pytest", ".mypy", ".ruff")) for part in parts)


def script(name: str) -> ModuleType:
    """A Python script of `scripts/` as a module."""
    loader = importlib.machinery.SourceFileLoader("aicg_script_" + name, str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
