"""A client of bare sockets: what it reads is what was on the wire."""

from __future__ import annotations

import json
import socket
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple


class Answer(NamedTuple):
    """One response as it came in. `parts` are its HTTP chunks; `ended` says how the connection went on."""

    status: int
    headers: Dict[str, str]
    parts: List[bytes]
    ended: str = "kept"

    @property
    def body(self) -> bytes:
        """The whole body, still compressed."""
        return b"".join(self.parts)


def connect(url: str) -> socket.socket:
    host, port = url.split("//")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def encode(
    path: str, body: Any = None, headers: Optional[Mapping[str, str]] = None, method: str = "POST", /, **sim: Any
) -> bytes:
    """The bytes of a request; further keywords become the `x-sim` header."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["%s %s HTTP/1.1" % (method, path), "host: 127.0.0.1", "content-length: %d" % len(data)]
    lines += ["%s: %s" % pair for pair in (headers or {}).items()]
    if sim:
        lines.append("x-sim: " + json.dumps(sim))
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


def read(sock: socket.socket, pending: bytes = b"") -> Tuple[Answer, bytes]:
    """One response from the socket, and what followed it."""
    data = bytearray(pending)

    def more() -> bool:
        got = sock.recv(65536)
        data.extend(got)
        return bool(got)

    ended = "kept"
    try:
        while b"\r\n\r\n" not in data:
            if not more():
                return Answer(0, {}, [], "closed"), b""
    except ConnectionResetError:
        return Answer(0, {}, [], "reset"), b""
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    data[:] = rest
    parts: List[bytes] = []
    try:
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(data) < length:
                if not more():
                    ended = "closed"
                    break
            parts, data[:] = [bytes(data[:length])], data[length:]
        else:
            ended = _chunked(data, more, parts)
    except ConnectionResetError:
        ended = "reset"
        parts = parts or [bytes(data)]
    return Answer(int(lines[0].split(" ")[1]), headers, parts, ended), bytes(data)


def _chunked(data: bytearray, more: Any, parts: List[bytes]) -> str:
    while True:
        while b"\r\n" not in data:
            if not more():
                return "closed"
        line, _, _ = bytes(data).partition(b"\r\n")
        size = int(line, 16)
        while len(data) < len(line) + size + 4:
            if not more():
                return "closed"
        parts.append(bytes(data[len(line) + 2 : len(line) + 2 + size]))
        del data[: len(line) + size + 4]
        if size == 0:
            parts.pop()
            return "kept"


def ask(url: str, path: str, body: Any = None, headers: Optional[Mapping[str, str]] = None, /, **sim: Any) -> Answer:
    """One request on a connection of its own."""
    method = str(sim.pop("method", "POST"))
    with connect(url) as sock:
        sock.sendall(encode(path, body, headers, method, **sim))
        return read(sock)[0]


def events(body: bytes) -> List[Any]:
    """The JSON of each server-sent event; `[DONE]` as text."""
    found: List[Any] = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                found.append("[DONE]" if line == b"data: [DONE]" else json.loads(line[6:]))
    return found
