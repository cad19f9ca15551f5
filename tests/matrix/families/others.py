"""Beside other observers in one process: OpenTelemetry, Sentry, ddtrace. Each makes the spans it makes alone.

What a case gives is the result and how many spans the other one made, so that the comparison with the run without the
agent shows both unchanged.
"""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

from tests.matrix.case import HI, USAGE, Url, both, case, environment, is_async

Watched = Tuple[Any, Callable[[], List[str]]]


def openai_client(url: Url, mode: str) -> Any:
    import openai

    kind = openai.AsyncOpenAI if is_async(mode) else openai.OpenAI
    return kind(base_url=url("openai") + "/v1", api_key="x", max_retries=0)


_otel: List[Any] = []


def with_otel(url: Url, mode: str) -> Watched:
    """Its instrumentations of openai and of httpx."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    if not _otel:
        _otel.append(InMemorySpanExporter())
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(_otel[0]))
        trace.set_tracer_provider(provider)
        OpenAIInstrumentor().instrument()
        HTTPXClientInstrumentor().instrument()
    return openai_client(url, mode), lambda: sorted(span.name for span in _otel[0].get_finished_spans())


_sentry: List[str] = []


def with_sentry(url: Url, mode: str) -> Watched:
    """Its integrations of openai and of httpx, tracing every call."""
    import sentry_sdk

    def keep(event: Any, hint: Any) -> Any:
        _sentry.extend(str(span.get("op")) for span in event.get("spans", ()))
        return None

    if not sentry_sdk.get_client().is_active():
        dsn = "http://key@127.0.0.1:9/1"
        sentry_sdk.init(dsn=dsn, traces_sample_rate=1.0, before_send_transaction=keep, auto_enabling_integrations=True)
    return openai_client(url, mode), lambda: sorted(_sentry)


_ddtrace: List[str] = []
_ddtrace_on: List[bool] = []


def with_ddtrace(url: Url, mode: str) -> Watched:
    """Its patches of openai and httpx. Its spans are taken before they would be sent."""
    import ddtrace
    from ddtrace.trace import TraceFilter, tracer

    class Keep(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            _ddtrace.extend(span.name for span in trace)

    if not _ddtrace_on:
        _ddtrace_on.append(True)
        tracer.configure(trace_processors=[Keep()])
        ddtrace.patch(openai=True, httpx=True)
    return openai_client(url, mode), lambda: sorted(_ddtrace)


def watched(given: Watched, mode: str) -> Any:
    client, spans = given
    before = len(spans())
    result = both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)
    return [result, len(spans()) - before]


@case("others.opentelemetry", with_otel, imports="opentelemetry")
def others_opentelemetry(given: Watched, mode: str) -> Any:
    found = watched(given, mode)
    assert found[1] > 0, "OpenTelemetry made no span"
    return found


@case("others.sentry", with_sentry, imports="sentry_sdk")
def others_sentry(given: Watched, mode: str) -> Any:
    import sentry_sdk

    with sentry_sdk.start_transaction(name="test", sampled=True):
        result = both(given[0], mode, given[0].chat.completions.create, USAGE, model="gpt-4o", messages=HI)
    made, _sentry[:] = sorted(op for op in _sentry if op.startswith(("gen_ai", "http"))), []
    assert any("gen_ai" in op for op in made), made
    return [result, made]


@case("others.ddtrace", with_ddtrace, imports="ddtrace")
def others_ddtrace(given: Watched, mode: str) -> Any:
    found = watched(given, mode)
    assert found[1] > 0, "ddtrace made no span"
    return found


_OTEL = (
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-instrumentation-openai-v2==2.4b0",
    # what openai-v2 asks for admits later ones that lack a module it imports
    "opentelemetry-util-genai==0.4b0",
    "opentelemetry-instrumentation-httpx==0.66b2",
    "httpx==0.28.1",  # which it imports and does not name; the SDK is httpx2's
)
_OPENAI, _SENTRY, _DDTRACE = "openai==3.54.0", "sentry-sdk==2.75.0", "ddtrace==4.16.0"

environment("others-opentelemetry", (_OPENAI, *_OTEL), ("others.opentelemetry",))
environment("others-sentry", (_OPENAI, _SENTRY), ("others.sentry",))
environment("others-ddtrace", (_OPENAI, _DDTRACE), ("others.ddtrace",))
environment("others-together", (_OPENAI, *_OTEL, _SENTRY), ("others.opentelemetry", "others.sentry"))
