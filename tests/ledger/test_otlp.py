"""Metrics for an OpenTelemetry collector: what it decodes is what the query path says; nothing doubles or leaks."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from aicostguard import ledger
from aicostguard.ledger import spend
from aicostguard.ledger.errors import NotWritable, Refused
from aicostguard.ledger.otlp import settings, shape
from aicostguard.ledger.otlp.sender import Courier
from aicostguard.ledger.otlp.settings import Settings
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import NOW, Server, aicg, costs, envelope, epoch, receipt, served, serving, take, wait_for

SECRET = "canary-of-the-collector"


class Collector(http.server.ThreadingHTTPServer):
    """A receiver of OTLP over a loopback socket: decodes what comes, and answers as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        #: (status, headers, body); the last stands for all that come later
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {}, b"")]
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def points(self, name: str) -> list[tuple[dict[str, str], Any]]:
        """`(attributes, point)` of the latest sending that has the metric."""
        for request in reversed(self.requests):
            found = [
                ({item.key: item.value.string_value for item in point.attributes}, point)
                for of in request.resource_metrics
                for scope in of.scope_metrics
                for metric in scope.metrics
                if metric.name == name
                for point in getattr(metric, str(metric.WhichOneof("data"))).data_points
            ]
            if found:
                return found
        return []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportMetricsServiceRequest.FromString(body))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.server.paths.append(self.path)
        status, headers, body = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/x-protobuf",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def courier(store: SqliteStore) -> Iterator[Callable[..., Courier]]:
    made: list[Courier] = []

    def make(url: str, **more: Any) -> Courier:
        spend.counted(store, NOW)
        made.append(Courier(store, Settings(url + settings.PATH, **more), ledger.now_ms))
        return made[-1]

    yield make
    for one in made:
        one.hurry()
        one.close()


def calls() -> list[dict[str, Any]]:
    return [
        receipt(feature="ask", team="search", latency_ms=120, cache_read_input_tokens=60, user="ada"),
        receipt(feature="ask", team="sales", input_tokens=12_345_678, latency_ms=90_000),
        receipt(feature="sum", model="gpt-4o-mini", estimated=True, output_tokens=64),
        receipt(model="unheard-of", feature="ask"),
        receipt(provider="bedrock", model="claude", operation="embeddings", partial=True, latency_ms=10, audio_ms=1500),
        {"provider": "openai", "model": "gpt-4o", "usage_missing": True},
    ]


@pytest.mark.ids("Z9")
def test_a_collector_decodes_what_the_query_path_says(
    store: SqliteStore, collector: Collector, courier: Callable[..., Courier]
) -> None:
    sends = courier(collector.url)
    take(store, envelope(calls(), name=epoch(), environment="production"))
    assert sends.send() and sends.counts == {"sent": 1, "failed": 0, "points_refused": 0}
    totals = costs(store)["totals"]
    for kind in ("", "unpriced_", "usage_missing_", "estimated_", "partial_"):
        name = "aicg.calls" + (f".{kind[:-1]}" if kind else "")
        assert sum(point.as_int for _, point in collector.points(name)) == totals[f"{kind}calls"], name
    money = {at["gen_ai.response.model"]: Counter() for at, _ in collector.points("aicg.cost")}
    for at, point in collector.points("aicg.cost"):
        money[at["gen_ai.response.model"]][at["gen_ai.provider.name"]] += round(point.as_double * 10**9)
    rows = costs(store, group_by="model")["rows"]
    wanted = {row["model"]: row["cost_nanousd"] for row in rows if row["cost_nanousd"] is not None}
    assert {model: of.total() for model, of in money.items()} == wanted, "and of what has no price there is no point"
    assert set(money["claude"]) == {"aws.bedrock"}
    for kind, measure in (("input", "input_tokens"), ("output", "output_tokens")):
        found = [
            point for at, point in collector.points("gen_ai.client.token.usage") if at["gen_ai.token.type"] == kind
        ]
        assert sum(point.sum for point in found) == totals[measure]
        assert sum(point.count for point in found) == totals["calls"] - totals["usage_missing_calls"]
        for point in found:
            assert (
                sum(point.bucket_counts) == point.count and len(point.bucket_counts) == len(point.explicit_bounds) + 1
            )
            assert not point.HasField("min") and not point.HasField("max"), "nobody knows them"
    took = {at["gen_ai.response.model"]: point for at, point in collector.points("gen_ai.client.operation.duration")}
    assert took["claude"].sum == 0.01 and list(took["claude"].bucket_counts).index(1) == 0, "at a bound is below it"
    assert sum(p.sum for _, p in collector.points("gen_ai.client.operation.duration")) == pytest.approx(90.13)
    parts = [(at["aicg.token.part"], point.as_int) for at, point in collector.points("aicg.token.parts")]
    assert parts == [("cache_read_input", 60)]
    units = [(at["aicg.unit"], point.as_double) for at, point in collector.points("aicg.units")]
    assert units == [("audio_seconds", 1.5)]
    at, _ = collector.points("aicg.calls")[0]
    assert at == {
        "aicg.organisation": "default", "aicg.project": "default", "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4o", "gen_ai.operation.name": "chat", "aicg.feature": "ask",
        "aicg.team": "search", "deployment.environment.name": "production",
    }  # fmt: skip
    assert b"ada" not in b"".join(request.SerializeToString() for request in collector.requests)
    assert collector.paths == ["/v1/metrics"]


