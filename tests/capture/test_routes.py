"""The ways a request may go out: proxies, mounts, transports, mocks, HTTP/2, redirects, two names of one library."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent import Agent
from tests.capture.tools import CHAT, EVENTS, STREAM, WHOLE, both, both_async, fixed, kind, only, shown

LIBRARIES = ("httpx", "httpx2")
PATH = "/v1/chat/completions"
REAL = "http://api.openai.com" + PATH
ROOT = Path(__file__).parents[2]


def library(name: str) -> Any:
    return pytest.importorskip(name)


def calls(client: Any, url: str) -> Any:
    """One plain and one streamed call."""
    with client.stream("POST", url, json=STREAM) as response:
        streamed = [kind(response.stream), shown(response.read())]
    plain = client.post(url, json=CHAT)
    return [*streamed, kind(plain.stream), shown(plain.content), plain.http_version]


async def async_calls(client: Any, url: str) -> Any:
    async with client.stream("POST", url, json=STREAM) as response:
        streamed = [kind(response.stream), shown(await response.aread())]
    plain = await client.post(url, json=CHAT)
    return [*streamed, kind(plain.stream), shown(plain.content), plain.http_version]


def script(agent: Agent) -> None:
    """The same bytes for both runs of `both`: stream, plain, stream, plain."""
    agent.simulator.script([fixed(True), fixed(False)] * 2)


@pytest.mark.ids("A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_proxy(agent: Agent, name: str) -> None:
    module = library(name)

    def use() -> Any:
        with module.Client(proxy=agent.url("custom")) as client:
            return calls(client, REAL)

    async def use_async() -> Any:
        async with module.AsyncClient(proxy=agent.url("custom")) as client:
            return await async_calls(client, REAL)

    script(agent)
    both(agent, use)
    agent.balance()
    script(agent)
    both_async(agent, use_async)
    agent.balance()
    assert [receipt["provider"] for receipt in agent.receipts] == ["openai"] * 2


@pytest.mark.ids("A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_mounts(agent: Agent, name: str) -> None:
    module = library(name)

    def use() -> Any:
        mounts = {"http://api.openai.com": module.HTTPTransport(proxy=agent.url("custom"))}
        with module.Client(mounts=mounts) as client:
            return calls(client, REAL)

    async def use_async() -> Any:
        mounts = {"http://api.openai.com": module.AsyncHTTPTransport(proxy=agent.url("custom"))}
        async with module.AsyncClient(mounts=mounts) as client:
            return await async_calls(client, REAL)

    script(agent)
    both(agent, use)
    agent.balance()
    script(agent)
    both_async(agent, use_async)
    agent.balance()


@pytest.mark.ids("A17")
def test_proxies_of_aiohttp_and_requests(agent: Agent) -> None:
    aiohttp, requests = library("aiohttp"), library("requests")

    async def use() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(REAL, json=STREAM, proxy=agent.url("custom")) as response:
                await response.read()

    asyncio.run(use())
    proxies = {"http": agent.url("custom")}
    requests.post(REAL, json=CHAT, proxies=proxies)
    with requests.post(REAL, json=STREAM, proxies=proxies, stream=True) as response:
        list(response.iter_lines())
    agent.balance()
    assert [receipt["provider"] for receipt in agent.receipts] == ["openai"] * 3


@pytest.mark.ids("A17")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_transport_of_the_user(agent: Agent, name: str) -> None:
    """A transport around another, and one that answers from memory with a stream of either kind."""
    module = library(name)

    class Around(module.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.inner = module.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            return self.inner.handle_request(request)

        def close(self) -> None:
            self.inner.close()

    def use() -> Any:
        with Around() as transport, module.Client(transport=transport) as client:
            return calls(client, agent.url("openai") + PATH)

    script(agent)
    both(agent, use)
    agent.balance()


@pytest.mark.ids("A17", "B1")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_transport_with_a_client_inside(agent: Agent, name: str) -> None:
    """A client below a client: the outer one is metered, the inner one stays silent."""
    module = library(name)

    class Relay(module.BaseTransport):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.inner = module.Client()

        def handle_request(self, request: Any) -> Any:
            answer = self.inner.request(request.method, request.url, content=request.read())
            return module.Response(answer.status_code, headers=answer.headers, content=answer.content)

        def close(self) -> None:
            self.inner.close()

    def use() -> Any:
        with module.Client(transport=Relay()) as client:
            return calls(client, agent.url("openai") + PATH)

    script(agent)
    both(agent, use)
    agent.balance()
    assert len(agent.receipts) == 2


def answers(module: Any) -> Any:
    """What a mock may answer: content at once, a generator, or a byte stream that is sync and async alike."""

    def parts() -> Any:
        yield from EVENTS

    return {
        "content": lambda request: module.Response(200, content=WHOLE),
        "json": lambda request: module.Response(200, json=json.loads(WHOLE)),
        "generator": lambda request: module.Response(200, content=parts()),
        "both kinds": lambda request: module.Response(200, stream=module.ByteStream(b"".join(EVENTS))),
    }


@pytest.mark.ids("A17")
@pytest.mark.parametrize("answer", ["content", "json", "generator", "both kinds"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_mock_transport(agent: Agent, name: str, answer: str) -> None:
    module = library(name)

    def use() -> Any:
        with module.Client(transport=module.MockTransport(answers(module)[answer])) as client:
            plain = client.post(REAL, json=CHAT)
            with client.stream("POST", REAL, json=STREAM) as response:
                return [shown(plain.content), kind(plain.stream), shown(response.read()), kind(response.stream)]

    both(agent, use)
    assert [receipt["output_tokens"] for receipt in agent.settled(2)] == [5, 5]
    if answer == "generator":
        return  # an async client refuses a sync generator

    async def use_async() -> Any:
        async with module.AsyncClient(transport=module.MockTransport(answers(module)[answer])) as client:
            plain = await client.post(REAL, json=CHAT)
            async with client.stream("POST", REAL, json=STREAM) as response:
                return [shown(plain.content), kind(plain.stream), shown(await response.aread()), kind(response.stream)]

    both_async(agent, use_async)
    assert [receipt["output_tokens"] for receipt in agent.settled(2)] == [5, 5]


@pytest.mark.ids("A17")
def test_respx(agent: Agent) -> None:
    respx, httpx = library("respx"), library("httpx")

    def use() -> Any:
        with respx.mock(assert_all_called=True) as mock:
            route = mock.post(REAL).mock(return_value=httpx.Response(200, content=WHOLE))
            with httpx.Client() as client:
                got = calls(client, REAL)
            return [got, route.call_count]

    both(agent, use)
    assert len(agent.settled(2)) == 2


@pytest.mark.ids("A17")
def test_a_mocked_adapter_of_requests(agent: Agent) -> None:
    """A raw body that is not urllib3's: seen where its content is read, which then behaves as before."""
    requests = library("requests")
    from io import BytesIO

    class Memory(requests.adapters.BaseAdapter):  # type: ignore[name-defined, misc]
        def send(self, request: Any, **more: Any) -> Any:
            response = requests.Response()
            response.status_code, response.request, response.url = 200, request, request.url
            response.raw = BytesIO(b"".join(EVENTS))
            return response

        def close(self) -> None:
            pass

    def use() -> Any:
        session = requests.Session()
        session.mount("http://", Memory())
        seen: Any = [session.post(REAL, json=STREAM).text]
        # The response is gone when its pieces are read.
        seen.append(list(session.post(REAL, json=STREAM, stream=True).iter_content(50)))
        response = session.post(REAL, json=STREAM, stream=True)
        try:
            response.iter_content("many")
        except TypeError as error:
            seen.append(str(error))
        seen.append(list(response.iter_lines()))
        return seen

    both(agent, use)
    assert [receipt["output_tokens"] for receipt in agent.settled(3)] == [5, 5, 5]


