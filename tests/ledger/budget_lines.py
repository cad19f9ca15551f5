"""`aicg budgets` in this process, for tests of it."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from aicostguard.cli import app


def run(*arguments: str) -> tuple[int, str]:
    """The command in this process; its exit code and all it said."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = app.run(["budgets", *arguments])
    return code, out.getvalue()


def told(*arguments: str) -> Any:
    """What it prints as JSON; it must have gone well."""
    code, text = run(*arguments, "--json")
    assert code == 0, text
    return json.loads(text)
