"""The ledger's own figures for Prometheus, at `GET /metrics`: is it well, what does it take in, how long does it take.

Owns names and labels of the metrics. Figures of the process only: no model, feature, user or project is in them, so
they need no key; what calls cost is `spend`'s. Routes are templates, never paths; what is no route is `other`.
`prometheus_client` writes the text.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import sqlite3
import threading
import time
from typing import Any, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aicostguard import __version__
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.gate import Gate
from aicostguard.ledger.sqlite import SqliteStore, room

log = logging.getLogger("aicostguard.ledger.http")

#: bounds in seconds: a batch of 500 takes some 50 ms, an answer from sums some 2
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
#: seconds for which what is counted in the file is told again
_FRESH_S = 10.0


class Metrics:
    """One server's figures. Safe from many threads."""

    def __init__(self, store: SqliteStore, gate: Gate) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "aicg_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "aicg_http_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._receipts = Counter(
            "aicg_receipts", "Receipts that came, by what became of them.", ("result",), registry=self.registry
        )
        for result in ("accepted", "duplicate", "refused"):
            self._receipts.labels(result)
        self.registry.register(_Standing(store, gate))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def took(self, reply: Mapping[str, Any]) -> None:
        """Count what became of an envelope's receipts: the reply of `ingest.accept`."""
        for result in ("accepted", "duplicate"):
            self._receipts.labels(result).inc(reply[result])
        self._receipts.labels("refused").inc(len(reply["refused"]))

    def follow(self, name: str, says: str, label: str, counts: Mapping[str, int]) -> None:
        """Tell what somebody else counts."""
        self.registry.register(_Followed(name, says, label, counts))

    def text(self, accept: str | None) -> tuple[bytes, str]:
        """The body and its type; see `written`."""
        return written(self.registry, accept)


def written(registry: CollectorRegistry, accept: str | None) -> tuple[bytes, str]:
    """`(body, content type)` in the form that `Accept` asks for: OpenMetrics, else Prometheus' text."""
    if "application/openmetrics-text" in (accept or ""):
        whole: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return whole, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Followed:
    """Counts that are kept elsewhere."""

    def __init__(self, name: str, says: str, label: str, counts: Mapping[str, int]) -> None:
        self._name, self._says, self._label, self._counts = name, says, label, counts

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._says, labels=(self._label,))
        for value, count in list(self._counts.items()):
            family.add_metric((value,), count)
        yield family


class _Standing:
    """What is read when it is asked for: sizes, queues, what is missing."""

    def __init__(self, store: SqliteStore, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self._turn = threading.Lock()
        self._known: tuple[float, int | None, dict[str, int]] = (0.0, None, {})

    def describe(self) -> Iterable[Metric]:
        """Names without a look at the file: registering must not read it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        path = self._store.path
        about = GaugeMetricFamily("aicg_ledger_info", "The release that runs.", labels=("version",))
        about.add_metric((__version__,), 1)
        yield about
        size = GaugeMetricFamily("aicg_ledger_file_bytes", "Size of the ledger's files.", labels=("file",))
        for name, end in (("ledger", ""), ("wal", "-wal")):
            with contextlib.suppress(OSError):
                size.add_metric((name,), os.path.getsize(path + end))
        yield size
        with contextlib.suppress(OSError):
            left = os.statvfs(os.path.dirname(os.path.abspath(path)))
            yield GaugeMetricFamily(
                "aicg_ledger_room_bytes", "Room left on the ledger's device.", left.f_bavail * left.f_frsize
            )
        yield GaugeMetricFamily("aicg_ingest_waiting", "Envelopes that wait to be stored.", self._gate.waiting)
        yield CounterMetricFamily(
            "aicg_ingest_turned_away", "Envelopes whose senders were asked to come again.", self._gate.turned_away
        )
        missing, full = self._counted()
        days = GaugeMetricFamily(
            "aicg_labels_full_days",
            "Days of projects whose sums had no room for every value of a dimension.",
            labels=("dimension",),
        )
        for name, count in full.items():
            days.add_metric((name,), count)
        yield days
        if missing is not None:  # a file that cannot be read has no number; it has not zero
            yield GaugeMetricFamily(
                "aicg_receipts_missing", "Receipts that were made while later ones came, and are not here.", missing
            )

    def _counted(self) -> tuple[int | None, dict[str, int]]:
        """Receipts that are missing, None when that is not known, and full days by dimension."""
        with self._turn:
            at, missing, full = self._known
            if not at or time.monotonic() - at >= _FRESH_S:
                try:
                    missing, full = self._store.look(_read)
                except LedgerError:
                    missing, full = None, {}
                self._known = (time.monotonic(), missing, full)
            return missing, full


def _read(connection: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    (missing,) = connection.execute("SELECT COALESCE(SUM(missing), 0) FROM epochs").fetchone()
    return int(missing), collections.Counter(item.dimension for item in room.full(connection))


class Counted:
    """Counts and times every request; with the log level `info` says each, without query and without key."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            took = time.perf_counter() - began
            route = _route(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(took)
            if log.isEnabledFor(logging.INFO):
                more = {"method": method, "route": route, "status": status, "ms": round(took * 1000, 1)}
                log.info("request", extra=more)


def _route(scope: Scope) -> str:
    """The template of the route that answered; `other` where there was none: nobody's guesses fill the memory."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "other"
