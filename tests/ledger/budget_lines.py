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
    """What it prints as JSON on stdout alone; it must have gone well."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = app.run(["budgets", *arguments, "--json"])
    assert code == 0, said.getvalue()
    return json.loads(out.getvalue())
