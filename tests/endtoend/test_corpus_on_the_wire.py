"""Every recorded exchange over a real socket, through real HTTP libraries, with the agent watching.

Compressed, cut into small pieces, and broken off in the middle. What is read is compared with the truth; what the user
gets, with what the user gets without us. Needs the corpus, as `tests/metering/test_corpus.py` does.
"""

from __future__ import annotations

import asyncio
import collections
import subprocess
import sys
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from aicostguard.capture import hooks
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering import Endpoint
from tests.metering.test_corpus import CORPUS, HOSTS, cases, found, scorer

httpx2 = pytest.importorskip("httpx2")
requests = pytest.importorskip("requests")

pytestmark = pytest.mark.skipif(not (CORPUS / "dev.jsonl.gz").exists(), reason="no corpus at AICG_CORPUS")

Outcome = Tuple[Any, ...]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The corpus's own server."""
    command = [sys.executable, str(CORPUS / "replay_server.py"), *(str(CORPUS / n) for n in NAMES), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


NAMES = ("dev.jsonl.gz", "negatives.jsonl.gz")


class Receipts(List[Dict[str, Any]]):
    """Those of the call that is being made."""

    def take(self) -> List[Dict[str, Any]]:
        taken = list(self)
        self.clear()
        return taken


@pytest.fixture
def receipts() -> Iterator[Receipts]:
    health.reset()
    made = Receipts()

    async def later(more: Any) -> None:
        made.extend(more)

    state.deliver, state.adeliver, state.hosts = made.append, later, HOSTS
    hooks.install()
    yield made
    hooks.uninstall()
    state.__init__()  # type: ignore[misc]
    assert health.faults == {}


def exchanges(name: str) -> List[Dict[str, Any]]:
    """Those over HTTP that a client can make: no method that a library refuses, no header that is not text."""
    return [case for case in cases(name) if case.get("transport", "http") == "http" and case["method"]]


def request_of(case: Dict[str, Any], **replay: object) -> Tuple[str, str, Dict[str, str], bytes]:
    import json

    body = case["request_body"]
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    headers = {"x-replay-" + name: str(value) for name, value in replay.items()}
    headers["x-case"] = case["id"]
    url = "https://%s%s" % (case["host"], case["path"])
    return case["method"], url, headers, body.encode() if isinstance(body, str) else b""


def httpx_client(base: str) -> Any:
    """A client whose transport goes to the replay server instead: our hook sees the real address."""

    class ToReplay(httpx2.HTTPTransport):
        def handle_request(self, request: Any) -> Any:
            return super().handle_request(redirected(httpx2, base, request))

    return httpx2.Client(transport=ToReplay(), timeout=20)


def async_client(base: str) -> Any:
    class ToReplay(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: Any) -> Any:
            return await super().handle_async_request(redirected(httpx2, base, request))

    return httpx2.AsyncClient(transport=ToReplay(), timeout=20)


def redirected(library: Any, base: str, request: Any) -> Any:
    path = request.url.raw_path.decode("ascii")
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in (b"host", b"content-length")]
    url = "%s/%s%s" % (base, request.headers["x-case"], path)
    return library.Request(request.method, url, headers=headers, content=request.content)


