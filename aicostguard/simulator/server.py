"""The simulator as an object: its own thread and event loop, one listening socket per provider.

Owns `Simulator`: start, stop, addresses, and the doors to steering and count.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from aicostguard.simulator.app import App
from aicostguard.simulator.count import Billed, Exchange
from aicostguard.simulator.http1 import Http1
from aicostguard.simulator.routes import ALL, PREFIXES


class Simulator:
    """Providers on loopback. Use as a context manager, or `start()` and `stop()`.

    `providers`: names from `ALL`, each gets a port. `port`: 0 lets the system choose; otherwise the first port, the
    others follow. Raises ValueError for an unknown provider, OSError when a port is taken.
    """

    def __init__(self, providers: Sequence[str] = ALL, host: str = "127.0.0.1", port: int = 0) -> None:
        unknown = [name for name in providers if name not in PREFIXES]
        if unknown:
            raise ValueError("unknown providers: %s; known: %s" % (", ".join(unknown), ", ".join(ALL)))
        self.providers = tuple(dict.fromkeys(providers))
        #: provider → "http://127.0.0.1:PORT"; filled by `start`
        self.urls: Dict[str, str] = {}
        self._host, self._port = host, port
        self._app = App()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._thread: Optional[threading.Thread] = None
        self._servers: List[asyncio.AbstractServer] = []
        self._connections: Set[Any] = set()
        self._rpc: Any = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> Simulator:
        """Listen. Returns when every port is open."""
        if self._thread is not None:
            raise RuntimeError("the simulator is running")
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(target=self._run, args=(loop,), name="aicg-simulator", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), loop).result(30)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close every port and connection. The count stays readable."""
        rpc, self._rpc = self._rpc, None
        if rpc is not None:
            rpc.stop()
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        self._thread = self._loop = None
        self.urls = {}

    def grpc_target(self) -> str:
        """Where the providers that speak gRPC listen, "127.0.0.1:PORT"; opened when first asked for. Needs grpcio."""
        if self._rpc is None:
            from aicostguard.simulator.rpc import RpcServer

            self._rpc = RpcServer(self._app).start()
        return str(self._rpc.target)

    def url(self, name: str) -> str:
        """Where a provider listens; "grpc" is the target of those that speak gRPC."""
        return self.grpc_target() if name == "grpc" else self.urls[name]

    def hosts_setting(self) -> str:
        """The value of `AICG_HOSTS` that makes the agent take each port for its provider."""
        return ",".join("%s=%s" % (url.split("//")[1], provider) for provider, url in self.urls.items())

    def base_url(self, provider: str) -> str:
        """What an OpenAI-style SDK wants as its base URL for this provider."""
        prefixes = PREFIXES[provider]
        return self.urls[provider] + (prefixes[0] if prefixes else "")

    def billed(self) -> List[Billed]:
        """The truth: one row per billed response, in the order in which they began."""
        return self._app.count.billed()

    @property
    def exchanges(self) -> List[Exchange]:
        """The newest requests (`count` says how many are kept), oldest first; control paths are not among them."""
        return self._app.count.exchanges()

    @property
    def lost(self) -> Dict[str, int]:
        """What no longer fitted into the lists: {"billed": n, "exchanges": n}."""
        return {"billed": self._app.count.lost_billed, "exchanges": self._app.count.lost_exchanges}

    def reset_count(self) -> None:
        """Forget what was billed and seen."""
        self._app.count.clear()

    def reset(self) -> None:
        """Forget count, default behaviour and script."""
        self._app.count.clear()
        self._app.steering.reset()

    def set_default(self, **behaviour: Any) -> None:
        """The behaviour of every request from now on; without arguments the plain one. Raises BadBehaviour."""
        self._app.steering.set_default(behaviour)

    def script(self, behaviours: Iterable[Mapping[str, Any]]) -> None:
        """One behaviour for each of the next requests, in turn. Raises BadBehaviour."""
        self._app.steering.script(behaviours)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        upgrade = _http2()
        for index, provider in enumerate(self.providers):
            server = await loop.create_server(
                lambda provider=provider: Http1(self._app, provider, self._connections, upgrade),  # type: ignore[misc]
                self._host,
                self._port + index if self._port else 0,
                backlog=1024,
            )
            self._servers.append(server)
            self.urls[provider] = "http://%s:%d" % (self._host, server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.transport.abort()
        for _ in range(3):  # aborted transports report their end in the next turns of the loop
            await asyncio.sleep(0)


def _http2() -> Any:
    try:
        from aicostguard.simulator.http2 import Http2
    except ImportError:
        return None  # the package h2 (extra `demo`) is absent: HTTP/1.1 only
    return Http2
