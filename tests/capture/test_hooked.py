"""Response hooks of requests, and middlewares of aiohttp: code of the user's own in the middle of a send.

What it asks an AI provider is its own call, what it asks once more in the call's name is billed once for each answer
that is billed, and what it hands out without having asked is not.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Dict, List

import pytest

from aicostguard import context
from aicostguard.capture.state import state
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import CHAT, STREAM, both, both_async, fixed
from tests.guard.budgets import CENT, cap, gate, standing

PATH = "/v1/chat/completions"
FAILED = {"status": 500, "body": b"{}"}
DENIED = {"status": 401, "body": b"{}"}
#: another model than that of `CHAT`
OTHER = dict(CHAT, model="gpt-4o-mini")

requests = pytest.importorskip("requests")
aiohttp = pytest.importorskip("aiohttp")


def billed(agent: Agent, times: int) -> None:
    """One receipt for each of so many billed answers, and nothing of a call is in force afterwards."""
    assert len(agent.simulator.billed()) == times
    agent.balance()
    assert len(agent.receipts) == times
    assert not context.inside.get() and context.aside.get() is None and context.logical.get() is None


# requests


@pytest.mark.ids("A17", "B1", "B17")
@pytest.mark.parametrize("way", ["requests", "the same session", "httpx", "urllib3"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_hook_that_asks(agent: Agent, way: str, streamed: bool) -> None:
    """Whoever it asks with, on the first answer and on one that was redirected; and the task is its own."""
    url = agent.url("openai") + PATH
    session = requests.Session()
    busy: List[Any] = []

    def moderated(answer: Any, *_: Any, **__: Any) -> None:
        if busy:
            return
        busy.append(answer)
        if way == "httpx":
            pytest.importorskip("httpx").post(url, json=OTHER)
        elif way == "urllib3":
            pytest.importorskip("urllib3").request("POST", url, json=OTHER)
        else:
            (session if way == "the same session" else requests).post(url, json=OTHER)
        busy.clear()

    session.hooks["response"].append(moderated)
    response = session.post(url, json=STREAM if streamed else CHAT, stream=streamed)
    assert response.content
    billed(agent, 2)
    assert {receipt["feature"] for receipt in agent.receipts} == {"moderated", "test_a_hook_that_asks"}
    agent.simulator.script([{"redirect": PATH}])
    session.post(url, json=CHAT)
    billed(agent, 5)  # the hook saw the redirect, too


@pytest.mark.ids("B1", "B4")
@pytest.mark.parametrize("first", [FAILED, None])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_hook_that_sends_it_once_more(agent: Agent, first: Any, streamed: bool) -> None:
    """By its session, as recipes for fresh tokens do: then the answer that the caller gets is that call's."""
    session, body = requests.Session(), STREAM if streamed else CHAT

    def again(answer: Any, *_: Any, **__: Any) -> Any:
        if "x-again" in answer.request.headers:
            return answer
        answer.content  # noqa: B018
        answer.request.headers["x-again"] = "1"
        return session.send(answer.request, stream=streamed)

    agent.simulator.script([first or fixed(streamed), fixed(streamed)])
    response = session.post(agent.url("openai") + PATH, json=body, hooks={"response": again}, stream=streamed)
    assert response.status_code == 200 and response.content
    billed(agent, 1 if first else 2)


@pytest.mark.ids("B1", "B4")
@pytest.mark.parametrize("streamed", [False, True])
def test_signing_in_by_a_hook(agent: Agent, streamed: bool) -> None:
    """As requests' own digest does it, through the connection that the answer came by: still one call."""
    digest = {**DENIED, "headers": {"www-authenticate": 'Digest realm="a", nonce="b", qop="auth"'}}

    def use() -> Any:
        agent.simulator.script([digest, fixed(streamed)])
        auth = requests.auth.HTTPDigestAuth("me", "secret")
        body = STREAM if streamed else CHAT
        response = requests.post(agent.url("openai") + PATH, json=body, auth=auth, stream=streamed)
        return response.content, response.status_code, [each.status_code for each in response.history]

    seen = both(agent, use)
    assert seen[1:] == (200, [401])
    billed(agent, 1)


