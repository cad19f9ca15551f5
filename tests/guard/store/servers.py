"""Real servers, on ports of their own, for as long as a test runs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import List, Optional

import pytest

from tests.delivery.fake_ledger import free_port


class Server:
    """One `redis-server`. It keeps its data over a restart."""

    def __init__(self, *settings: str) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("no redis-server: apt-get install redis-server")
        self._program = program
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="aicg-redis-"))
        self.port = free_port()
        self._process: Optional[subprocess.Popen] = None
        self.start()

    @property
    def url(self) -> str:
        return "redis://127.0.0.1:%d/0" % self.port

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--appendonly", "yes", "--save", "", "--daemonize", "no", *self._settings]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait()

    def wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                if self.say(b"PING").startswith(b"+PONG"):
                    return
            except OSError:
                pass
            assert self._process is None or self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("redis-server does not answer: " + (self.folder / "log").read_text())

    def say(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(65536)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self, signal: int) -> None:
        assert self._process is not None
        self._process.send_signal(signal)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cluster:
    """Three nodes that share the slots."""

    def __init__(self) -> None:
        self.nodes: List[Server] = []
        try:
            for _ in range(3):
                bus = free_port()
                self.nodes.append(
                    Server("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "5000")
                )
                self.nodes[-1].bus = bus
            for number, node in enumerate(self.nodes):
                first, last = number * 5462, min(number * 5462 + 5461, 16383)
                assert node.say(b"CLUSTER ADDSLOTSRANGE %d %d" % (first, last)).startswith(b"+OK")
                node.say(b"CLUSTER SET-CONFIG-EPOCH %d" % (number + 1))
            for node in self.nodes[1:]:
                meet = b"CLUSTER MEET 127.0.0.1 %d %d" % (node.port, node.bus)
                assert self.nodes[0].say(meet).startswith(b"+OK")
            end = time.monotonic() + 60
            while not all(b"cluster_state:ok" in node.say(b"CLUSTER INFO") for node in self.nodes):
                assert time.monotonic() < end, "the cluster does not come together"
                time.sleep(0.1)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return "redis+cluster://127.0.0.1:%d" % self.nodes[0].port

    def close(self) -> None:
        for node in self.nodes:
            node.close()
