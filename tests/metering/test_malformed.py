"""Odd but tolerable responses: whatever a provider sends, the meter does not raise and does not guess."""

from __future__ import annotations

import copy
import json
from typing import Any, Iterator, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard.metering import Endpoint, read_body
from aicostguard.metering.framing import Events, data_of
from aicostguard.metering.table import MODULES
from aicostguard.usage import Reading
from tests.metering.building import AWS, JSON, SSE, aws, chat, chunk, counts, lines, sse, whole
from tests.metering.fixtures import BY_NAME, FIXTURES, Fixture, told

ODD: Tuple[Any, ...] = (None, "12", "x", "", -1, 1.5, 1e400, True, [], {}, [1], [None], {"a": 1}, 10**30)


def paths(value: Any, at: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield from paths(item, (*at, index))


def mutants(value: Any) -> Iterator[Any]:
    """The value with each of its parts in turn replaced by each odd value."""
    for path in paths(value):
        for odd in ODD:
            mutant = copy.deepcopy(value)
            place = mutant
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = odd
            yield mutant


def sound(readings: List[Reading]) -> None:
    for reading in readings:
        assert reading.model is None or isinstance(reading.model, str)
        assert reading.response_id is None or isinstance(reading.response_id, str)
        assert reading.service_tier is None or isinstance(reading.service_tier, str)
        for name, value in told(reading).items():
            if name not in ("provider", "model", "service_tier", "region", "operation", "response_id", "also"):
                assert value is True or (type(value) is int and value >= 0), (name, value)


def events_of(body: bytes) -> List[Any]:
    events = Events()
    found = []
    for block in [*events.feed(body), events.rest()]:
        data = data_of(block)
        found.append(json.loads(data) if data[:1] == b"{" else data.decode())
    return found


def slim(value: Any) -> Any:
    """Long strings and lists cut short: their length is not what is tried here."""
    if isinstance(value, str):
        return value[:40]
    if isinstance(value, list):
        return [slim(item) for item in value[:3]]
    return {key: slim(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.ids("A21", "B13")
@pytest.mark.parametrize("fixture", FIXTURES, ids=[fixture.name for fixture in FIXTURES])
def test_no_odd_value_anywhere_raises_or_becomes_a_count(fixture: Fixture) -> None:
    if fixture.content_type == AWS:
        bodies: Iterator[bytes] = (fixture.body[:at] for at in range(0, len(fixture.body), 5))
    elif fixture.body.lstrip()[:1] == b"{" and b"}\n{" in fixture.body.replace(b"\r", b""):
        rows = [json.loads(line) for line in fixture.body.splitlines()]
        bodies = (
            lines(*rows[:index], mutant, *rows[index + 1 :])
            for index, row in enumerate(rows)
            for mutant in mutants(slim(row))
        )
    elif fixture.body.lstrip()[:1] in (b"{", b"["):
        bodies = (whole(mutant) for mutant in mutants(slim(json.loads(fixture.body))))
    else:
        events = events_of(fixture.body)
        bodies = (
            sse(*events[:index], mutant, *events[index + 1 :])
            for index, event in enumerate(events)
            if isinstance(event, dict)
            for mutant in mutants(slim(event))
        )
    for body in bodies:
        sound(fixture.read(body))


@pytest.mark.ids("A21")
@pytest.mark.parametrize("fixture", FIXTURES, ids=[fixture.name for fixture in FIXTURES])
def test_a_response_cut_anywhere_does_not_raise(fixture: Fixture) -> None:
    for at in range(0, len(fixture.body), max(1, len(fixture.body) // 300)):
        sound(fixture.read(fixture.body[:at], complete=False))
        sound(fixture.read(fixture.body[:at], complete=True))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(MODULES)),
    st.sampled_from([JSON, SSE, AWS, ""]),
    st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)),
    st.sampled_from([b"", b"{", b"[", b"data: ", b'data: {"usage":', b"\xef\xbb\xbf", b'{"usage":', b"[[[["]),
)
@pytest.mark.ids("A21")
def test_bytes_of_any_kind_do_not_raise(form: str, content_type: str, noise: bytes, start: bytes) -> None:
    body = start + noise
    sound(read_body(Endpoint("openai", form), 200, content_type, body, lambda: noise, lambda name: "x"))


def read(body: bytes, form: str = "chat", provider: str = "openai") -> List[Reading]:
    return read_body(Endpoint(provider, form), 200, JSON, body, lambda: b'{"model": "asked"}', lambda name: None)


@pytest.mark.ids("A21")
@pytest.mark.parametrize(
    "body",
    [
        {"choices": None, "usage": counts(1, 2), "model": "m-1"},
        {"choices": [{"message": None}], "usage": counts(1, 2), "model": "m-1"},
        {"choices": [None], "usage": counts(1, 2), "model": "m-1"},
    ],
)
def test_an_odd_answer_with_usage_still_counts(body: Any) -> None:
    (reading,) = read(whole(body))
    assert told(reading) == {"provider": "openai", "model": "m-1", "input_tokens": 1, "output_tokens": 2}


@pytest.mark.ids("A21", "B13")
@pytest.mark.parametrize(
    "usage", [None, [], "10", 5, {}, {"prompt_tokens": "1", "completion_tokens": "2"}, {"prompt_tokens": -1}]
)
def test_usage_that_is_none_is_missing_and_not_zero(usage: Any) -> None:
    (reading,) = read(whole({**chat(), "usage": usage}))
    assert reading.usage is None


@pytest.mark.ids("A21")
def test_strings_of_digits_count_where_the_format_writes_them() -> None:
    usage = {"promptTokenCount": "7", "candidatesTokenCount": "x", "totalTokenCount": "7"}
    (reading,) = read(whole({"candidates": [], "usageMetadata": usage}), "generate", "google")
    assert told(reading) == {"provider": "google", "model": "asked", "input_tokens": 7, "output_tokens": 0}


@pytest.mark.ids("A21")
def test_a_floating_count_that_is_whole_is_a_count() -> None:
    (reading,) = read(b'{"choices":[],"model":"m","usage":{"prompt_tokens":12.0,"completion_tokens":1.5}}')
    assert told(reading) == {"provider": "openai", "model": "m", "input_tokens": 12}


@pytest.mark.ids("A21")
@pytest.mark.parametrize("body", [b"", b"null", b"3", b'"x"', b"<html>", b"[]", b"[{}]", b"{", b"{}"])
def test_a_200_without_an_answer_is_one_reading_without_usage(body: bytes) -> None:
    (reading,) = read(body)
    assert told(reading) == {"provider": "openai", "model": "asked", "no_usage": True} | (
        {"streamed": True} if body and body[:1] not in b"{[" else {}
    )


@pytest.mark.ids("A21")
@pytest.mark.parametrize(
    "form",
    ["chat", "completions", "embeddings", "responses", "messages", "generate", "gemini_embeddings", "vertex_predict"],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_inside_a_200_bills_nothing(form: str, streamed: bool) -> None:
    if streamed and form in ("embeddings", "gemini_embeddings", "vertex_predict"):
        return
    error = {"type": "error", "error": {"message": "no", "code": 500}}
    assert read(sse(error, names=True) if streamed else whole(error), form) == []


@pytest.mark.ids("A21")
def test_an_error_after_content_is_billed_but_unknown() -> None:
    (reading,) = read(sse(chunk("a"), {"error": {"message": "upstream died"}}, done=True))
    assert reading.usage is None
    assert reading.model == "m-1"


@pytest.mark.ids("A21")
def test_depth_without_end_is_no_recursion_error() -> None:
    deep = b'{"model":"m","usage":' + b"[" * 100_000
    assert [reading.usage for reading in read(deep)] == [None]
    assert [reading.usage for reading in read(b"data: " + deep + b"\n\n")] == [None]


def test_a_broken_aws_payload_is_passed_over() -> None:
    fixture = BY_NAME["anthropic on bedrock, stream"]
    noise = aws(b"", b"{", b'{"bytes": 5}', b'{"bytes": "###"}', b'{"bytes": "a"}', b'{"message": "throttled"}')
    assert [told(reading) for reading in fixture.read(noise + fixture.body)] == list(fixture.expected)
