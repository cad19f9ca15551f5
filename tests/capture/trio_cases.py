"""httpx under trio.

Not collected with the rest: where trio is, httpcore imports it, and what gevent and eventlet patch after that hangs.
`tests/matrix` runs this file in an environment of its own.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from aicostguard import context
from tests.agent import Agent
from tests.capture.tools import CHAT

PATH = "/v1/chat/completions"


@pytest.mark.ids("A17", "B17")
def test_a_task_that_a_hook_begins(agent: Agent) -> None:
    url = agent.url("openai") + PATH

    async def use() -> None:
        async with httpx.AsyncClient() as other, trio.open_nursery() as nursery:

            async def work() -> None:
                await other.post(url, json=CHAT)

            async def asks(_: Any) -> None:
                nursery.start_soon(work)

            async with httpx.AsyncClient(event_hooks={"request": [asks], "response": [asks]}) as client:
                await client.post(url, json=CHAT)

    trio.run(use)
    assert len(agent.simulator.billed()) == 3
    agent.balance()
    assert not context.inside.get() and context.aside.get() is None
