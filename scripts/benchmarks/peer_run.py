"""One process of `scripts/bench peers`: the current openai SDK with one observer, a turn whenever it is asked for.

Runs in the peer's own environment, where nothing of ours is installed; `traffic` and `counted` are files beside it.
Says `ready`, then answers each line on stdin (`turn`, `count`) with one line of JSON; ends with its stdin.
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

from benchmarks.counted import count
from benchmarks.traffic import ask, in_memory, plain_body, stream_events, streamed

FEW, MANY = 20, 220
#: calls and streams of each length in a turn, before the first, and for a count
PLAIN, STREAMS, WARM, COUNTED = 20, 4, 30, 5
#: calls and streams before the first turn, and in each
BEFORE, IN_A_TURN = 2 * WARM + 1 + 3 * COUNTED, 1 + PLAIN + 2 * STREAMS


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


def measure(call: Callable[[], Any], calls: int) -> List[float]:
    """Median µs of CPU of a call on this thread, then the mean µs of the whole process."""
    took = []
    before = time.process_time_ns()
    for _ in range(calls):
        start = time.thread_time_ns()
        call()
        took.append(time.thread_time_ns() - start)
    return [statistics.median(took) / 1000, (time.process_time_ns() - before) / calls / 1000]


def main() -> None:
    name, url = sys.argv[1:]
    OBSERVERS[name](url)
    import httpx2
    import openai

    transport = in_memory(plain_body(), {n: stream_events(n) for n in (FEW, MANY)})
    client = openai.OpenAI(
        api_key="x", base_url="https://api.openai.com/v1", http_client=httpx2.Client(transport=transport)
    )
    transaction = around(name)

    def observed(work: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> None:
            with transaction():
                work()

        return call

    plain = observed(lambda: ask(client))
    few, many = observed(lambda: streamed(client, FEW)), observed(lambda: streamed(client, MANY))

    def turn() -> Dict[str, float]:
        plain()  # the caches are somebody else's by now
        on_thread, in_process = measure(plain, PLAIN)
        chunks = measure(many, STREAMS)[0] - measure(few, STREAMS)[0]
        return {"plain": on_thread, "process": in_process, "chunk": chunks / (MANY - FEW)}

    def counts() -> Dict[str, float]:
        # The least of some: now and then an observer has something else to do.
        steps = [min(_steps(work) for _ in range(COUNTED)) for work in (plain, few, many)]
        return {"plain_steps": steps[0], "chunk_steps": (steps[2] - steps[1]) / (MANY - FEW)}

    for _ in range(WARM):
        plain()
        few()
    many()
    answers: Dict[str, Callable[[], Dict[str, float]]] = {"turn": turn, "count": counts}
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # whatever an observer prints
        print("ready", file=out, flush=True)
        for line in sys.stdin:
            gc.collect()
            print(json.dumps(answers[line.strip()]()), file=out, flush=True)


def _steps(work: Callable[[], Any]) -> int:
    found = count(work)
    return found.steps + found.others


if __name__ == "__main__":
    main()
