"""When metrics are sent: every minute, by a thread of its own that nobody waits for.

Owns the sending and its count. The library tries again within its bound; what fails is told by the next sending, for
points are cumulative. Nothing is queued: a collector that is away for a day costs no memory and loses no call, only
the points in between. What the library says of a failure is said once, with the values of headers taken out.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any, Callable

import requests
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics.export import MetricExportResult

from aicostguard.ledger import spend
from aicostguard.ledger.access import places
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.otlp import shape
from aicostguard.ledger.otlp.settings import Settings
from aicostguard.ledger.sqlite import SqliteStore

log = logging.getLogger("aicostguard.ledger")
_THEIRS = "opentelemetry.exporter.otlp.proto.http.metric_exporter"
#: seconds that the last sending has, as the ledger ends; then it tries no further
LAST_S = 3.0
#: what became of sendings; `points_refused` are points that a collector took the rest without
RESULTS = ("sent", "failed", "points_refused")


class Once(logging.Filter):
    """Lets a message through once until `anew`, with the secrets in it taken out."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for secret in self._secrets:
            text = text.replace(secret, "•••")
        record.msg, record.args, record.exc_info = text, (), None
        if text.startswith("Transient") or text in self._said:  # each try says how long it waits
            return False
        self._said.add(text)
        return True

    def anew(self) -> None:
        """All went well: the next failure is news."""
        self._said.clear()


class Courier:
    """Sends what a store holds, when told to."""

    def __init__(self, store: SqliteStore, settings: Settings, now_ms: Callable[[], int]) -> None:
        self.counts = dict.fromkeys(RESULTS, 0)
        self._store, self._now_ms = store, now_ms
        self._status, self._refused = 0, 0
        self._hurried = False
        self._once = Once(settings.secrets)
        logging.getLogger(_THEIRS).addFilter(self._once)
        session = requests.Session()
        session.max_redirects = 0  # headers with secrets are for this address
        session.hooks["response"].append(self._seen)
        self._exporter = OTLPMetricExporter(settings.url, timeout=settings.timeout_s, session=session)

    def begin(self) -> None:
        """Count all that comes in from here on, unless that is done already."""
        spend.counted(self._store, self._now_ms())

    def send(self) -> bool:
        """Send all that is known now; whether all of it arrived. A ledger that cannot be read raises `LedgerError`."""
        now_ms = self._now_ms()
        projects = self._store.look(places.projects)
        owners = sorted({-project.organisation_id for project in projects}, reverse=True)
        told = spend.read(self._store, projects, owners, now_ms, periods=())
        whole = list(shape.data(told, now_ms))
        for request in whole:
            self._status = self._refused = 0
            done = self._exporter.export(request) is MetricExportResult.SUCCESS
            # Some releases of the library take being sent elsewhere for having arrived.
            if not done or not 200 <= self._status < 300:
                self.counts["failed"] += 1
                if 300 <= self._status < 400:
                    said = "the collector answered %d, which is elsewhere: give the URL that takes metrics"
                    logging.getLogger(_THEIRS).error(said, self._status)
                return False
            self.counts["points_refused"] += self._refused
            if self._refused:
                logging.getLogger(_THEIRS).error("the collector refused %d points", self._refused)
        self.counts["sent"] += bool(whole)  # as long as there is nothing to tell, nothing is sent
        if not self._refused:
            self._once.anew()
        return True

    def _seen(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._status = response.status_code
        if "protobuf" in response.headers.get("Content-Type", ""):
            try:
                found = ExportMetricsServiceResponse.FromString(response.content)
            except DecodeError:  # it said 2xx: how it says so is its own affair
                return
            self._refused = found.partial_success.rejected_data_points

    def hurry(self) -> None:
        """Let a sending under way try no further."""
        if not self._hurried:
            self._hurried = True
            self._exporter.shutdown()

    def close(self) -> None:
        self.hurry()
        logging.getLogger(_THEIRS).removeFilter(self._once)


class Sender:
    """Sends while the ledger is served. `close` sends what came since, unless the collector is away."""

    def __init__(self, store: SqliteStore, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._courier = Courier(store, settings, now_ms)
        self.counts = self._courier.counts
        self._every_s, self._wait_s = settings.every_s, settings.timeout_s + 5
        self._well = True
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aicg-ledger-otlp", daemon=True)

    def start(self) -> None:
        """Count from now on, whatever comes in; the first sending is the thread's."""
        with contextlib.suppress(LedgerError):  # the first sending says it
            self._courier.begin()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._well:
            self._thread.join(LAST_S)
        if self._thread.is_alive():
            self._courier.hurry()
            self._thread.join(self._wait_s)
        self._courier.close()

    def _run(self) -> None:
        self._turn()
        while not self._stop.wait(self._every_s):
            self._turn()
        if self._well:
            self._turn()

    def _turn(self) -> None:
        try:
            self._well = self._courier.send()
            self._said = ""
        except Exception as error:
            self._well = False
            self.counts["failed"] += 1
            if repr(error) != self._said:
                self._said = repr(error)
                log.error(
                    "metrics could not be sent: %s", error if isinstance(error, LedgerError) else type(error).__name__
                )
