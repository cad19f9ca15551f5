"""A request's body, read and inflated within bounds.

Owns the limits that keep one request from taking the server's memory. Nothing here trusts a length that a
client states, or a compressed size.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, AsyncIterator

from aicostguard.ledger.errors import Refused

MAX_BODY = 5 * 1024 * 1024
#: of a body that is too large, this much is still read, so that its sender gets to see why
MAX_SKIPPED = 4 * MAX_BODY
MAX_INFLATED = 32 * 1024 * 1024
#: a gzip body may be several joined ones; each costs a copy of the rest
MAX_MEMBERS = 16
_GZIP = 16 + zlib.MAX_WBITS


async def read(stream: AsyncIterator[bytes], most: int | None = None) -> bytes:
    """The body as sent. Raises `Refused` (413) beyond `MAX_BODY`, or `most`, if that is less.

    Even then it is read on, up to a point, and nothing of it is kept: a sender that is still writing when the
    connection closes sees a reset instead of the reply, and would send the same again for ever.
    """
    bound = min(MAX_BODY, most or MAX_BODY)
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        size += len(part)
        if size <= bound:
            parts.append(part)
            continue
        parts.clear()
        if size > MAX_SKIPPED:
            break
    if size > bound:
        raise Refused(413, f"the body is larger than {_size(bound)}: split it")
    return b"".join(parts)


def _size(number: int) -> str:
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if number % unit == 0:
            return f"{number // unit} {name}"
    return f"{number} bytes, which is this key's limit"


async def json_object(stream: AsyncIterator[bytes], encoding: str | None, most: int) -> dict[str, Any]:
    """The JSON object that was sent, of a question that is small. Raises `Refused`: 413, 400."""
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > most:
            raise Refused(413, f"the body is larger than {_size(most)}")
        parts.append(part)
    sent = plain(b"".join(parts), encoding)
    try:
        found = json.loads(sent, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body must be a JSON object")
    if b"\\u" in sent:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refused(
                400, "the body holds half a character (a lone surrogate, as \\ud800); send whole ones"
            ) from None
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def plain(body: bytes, encoding: str | None) -> bytes:
    """The body without its `Content-Encoding`. Raises `Refused`: 413 beyond `MAX_INFLATED`, 415, 400."""
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in ("gzip", "x-gzip"):
        raise Refused(415, "Content-Encoding must be gzip or left out")
    out: list[bytes] = []
    room = MAX_INFLATED
    try:
        for _ in range(MAX_MEMBERS):
            inflater = zlib.decompressobj(_GZIP)
            part = inflater.decompress(body, room + 1)
            if len(part) > room:
                raise Refused(413, f"the body inflates to more than {MAX_INFLATED >> 20} MB: split it")
            if not inflater.eof:
                raise Refused(400, "the gzip body ends too early")
            room -= len(part)
            out.append(part)
            body = inflater.unused_data
            if not body:
                return b"".join(out)
    except zlib.error:
        raise Refused(400, "the body is not gzip, as Content-Encoding says") from None
    raise Refused(400, f"the gzip body has more than {MAX_MEMBERS} members")
