"""Sessions over sockets: a receipt for every turn, whatever the library and however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
import time
from typing import Any, Dict, List

import pytest

import aicostguard
from aicostguard.capture.state import state
from tests.agent import Agent
from tests.capture.tools import both, both_async, only, shown
from tests.live import gemini

pytest.importorskip("websockets")
openai = pytest.importorskip("openai")
genai = pytest.importorskip("google.genai")

#: openai still opens sessions in the way that websockets 17.1 discourages
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context:DeprecationWarning")

ASK = {"type": "response.create"}


def client_of(agent: Agent) -> Any:
    return openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x")


def address(agent: Agent, provider: str = "openai", path: str = "/v1/realtime?model=gpt-realtime") -> str:
    return agent.url(provider).replace("http", "ws", 1) + path


def until(connection: Any, kind: str) -> List[Any]:
    """Every event up to one of this kind."""
    seen = []
    for event in connection:
        seen.append(shown(event))
        if event.type == kind:
            break
    return seen


@pytest.mark.ids("B16", "A1", "A5")
def test_a_realtime_session(agent: Agent) -> None:
    """Two turns and a transcription: three receipts by modality, and the same events as without the agent."""
    session = {"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}

    def conversation() -> Any:
        with client_of(agent) as client, client.realtime.connect(model="gpt-realtime") as connection:
            connection.session.update(session=session)  # type: ignore[arg-type]
            connection.input_audio_buffer.commit()
            connection.response.create()
            seen = [until(connection, "response.done")]
            connection.response.create(response={"output_modalities": ["text"]})
            return [*seen, until(connection, "response.done")]

    both(agent, conversation)
    agent.balance()
    receipts = agent.settled(3)
    assert [receipt["operation"] for receipt in receipts] == ["audio", "realtime", "realtime"]
    assert [receipt["feature"] for receipt in receipts] == ["conversation"] * 3
    spoken = receipts[1]
    assert 0 < spoken["output_audio_tokens"] < spoken["output_tokens"]
    assert 0 < spoken["input_audio_tokens"] < spoken["input_tokens"]


@pytest.mark.ids("B16", "A1")
def test_a_realtime_session_inside_a_loop(agent: Agent) -> None:
    async def conversation() -> Any:
        seen = []
        async with openai.AsyncOpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
            async with client.realtime.connect(model="gpt-realtime") as connection:
                for _ in range(2):
                    await connection.response.create()
                    async for event in connection:
                        seen.append(shown(event))
                        if event.type == "response.done":
                            break
        return seen

    both_async(agent, conversation)
    agent.balance()
    assert [receipt["feature"] for receipt in agent.settled(2)] == ["conversation"] * 2


@pytest.mark.ids("B16")
def test_a_transcription_that_is_billed_by_length(agent: Agent) -> None:
    session = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    with client_of(agent) as client, client.realtime.connect(model="gpt-realtime") as connection:
        connection.session.update(session=session)  # type: ignore[arg-type]
        connection.input_audio_buffer.commit()
        until(connection, "conversation.item.input_audio_transcription.completed")
    assert "input_tokens" not in only(agent)
    assert only(agent)["audio_ms"] == 3500
    assert only(agent)["model"] == "whisper-1"


@pytest.mark.ids("B16")
def test_a_turn_that_nobody_asked_for_belongs_to_who_opened_the_session(agent: Agent) -> None:
    def opened(client: Any) -> Any:
        with aicostguard.labels(user="ada"):
            return client.realtime.connect(model="gpt-realtime").enter()

    with client_of(agent) as client:
        connection = opened(client)
        connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": {"type": "x"}}}})
        connection.input_audio_buffer.commit()
        until(connection, "response.done")
        connection.close()
    agent.balance()
    assert only(agent)["feature"] == "opened"
    assert only(agent)["user"] == "ada"


@pytest.mark.ids("B16")
def test_each_turn_has_the_labels_of_who_sent_it(agent: Agent) -> None:
    def first(connection: Any) -> None:
        with aicostguard.labels(user="ada"):
            connection.response.create()

    def second(connection: Any) -> None:
        with aicostguard.labels(user="bob"):
            connection.response.create()

    with client_of(agent) as client, client.realtime.connect(model="gpt-realtime") as connection:
        for turn in (first, second):
            turn(connection)
            until(connection, "response.done")
    assert [(r["feature"], r["user"]) for r in agent.settled(2)] == [("first", "ada"), ("second", "bob")]


@pytest.mark.ids("B16")
def test_latency_runs_from_the_request_to_its_last_event(agent: Agent) -> None:
    agent.simulator.set_default(delay_ms=20, chunks=3)
    with client_of(agent) as client, client.realtime.connect(model="gpt-realtime") as connection:
        until(connection, "session.created")
        time.sleep(0.3)  # not part of it
        began = time.perf_counter()
        connection.response.create()
        until(connection, "response.done")
        took = (time.perf_counter() - began) * 1000
    assert 150 <= only(agent)["latency_ms"] <= took + 5


@pytest.mark.ids("B16", "A1")
def test_responses_over_a_socket(agent: Agent) -> None:
    def ask() -> Any:
        with client_of(agent) as client, client.responses.connect() as connection:
            seen = []
            for text in ("one", "another one"):
                connection.response.create(model="gpt-5", input=text)
                seen.append(until(connection, "response.completed"))
            return seen

    if not hasattr(client_of(agent).responses, "connect"):
        pytest.skip("this openai has no responses.connect")
    both(agent, ask)
    agent.balance()
    assert [r.get("operation") for r in agent.settled(2)] == [None, None]
    assert [r["feature"] for r in agent.receipts] == ["ask", "ask"]


@pytest.mark.ids("B16", "B7", "A1")
def test_gemini_live(agent: Agent) -> None:
    """Turns add up; tool calls are generations of their own."""
    agent.simulator.script([{}, {}, {"tool_calls": ["{}"]}, {}])
    client = gemini(agent.url("google"))

    async def conversation() -> Any:
        seen: List[Any] = []
        async with client.aio.live.connect(model="gemini-live", config={"response_modalities": ["AUDIO"]}) as session:
            for text in ("hi", "and", "look it up"):
                turns: Any = {"role": "user", "parts": [{"text": text}]}
                await session.send_client_content(turns=turns, turn_complete=True)
                async for message in session.receive():
                    seen.append(shown(message))
                    for call in message.tool_call.function_calls if message.tool_call else ():
                        answer = genai.types.FunctionResponse(id=call.id, name=call.name, response={"x": 1})
                        await session.send_tool_response(function_responses=[answer])
        return seen

    agent.off()
    asyncio.run(conversation())
    agent.simulator.reset_count()
    agent.simulator.script([{}, {}, {"tool_calls": ["{}"]}, {}])
    agent.on()
    asyncio.run(conversation())
    assert len(agent.simulator.billed()) == 4
    agent.balance()
    assert {(r["operation"], r["feature"], r["model"]) for r in agent.settled(4)} == {
        ("realtime", "conversation", "gemini-live")
    }
    assert not any(r.get("partial") or r.get("estimated") for r in agent.receipts)


@pytest.mark.ids("B16", "A1")
@pytest.mark.parametrize("way", ["recv", "iterate", "bytes", "fragments"])
def test_the_library_alone(way: str, agent: Agent) -> None:
    """Every way to take a message off a connection, in both halves of the library."""
    from websockets.asyncio.client import connect as aconnect
    from websockets.sync.client import connect

    decode: Dict[str, Any] = {"decode": False} if way == "bytes" else {}

    def kind(message: Any) -> Any:
        return json.loads(message)["type"]

    def threaded() -> List[Any]:
        seen = []
        with connect(address(agent)) as socket:
            socket.send(
                json.dumps(ASK) if way != "bytes" else json.dumps(ASK).encode(), **({"text": True} if decode else {})
            )
            messages: Any = iter(socket) if way == "iterate" else None
            while not seen or seen[-1][0] != "response.done":
                if messages is not None:
                    message = next(messages)
                elif way == "fragments":
                    message = "".join(socket.recv_streaming())
                else:
                    message = socket.recv(**decode)
                seen.append((kind(message), type(message)))
        return seen

    async def looped() -> List[Any]:
        seen: List[Any] = []
        async with aconnect(address(agent)) as socket:
            await socket.send(json.dumps(ASK))
            messages: Any = socket.__aiter__() if way == "iterate" else None
            while not seen or seen[-1][0] != "response.done":
                if messages is not None:
                    message = await messages.__anext__()
                elif way == "fragments":
                    message = "".join([part async for part in socket.recv_streaming()])
                else:
                    message = await socket.recv(**decode)
                seen.append((kind(message), type(message)))
        return seen

    both(agent, threaded)
    agent.balance()
    both_async(agent, looped)
    agent.balance()
    assert [r["feature"] for r in agent.settled(1)] == ["looped"]


@pytest.mark.ids("B16", "A1")
def test_websocket_client(agent: Agent) -> None:
    websocket = pytest.importorskip("websocket")

    def talk() -> Any:
        socket = websocket.create_connection(address(agent))
        seen = []
        for send, receive in ((socket.send, socket.recv), (socket.send_binary, lambda: socket.recv_data()[1])):
            send(json.dumps(ASK) if send == socket.send else json.dumps(ASK).encode())
            while not seen or seen[-1][0] != "response.done":
                message = receive()
                seen.append((json.loads(message)["type"], type(message)))
            seen.append(("", None))
        socket.close()
        return seen

    both(agent, talk)
    agent.balance()
    assert [receipt["feature"] for receipt in agent.settled(2)] == ["talk", "talk"]


@pytest.mark.ids("B16", "A1")
@pytest.mark.parametrize("way", ["receive", "receive_text", "receive_json"])
def test_httpx2_sockets(way: str, agent: Agent) -> None:
    pytest.importorskip("wsproto")
    httpx2 = pytest.importorskip("httpx2")

    def told(message: Any) -> Any:
        said = message if way == "receive_json" else json.loads(message.data if way == "receive" else message)
        return said["type"], type(message)

    def asks(send: Any) -> None:
        send(ASK)

    def asks_in_bytes(socket: Any) -> None:
        socket.send_bytes(json.dumps(ASK).encode())

    async def asks_too(send: Any) -> None:
        await send(ASK)

    def talk() -> Any:
        seen: List[Any] = []
        with httpx2.Client() as client, client.websocket(address(agent)) as socket:
            for ask, way_in in ((asks, socket.send_json), (asks_in_bytes, socket)):
                ask(way_in)
                seen.append(("", None))
                while seen[-1][0] != "response.done":
                    seen.append(told(getattr(socket, way)()))
            socket.ping()
        return seen

    async def atalk() -> Any:
        seen: List[Any] = [("", None)]
        async with httpx2.AsyncClient() as client, client.websocket(address(agent)) as socket:
            await asks_too(socket.send_json)
            while seen[-1][0] != "response.done":
                seen.append(told(await getattr(socket, way)()))
        return seen

    both(agent, talk)
    agent.balance()
    assert [receipt["feature"] for receipt in agent.settled(2)] == ["asks", "asks_in_bytes"]
    both_async(agent, atalk)
    agent.balance()
    assert [receipt["feature"] for receipt in agent.settled(1)] == ["asks_too"]


@pytest.mark.ids("B10", "B16")
def test_httpx2_sockets_left_in_a_turn(agent: Agent) -> None:
    pytest.importorskip("wsproto")
    httpx2 = pytest.importorskip("httpx2")
    agent.simulator.script([{"cut_after": 4}, {"delay_ms": 50}])
    for turn in range(2):
        with httpx2.Client() as client, client.websocket(address(agent)) as socket:
            socket.send_json(ASK)
            with contextlib.suppress(httpx2.websockets.WebSocketDisconnect, httpx2.websockets.WebSocketNetworkError):
                for _ in range(4 if turn else 99):
                    socket.receive()
    assert [receipt.get("partial") for receipt in agent.settled(2)] == [True, True]


@pytest.mark.ids("B10", "B16")
@pytest.mark.parametrize("reads", [True, False])
def test_httpx2_breaks_before_its_user_has_read(agent: Agent, reads: bool) -> None:
    """A thread of httpx2's has read ahead and closed: the turn is there to be read, and is over when it was."""
    pytest.importorskip("wsproto")
    httpx2 = pytest.importorskip("httpx2")
    sockets = pytest.importorskip("httpx2.websockets")
    gone = (sockets.WebSocketDisconnect, sockets.WebSocketNetworkError)
    agent.simulator.script([{"cut_after": 4}])
    with httpx2.Client() as client, client.websocket(address(agent)) as socket:
        socket.send_json(ASK)
        assert socket._should_close.wait(30)
        time.sleep(0.3)  # its thread closes
        assert not agent.receipts
        with contextlib.suppress(*gone):
            for _ in range(99 if reads else 3):
                socket.receive()
    assert only(agent)["partial"]


