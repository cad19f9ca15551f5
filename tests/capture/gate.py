"""A server that sends the next piece of a body only when the test says so.

So that "not held back" is a fact and not a measured time: when a piece is read before the next one was sent, nobody
can have waited for the next one. A piece that does not come makes the read time out.
"""

from __future__ import annotations

import socket
import threading
import zlib
from types import TracebackType
from typing import List, Optional, Sequence, Type

from aicostguard.capture.state import state

#: seconds after which a read that should have succeeded gives up
PATIENCE = 10.0


class Gate:
    """One port that answers each request with the same pieces, each after one `permit`. Use as a context manager."""

    def __init__(self, pieces: Sequence[bytes], encoding: str = "identity", cut: bool = False) -> None:
        self.pieces = list(pieces)
        if encoding == "gzip":
            packer = zlib.compressobj(6, zlib.DEFLATED, 31)
            self.pieces = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
            self.pieces[-1] += packer.flush()
        self.encoding = encoding
        #: hang up inside an HTTP chunk after the last piece
        self.cut = cut
        #: a request has come in
        self.asked = threading.Event()
        self._permits = threading.Semaphore(0)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: List[socket.socket] = []
        self.port = self._server.getsockname()[1]
        self.url = "http://127.0.0.1:%d" % self.port

    def __enter__(self) -> Gate:
        threading.Thread(target=self._serve, daemon=True).start()
        state.hosts = (*state.hosts, ("127.0.0.1", self.port, "openai"))
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._server.close()
        self.permit(1000)
        for connection in self._open:
            connection.close()

    def permit(self, count: int = 1) -> None:
        """Let so many more pieces out."""
        self._permits.release(count)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = b""
            while b"\r\n\r\n" not in request:
                data = connection.recv(65536)
                if not data:
                    return
                request += data
            head, _, body = request.partition(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            while len(body) < length:
                body += connection.recv(65536)
            self.asked.set()
            self._permits.acquire()
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: %s\r\n"
                b"transfer-encoding: chunked\r\n\r\n" % self.encoding.encode()
            )
            for piece in self.pieces:
                self._permits.acquire()
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.sendall(b"ff\r\nshort" if self.cut else b"0\r\n\r\n")
            if self.cut:
                connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the client is gone
