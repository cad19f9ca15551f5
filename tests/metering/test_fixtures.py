"""Each documented shape, plain and streamed, to the token; and the same for every way its bytes may be split."""

from __future__ import annotations

import pytest

from aicostguard.metering import read_body
from aicostguard.metering.providers import PROVIDERS
from aicostguard.metering.table import MODULES, form
from tests.metering.fixtures import BY_NAME, FIXTURES, Fixture, told

each = pytest.mark.parametrize("fixture", FIXTURES, ids=[fixture.name for fixture in FIXTURES])


@each
@pytest.mark.ids("B5", "B6", "B7", "B8", "B13", "B14", "B15", "G07")
def test_a_response_bills_what_its_provider_says(fixture: Fixture) -> None:
    assert [told(reading) for reading in fixture.read()] == list(fixture.expected)


@each
@pytest.mark.ids("B11")
def test_done_turns_true_at_the_terminal_event(fixture: Fixture) -> None:
    meter = fixture.meter()
    meter.feed(fixture.body)
    assert meter.done is fixture.done


@each
def test_every_split_in_two_gives_the_same(fixture: Fixture) -> None:
    expected = list(fixture.expected)
    size = len(fixture.body)
    # Every position of a small body; of a large one all near its ends, and each 37th between them.
    positions = [at for at in range(1, size) if size < 3000 or at < 60 or at > size - 600 or at % 37 == 0]
    for at in positions:
        assert [told(r) for r in fixture.read(fixture.body[:at], fixture.body[at:])] == expected, at


@each
@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_every_piece_size_gives_the_same(fixture: Fixture, step: int) -> None:
    pieces = [fixture.body[at : at + step] for at in range(0, len(fixture.body), step)]
    assert [told(reading) for reading in fixture.read(*pieces)] == list(fixture.expected)


@each
def test_read_body_is_feed_and_finish(fixture: Fixture) -> None:
    got = read_body(
        fixture.endpoint(), 200, fixture.content_type, fixture.body, fixture.request_body, fixture.headers.get
    )
    assert got == fixture.read()


@each
@pytest.mark.parametrize("status", [199, 301, 400, 429, 500])
def test_only_a_2xx_bills(fixture: Fixture, status: int) -> None:
    assert (
        read_body(fixture.endpoint(), status, fixture.content_type, fixture.body, lambda: None, lambda name: None) == []
    )


@each
def test_content_type_may_be_missing_or_wrong(fixture: Fixture) -> None:
    for content_type in ("", "text/plain", "application/json", "text/event-stream"):
        assert [told(reading) for reading in fixture._replace(content_type=content_type).read()] == list(
            fixture.expected
        )


@each
def test_a_stream_that_ended_early_is_partial_unless_it_was_over(fixture: Fixture) -> None:
    row = form(fixture.endpoint().format)
    of_file = row is not None and row.file  # each line of a file is whole
    for reading in fixture.read(complete=False):
        assert reading.partial is (not fixture.done and not reading.pending and not of_file)


def test_every_provider_and_every_format_has_a_fixture() -> None:
    assert {row.name for row in PROVIDERS} == {fixture.endpoint().provider for fixture in FIXTURES}
    assert set(MODULES) == {fixture.endpoint().format for fixture in FIXTURES}
    streamed = {fixture.endpoint().format for fixture in FIXTURES if b"data:" in fixture.body[:200]}
    assert streamed >= {"chat", "completions", "responses", "messages", "generate"}


def test_fixture_names_are_unique() -> None:
    assert len(BY_NAME) == len(FIXTURES)