@pytest.mark.ids("A12", "A22")
def test_hooks_see_what_they_see_without_us(agent: Agent) -> None:
    """What they get, give and raise; also those of requests that are none of ours."""
    url = agent.url("openai")

    def use() -> Any:
        seen: List[Any] = []

        def look(answer: Any, **kwargs: Any) -> None:
            seen.append((answer.status_code, answer.url, sorted(kwargs), sorted(vars(answer))))

        def raises(answer: Any, **_: Any) -> None:
            answer.raise_for_status()

        agent.simulator.script([fixed(False), FAILED])
        for path in (PATH, PATH, "/nothing"):
            try:
                seen.append(requests.post(url + path, json=CHAT, hooks={"response": [look, raises]}).content)
            except requests.HTTPError as error:
                seen.append(str(error))
        return seen

    both(agent, use)
    billed(agent, 1)
    assert "interrupted" not in health.notes


# aiohttp


async def post(session: Any, url: str, body: Dict[str, Any], **more: Any) -> bytes:
    async with session.post(url, json=body, **more) as response:
        read: bytes = await response.read()
        return read


def used(*middlewares: Any, url: str, body: Any = CHAT, times: int = 1) -> List[bytes]:
    """What a session with these middlewares gets."""

    async def use() -> List[bytes]:
        async with aiohttp.ClientSession(middlewares=middlewares) as session:
            return [await post(session, url, body) for _ in range(times)]

    return asyncio.run(use())


@pytest.mark.ids("A17", "B1", "B17")
@pytest.mark.parametrize("body", [CHAT, STREAM])
def test_a_middleware_that_asks(agent: Agent, body: Any) -> None:
    """Before and after, through the session itself and in a task that outlives the request."""
    url = agent.url("openai") + PATH

    async def use() -> None:
        tasks: List[Any] = []

        async def moderated(request: Any, handler: Any) -> Any:
            await post(request.session, url, OTHER, middlewares=())
            answer = await handler(request)
            tasks.append(asyncio.ensure_future(post(request.session, url, OTHER, middlewares=())))
            return answer

        async with aiohttp.ClientSession() as session:
            await post(session, url, body, middlewares=(moderated,))
            await asyncio.gather(*tasks)

    asyncio.run(use())
    billed(agent, 3)
    assert sorted(receipt["model"] for receipt in agent.receipts) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]


def unread(answer: Any) -> Any:
    """An answer that was read, as if it were not."""
    answer._released = False
    return answer


async def once_more(request: Any, handler: Any) -> Any:
    """Two tries, whatever the first gave."""
    first = await handler(request)
    await first.read()
    return await handler(request)


async def plain(request: Any, handler: Any) -> Any:
    return await handler(request)


@pytest.mark.ids("B1", "B4")
@pytest.mark.parametrize("first", [FAILED, DENIED, None])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_middleware_that_asks_once_more(agent: Agent, first: Any, streamed: bool) -> None:
    """Each answer that is billed has a receipt, whether the session gets it or not."""
    body = STREAM if streamed else CHAT

    def use() -> List[bytes]:
        agent.simulator.script([first or fixed(streamed), fixed(streamed)])
        return used(plain, once_more, plain, url=agent.url("openai") + PATH, body=body)

    both(agent, use)
    billed(agent, 1 if first else 2)


@pytest.mark.ids("B2")
@pytest.mark.parametrize("body", [CHAT, STREAM])
def test_a_middleware_that_keeps_answers(agent: Agent, body: Any) -> None:
    """What it has kept is not billed again, and holds nothing of a budget."""
    kept: List[Any] = []

    async def keeps(request: Any, handler: Any) -> Any:
        if not kept:
            kept.append(await handler(request))
        return unread(kept[0])

    gate(cap(100 * CENT))
    assert len(set(used(keeps, url=agent.url("openai") + PATH, body=body, times=3))) == 1
    billed(agent, 1)
    assert health.notes["replayed"] == 2
    assert standing().spent > 0 and standing().reserved == 0


