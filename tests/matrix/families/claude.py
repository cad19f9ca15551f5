"""claude-agent-sdk: with the program that its package brings, pointed at the simulator, and with one of ours."""

from __future__ import annotations

import asyncio
import os
import sys
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


#: What an SDK that is given a `cli_path` may start: answers each prompt with one request of its own.
PROGRAM = r"""#!%s
import json, os, sys
from urllib.request import Request, urlopen

def say(**message):
    print(json.dumps(message), flush=True)

for line in sys.stdin:
    asked = json.loads(line)
    if asked["type"] == "control_request":
        say(type="control_response", response={"subtype": "success", "request_id": asked["request_id"], "response": {}})
    elif asked["type"] == "user":
        body = {"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
        answer = json.load(urlopen(Request(url, json.dumps(body).encode(), {"content-type": "application/json"})))
        usage, model = answer["usage"], answer["model"]
        first = {"input_tokens": usage["input_tokens"], "output_tokens": 1}
        say(type="assistant", session_id="s", message={"model": model, "content": answer["content"], "usage": first})
        sums = {"inputTokens": usage["input_tokens"], "outputTokens": usage["output_tokens"], "costUSD": 0.01}
        sums["cacheReadInputTokens"] = usage.get("cache_read_input_tokens", 0)
        sums["cacheCreationInputTokens"] = usage.get("cache_creation_input_tokens", 0)
        say(type="result", subtype="success", session_id="s", duration_ms=10, duration_api_ms=9, is_error=False,
            num_turns=1, result="done", usage=usage, modelUsage={model: sums}, total_cost_usd=0.01)
"""


def own_program(url: Url, mode: str) -> Any:
    import dataclasses

    given = options(url, mode)
    path = os.path.join(given.cwd, "claude")
    with open(path, "w", encoding="utf-8") as script:
        script.write(PROGRAM % sys.executable)
    os.chmod(path, 0o755)
    return dataclasses.replace(given, cli_path=path)


case("claude-agent-sdk.fakecli", own_program, ("async",), "claude_agent_sdk")(claude_agent_sdk)

_CASES = ("claude-agent-sdk", "claude-agent-sdk.client", "claude-agent-sdk.fakecli")
environment("claude-agent-sdk-0.2.187", ("claude-agent-sdk==0.2.187",), _CASES)