@pytest.mark.ids("B10", "B16")
def test_websocket_client_leaves_in_a_turn(agent: Agent) -> None:
    websocket = pytest.importorskip("websocket")
    agent.simulator.script([{"cut_after": 4}, {"delay_ms": 50}])
    for _ in range(2):
        socket = websocket.create_connection(address(agent))
        socket.send(json.dumps(ASK))
        with contextlib.suppress(websocket.WebSocketConnectionClosedException):
            for _ in range(4 if agent.receipts else 99):
                socket.recv()
        socket.close()
    assert [receipt.get("partial") for receipt in agent.settled(2)] == [True, True]


@pytest.mark.ids("B16", "A1")
@pytest.mark.parametrize("way", ["receive", "receive_json", "iterate"])
def test_aiohttp_sockets(way: str, agent: Agent) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def talk() -> Any:
        seen: List[Any] = []
        async with aiohttp.ClientSession() as client, client.ws_connect(address(agent)) as socket:
            await socket.send_json(ASK)
            while not seen or seen[-1][0] != "response.done":
                if way == "receive_json":
                    message = await socket.receive_json()
                    seen.append((message["type"], type(message)))
                else:
                    message = await (socket.receive() if way == "receive" else socket.__anext__())
                    seen.append((json.loads(message.data)["type"], type(message), message.type))
        return seen

    both_async(agent, talk)
    agent.balance()
    assert only(agent)["feature"] == "talk"


