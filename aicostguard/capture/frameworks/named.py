"""Agents that have a name, around the methods or functions through which every run of one goes.

Owns one row for each framework of which this is all that has to be known; the others have a file. An agent that is at
work inside another's run has that one as its parent. What a generator's consumer does between two steps is nobody's.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any, Callable, Dict, NamedTuple, Tuple

from aicostguard.capture.frameworks import agents
from aicostguard.capture.patch import Hook, replace


def _name(agent: Any, *args: Any, **kwargs: Any) -> Any:
    return agent.name


def _role(agent: Any, *args: Any, **kwargs: Any) -> Any:
    return agent.role  # prose: most become hashes


def _given(agent: Any, *args: Any, **kwargs: Any) -> Any:
    """Semantic Kernel makes up a name, another one each time, for an agent that was given none."""
    return agent.name if "name" in agent.model_fields_set else None


def _own(agent: Any, *args: Any, **kwargs: Any) -> Any:
    """Strands has one name for all that were given none."""
    usual = getattr(sys.modules.get("strands.agent.agent"), "_DEFAULT_AGENT_NAME", None)
    return None if agent.name == usual else agent.name


class Row(NamedTuple):
    """Methods of one class, or functions of the module ("" for `owner`), of one `kind`, a key of `_KINDS`."""

    owner: str
    kind: str
    names: Tuple[str, ...]
    find: Callable[..., Any] = _name


#: version 3 keeps the runs of agents and of teams as functions, which call each other by name
_AGNO = (
    Row("", "plain", ("_run", "_continue_run")),
    Row("", "generator", ("_run_stream", "_continue_run_stream")),
    Row("", "coroutine", ("_arun", "_acontinue_run")),
    Row("", "async generator", ("_arun_stream", "_acontinue_run_stream")),
)
#: module → what is hooked in it
ROWS: Dict[str, Tuple[Row, ...]] = {
    "google.adk.agents.base_agent": (Row("BaseAgent", "async generator", ("run_async",)),),
    "crewai.agent.core": (
        Row("Agent", "plain", ("execute_task",), _role),
        Row("Agent", "coroutine", ("aexecute_task",), _role),
    ),
    "agno.agent._run": _AGNO,
    "agno.team._run": _AGNO,
    "strands.agent.agent": (
        Row("Agent", "async generator", ("stream_async",), _own),
        Row("Agent", "coroutine", ("structured_output_async",), _own),
    ),
    "autogen_agentchat.agents._assistant_agent": (Row("AssistantAgent", "async generator", ("on_messages_stream",)),),
    "smolagents.agents": (Row("MultiStepAgent", "generator", ("_run_stream",)),),
    "semantic_kernel.agents.chat_completion.chat_completion_agent": (
        Row("ChatCompletionAgent", "coroutine", ("get_response",), _given),
        Row("ChatCompletionAgent", "async generator", ("invoke", "invoke_stream"), _given),
    ),
}
_KINDS: Dict[str, Callable[..., Callable[..., Any]]] = {
    "plain": agents.plain,
    "generator": agents.generator,
    "coroutine": agents.coroutine,
    "async generator": agents.async_generator,
}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook what the module's rows name. Raises when something is not where it was."""
    for row in ROWS[hook.name]:
        owner = getattr(module, row.owner) if row.owner else module
        for name in row.names:
            replace(hook, owner, name, partial(_KINDS[row.kind], hook=hook, find=row.find))