@pytest.mark.ids("A17", "B1")
def test_aiohttp_below_the_openai_sdk(agent: Agent) -> None:
    """`DefaultAioHttpClient`: httpx2 above, aiohttp below, one receipt."""
    openai = library("openai")
    library("aiohttp")
    if not hasattr(openai, "DefaultAioHttpClient") or sys.version_info < (3, 10):
        pytest.skip("openai has no DefaultAioHttpClient here")

    async def use() -> Any:
        async with openai.AsyncOpenAI(
            base_url=agent.url("openai") + "/v1", api_key="x", http_client=openai.DefaultAioHttpClient()
        ) as client:
            stream = await client.chat.completions.create(**STREAM)
            seen = [kind(stream.response.stream), [shown(event) async for event in stream]]
            return [*seen, shown(await client.chat.completions.create(**CHAT))]

    for encoding in ("identity", "gzip"):
        agent.simulator.script([fixed(True, encoding=encoding), fixed(False, encoding=encoding)] * 2)
        both_async(agent, use)
        agent.balance()
        assert len(agent.receipts) == 2


@pytest.mark.ids("A17", "B1")
def test_aiohttp_below_httpx(agent: Agent) -> None:
    shim = library("httpx_aiohttp")

    async def use() -> Any:
        async with shim.HttpxAiohttpClient() as client:
            return await async_calls(client, agent.url("openai") + PATH)

    script(agent)
    both_async(agent, use)
    agent.balance()
    assert len(agent.receipts) == 2