def test_a_large_call_is_in_the_right_interval(
    store: SqliteStore, collector: Collector, courier: Callable[..., Courier]
) -> None:
    sends = courier(collector.url)
    take(store, envelope([receipt(input_tokens=n, output_tokens=1) for n in (1, 2, 4, 5, 67_108_865)], name=epoch()))
    take(store, envelope([receipt(input_tokens=4, output_tokens=1)], name=epoch()))
    assert sends.send()
    of = next(p for at, p in collector.points("gen_ai.client.token.usage") if at["gen_ai.token.type"] == "input")
    assert list(of.explicit_bounds) == [4**n for n in range(14)]
    assert list(of.bucket_counts) == [1, 3, 1, *[0] * 11, 1]


def test_a_restart_is_none_of_the_count(tmp_path: Path, collector: Collector) -> None:
    """The beginning and the name stay, so that a receiver sees one series that only grows."""
    path = str(tmp_path / "ledger.db")
    seen = []
    for _ in range(3):
        store = ledger.open_ledger(path)
        spend.counted(store, NOW)
        sends = Courier(store, Settings(collector.url + settings.PATH), ledger.now_ms)
        take(store, envelope([receipt(), receipt()], name=epoch()))
        assert sends.send() and sends.send(), "the second one says the same again"
        sends.hurry()
        sends.close()
        store.close()
        ((_, point),) = collector.points("aicg.calls")
        resource = {i.key: i.value.string_value for i in collector.requests[-1].resource_metrics[0].resource.attributes}
        seen.append((point.as_int, point.start_time_unix_nano, resource["service.instance.id"]))
        assert point.time_unix_nano > point.start_time_unix_nano
    assert [count for count, *_ in seen] == [2, 4, 6]
    assert len({rest for _, *rest in map(tuple, seen) for rest in [tuple(rest)]}) == 1
    assert resource["service.name"] == "aicostguard"


def test_what_fails_is_counted_said_once_and_made_up_for(
    store: SqliteStore, collector: Collector, courier: Callable[..., Courier], caplog: pytest.LogCaptureFixture
) -> None:
    sends = courier(collector.url, timeout_s=0.5)
    for status in (400, 400, 307, 503):
        collector.answers = [(status, {"Location": collector.url + "/elsewhere"}, b"")]
        take(store, envelope([receipt()], name=epoch()))
        assert not sends.send(), status
    assert set(collector.paths) == {"/v1/metrics"}, "nothing follows a redirect, with its headers"
    assert sends.counts == {"sent": 0, "failed": 4, "points_refused": 0}
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "400" in text]) == 1 and len(said) == len(set(said)), said
    assert any("answered 307" in text for text in said)
    collector.answers = [(503, {"Retry-After": "0"}, b""), (200, {}, b"")]
    assert sends.send(), "tried again within its bound"
    assert [point.as_int for _, point in collector.points("aicg.calls")] == [4]
    assert sends.counts["sent"] == 1


def test_points_that_a_collector_refuses_are_counted(
    store: SqliteStore, collector: Collector, courier: Callable[..., Courier]
) -> None:
    sends = courier(collector.url)
    take(store, envelope([receipt()], name=epoch()))
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    collector.answers = [(200, {}, answer.SerializeToString())]
    assert sends.send() and sends.counts["points_refused"] == 3


