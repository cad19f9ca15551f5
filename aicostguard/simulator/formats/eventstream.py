"""AWS' binary event framing (`application/vnd.amazon.eventstream`).

Owns the encoding of one message: prelude (total length, headers length, CRC of both), headers of type string,
payload, CRC of the whole; all big-endian. Source: AWS SDKs' event stream specification.
"""

from __future__ import annotations

import struct
import zlib


def event(name: str, payload: bytes) -> bytes:
    """One event message with a JSON payload."""
    headers = b"".join(
        struct.pack("!B", len(key)) + key + struct.pack("!BH", 7, len(value)) + value
        for key, value in (
            (b":event-type", name.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))