@pytest.mark.ids("G09")
@pytest.mark.parametrize("name", LIBRARIES)
def test_http2(agent: Agent, name: str) -> None:
    module = library(name)
    library("h2")
    if importlib.util.find_spec("aicostguard.simulator.http2") is None:
        pytest.skip("the simulator speaks no HTTP/2 here")

    def use() -> Any:
        with module.Client(http1=False, http2=True) as client:
            return calls(client, agent.url("openai") + PATH)

    async def use_async() -> Any:
        async with module.AsyncClient(http1=False, http2=True) as client:
            return await async_calls(client, agent.url("openai") + PATH)

    for encoding in ("identity", "gzip"):
        agent.simulator.script([fixed(True, encoding=encoding), fixed(False, encoding=encoding)] * 2)
        assert both(agent, use)[-1] == "HTTP/2"
        agent.balance()
        agent.simulator.script([fixed(True, encoding=encoding), fixed(False, encoding=encoding)] * 2)
        both_async(agent, use_async)
        agent.balance()


@pytest.mark.ids("B1", "G09")
@pytest.mark.parametrize("name", [*LIBRARIES, "requests"])
def test_redirect(agent: Agent, name: str) -> None:
    module = library(name)
    agent.simulator.set_default(redirect="")
    url = agent.url("openai") + PATH
    if name == "requests":
        assert len(module.post(url, json=CHAT).history) == 1
        with module.post(url, json=STREAM, stream=True) as response:
            list(response.iter_lines())
    else:
        with module.Client(follow_redirects=True) as client:
            calls(client, url)
    agent.balance()
    assert len(agent.receipts) == 2
    assert len(agent.simulator.exchanges) == 4


@pytest.mark.ids("B1", "G09")
def test_redirect_aiohttp(agent: Agent) -> None:
    aiohttp = library("aiohttp")
    agent.simulator.set_default(redirect="")

    async def use() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.post(agent.url("openai") + PATH, json=STREAM) as response:
                assert len(response.history) == 1
                await response.read()

    asyncio.run(use())
    agent.balance()
    assert len(agent.receipts) == 1


_ALIASED = """
import sys, json
order, url = sys.argv[1], sys.argv[2]
from aicostguard import config
from aicostguard.capture import hooks
from aicostguard.capture.state import state
receipts = []
state.deliver = receipts.append
state.hosts = config.load({"AICG_HOSTS": sys.argv[3]}).hosts
if order == "hooks first":
    hooks.install()
import httpx2
httpx2.alias_httpx()
import httpx
assert httpx is httpx2 or httpx.Client is httpx2.Client
if order == "alias first":
    hooks.install()
for module in (httpx, httpx2):
    with module.Client() as client:
        client.post(url, json={"model": "gpt-4o", "messages": []})
print(len(receipts), sorted(hooks.states().items()))
"""


@pytest.mark.ids("A17", "B1")
@pytest.mark.parametrize("order", ["hooks first", "alias first"])
def test_two_names_of_one_library(agent: Agent, order: str) -> None:
    """`httpx2.alias_httpx()` makes `httpx` another name of `httpx2`: hooked once, one receipt a call."""
    if not hasattr(library("httpx2"), "alias_httpx"):
        pytest.skip("this httpx2 has no alias_httpx")
    hosts = agent.simulator.hosts_setting()
    done = subprocess.run(
        [sys.executable, "-c", _ALIASED, order, agent.url("openai") + PATH, hosts],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("2 "), done.stdout


@pytest.mark.ids("A17", "B1")
def test_a_legacy_client_inside_a_current_sdk(agent: Agent) -> None:
    """openai 3 takes an `httpx.Client` too; the call then goes through the other library, once."""
    openai, httpx = library("openai"), library("httpx")
    agent.simulator.set_default(**fixed(False))

    def use() -> Any:
        with httpx.Client() as legacy:
            client = openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x", http_client=legacy)
            return shown(client.chat.completions.create(**CHAT))

    both(agent, use)
    assert only(agent)["feature"] == "use"
