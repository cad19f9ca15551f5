"""What is open when a process is forked is billed by the parent, and by nobody else."""

from __future__ import annotations

import gc
import json
import os
from typing import Any, Callable

import pytest

from aicostguard.capture import permit
from aicostguard.capture.patch import Hook
from aicostguard.capture.session import Session, open_session
from tests.agent import Agent
from tests.capture.tools import STREAM

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` gives in a forked child."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as end:
        said = end.read()
    os.waitpid(pid, 0)
    return json.loads(said)


@pytest.mark.ids("E1", "B10", "B11")
@pytest.mark.parametrize("way", ["dropped", "closed"])
def test_a_stream(way: str, agent: Agent) -> None:
    httpx: Any = pytest.importorskip("httpx")
    with (
        httpx.Client() as client,
        client.stream("POST", agent.url("openai") + "/v1/chat/completions", json=STREAM) as got,
    ):
        held = [got.iter_bytes(64)]
        next(held[0])

        def left() -> int:
            held.clear()
            if way == "closed":
                got.stream.close()
            else:
                got.stream = None
            gc.collect()
            return len(agent.receipts)

        assert in_child(left) == 0
        rest = b"".join(held[0])
        assert b"[DONE]" in rest
    (receipt,) = agent.settled(1)
    assert "partial" not in receipt


@pytest.mark.ids("E1", "D11")
def test_what_is_held_of_a_budget() -> None:
    class Told:
        def __init__(self) -> None:
            self.told = 0

        def lost(self, ticket: Any) -> None:
            self.told += 1

    told: Any = Told()
    held = [permit.Hold(told, "ticket")]

    def dropped() -> int:
        held.clear()
        gc.collect()
        permit.Hold(told, "its own")
        gc.collect()
        return int(told.told)

    assert in_child(dropped) == 1, "its own"
    assert told.told == 0
    held.clear()
    gc.collect()
    assert told.told == 1


@pytest.mark.ids("E1", "B16")
def test_a_session(agent: Agent) -> None:
    session = open_session(Hook("test"), "api.openai.com", 443, "/v1/realtime?model=gpt-realtime")
    assert session is not None
    session.received(json.dumps({"type": "response.created", "response": {"id": "r1"}}))
    open_ones = [session]
    del session

    def left() -> int:
        open_ones.clear()
        gc.collect()
        return len(agent.receipts)

    assert in_child(left) == 0
    assert type(open_ones.pop()) is Session
    gc.collect()
    (receipt,) = agent.receipts
    assert receipt["partial"]