def requests_session(base: str) -> Any:
    class ToReplay(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            moved = request.copy()
            moved.url = "%s/%s%s" % (base, request.headers["x-case"], request.path_url)
            return super().send(moved, *args, **kwargs)

    session = requests.Session()
    session.mount("https://", ToReplay())
    session.trust_env = False
    return session


def plain(client: Any, case: Dict[str, Any], **replay: object) -> Outcome:
    method, url, headers, body = request_of(case, **replay)
    try:
        answer = client.request(method, url, headers=headers, content=body)
        return answer.status_code, answer.content
    except Exception as error:
        return type(error), str(error)


def streamed(client: Any, case: Dict[str, Any], **replay: object) -> Outcome:
    method, url, headers, body = request_of(case, **replay)
    got = b""
    try:
        with client.stream(method, url, headers=headers, content=body) as answer:
            for piece in answer.iter_bytes():
                got += piece
        return answer.status_code, got
    except Exception as error:
        return type(error), str(error), got


def by_requests(client: Any, case: Dict[str, Any], **replay: object) -> Outcome:
    method, url, headers, body = request_of(case, **replay)
    got = b""
    try:
        with client.request(method, url, headers=headers, data=body, stream=True) as answer:
            for piece in answer.iter_content(None):
                got += piece
        return answer.status_code, got
    except Exception as error:
        return type(error), got


def scored(receipt: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "provider": receipt["provider"],
        "model": receipt["model"],
        "total_input": receipt.get("input_tokens"),
        "total_output": receipt.get("output_tokens"),
        "cached_input_tokens": receipt.get("cache_read_input_tokens"),
        "cache_write_tokens": receipt.get("cache_creation_input_tokens"),
        "reasoning_tokens": receipt.get("reasoning_output_tokens"),
        "estimated": receipt.get("estimated", False) and receipt.get("partial", False),
    }


def judge(case: Dict[str, Any], made: List[Dict[str, Any]]) -> str:
    """The verdict on one exchange. What is fetched later bills only when the process has seen its beginning."""
    if case["method"] == "GET" and not made:
        return "ok"
    return str(scorer().score_case(case, [scored(receipt) for receipt in made]))


def wanted() -> List[Dict[str, Any]]:
    return [case for case in exchanges("dev.jsonl.gz") if isinstance(found(case), Endpoint)]


def verdicts(bad: List[Any], number: int) -> None:
    print("\ncorpus on the wire: %d exchanges, %d not ok" % (number, len(bad)))
    assert not bad, collections.Counter(row[0] for row in bad).most_common(5) + bad[:5]
    assert number > 1500


@pytest.mark.ids("A1", "B5", "B6", "B7", "B8", "B14")
@pytest.mark.parametrize(
    "way, replay",
    [("plain", {}), ("streamed", {"gzip": 1}), ("streamed", {"split": 37}), ("requests", {"gzip": 1, "split": 113})],
)
def test_every_exchange_is_exact_on_the_wire(
    way: str, replay: Dict[str, object], request: pytest.FixtureRequest, receipts: Receipts
) -> None:
    base = request.getfixturevalue("server")
    ways = {
        "plain": (httpx_client, plain),
        "streamed": (httpx_client, streamed),
        "requests": (requests_session, by_requests),
    }
    make, call = ways[way]
    bad, number = [], 0
    with make(base) as client:
        for case in wanted():
            # A body of half a megabyte in small pieces tests patience.
            if "split" in replay and len(case["response_body_base64"]) > 100_000:
                continue
            number += 1
            outcome = call(client, case, **replay)
            verdict = judge(case, receipts.take())
            if verdict != "ok":
                bad.append((verdict, case["id"], outcome[0], str(outcome[1])[:300]))
    verdicts(bad, number)


@pytest.mark.ids("A1", "A7")
def test_every_exchange_is_exact_for_an_asynchronous_client(server: str, receipts: Receipts) -> None:
    bad, number = [], 0

    async def run() -> int:
        count = 0
        async with async_client(server) as client:
            for case in wanted():
                method, url, headers, body = request_of(case, gzip=1)
                async with client.stream(method, url, headers=headers, content=body) as answer:
                    async for _ in answer.aiter_bytes():
                        pass
                count += 1
                verdict = judge(case, receipts.take())
                if verdict != "ok":
                    bad.append((verdict, case["id"], answer.status_code))
        return count

    number = asyncio.run(run())
    verdicts(bad, number)


@pytest.mark.ids("A8", "B10")
def test_a_cut_connection_gives_the_user_what_it_gives_without_us(server: str) -> None:
    """The same error, the same bytes; at most the receipts of a whole exchange, partial unless its end had come."""
    chosen = [case for case in wanted() if case["is_sse"] or case["is_eventstream"] or case["is_ndjson"]]
    assert len(chosen) > 300

    def half(case: Dict[str, Any]) -> int:
        return len(case["response_body_base64"]) * 3 // 8

    with httpx_client(server) as client:
        without = [streamed(client, case, cut=half(case)) for case in chosen]
    made = Receipts()
    health.reset()
    state.deliver, state.hosts = made.append, HOSTS
    hooks.install()
    try:
        whole = 0
        with httpx_client(server) as client:
            for case, before in zip(chosen, without):
                assert streamed(client, case, cut=half(case)) == before, case["id"]
                for receipt in made.take():
                    if case["truth"]["billable"]:
                        whole += "partial" not in receipt
                    assert receipt.get("partial") or receipt.get("input_tokens") is not None, case["id"]
        assert health.faults == {}
        assert whole < len(chosen) // 4, "a stream that was cut in the middle is partial"
    finally:
        hooks.uninstall()
        state.__init__()  # type: ignore[misc]


@pytest.mark.parametrize("way", ["plain", "requests"])
def test_other_services_give_no_receipt(way: str, request: pytest.FixtureRequest, receipts: Receipts) -> None:
    base = request.getfixturevalue("server")
    make, call = {"plain": (httpx_client, plain), "requests": (requests_session, by_requests)}[way]
    with make(base) as client:
        for case in exchanges("negatives.jsonl.gz"):
            call(client, case)
            assert receipts.take() == [], case["id"]
