"""What must hold of any bytes whatever: the target of the fuzzers, and the bodies they start from.

`check` raises AssertionError when it does not hold. One input is a control byte each for format, provider, content
type, size of the pieces and the rest, and then the response's bytes.
"""

from __future__ import annotations

import time
from typing import Iterator, List, Optional, Tuple

from aicostguard import receipt
from aicostguard.metering import Endpoint, Meter, read_body
from aicostguard.metering.table import MODULES
from aicostguard.usage import Reading, inconsistent
from tests.metering.building import AWS, JSON, SSE
from tests.metering.fixtures import FIXTURES, Fixture

FORMATS = tuple(sorted(MODULES))
#: one provider of each arithmetic
PROVIDERS = (
    "openai",
    "xai",
    "google",
    "perplexity",
    "deepseek",
    "openrouter",
    "mistral",
    "bedrock",
    "custom",
    "cohere",
)
TYPES = (JSON, SSE, AWS, "")
STEPS = (0, 1, 3, 17, 256)
#: seconds that an input of a few kilobytes may take at most, on a busy machine
PATIENCE = 5.0

_COMPLETE, _HEADERS = 1, 2


def encode(fixture: Fixture) -> bytes:
    """A fixture as an input."""
    kinds = [at for at, kind in enumerate(TYPES) if kind == fixture.content_type]
    endpoint = fixture.endpoint()
    provider = PROVIDERS.index(endpoint.provider) if endpoint.provider in PROVIDERS else 0
    control = (FORMATS.index(endpoint.format), provider, kinds[0] if kinds else 3, 0, _COMPLETE)
    return bytes(control) + fixture.body


def seeds(most: int = 4096) -> List[bytes]:
    """Every fixture of some size that is a response of its own."""
    return [encode(fixture) for fixture in FIXTURES if len(fixture.body) <= most and fixture.endpoint().format]


def sound(reading: Reading) -> None:
    """No part exceeds its whole unless that is said; and the receipt made of it is one that a ledger takes."""
    usage = reading.usage
    if usage is not None:
        assert reading.mismatch or not inconsistent(usage), usage
        for name, value in usage._asdict().items():
            assert value is None or (type(value) is int and value >= 0), (name, value)
    made, _ = receipt.build(reading.provider or "custom", reading.model, usage, {"service_tier": reading.service_tier})
    assert receipt.check(made) == []


def pieces(body: bytes, step: int) -> Iterator[bytes]:
    if not step:
        yield body
        return
    for at in range(0, len(body), step):
        yield body[at : at + step]


def _header(said: bool, name: str) -> Optional[str]:
    return "12" if said else None


def parse(data: bytes) -> Tuple[Endpoint, str, int, int, bytes]:
    """An input → endpoint, content type, size of the pieces, flags, body."""
    control, body = data[:5].ljust(5, b"\0"), data[5:]
    endpoint = Endpoint(PROVIDERS[control[1] % len(PROVIDERS)], FORMATS[control[0] % len(FORMATS)], "asked-model")
    return endpoint, TYPES[control[2] % len(TYPES)], STEPS[control[3] % len(STEPS)], control[4], body


def check(data: bytes) -> None:
    """Read the input whole and in pieces. Raises AssertionError for what must not be, and whatever metering raises."""
    endpoint, kind, step, flags, body = parse(data)
    began = time.monotonic()
    rest = (lambda: body, lambda name: _header(bool(flags & _HEADERS), name))
    complete = bool(flags & _COMPLETE)
    whole = read_body(endpoint, 200, kind, body, *rest)
    meter = Meter(endpoint, 200, kind, *rest)
    for piece in pieces(body, step):
        meter.feed(piece)
    readings = meter.finish(complete)
    assert meter.finish(complete) == []
    for reading in (*whole, *readings):
        sound(reading)
    if complete:
        assert readings == whole, (readings, whole)
    assert read_body(endpoint, 500, kind, body, *rest) == []
    assert time.monotonic() - began < PATIENCE, "took too long"
