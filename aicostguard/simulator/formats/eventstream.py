"""AWS' binary event framing (`application/vnd.amazon.eventstream`).

Owns the encoding of one message: prelude (total length, headers length, CRC of both), headers of type string,
payload, CRC of the whole; all big-endian. Source: AWS SDKs' event stream specification.
"""

from __future__ import annotations

import struct
import zlib

#: content type of a stream
TYPE = "application/vnd.amazon.eventstream"


def event(name: str, payload: bytes, kind: str = "event") -> bytes:
    """One message with a JSON payload; of the kind `exception` it ends the stream."""
    headers = b"".join(
        struct.pack("!B", len(key)) + key + struct.pack("!BH", 7, len(value)) + value
        for key, value in (
            (b":%s-type" % kind.encode(), name.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", kind.encode()),
        )
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))
