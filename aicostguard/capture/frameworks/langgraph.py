"""LangGraph: the node, or the name that `create_agent` was given, read from the run's configuration.

LangGraph keeps it in a context variable that follows its tasks and threads, so that nothing has to be hooked. Of the
configuration only names that stand in the code of the graph are read; a thread's id is in it, too, and never looked at.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, List, Optional, Tuple

from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state


def install(module: ModuleType, hook: Hook) -> None:
    """Read the configuration with each call. Raises when its variable is not where it was."""
    running: Any = import_module("langchain_core.runnables.config").var_child_runnable_config

    def reader() -> Optional[Tuple[str, Optional[str]]]:
        config: Any = running.get()
        return None if config is None or not hook.on else _agent(config.get("metadata") or {})

    state.readers.append(reader)


def _agent(metadata: Any) -> Optional[Tuple[str, Optional[str]]]:
    node = metadata.get("langgraph_node")
    if node is None:
        return None
    # `outer:id|inner:id`: the nodes from the outermost graph down to this one.
    nodes: List[str] = [part.split(":")[0] for part in str(metadata.get("langgraph_checkpoint_ns", "")).split("|")]
    return metadata.get("lc_agent_name") or node, nodes[-2] if len(nodes) > 1 else None