def test_many_sets_are_several_requests_that_are_each_within_bounds(
    store: SqliteStore, collector: Collector, courier: Callable[..., Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape, "ROWS_AT_ONCE", 3)
    sends = courier(collector.url)
    take(store, envelope([receipt(feature=f"f{n}") for n in range(8)], name=epoch()))
    assert sends.send() and len(collector.requests) == 3
    sums = [
        sum(point.as_int for metric in request.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.sum.data_points if metric.name == "aicg.calls")
        for request in collector.requests
    ]  # fmt: skip
    assert sums == [3, 3, 2]


def test_budgets_are_gauges(store: SqliteStore, collector: Collector) -> None:
    with serving(store, otlp=Settings(collector.url + settings.PATH, every_s=0.05)) as server:
        rule = {"name": "cap", "limit_usd": "2.5", "period": "total"}
        assert server.ask("POST", "/v1/budgets", json.dumps(rule).encode()).status == 201
        server.post(envelope([receipt()], name=epoch()))
        wait_for(lambda: any(p.as_double for _, p in collector.points("aicg.budget.spent.dollars")), "it to be counted")
    ((at, point),) = collector.points("aicg.budget.limit.dollars")
    assert point.as_double == 2.5 and (at["aicg.budget.name"], at["aicg.budget.period"]) == ("cap", "total")


@pytest.mark.ids("Z9")
def test_secrets_of_headers_reach_the_collector_and_no_log(
    store: SqliteStore, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"api-key={SECRET}%20x,x-tenant=7")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    found = settings.read(collector.url, os.environ)
    assert found is not None and f"{SECRET} x" in found.secrets
    sends = Courier(store, found, ledger.now_ms)
    sends.begin()
    take(store, envelope([receipt()], name=epoch()))
    assert sends.send() and sends.send()
    assert (collector.headers[0]["api-key"], collector.headers[0]["x-tenant"]) == (f"{SECRET} x", "7")
    with caplog.at_level(logging.DEBUG, "opentelemetry"):
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.metric_exporter").error("no: %s", f"{SECRET} x")
    assert "no: •••" in caplog.text and SECRET not in caplog.text
    sends.hurry()
    sends.close()


@pytest.mark.parametrize(
    "url, environ, field, says",
    [
        ("collector:4318", {}, "--otlp", "is no URL of a collector; give one like http://127.0.0.1:4318"),
        ("ftp://a", {}, "--otlp", "is no URL"),
        ("http://a:99999", {}, "--otlp", "is no URL"),
        ("http://a b", {}, "--otlp", "is no URL"),
        (f"http://me:{SECRET}@a", {}, "--otlp", "'a' has a user"),
        (f"http://a?key={SECRET}", {}, "--otlp", "'http://a' has a user, a query"),
        (None, {"AICG_OTLP_URL": "nonsense"}, "AICG_OTLP_URL", "'nonsense' is no URL"),
        ("http://a", {"OTEL_METRIC_EXPORT_INTERVAL": "soon"}, "OTEL_METRIC_EXPORT_INTERVAL", "'soon' must be"),
        ("http://a", {"OTEL_METRIC_EXPORT_INTERVAL": "5"}, "OTEL_METRIC_EXPORT_INTERVAL", "1000 to 86400000"),
        ("http://a", {"OTEL_EXPORTER_OTLP_HEADERS": f"x=1,{SECRET}"}, "OTEL_EXPORTER_OTLP_HEADERS", "item 2 is no"),
        (
            "http://a",
            {"OTEL_EXPORTER_OTLP_METRICS_HEADERS": f"a=%0d{SECRET}"},
            "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
            "item 1 is no header",
        ),
    ],
)  # fmt: skip
def test_what_is_set_wrongly_is_refused_by_name_and_not_quoted(
    url: str | None, environ: dict[str, str], field: str, says: str
) -> None:
    with pytest.raises(Refused) as caught:
        settings.read(url, environ)
    assert caught.value.field == field and says in str(caught.value) and SECRET not in str(caught.value)


def test_a_url_alone_turns_it_on() -> None:
    assert settings.read(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}) is None
    for url in ("http://a:4318", "http://a:4318/", "http://a:4318/v1/metrics", "http://a:4318/v1/metrics/"):
        assert settings.read(url, {}) == Settings("http://a:4318/v1/metrics")
    with_path = settings.read(None, {"AICG_OTLP_URL": "https://a/otlp", "OTEL_METRIC_EXPORT_INTERVAL": "2000"})
    assert with_path == Settings("https://a/otlp/v1/metrics", 2.0)
    with pytest.raises(NotWritable, match="OTEL_EXPORTER_OTLP_CERTIFICATE names /nowhere, which is no file"):
        settings.read("http://a", {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere"})


def test_while_a_collector_is_away_receipts_are_taken_and_the_ledger_ends(store: SqliteStore) -> None:
    with serving(store, otlp=Settings("http://127.0.0.1:9/v1/metrics", every_s=0.05, timeout_s=30.0)) as server:
        assert server.post(envelope([receipt()], name=epoch())).body["accepted"] == 1
        assert 'aicg_otlp_total{result="sent"} 0.0' in _health(server)
    assert not [thread for thread in threading.enumerate() if thread.name == "aicg-ledger-otlp"]


@pytest.mark.ids("Z9")
def test_a_served_ledger_sends_by_itself_and_once_more_as_it_ends(tmp_path: Path, collector: Collector) -> None:
    with served(tmp_path, "--otlp", collector.url) as (process, server):
        assert f"  otlp  {collector.url}/v1/metrics" in server.greeting
        key = (tmp_path / "ledger.key").read_text().strip()
        assert server.post(envelope([receipt(), receipt()], name=epoch()), key=key).status == 200
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert [point.as_int for _, point in collector.points("aicg.calls")] == [2], "what came since the last minute"


def _health(server: Server) -> str:
    return server.get("/metrics", key=None).raw.decode()


def test_serve_refuses_a_bad_url_before_it_touches_anything(tmp_path: Path) -> None:
    done = aicg("serve", "--port", "0", "--db", str(tmp_path / "ledger.db"), "--otlp", "collector")
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == (
        "aicg serve: --otlp: 'collector' is no URL of a collector; give one like http://127.0.0.1:4318\n"
    )
