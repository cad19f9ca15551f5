"""Calls that bring functions of ours to run which the calls of `calls.py` do not.

Work handed to threads, tasks and pools; SDKs with entries of their own; answers that are fetched; encodings; frameworks
that declare a place or an agent; requests that fail, and addresses that nobody knows. Each gives what its user sees as
plain data, and makes its clients itself.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import sys
import threading
import zlib
from contextlib import ExitStack
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List

from aicostguard import context
from aicostguard.capture import estimating
from aicostguard.capture.frameworks import (
    agent_framework,
    agents,
    celery,
    django,
    langgraph,
    llama_index,
    named,
    pydantic_ai,
)
from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state
from aicostguard.simulator import Simulator
from tests.safety import inject
from tests.safety.calls import CLAUDE, GPT, HI, KEY, USAGE, seen

Ask = Callable[[Simulator], Any]
#: name → the call
BESIDE: Dict[str, Ask] = {}


#: made before: what their making raises is meant for whoever makes them
_SESSION = context.session("s")
_ESTIMATES = estimating.Estimates()


def _needs(*modules: str) -> Callable[[Ask], Ask]:
    def add(ask: Ask) -> Ask:
        if all(importlib.util.find_spec(module) is not None for module in modules):
            BESIDE[ask.__name__] = ask
        return ask

    return add


def _post(simulator: Simulator, stream: bool = False, **behaviour: Any) -> Dict[str, Any]:
    body: Dict[str, Any] = {"model": GPT, "messages": HI}
    if stream:
        body.update(stream=True, stream_options=USAGE)
    headers = {"x-sim": json.dumps(behaviour), "accept-encoding": "identity"}
    return {"url": simulator.base_url("openai") + "/chat/completions", "json": body, "headers": headers}


def _blocking(simulator: Simulator) -> Any:
    """A library's own method, bound, so that what it is handed to has no function of the user's to look at."""
    import httpx

    return functools.partial(httpx.post, **_post(simulator))


async def _waiting(simulator: Simulator) -> Any:
    import httpx

    async with httpx.AsyncClient() as client:
        return seen((await client.post(**_post(simulator))).text)


@_needs("httpx")
def handed_to_threads(simulator: Simulator) -> Any:
    import concurrent.futures
    from multiprocessing.pool import ThreadPool

    ask, found = _blocking(simulator), []
    with _SESSION:
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            found.append(executor.submit(ask).result())
            failed = executor.submit(int, "no number").exception()
        with ThreadPool(1) as pool:
            found += [pool.apply(ask), pool.map(_called, [ask])[0], *pool.imap(_called, [ask])]
        thread = threading.Thread(target=lambda: found.append(ask()))
        thread.start()
        thread.join()
    return [repr(failed), *[seen(answer.text) for answer in found]]


def _called(function: Callable[[], Any]) -> Any:
    return function()


@_needs("openai", "anyio")
def handed_to_tasks(simulator: Simulator) -> Any:
    import anyio
    import openai

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=simulator.base_url("openai"), api_key=KEY, max_retries=0) as client:
            create = functools.partial(client.chat.completions.create, model=GPT, messages=HI)
            loop = asyncio.get_running_loop()
            made = await asyncio.gather(create(), create())
            made.append(await loop.create_task(create()))
            thread = threading.Thread(target=lambda: found.append(asyncio.run_coroutine_threadsafe(create(), loop)))
            found: List[Any] = []
            thread.start()
            await asyncio.to_thread(thread.join) if hasattr(asyncio, "to_thread") else thread.join()
            made.append(await asyncio.wrap_future(found[0]))
            answer = await anyio.to_thread.run_sync(_blocking(simulator))
            return [*map(seen, made), seen(answer.text)]

    return asyncio.run(ask())


@_needs("uvloop", "httpx")
def turned_by_uvloop(simulator: Simulator) -> Any:
    import uvloop

    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(_waiting(simulator))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@_needs("cohere")
def cohere_all(simulator: Simulator) -> Any:
    import cohere
    import httpx

    async def ask() -> Any:
        async with httpx.AsyncClient() as inner:
            client = cohere.AsyncClientV2("x", base_url=simulator.urls["cohere"], httpx_client=inner)
            whole = await client.chat(model="m", messages=HI)
            return [seen(whole), seen([event async for event in client.chat_stream(model="m", messages=HI)])]

    with httpx.Client() as inner:
        client = cohere.ClientV2("x", base_url=simulator.urls["cohere"], httpx_client=inner)
        blocking = [seen(client.chat(model="m", messages=HI)), seen(list(client.chat_stream(model="m", messages=HI)))]
    return [*blocking, *asyncio.run(ask())]


@_needs("ollama")
def ollama_all(simulator: Simulator) -> Any:
    import ollama

    def timeless(answer: Any) -> Any:
        return [answer.message.content, answer.eval_count, answer.done]

    async def ask() -> Any:
        client = ollama.AsyncClient(host=simulator.urls["ollama"])
        try:
            whole = await client.chat(model="m", messages=HI)
            stream = await client.chat(model="m", messages=HI, stream=True)
            return [timeless(whole), [timeless(event) async for event in stream]]
        finally:
            await client._client.aclose()

    client = ollama.Client(host=simulator.urls["ollama"])
    try:
        whole = client.chat(model="m", messages=HI)
        stream = [timeless(event) for event in client.chat(model="m", messages=HI, stream=True)]
    finally:
        client._client.close()
    return [timeless(whole), stream, *asyncio.run(ask())]


@_needs("httpx")
def fetched_later(simulator: Simulator) -> Any:
    """A background response polled to its end and once more, and the results of a batch, twice."""
    import httpx

    found: List[Any] = []
    with httpx.Client(headers={"x-sim": json.dumps({"polls": 1})}) as client:
        base = simulator.base_url("openai") + "/responses"
        made = client.post(base, json={"model": "gpt-5", "input": "hi", "background": True}).json()
        found.append(client.post(**_post(simulator)).status_code)  # while the other is not finished
        found += [client.get("%s/%s" % (base, made["id"])).json()["status"] for _ in range(3)]
        base = simulator.urls["anthropic"] + "/v1/messages/batches"
        params = {"model": CLAUDE, "max_tokens": 9, "messages": HI}
        batch = client.post(base, json={"requests": [{"custom_id": "1", "params": params}]}).json()
        for _ in range(2):
            with client.stream("GET", "%s/%s/results" % (base, batch["id"])) as answer:
                found.append(len(b"".join(answer.iter_bytes()).splitlines()))
    return found


@_needs("httpx")
def encoded(simulator: Simulator) -> Any:
    """Undecoded bytes of each encoding, and of one that is not what it says."""
    import httpx

    found: List[Any] = []
    with httpx.Client() as client:
        for encoding in ("deflate", "br", "zstd"):
            asked = _post(simulator, stream=True, encoding=encoding, chunk_size=50)
            asked["headers"]["accept-encoding"] = encoding
            with client.stream("POST", **asked) as answer:
                raw = b"".join(answer.iter_raw())
            found.append(seen(zlib.decompress(raw)) if encoding == "deflate" else bool(raw))
    return found


@_needs("httpx2")
def encoded_for_httpx2(simulator: Simulator) -> Any:
    """Its decoders give pieces."""
    import httpx2

    found: List[Any] = []
    with httpx2.Client() as client:
        asked = _post(simulator, stream=True, encoding="gzip", chunk_size=50)
        asked["headers"]["accept-encoding"] = "gzip"
        with client.stream("POST", **asked) as answer:
            found.append(seen(b"".join(answer.iter_bytes())))
    return found


@_needs("httpx")
def unreadable(simulator: Simulator) -> Any:
    """Undecoded bytes in an encoding that nobody knows, and in one that they are not in."""
    import httpx

    found: List[Any] = []
    for encoding in ("compress", "gzip"):
        head = {"content-type": "application/json", "content-encoding": encoding}
        transport = httpx.MockTransport(
            lambda request, head=head: httpx.Response(200, headers=head, stream=httpx.ByteStream(b"no such thing"))
        )
        with httpx.Client(transport=transport) as client, client.stream("POST", **_post(simulator)) as answer:
            found.append(seen(b"".join(answer.iter_raw())))
    return found


@_needs("httpx", "requests", "urllib3", "aiohttp")
def without_a_model(simulator: Simulator) -> Any:
    """The answer does not say what was asked, so that the request is looked at."""
    import aiohttp
    import httpx
    import requests
    import urllib3

    url, body = simulator.base_url("openai") + "/images/generations", {"model": "gpt-image-1", "prompt": "hi"}
    head = {"Content-Type": "application/json"}

    async def ask() -> int:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            await answer.read()
            return int(answer.status)

    found = [httpx.post(url, json=body).status_code, requests.post(url, json=body).status_code, asyncio.run(ask())]
    with urllib3.PoolManager() as pool:
        found += [pool.request("POST", url, body=json.dumps(body), headers=head).status]
        found += [pool.request("POST", url, body=json.dumps(body).encode(), headers=head).status]
    return found


@_needs("aiohttp")
def between(simulator: Simulator) -> Any:
    """Middlewares that ask once more, for an answer that came and for one that did not please, or that raise."""
    import aiohttp

    if not hasattr(aiohttp, "ClientMiddlewareType"):  # before 3.12
        return None

    async def twice(request: Any, handler: Any) -> Any:
        await (await handler(request)).read()
        return await handler(request)

    async def until_it_pleases(request: Any, handler: Any) -> Any:
        answer = await handler(request)
        return answer if answer.ok else await handler(request)

    async def raises(request: Any, handler: Any) -> Any:
        raise ValueError("its own")

    async def ask() -> List[Any]:
        found: List[Any] = []
        for middleware, behaviour in ((twice, {}), (until_it_pleases, {"status": 500}), (raises, {})):
            given = _post(simulator, **behaviour)
            try:
                async with aiohttp.ClientSession(middlewares=[middleware]) as session:
                    async with session.post(**given) as answer:
                        found.append((answer.status, seen(await answer.read())))
            except ValueError as error:
                found.append(str(error))
        return found

    return asyncio.run(ask())


@_needs("requests")
def hooked(simulator: Simulator) -> Any:
    """A hook that asks for itself, and gives that answer in place of the one that came."""
    import requests

    def other(response: Any, **_: Any) -> Any:
        return requests.post(**_post(simulator))

    answer = requests.post(hooks={"response": [other]}, **_post(simulator))
    return answer.status_code, seen(answer.content)


@_needs("httpx", estimating.MODULE)
def estimated(simulator: Simulator) -> Any:
    """A stream without usage, with the extra `estimate`; as its usage is told when nobody is metering, too."""
    import httpx

    found: List[Any] = []
    state.estimates = _ESTIMATES
    try:
        with httpx.Client() as client:
            for no_usage in (True, False):
                with client.stream("POST", **_post(simulator, stream=True, no_usage=no_usage)) as answer:
                    found.append(seen(b"".join(answer.iter_bytes())))
        inject.sleepless(2, lambda: not (_ESTIMATES._jobs or _ESTIMATES._running.locked()))
    finally:
        state.estimates = None
        _ESTIMATES._jobs.clear()
    return found


@_needs("openai")
def with_a_send_of_its_own(simulator: Simulator) -> Any:
    import openai

    inner = openai.DefaultHttpxClient()
    inner.send = inner.send
    with openai.OpenAI(base_url=simulator.base_url("openai"), api_key=KEY, http_client=inner) as client:
        return seen(client.chat.completions.create(model=GPT, messages=HI))


@_needs("openai")
def with_a_send_that_nobody_sees(simulator: Simulator) -> Any:
    """It answers by itself, put onto the object: the hook on the class meets nothing."""
    import openai

    inner = openai.DefaultHttpxClient()

    def send(request: Any, **more: Any) -> Any:
        library = sys.modules[type(request).__module__.partition(".")[0]]
        message = {"role": "assistant", "content": "hi"}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": GPT,
                  "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}  # fmt: skip
        return library.Response(200, json=answer, request=request)

    inner.send = send  # type: ignore[method-assign]
    with openai.OpenAI(base_url=simulator.base_url("openai"), api_key=KEY, http_client=inner) as client:
        return seen(client.chat.completions.create(model=GPT, messages=HI))


@_needs("httpx")
def with_parts(simulator: Simulator) -> Any:
    """The same answer again, of which something was cached."""
    import httpx

    usage = {"input_tokens": 20, "output_tokens": 9, "cache_read_input_tokens": 5}
    return [seen(httpx.post(**_post(simulator, usage=usage)).json()["usage"]) for _ in range(3)]


@_needs("httpx")
def in_trouble(simulator: Simulator) -> Any:
    """A connection that is reset, a stream that is cut, a path that nobody knows, a stream without usage."""
    import httpx

    found: List[Any] = []
    with httpx.Client() as client:
        for behaviour in ({"reset_after": 0}, {"cut_after": 90}):
            try:
                with client.stream("POST", **_post(simulator, stream=True, **behaviour)) as answer:
                    found += [seen(piece) for piece in answer.iter_bytes()]
            except httpx.HTTPError as error:
                found.append(type(error).__name__)
        found.append(client.post(simulator.base_url("openai") + "/no/such/path", json={}).status_code)
        with client.stream("POST", **_post(simulator, stream=True, no_usage=True)) as answer:
            found.append(seen(b"".join(answer.iter_bytes())))
    return found


@_needs("httpx", "flask")
def under_flask(simulator: Simulator) -> Any:
    import flask

    app = flask.Flask("shop")
    app.add_url_rule("/orders/<order>", view_func=lambda order: seen(_blocking(simulator)().text), endpoint="orders")
    return app.test_client().get("/orders/1").text


@_needs("httpx", "starlette")
def under_starlette(simulator: Simulator) -> Any:
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> Any:
        return PlainTextResponse(await _waiting(simulator))

    app = Starlette(routes=[Route("/orders/{order}", endpoint)])

    async def ask() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            return str((await client.get("/orders/1")).text)

    return asyncio.run(ask())


@functools.lru_cache(maxsize=1)
def _framework(simulator: Simulator) -> Dict[str, Any]:
    """Functions of a framework under each way in which we put them under their agent, and each place of its name.

    Made once, as a hook is: what fails while it is made is another matter.
    """
    hook = Hook("framework")

    def blocking(worker: Any) -> Any:
        return seen(_blocking(simulator)().text)

    def yielding(worker: Any) -> Iterator[Any]:
        yield blocking(worker)

    async def waiting(worker: Any) -> Any:
        return await _waiting(simulator)

    async def streaming(worker: Any) -> AsyncIterator[Any]:
        yield await _waiting(simulator)

    names: List[Any] = [
        lambda worker: worker.name,
        lambda worker: pydantic_ai._name(worker, worker),
        lambda worker: pydantic_ai._running(worker),
        *(row.find for rows in named.ROWS.values() for row in rows),
        lambda worker: agent_framework._name(worker),
        lambda worker: llama_index._name(worker),
        lambda worker: celery._name(worker),
        lambda worker: django._route(worker),
        lambda worker: langgraph._agent({"langgraph_node": "n", "langgraph_checkpoint_ns": "a:1|n:2"}),
    ]
    return {
        "plain": [agents.plain(blocking, hook, name) for name in names],
        "generator": agents.generator(yielding, hook, names[0]),
        "coroutine": agents.coroutine(waiting, hook, names[0]),
        "run": agent_framework._run(waiting, hook),
        "pulls": agent_framework._run(lambda worker: Pulls(blocking), hook),
        "stream": agents.async_generator(streaming, hook, names[0]),
    }


class Pulls:
    """A stream of the Agent Framework, that works when it is read."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._around: List[Any] = []

    def with_pull_context_manager(self, factory: Any) -> None:
        self._around.append(factory)

    def pull(self, worker: Any) -> Any:
        with ExitStack() as stack:
            for factory in self._around:
                stack.enter_context(factory())
            return self._work(worker)


