"""One process of `scripts/bench peers`: the current openai SDK with one observer, measured; JSON on stdout.

Runs in the peer's own environment, where nothing of ours is installed; `traffic` is the file beside it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import sys
import time
from typing import Any, Callable, Dict, List

from benchmarks.traffic import ask, in_memory, plain_body, stream_events, streamed

FEW, MANY = 20, 220


def otlp(url: str) -> Any:
    """A tracer provider with the usual batching exporter."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url + "/v1/traces")))
    return provider


def opentelemetry(url: str) -> None:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=otlp(url))


def openinference(url: str) -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=otlp(url))


def traceloop(url: str) -> None:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=otlp(url))


def langfuse(url: str) -> None:
    os.environ.update(LANGFUSE_HOST=url, LANGFUSE_BASE_URL=url, LANGFUSE_PUBLIC_KEY="pk", LANGFUSE_SECRET_KEY="sk")
    import langfuse.openai  # noqa: F401


def logfire(url: str) -> None:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    import logfire as peer

    peer.configure(send_to_logfire=False, console=False)
    peer.instrument_openai()


def sentry(url: str) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.openai import OpenAIIntegration

    # Without a transaction around it Sentry makes one per call.
    dsn = url.replace("://", "://key@") + "/1"
    sentry_sdk.init(dsn=dsn, traces_sample_rate=1.0, integrations=[OpenAIIntegration()])


def ddtrace(url: str) -> None:
    os.environ.update(DD_TRACE_AGENT_URL=url, DD_INSTRUMENTATION_TELEMETRY_ENABLED="false")
    from ddtrace import patch

    patch(openai=True)


def newrelic(url: str) -> None:
    # Its collector is reached by TLS alone, so it runs as its developers run it: everything but the last send.
    os.environ.update(
        NEW_RELIC_DEVELOPER_MODE="true", NEW_RELIC_LICENSE_KEY="0" * 40, NEW_RELIC_APP_NAME="bench",
        NEW_RELIC_LOG="/dev/null", NEW_RELIC_AI_MONITORING_ENABLED="true",
    )  # fmt: skip
    import newrelic.agent

    newrelic.agent.initialize()
    newrelic.agent.register_application(timeout=10.0)


def aicostguard(url: str) -> None:
    os.environ.update(AICG_URL=url, AICG_KEY="aicg_" + "b" * 32)
    import aicostguard.auto  # noqa: F401


def none(url: str) -> None:
    """Nobody looks."""


#: observer → how it is switched on, at a sink
OBSERVERS: Dict[str, Callable[[str], None]] = {
    row.__name__: row
    for row in (
        none,
        aicostguard,
        opentelemetry,
        openinference,
        traceloop,
        langfuse,
        logfire,
        sentry,
        ddtrace,
        newrelic,
    )
}


def around(name: str) -> Callable[[], Any]:
    """New Relic records nothing outside a transaction."""
    if name != "newrelic":
        return contextlib.nullcontext
    import newrelic.agent as agent

    return lambda: agent.BackgroundTask(agent.application(), name="bench")


def measure(call: Callable[[], Any], calls: int, transaction: Callable[[], Any]) -> List[float]:
    """Median µs of CPU of a call on this thread, then the mean µs of the whole process."""
    for _ in range(30):
        with transaction():
            call()
    gc.collect()
    took = []
    before = time.process_time_ns()
    for _ in range(calls):
        with transaction():
            start = time.thread_time_ns()
            call()
            took.append(time.thread_time_ns() - start)
    return [statistics.median(took) / 1000, (time.process_time_ns() - before) / calls / 1000]


def main() -> None:
    name, url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    start = time.process_time_ns()
    OBSERVERS[name](url)
    started = (time.process_time_ns() - start) / 1e6
    import openai

    transport = in_memory(plain_body(), {n: stream_events(n) for n in (FEW, MANY)})
    import httpx2

    client = openai.OpenAI(
        api_key="x", base_url="https://api.openai.com/v1", http_client=httpx2.Client(transport=transport)
    )
    transaction = around(name)
    plain = measure(lambda: ask(client), calls, transaction)
    few = measure(lambda: streamed(client, FEW), max(1, calls // 4), transaction)
    many = measure(lambda: streamed(client, MANY), max(1, calls // 20), transaction)
    row = {"plain": plain[0], "process": plain[1], "chunk": (many[0] - few[0]) / (MANY - FEW), "started": started}
    json.dump({"version": openai.__version__, **row}, sys.stdout)


if __name__ == "__main__":
    main()
