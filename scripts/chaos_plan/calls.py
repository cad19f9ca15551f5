"""One call of a client: which SDK, which answer the simulator is to give, and the diary around it.

Owns the ways of calling, plain and streamed, blocking and awaited. Runs inside the clients, after the agent was
imported, and knows nothing of it. What is asked of the provider comes from the client's seed alone.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any, Awaitable, Callable, Dict

from chaos_plan import diary

#: share of calls that are streamed, whose first attempt fails, whose connection is cut, that answer late
STREAMED, FAILING, CUT, LATE = 0.3, 0.03, 0.01, 0.03
#: seconds after which a client gives up on an answer
PATIENCE = 20.0


def _wish(rng: random.Random, number: int, who: int) -> Dict[str, str]:
    behaviour: Dict[str, Any] = {
        "usage": {"input_tokens": who, "output_tokens": number},
        "first_delay_ms": rng.choice((0, 5, 20, 60)),
    }
    dice = rng.random()
    if dice < FAILING:
        behaviour.update(fail_times=1, status=rng.choice((429, 500, 503)))
    elif dice < FAILING + CUT:
        behaviour.update(reset_after=-1)
    elif dice < FAILING + CUT + LATE:
        behaviour.update(first_delay_ms=1500)
    return {"x-sim": json.dumps(behaviour), "x-sim-tag": "%d.%d" % (who, number)}


class Caller:
    """Makes calls with the SDKs of this client, drawn by `rng`. Objects are made once and shared by threads."""

    def __init__(self, sdks: str, rng: random.Random, awaited: bool = False) -> None:
        self.rng = rng
        urls = json.loads(os.environ["CHAOS_URLS"])
        table = _AWAITED if awaited else _BLOCKING
        self._ways = [table[name](urls) for name in sdks.split(",")]

    def call(self) -> bool:
        """One call, whatever becomes of it; True when it came back."""
        way, streamed = self.rng.choice(self._ways), self.rng.random() < STREAMED
        number = diary.begin()
        try:
            way(_wish(self.rng, number, diary.who()), streamed)
        except Exception as error:
            diary.failed(number, error)
        else:
            diary.returned(number)
            return True
        return False

    async def acall(self) -> None:
        """The same, awaited."""
        way, streamed = self.rng.choice(self._ways), self.rng.random() < STREAMED
        number = diary.begin()
        try:
            await way(_wish(self.rng, number, diary.who()), streamed)
        except Exception as error:
            diary.failed(number, error)
        else:
            diary.returned(number)


Way = Callable[[Dict[str, str], bool], Any]
AwaitedWay = Callable[[Dict[str, str], bool], Awaitable[Any]]

_MESSAGES: Any = [{"role": "user", "content": "hello"}]
_CHAT = {"model": "gpt-4o", "messages": _MESSAGES}
_USAGE: Any = {"include_usage": True}


def _openai(urls: Dict[str, str]) -> Way:
    import openai

    client = openai.OpenAI(base_url=urls["openai"] + "/v1", api_key="none", timeout=PATIENCE)

    def way(headers: Dict[str, str], streamed: bool) -> None:
        create = client.chat.completions.create
        if streamed:
            for _ in create(**_CHAT, extra_headers=headers, stream=True, stream_options=_USAGE):
                pass
        else:
            create(**_CHAT, extra_headers=headers)

    return way


def _anthropic(urls: Dict[str, str]) -> Way:
    import anthropic

    client = anthropic.Anthropic(base_url=urls["anthropic"], api_key="none", timeout=PATIENCE)

    def way(headers: Dict[str, str], streamed: bool) -> None:
        asked: Any = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": _MESSAGES, "extra_headers": headers}
        if streamed:
            for _ in client.messages.create(**asked, stream=True):
                pass
        else:
            client.messages.create(**asked)

    return way


def _httpx(urls: Dict[str, str]) -> Way:
    import httpx

    client = httpx.Client(base_url=urls["openai"], timeout=PATIENCE)

    def way(headers: Dict[str, str], streamed: bool) -> None:
        if not streamed:
            client.post("/v1/chat/completions", json=_CHAT, headers=headers).raise_for_status().json()
            return
        body = {**_CHAT, "stream": True, "stream_options": _USAGE}
        with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            for _ in answer.raise_for_status().iter_lines():
                pass

    return way


def _aopenai(urls: Dict[str, str]) -> AwaitedWay:
    import openai

    client = openai.AsyncOpenAI(base_url=urls["openai"] + "/v1", api_key="none", timeout=PATIENCE)

    async def way(headers: Dict[str, str], streamed: bool) -> None:
        create = client.chat.completions.create
        if streamed:
            async for _ in await create(**_CHAT, extra_headers=headers, stream=True, stream_options=_USAGE):
                pass
        else:
            await create(**_CHAT, extra_headers=headers)

    return way


def _aanthropic(urls: Dict[str, str]) -> AwaitedWay:
    import anthropic

    client = anthropic.AsyncAnthropic(base_url=urls["anthropic"], api_key="none", timeout=PATIENCE)

    async def way(headers: Dict[str, str], streamed: bool) -> None:
        asked: Any = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": _MESSAGES, "extra_headers": headers}
        if streamed:
            async for _ in await client.messages.create(**asked, stream=True):
                pass
        else:
            await client.messages.create(**asked)

    return way


def _ahttpx(urls: Dict[str, str]) -> AwaitedWay:
    import httpx

    client = httpx.AsyncClient(base_url=urls["openai"], timeout=PATIENCE)

    async def way(headers: Dict[str, str], streamed: bool) -> None:
        if not streamed:
            answer = await client.post("/v1/chat/completions", json=_CHAT, headers=headers)
            answer.raise_for_status().json()
            return
        body = {**_CHAT, "stream": True, "stream_options": _USAGE}
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as streaming:
            async for _ in streaming.raise_for_status().aiter_lines():
                pass

    return way


_BLOCKING: Dict[str, Callable[[Dict[str, str]], Way]] = {"openai": _openai, "anthropic": _anthropic, "httpx": _httpx}
_AWAITED: Dict[str, Callable[[Dict[str, str]], AwaitedWay]] = {
    "openai": _aopenai,
    "anthropic": _aanthropic,
    "httpx": _ahttpx,
}
SDKS = tuple(_BLOCKING)