class Worker:
    """Whatever a framework hands around: its own node, and all that ours look for on it."""

    role = name = "You are helpful."
    route, view_name = "orders/<int:order>", "orders"
    model_fields_set = ("name",)


Worker.deps = Worker.run_context = Worker.agent = Worker  # type: ignore[attr-defined]


@_needs("httpx")
def under_an_agent(simulator: Simulator) -> Any:
    under, worker = _framework(simulator), Worker()
    found: List[Any] = [function(worker) for function in under["plain"]]

    async def ask() -> Any:
        found.extend([*under["generator"](worker), under["pulls"](worker).pull(worker)])
        found.append(await under["coroutine"](worker))
        found.append(await under["run"](worker))
        found.extend([item async for item in under["stream"](worker)])

    asyncio.run(ask())
    return found


@_needs("baml_py")
def through_baml(simulator: Simulator) -> Any:
    """Functions that are waited for, awaited and streamed; one that is tried elsewhere, one of AWS's, one refused."""
    from tests.baml import Runtime, client, function, sources

    lost = client("Lost", "openai", model=GPT, api_key=KEY, base_url=simulator.url("openai") + "/nowhere")
    chain = "client<llm> Chain {\n  provider fallback\n  options {\n    strategy [Lost, OpenAI]\n  }\n}\n"
    runtime = Runtime(sources(simulator.url) + lost + chain + function("Chain"))
    return [
        "word3" in str(runtime.ask(name, mode))  # the rest holds times and what failed before
        for name in ("FChain", "FAnthropic", "FBedrock", "FLost")
        for mode in ("call", "await", "astream")
    ]