@pytest.mark.ids("B10", "B16", "A7")
def test_aiohttp_sockets_that_end_in_a_turn(agent: Agent) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    agent.simulator.script([{"cut_after": 4}, {"delay_ms": 50}])

    async def talk(most: int) -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(address(agent)) as socket:
            held.append(socket)
            await socket.send_str(json.dumps(ASK))
            async for _ in socket:
                most -= 1
                if not most:
                    break

    held: List[Any] = []
    for most in (99, 4):
        asyncio.run(talk(most))
    assert [receipt.get("partial") for receipt in agent.settled(2)] == [True, True]


@pytest.mark.ids("B10", "B16")
@pytest.mark.parametrize("how", ["close", "reset", "cut"])
def test_a_session_that_ends_in_a_turn(how: str, agent: Agent) -> None:
    """What has begun is billed; a turn whose usage never came says so, and that it is partial."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    if how in ("reset", "cut"):
        agent.simulator.script([{}, {how + "_after": 4}])
    else:
        agent.simulator.set_default(delay_ms=50)

    def talk() -> None:
        socket = connect(address(agent))
        socket.send(json.dumps(ASK))
        while json.loads(socket.recv())["type"] != "response.done":
            pass
        socket.send(json.dumps(ASK))
        with contextlib.suppress(ConnectionClosed):
            while json.loads(socket.recv())["type"] != "response.output_audio.delta" or how in ("reset", "cut"):
                pass
        socket.close()
        held.append(socket)

    held: List[Any] = []  # its end is seen, and not only its collection
    talk()
    receipts = agent.settled(2)
    assert [receipt.get("partial") for receipt in receipts] == [None, True]
    assert receipts[1]["usage_missing"] is True
    assert receipts[1]["model"] == "gpt-realtime"
    assert len(agent.simulator.billed()) == 2


@pytest.mark.ids("B10", "B16")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_nobody_closed(agent: Agent) -> None:
    """Its connection is collected, in the middle of a turn."""
    from websockets.asyncio.client import connect

    agent.simulator.set_default(delay_ms=50)

    async def talk() -> None:
        socket = await connect(address(agent), ping_interval=None)
        await socket.send(json.dumps(ASK))
        while json.loads(await socket.recv())["type"] != "response.output_audio.delta":
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(talk())
    loop.close()
    del loop
    gc.collect()
    assert only(agent)["partial"] is True


@pytest.mark.ids("B10", "B16")
def test_a_request_that_was_never_answered_bills_nothing(agent: Agent) -> None:
    from websockets.sync.client import connect

    agent.simulator.set_default(cut_after=0)
    with connect(address(agent)) as socket:
        socket.recv()
        socket.send(json.dumps(ASK))
    gc.collect()
    assert agent.receipts == []


@pytest.mark.ids("A7", "B10", "B16")
def test_a_cancelled_reader_loses_no_message(agent: Agent) -> None:
    from websockets.asyncio.client import connect

    agent.simulator.set_default(delay_ms=30)

    async def talk() -> int:
        waits = 0
        async with connect(address(agent)) as socket:
            await socket.recv()
            await socket.send(json.dumps(ASK))
            kinds: List[str] = []
            while not kinds or kinds[-1] != "response.done":
                try:
                    kinds.append(json.loads(await asyncio.wait_for(socket.recv(), 0.01))["type"])
                except asyncio.TimeoutError:
                    waits += 1
        assert kinds[0] == "response.created"
        return waits

    assert asyncio.run(talk()) > 3
    agent.balance()


@pytest.mark.ids("A7", "B10", "B16")
def test_a_cancelled_conversation_is_cancelled(agent: Agent) -> None:
    agent.simulator.set_default(delay_ms=5000)

    async def talk() -> None:
        async with openai.AsyncOpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
            async with client.realtime.connect(model="gpt-realtime") as connection:
                held.append(connection)
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.created":
                        begun.set()

    held: List[Any] = []
    begun = threading.Event()

    async def cancel() -> None:
        task = asyncio.ensure_future(talk())
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 15)

    asyncio.run(cancel())
    assert only(agent)["partial"] is True


@pytest.mark.ids("B16")
def test_receipts_of_a_session_are_awaited(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline mode: nothing is delivered by blocking the loop, and nothing is left when the session is closed."""
    from websockets.asyncio.client import connect

    awaited: List[Any] = []

    async def adeliver(receipts: Any) -> None:
        await asyncio.sleep(0)
        awaited.extend(receipts)

    monkeypatch.setattr(state, "adeliver", adeliver)
    monkeypatch.setattr(state, "inline", True)

    async def talk() -> None:
        async with connect(address(agent)) as socket:
            for _ in range(2):
                await socket.send(json.dumps(ASK))
                while json.loads(await socket.recv())["type"] != "response.done":
                    pass

    asyncio.run(talk())
    assert len(awaited) == 2
    assert agent.receipts == []


