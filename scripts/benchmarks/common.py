"""What every bench stands on: helper processes, a ledger that takes everything, and rows of figures."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
KEY = "aicg_" + "b" * 32

#: takes whatever is sent: receipts, spans, handshakes; GET /taken says how many bytes since it was asked last
SINK = r"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taken = 0
    def do_POST(self):
        Handler.taken += len(self.body())
        spans = "traces" in self.path and "v0" not in self.path
        self.answer(b"" if spans else b'{"accepted":1,"duplicate":0,"refused":[]}')
    def do_GET(self):
        if self.path != "/taken":
            return self.do_POST()
        told, Handler.taken = Handler.taken, 0
        self.answer(b"%d" % told)
    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces = []
        while not pieces or pieces[-1]:
            pieces.append(self.rfile.read(int(self.rfile.readline(), 16)))
            self.rfile.readline()
        return b"".join(pieces)
    def answer(self, body):
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    do_PUT = do_POST
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args): pass  # who sends may end in the middle
server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def process(*command: str) -> Iterator[str]:
    """A helper process that prints one line when it is ready; its line."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)), cwd=ROOT
    )
    assert child.stdout is not None
    try:
        yield child.stdout.readline()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def row(name: str, values: Sequence[float], unit: str, aim: str = "") -> Dict[str, Any]:
    """One figure, over the rounds: printed, and given back for `--json`."""
    shown = {
        "figure": name,
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "unit": unit,
        "aim": aim,
        "runs": len(values),
    }
    print(
        "%-52s %10.2f %10.2f %10.2f  %-4s %s" % (name, shown["median"], shown["min"], shown["max"], unit, aim),
        flush=True,
    )
    return shown
