"""Sessions over sockets: realtime, Responses over WebSocket, Gemini Live, and the libraries alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any, List

from tests.matrix.case import Url, case, environment, is_async
from tests.matrix.families.openai import openai_client

ASK = {"type": "response.create"}


def _events(connection: Any, last: str) -> List[Any]:
    seen = []
    for event in connection:
        seen.append(event)
        if event.type == last:
            break
    return seen


async def _aevents(connection: Any, last: str) -> List[Any]:
    seen = []
    async for event in connection:
        seen.append(event)
        if event.type == last:
            break
    return seen


def _kinds(events: List[Any]) -> List[Any]:
    """What a user sees, without the ids of a conversation, which differ from run to run."""
    return [(type(event).__name__, event.type) for event in events]


def socket_client(url: Url, mode: str) -> Any:
    # openai 1 insists on TLS unless it is told an address for sockets
    return openai_client(url, mode, websocket_base_url=url("openai").replace("http", "ws", 1) + "/v1")


@case("openai.realtime", socket_client, ("sync", "async"))
def openai_realtime(client: Any, mode: str) -> Any:
    home = client.realtime if hasattr(client, "realtime") else client.beta.realtime
    if mode == "sync":
        with home.connect(model="gpt-realtime") as connection:
            connection.response.create()
            return _kinds(_events(connection, "response.done"))

    async def run() -> Any:
        async with client, home.connect(model="gpt-realtime") as connection:
            await connection.response.create()
            return _kinds(await _aevents(connection, "response.done"))

    return asyncio.run(run())


@case("openai.responses_ws", openai_client, ("sync", "async"))
def openai_responses_ws(client: Any, mode: str) -> Any:
    if mode == "sync":
        with client.responses.connect() as connection:
            connection.response.create(model="gpt-5", input="hi")
            return _kinds(_events(connection, "response.completed"))

    async def run() -> Any:
        async with client, client.responses.connect() as connection:
            await connection.response.create(model="gpt-5", input="hi")
            return _kinds(await _aevents(connection, "response.completed"))

    return asyncio.run(run())


def live_client(url: Url, mode: str) -> Any:
    from tests.live import gemini

    return gemini(url("google"))


@case("google-genai.live", live_client, ("async",), "google.genai")
def google_genai_live(client: Any, mode: str) -> Any:
    async def run() -> Any:
        async with client.aio.live.connect(model="gemini-live", config={"response_modalities": ["AUDIO"]}) as session:
            await session.send_client_content(turns={"role": "user", "parts": [{"text": "hi"}]}, turn_complete=True)
            return [message async for message in session.receive()]

    return asyncio.run(run())


def google_client(url: Url, mode: str) -> Any:
    from google import genai

    return genai.Client(api_key="x", http_options={"base_url": url("google")})


@case("google-genai.live_interactions", google_client, ("async",), "google.genai")
def google_genai_live_interactions(client: Any, mode: str) -> Any:
    """An interaction that a request begins and a socket ends; another that is left, and polled."""

    async def run() -> Any:
        seen: List[Any] = []
        for complete in (True, False):
            begun = client.interactions.create(model="gemini-2.5-flash", input="hi", background=True)
            async with client.aio.interactions.connect(begun.id) as connection:
                await connection.send("hi")
                async for event in connection.receive():
                    seen.append(event)
                    if event.event_type == "step.stop":
                        break
                if complete:
                    await connection.complete()
                    seen += [event async for event in connection.receive()]
            seen += [client.interactions.get(begun.id) for _ in range(3)]
        return seen

    return asyncio.run(run())


def _address(url: Url, mode: str) -> str:
    return url("openai").replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime"


def _kind(message: Any) -> str:
    return str(json.loads(message)["type"])


@case("raw.websockets", _address, ("sync", "async"), "websockets")
def raw_websockets(address: str, mode: str) -> Any:
    seen: List[str] = []
    if not is_async(mode):
        from websockets.sync.client import connect

        with connect(address) as socket:
            socket.send(json.dumps(ASK))
            while not seen or seen[-1] != "response.done":
                seen.append(_kind(socket.recv()))
        return seen

    async def run() -> Any:
        from websockets.asyncio.client import connect

        async with connect(address) as socket:
            await socket.send(json.dumps(ASK))
            while not seen or seen[-1] != "response.done":
                seen.append(_kind(await socket.recv()))
        return seen

    return asyncio.run(run())


@case("raw.websocket_client", _address, ("sync",), "websocket")
def raw_websocket_client(address: str, mode: str) -> Any:
    import websocket

    socket, seen = websocket.create_connection(address), []
    socket.send(json.dumps(ASK))
    while not seen or seen[-1] != "response.done":
        seen.append(_kind(socket.recv()))
    socket.close()
    return seen


@case("raw.aiohttp_ws", _address, ("async",), "aiohttp")
def raw_aiohttp_ws(address: str, mode: str) -> Any:
    import aiohttp

    async def run() -> Any:
        seen: List[str] = []
        async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
            await socket.send_json(ASK)
            while not seen or seen[-1] != "response.done":
                seen.append(_kind(await socket.receive_str()))
        return seen

    return asyncio.run(run())


@case("raw.httpx2_ws", _address, ("sync", "async"), "httpx2")
def raw_httpx2_ws(address: str, mode: str) -> Any:
    import httpx2

    seen: List[str] = []
    if mode == "sync":
        with httpx2.Client() as client, client.websocket(address) as socket:
            socket.send_json(ASK)
            while not seen or seen[-1] != "response.done":
                seen.append(_kind(socket.receive_text()))
        return seen

    async def run() -> Any:
        async with httpx2.AsyncClient() as client, client.websocket(address) as socket:
            await socket.send_json(ASK)
            while not seen or seen[-1] != "response.done":
                seen.append(_kind(await socket.receive_text()))
        return seen

    return asyncio.run(run())


@case("openai-agents.realtime", _address, ("async",), "agents")
def openai_agents_realtime(address: str, mode: str) -> Any:
    from agents.realtime import RealtimeAgent, RealtimeRunner

    async def run() -> Any:
        runner = RealtimeRunner(RealtimeAgent(name="helper", instructions="help"))
        seen: List[str] = []
        async with await runner.run(model_config={"api_key": "x", "url": address}) as session:
            answered = 0
            async for event in session:
                seen.append(event.type)
                raw = getattr(event, "data", None)
                said = getattr(raw, "data", None)
                if isinstance(said, dict) and said.get("type") == "session.updated":
                    answered += 1
                    if answered == 2:  # before, the SDK's own update and the message overtake one another
                        await session.send_message("hi")
                if getattr(raw, "type", "") == "turn_ended":
                    break
        return sorted(set(seen))

    return asyncio.run(run())


environment("openai-realtime-1.109.1", ("openai[realtime]==1.109.1",), ("openai.realtime",))
environment("openai-realtime-2.54.0", ("openai[realtime]==2.54.0",), ("openai.realtime", "openai.responses_ws"))
environment("openai-realtime-3.54.0", ("openai[realtime]==3.54.0",), ("openai.realtime", "openai.responses_ws"))
environment("openai-realtime-3.57.0", ("openai[realtime]==3.57.0",), ("openai.realtime", "openai.responses_ws"))
environment("google-live-1.75.0", ("google-genai==1.75.0",), ("google-genai.live",))
environment("google-live-2.34.0", ("google-genai==2.34.0",), ("google-genai.live",))
environment("google-live-3.4.0", ("google-genai==3.4.0",), ("google-genai.live",))
environment("google-live-3.6.1", ("google-genai==3.6.1",), ("google-genai.live", "google-genai.live_interactions"))
environment("openai-agents-realtime-0.24.0", ("openai-agents==0.24.0", "websockets"), ("openai-agents.realtime",))
environment(
    "raw-sockets-current",
    ("websockets==17.4", "websocket-client==1.9.2", "aiohttp==3.14.5", "httpx2[ws]==2.16.2"),
    ("raw.websockets", "raw.websocket_client", "raw.aiohttp_ws", "raw.httpx2_ws"),
)
environment("raw-sockets-oldest", ("websockets==13.0",), ("raw.websockets",), True)
