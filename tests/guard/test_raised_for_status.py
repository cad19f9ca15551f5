"""Answers with an error status that never reach the caller as answers: a session, a hook or retries raise for them.

Nothing is billed for them, so nothing of a budget is gone. What is raised for another request says nothing of this one.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any, Callable, Dict

import pytest

from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.guard.budgets import CENT, GPT, HI, billed, cap, gate, standing

BODY = {"model": GPT, "messages": HI, "max_tokens": 50}


@pytest.fixture(autouse=True)
def no_gate() -> Any:
    """No gate after a test."""
    from aicostguard.guard import enforcing

    yield
    enforcing.stop()


def _raise(response: Any, *args: Any, **kwargs: Any) -> None:
    response.raise_for_status()


async def _araise(response: Any) -> None:
    response.raise_for_status()


def _httpx(name: str) -> Callable[[str], None]:
    def ask(url: str) -> None:
        module = pytest.importorskip(name)
        with module.Client(event_hooks={"response": [_raise]}) as client:
            with pytest.raises(module.HTTPStatusError):
                client.post(url, json=BODY)

    return ask


def _httpx_async(url: str) -> None:
    import httpx

    async def ask() -> None:
        async with httpx.AsyncClient(event_hooks={"response": [_araise]}) as client:
            with pytest.raises(httpx.HTTPStatusError):
                await client.post(url, json=BODY)

    asyncio.run(ask())


def _aiohttp(url: str) -> None:
    import aiohttp

    async def ask() -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            with pytest.raises(aiohttp.ClientResponseError):
                await session.post(url, json=BODY)

    asyncio.run(ask())


def _requests_hook(url: str) -> None:
    import requests

    with requests.Session() as session:
        session.hooks["response"].append(_raise)
        with pytest.raises(requests.HTTPError):
            session.post(url, json=BODY)


def _retry(tries: int, **more: Any) -> Any:
    retry = importlib.import_module("urllib3.util").Retry
    try:
        return retry(tries, status_forcelist=[429, 503], backoff_factor=0, allowed_methods=None, **more)
    except TypeError:  # urllib3 before 1.26
        return retry(tries, status_forcelist=[429, 503], backoff_factor=0, method_whitelist=False, **more)


def _requests(tries: int, **more: Any) -> Any:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=_retry(tries, **more)))
    return session


def _requests_retries(url: str) -> None:
    import requests

    with _requests(2) as session, pytest.raises(requests.exceptions.RetryError):
        session.post(url, json=BODY)


def _urllib3_retries(url: str) -> None:
    import urllib3

    with urllib3.PoolManager(retries=_retry(2)) as pool:
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            pool.request("POST", url, body=json.dumps(BODY))


WAYS: Dict[str, Callable[[str], None]] = {
    "httpx hook": _httpx("httpx"),
    "httpx2 hook": _httpx("httpx2"),
    "httpx async hook": _httpx_async,
    "aiohttp session": _aiohttp,
    "requests hook": _requests_hook,
    "requests retries": _requests_retries,
    "urllib3 retries": _urllib3_retries,
}


@pytest.mark.ids("D11", "B4")
@pytest.mark.parametrize("way", [name for name in WAYS if name != "httpx2 hook" or importlib.util.find_spec("httpx2")])
@pytest.mark.parametrize("status", [429, 503])
def test_an_error_status_that_is_raised_gives_everything_back(
    way: str, status: int, agent: Agent, simulator: Simulator
) -> None:
    simulator.set_default(status=status)
    gate(cap(100 * CENT))
    WAYS[way](simulator.base_url("openai") + "/chat/completions")
    assert simulator.exchanges  # it was asked
    assert standing()[7:10] == (0, 0, 100 * CENT)
    assert "interrupted" not in health.notes


@pytest.mark.ids("D11")
@pytest.mark.parametrize("library", ["httpx", "requests", "aiohttp"])
def test_what_is_raised_for_another_request_books_all_that_was_held(
    library: str, agent: Agent, simulator: Simulator
) -> None:
    """A hook that asks somebody else, who answers with an error: our own answer was billed."""
    url, other = simulator.base_url("openai") + "/chat/completions", simulator.base_url("groq") + "/nothing-here"
    gate(cap(100 * CENT))
    if library == "httpx":
        import httpx

        with httpx.Client(event_hooks={"response": [lambda response: _raise(httpx.get(other))]}) as client:
            with pytest.raises(httpx.HTTPStatusError):
                client.post(url, json=BODY)
    elif library == "requests":
        import requests

        with requests.Session() as session:
            session.hooks["response"].append(lambda response, **kwargs: _raise(requests.get(other)))
            with pytest.raises(requests.HTTPError):
                session.post(url, json=BODY)
    else:
        import aiohttp

        async def elsewhere(response: Any) -> None:
            async with aiohttp.ClientSession() as session, session.get(other) as answer:
                answer.raise_for_status()

        async def ask() -> None:
            async with aiohttp.ClientSession(raise_for_status=elsewhere) as session:
                with pytest.raises(aiohttp.ClientResponseError):
                    await session.post(url, json=BODY)

        asyncio.run(ask())
    after = standing()
    assert after.spent >= billed(simulator) > 0 and after.reserved == 0
    assert health.notes["interrupted"] == 1


@pytest.mark.ids("D11", "B4")
def test_a_try_of_urllib3s_that_broke_off_is_booked_and_the_next_one_asks_anew(
    agent: Agent, simulator: Simulator
) -> None:
    """`requests` lets urllib3 try again: what the first try may have billed is in the books beside the second."""
    gate(cap(100 * CENT))
    simulator.script([{"cut_after": -1, "usage": {"input_tokens": 5, "output_tokens": 5}}, {}])
    with _requests(2, read=2) as session:
        session.post(simulator.base_url("openai") + "/chat/completions", json=BODY).raise_for_status()
    assert len(simulator.exchanges) == 2
    after = standing()
    assert after.estimated and after.reserved == 0
    assert after.spent >= billed(simulator) > 0