@pytest.mark.ids("B4")
def test_a_middleware_that_answers_for_a_failed_provider(agent: Agent) -> None:
    kept: List[Any] = []

    async def falls_back(request: Any, handler: Any) -> Any:
        answer = await handler(request)
        if answer.status == 200:
            kept.append(answer)
        return unread(kept[0])

    agent.simulator.script([fixed(False), FAILED])
    used(falls_back, url=agent.url("openai") + PATH, times=2)
    billed(agent, 1)


@pytest.mark.ids("A22", "D11")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_middleware_that_raises(agent: Agent, when: str) -> None:
    """Before anything was sent nothing is held, nor thought lost; afterwards what came is counted."""

    async def raises(request: Any, handler: Any) -> Any:
        if when == "after":
            await (await handler(request)).read()
        raise LookupError("the middleware's own")

    gate(cap(100 * CENT))
    with pytest.raises(LookupError):
        used(raises, url=agent.url("openai") + PATH)
    billed(agent, 1 if when == "after" else 0)
    found = standing()
    assert (found.spent > 0, found.reserved) == (when == "after", 0)
    assert health.notes == {}


@pytest.mark.ids("D11")
def test_tries_of_a_middleware_share_what_is_held(agent: Agent) -> None:
    """One that was refused leaves it to the next; what one that broke off has cost nobody knows: it is booked."""

    async def retries(request: Any, handler: Any) -> Any:
        for _ in range(3):
            try:
                answer = await handler(request)
            except aiohttp.ClientError:
                continue
            if answer.status == 200:
                return answer
        raise LookupError

    spent = []
    for first in (FAILED, {"reset_after": -1}):
        agent.simulator.script([first, fixed(False)])
        gate(cap(100 * CENT))
        used(retries, url=agent.url("openai") + PATH)
        assert standing().reserved == 0
        spent.append(standing().spent)
    assert len(agent.receipts) == 2 and 0 < spent[0] < spent[1]


@pytest.mark.ids("A9", "B12")
def test_asked_for_its_usage_beneath_a_middleware(agent: Agent) -> None:
    """Nobody sees the chunk that we asked for, of neither answer."""
    body = {"model": "gpt-4o", "messages": CHAT["messages"], "stream": True}

    def use() -> Any:
        agent.simulator.set_default(text="one two three")
        state.ask = state.deliver is not None
        (answer,) = used(once_more, url=agent.url("openai") + PATH, body=body)
        told = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith(b"data: {")]
        return [each["choices"] for each in told]

    both_runs = both(agent, use)
    assert both_runs and all(both_runs)
    assert len(agent.receipts) == 2 and not any(receipt.get("usage_missing") for receipt in agent.receipts)


@pytest.mark.ids("A1", "A22")
def test_middlewares_see_what_they_see_without_us(agent: Agent) -> None:
    """Signing in by aiohttp's own digest, errors for a status, and requests that are none of ours."""
    url = agent.url("openai")

    async def use() -> Any:
        seen: List[Any] = []

        async def looks(request: Any, handler: Any) -> Any:
            answer = await handler(request)
            seen.append((request.method, str(request.url), answer.status, type(answer).__name__))
            return answer

        digest = {**DENIED, "headers": {"www-authenticate": 'Digest realm="a", nonce="b", qop="auth"'}}
        agent.simulator.script([digest, fixed(False), FAILED])
        signs = aiohttp.DigestAuthMiddleware("me", "secret")
        async with aiohttp.ClientSession(middlewares=(signs, looks), raise_for_status=True) as session:
            for path in (PATH, PATH, "/nothing"):
                try:
                    seen.append(await post(session, url + path, CHAT))
                except aiohttp.ClientResponseError as error:
                    seen.append((error.status, error.message))
        return seen

    both_async(agent, use)
    billed(agent, 1)
    assert "interrupted" not in health.notes