@pytest.mark.ids("B16")
def test_other_sockets_are_left_alone(agent: Agent) -> None:
    """A server's own connections, and other hosts: nothing is metered, and messages pass as they are."""
    from websockets.sync.client import connect
    from websockets.sync.server import serve

    def echo(socket: Any) -> None:
        for message in socket:
            socket.send(message)

    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        with connect("ws://127.0.0.1:%d/v1/realtime" % port) as socket:
            done = json.dumps({"type": "response.done", "response": {"id": "r", "usage": {"input_tokens": 5}}})
            socket.send(done)
            assert socket.recv() == done
            assert socket.__dict__["_aicostguard_session"] is None
        server.shutdown()
        thread.join()
    assert agent.receipts == []


@pytest.mark.ids("B16")
def test_a_session_that_is_older_than_the_agent(agent: Agent) -> None:
    from websockets.sync.client import connect

    agent.off()
    with connect(address(agent)) as socket:
        socket.recv()
        agent.on()
        socket.send(json.dumps(ASK))
        while json.loads(socket.recv())["type"] != "response.done":
            pass
    agent.balance()


@pytest.mark.ids("B16", "C5")
def test_azure_names_its_deployment_in_the_address(agent: Agent) -> None:
    from websockets.sync.client import connect

    path = "/openai/realtime?api-version=2025-04-01-preview&deployment=my-realtime"
    with connect(address(agent, "azure", path)) as socket:
        socket.send(json.dumps(ASK))
        while json.loads(socket.recv())["type"] != "response.done":
            pass
    agent.balance()
    assert (only(agent)["provider"], only(agent)["model"]) == ("azure", "my-realtime")


