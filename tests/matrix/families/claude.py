"""claude-agent-sdk with the program that its package brings, pointed at the simulator."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from tests.matrix.case import Url, case, environment


def options(url: Url, mode: str) -> Any:
    from claude_agent_sdk import ClaudeAgentOptions

    home = tempfile.mkdtemp(prefix="aicg-claude-")
    env = {"ANTHROPIC_BASE_URL": url("anthropic"), "ANTHROPIC_API_KEY": "sk-ant-x", "HOME": home}
    env.update(CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1", DISABLE_AUTOUPDATER="1")
    return ClaudeAgentOptions(env=env, model="claude-sonnet-4-6", max_turns=1, cwd=home)


@case("claude-agent-sdk", options, ("async",), "claude_agent_sdk")
def claude_agent_sdk(given: Any, mode: str) -> Any:
    from claude_agent_sdk import query

    async def run() -> Any:
        return [type(message).__name__ async for message in query(prompt="hi", options=given)]

    return asyncio.run(run())


@case("claude-agent-sdk.client", options, ("async",), "claude_agent_sdk")
def claude_agent_client(given: Any, mode: str) -> Any:
    """Two turns of one process, and a third in another one that goes on with its session."""
    import dataclasses

    from claude_agent_sdk import ClaudeSDKClient, query

    async def run() -> Any:
        seen, session = [], None
        async with ClaudeSDKClient(given) as client:
            for prompt in ("one", "two"):
                await client.query(prompt)
                async for message in client.receive_response():
                    seen.append(type(message).__name__)
                    session = getattr(message, "session_id", session)
        later = dataclasses.replace(given, resume=session)
        return [*seen, *[type(message).__name__ async for message in query(prompt="three", options=later)]]

    return asyncio.run(run())


environment("claude-agent-sdk-0.2.187", ("claude-agent-sdk==0.2.187",), ("claude-agent-sdk", "claude-agent-sdk.client"))
