"""What a stream is taken to have cost while it runs, what it asks for, and where it is cut: without a socket."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, List, Optional, Tuple

import pytest

from aicostguard.guard import running
from aicostguard.guard.bound import Asked
from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import Bound, Facts
from aicostguard.metering.endpoints import Endpoint
from aicostguard.pricing import default_book

NOW = 1_795_959_000_000
#: gpt-4o: $2.50 and $10 per million tokens, https://developers.openai.com/api/docs/pricing
INTO, OUT = 2_500, 10_000


def event(text: str) -> bytes:
    return b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % text.encode()


def watched(
    *budgets: Budget, held: Tuple[int, int] = (0, 0), model: Optional[str] = "gpt-4o", form: str = "chat"
) -> Tuple[Guard, running.Running]:
    guard = Guard(Policy(budgets=budgets), MemoryStore(), clock=lambda: NOW)
    ticket = guard.ask(Facts({}, Bound(*held, 0), NOW))
    asked = Asked(model=model)
    return guard, running.of(guard, default_book(), ticket, Endpoint("openai", form), asked, b"x" * 40, NOW)


@pytest.mark.ids("Z3")
@pytest.mark.parametrize(
    "pieces, output",
    [
        ([event("a" * 40)], 10),
        # an event is a token at least
        ([event("a"), event("b"), event("")], 3),
        ([event("a" * 39)], 9),
        # split anywhere, it counts once, and when its end is here
        ([event("a" * 40)[:60], event("a" * 40)[60:]], 10),
        ([bytes([byte]) for byte in event("a" * 40) + event("b" * 40)], 20),
        ([event("a" * 40).rstrip(b"\n")], 0),
        ([b'data: {"id": "content", "usage": 7}\n\n'], 0),
        ([event('say \\"hi\\" to all')], 17 // 4),
    ],
)
def test_what_has_come_is_text_by_four_bytes_and_a_token_an_event(pieces: List[bytes], output: int) -> None:
    _, stream = watched(Budget("b", 10**12), held=(10**9, 10**6))
    for piece in pieces:
        assert stream.passed(piece) is None
    assert stream.used() == (10 * INTO + output * OUT, 10 + output)


@pytest.mark.ids("Z3")
@pytest.mark.parametrize(
    "form, line",
    [
        ("responses", b'{"type": "response.output_text.delta", "delta": "%s"}'),
        ("responses", b'{"type": "response.output_text.delta", "delta": "%s", "text": "the whole answer once more"}'),
        ("messages", b'{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "%s"}}'),
        ("messages", b'{"delta": {"text": "%s"}, "content": "the whole answer once more"}'),
        ("messages", b'{"delta": {"type": "thinking_delta", "thinking": "%s"}}'),
        ("messages", b'{"delta": {"type": "input_json_delta", "partial_json": "%s"}}'),
        ("generate", b'{"candidates": [{"content": {"parts": [{"text" : "%s"}]}}]}'),
        ("generate", b'{"text": "%s", "response": "the whole answer once more"}'),
        ("chat", b'{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "%s"}}]}}]}'),
        ("chat", b'{"choices": [{"delta": {"reasoning": "%s"}}]}'),
        ("somebody's", b'{"response":"%s"}'),
    ],
)
def test_what_is_written_stands_in_other_places_of_other_formats(form: str, line: bytes) -> None:
    _, stream = watched(Budget("b", 10**12), held=(10**9, 10**6), form=form)
    stream.passed(b"data: " + line % (b"a" * 400) + b"\n\n")
    assert stream.used()[1] == 10 + 100


@pytest.mark.ids("Z3")
def test_more_is_held_by_what_is_needed_or_a_quarter_while_there_is_room() -> None:
    guard, stream = watched(Budget("b", 1_000_000), held=(400_000, 0))
    held = lambda: guard.status()[0].reserved  # noqa: E731
    assert stream.passed(event("a" * 120)) is None and held() == 400_000  # 25,000 + 30 x 10,000
    assert stream.passed(event("a" * 40)) is None and held() == 500_000  # 425,000: a quarter more, not 25,000
    assert stream.passed(event("a" * 160)) is None and held() == 825_000  # more than a quarter is needed
    assert stream.passed(event("a" * 64)) is None and held() == 985_000  # no room for a quarter: what is needed
    error = stream.passed(event("a" * 8))
    assert isinstance(error, BudgetExceeded) and held() == 985_000
    assert str(error).startswith(
        "Stream cut: what has come of it is about $0.001005, and its budgets have room for $0.000985"
    )
    assert (error.unit, error.dimension, error.limit, error.estimate) == ("nanousd", "stream", 985_000, 1_005_000)


@pytest.mark.ids("Z3")
def test_a_stream_without_a_price_is_cut_by_its_tokens() -> None:
    _, stream = watched(Budget("b", 50, unit="tokens"), held=(0, 20), model=None)
    assert stream.passed(event("a" * 160)) is None and stream.used() == (None, 50)
    error = stream.passed(event("a" * 4))
    assert error is not None and (error.unit, error.limit, error.estimate) == ("tokens", 50, 51)
    assert "51 tokens, and its budgets have room for 50" in str(error)


@pytest.mark.ids("Z3", "C9")
@pytest.mark.parametrize("asked, served", [("us", None), (None, "us"), ("us", "eu")])
def test_the_region_that_is_asked_for_or_asked_in_has_its_price(asked: Optional[str], served: Optional[str]) -> None:
    guard = Guard(Policy(), MemoryStore(), clock=lambda: NOW)
    endpoint = Endpoint("anthropic", "messages")._replace(region=served)
    wanted = Asked(model="claude-opus-4-6", region=asked)
    stream = running.of(guard, default_book(), guard.ask(Facts({}, Bound(), NOW)), endpoint, wanted, b"", NOW)
    stream.passed(b'{"text": "%s"}\n' % (b"a" * 400))
    assert stream.used() == (100 * 25_000 * 11 // 10, 100)  # $25 per million, in the US x 1.1


@pytest.mark.ids("Z3")
def test_a_line_that_does_not_end_is_not_kept_without_bound() -> None:
    _, stream = watched(Budget("b", 10**12), held=(10**9, 10**6))
    for _ in range(5):
        stream.passed(b"x" * 30_000)
    assert len(stream._rest) < 65_536
    stream.passed(b"\n" + event("a" * 40))
    assert stream.used()[1] == 20


@pytest.mark.ids("Z3")
def test_elsewhere_is_asked_once_and_the_stream_goes_on_meanwhile() -> None:
    asked: List[Any] = []
    answer: Future[Any] = Future()

    def elsewhere(work: Any, need: List[int]) -> Future[Any]:
        asked.append(need)
        return answer

    _, stream = watched(Budget("b", 10**12), held=(100_000, 0))
    assert stream.passed(event("a" * 4), elsewhere) is None and not asked, "there is room"
    for _ in range(3):
        assert stream.passed(event("a" * 40), elsewhere) is None
    assert asked == [[35_000, 0]]
    answer.set_result(None)
    assert isinstance(stream.passed(event("a" * 40), elsewhere), BudgetExceeded)
