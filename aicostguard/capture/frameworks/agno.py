"""Agno: the name of an agent or of a team, around its run; a team's members run inside the team's.

Since version 3 the runs are functions of one module for agents and one for teams, which call each other by name.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace

#: kinds of a run, begun or gone on with → how it is put under its name
_KINDS = (
    ("%srun", agents.plain),
    ("%srun_stream", agents.generator),
    ("a%srun", agents.coroutine),
    ("a%srun_stream", agents.async_generator),
)


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the runs of agents or of teams. Raises when they are not where they were."""
    for kind, make in _KINDS:
        for begun in ("", "continue_"):
            name = "_" + kind % begun
            replace(hook, module, name, partial(make, hook=hook, find=_name))


def _name(runs: Any, *args: Any, **kwargs: Any) -> Any:
    return runs.name