@pytest.mark.ids("B16")
def test_mistral_writes_down_what_it_hears(agent: Agent) -> None:
    from websockets.sync.client import connect

    path = "/v1/audio/transcriptions/realtime?model=voxtral-mini-transcribe"
    with connect(address(agent, "mistral", path)) as socket:
        socket.send(json.dumps({"type": "input_audio.append", "audio": "AAAA"}))
        socket.send(json.dumps({"type": "input_audio.end"}))
        while json.loads(socket.recv())["type"] != "transcription.done":
            pass
    agent.balance()
    assert only(agent)["audio_ms"] == 12_000


@pytest.mark.ids("B16")
def test_an_unknown_session_of_a_known_host_is_counted(agent: Agent) -> None:
    from aicostguard.health import health
    from aicostguard.metering import UNRECOGNISED, recognise

    assert recognise("WS", "api.openai.com", None, "/v1/realtime/translations") is UNRECOGNISED
    assert recognise("WS", "example.com", None, "/v1/realtime") is None
    assert health.faults == {}


@pytest.mark.ids("D11", "B16")
def test_a_turn_that_the_server_refuses_holds_nothing(agent: Agent) -> None:
    """And one that it says twice has begun takes the place of no other."""
    from aicostguard.capture import permit
    from aicostguard.capture.patch import Hook
    from aicostguard.capture.session import open_session
    from aicostguard.guard import enforcing
    from tests.guard.budgets import cap, gate, standing

    gate(cap(1000, unit="tokens"), on_unknown_bound="max")
    try:
        state.hosts = ()
        session = open_session(Hook("test"), "api.openai.com", 443, "/v1/realtime?model=gpt-realtime")
        assert session is not None
        asked = session.sent(json.dumps(ASK))
        assert asked is not None
        permit.ask(asked)
        assert standing(timeout=0).reserved > 0
        del asked
        session.received(json.dumps({"type": "error", "error": {"code": "conversation_already_has_active_response"}}))
        after = standing()
        assert (after.spent, after.reserved, after.estimated) == (0, 0, 0)
        first, second = session.sent(json.dumps(ASK)), session.sent(json.dumps(ASK))
        begun = json.dumps({"type": "response.created", "response": {"id": "r1"}})
        session.received(begun)
        session.received(begun)
        assert session._turns["r1"] is first
        session.received(begun.replace("r1", "r2"))
        assert session._turns["r2"] is second
        session._turns.clear()
    finally:
        enforcing.stop()
