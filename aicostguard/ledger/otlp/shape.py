"""What a collector is told: OpenTelemetry metrics, made of what `spend` has read. Pure.

Owns their names, units and attributes: those of the GenAI conventions where they have one, else `aicg.…`.

All counts are cumulative, from a beginning that is kept in the ledger's file, as the rows are. So a point that is lost
is made up for by the next one, one that comes twice says the same, and a restart of the ledger is none of the count:
what is summed up of it is right, to the call. A delta that gets lost, or comes twice because its answer was lost, would
be wrong for good; who needs deltas has `cumulativetodelta` in the collector.

Metrics alone: a span needs the trace that a call was part of, and an event what was said. Receipts have neither, and
the program's own instrumentation makes both.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from aicostguard import __version__
from aicostguard.ledger import spend
from aicostguard.ledger.amounts import priced
from aicostguard.ledger.spend import Spend
from aicostguard.ledger.sqlite import taken
from aicostguard.ledger.sqlite.taken import Row

SCOPE = "aicostguard.ledger"
#: our provider → `gen_ai.provider.name`, where the conventions have another word
PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
#: label → attribute. A receipt has the model that answered; which one was asked for it does not say.
_ATTRIBUTES = {
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.response.model",
    "operation": "gen_ai.operation.name",
    "feature": "aicg.feature",
    "team": "aicg.team",
    "environment": "deployment.environment.name",
}
#: measure → (metric, what it is)
_SUMS = {
    "calls": ("aicg.calls", "Calls."),
    "unpriced_calls": ("aicg.calls.unpriced", "Calls that no price is known of, and that are in no cost."),
    "usage_missing_calls": ("aicg.calls.usage_missing", "Calls whose provider told no usage."),
    "estimated_calls": ("aicg.calls.estimated", "Calls whose usage is estimated."),
    "partial_calls": ("aicg.calls.partial", "Calls that ended early."),
}
_UNITS = {"dollars": "{USD}", "tokens": "{token}", "requests": "{request}"}
#: sets of labels of one request: some ten points each
ROWS_AT_ONCE = 500

Attributes = dict[str, str]


def data(told: Spend, now_ms: int) -> Iterator[MetricsData]:
    """Requests that together say everything, none of them larger than collectors take."""
    assert told.since is not None
    started, now = told.since.since_ms * 1_000_000, max(now_ms, told.since.since_ms) * 1_000_000
    places = {project.id: (project.organisation, project.name) for project in told.projects}
    resource = Resource.create(
        {"service.name": "aicostguard", "service.version": __version__, "service.instance.id": told.since.instance}
    )
    rest = list(_budgets(told, now))
    for start in range(0, len(told.rows), ROWS_AT_ONCE) or (0,):
        named = [(_named(places[row.project_id], row), row) for row in told.rows[start : start + ROWS_AT_ONCE]]
        metrics = [*_counted(named, started, now), *rest]
        rest = []
        if metrics:
            scope = ScopeMetrics(InstrumentationScope(SCOPE, __version__), metrics, "")
            yield MetricsData([ResourceMetrics(resource, [scope], "")])


def _named(place: tuple[str, str], row: Row) -> Attributes:
    labels = dict(zip(taken.LABELS, spend.labelled(row.labels)))
    labels["provider"] = PROVIDERS.get(labels["provider"], labels["provider"])
    said = {_ATTRIBUTES[name]: value for name, value in labels.items() if value}
    return {"aicg.organisation": place[0], "aicg.project": place[1], **said}


def _counted(rows: Sequence[tuple[Attributes, Row]], started: int, now: int) -> Iterator[Metric]:
    def number(attributes: Attributes, value: float) -> NumberDataPoint:
        return NumberDataPoint(attributes, started, now, value)

    def total(name: str, unit: str, says: str, points: Sequence[NumberDataPoint]) -> Iterator[Metric]:
        if points:
            yield Metric(name, says, unit, Sum(points, AggregationTemporality.CUMULATIVE, True))

    def spread(name: str, unit: str, says: str, points: Sequence[HistogramDataPoint]) -> Iterator[Metric]:
        if points:
            yield Metric(name, says, unit, Histogram(points, AggregationTemporality.CUMULATIVE))

    tokens: list[HistogramDataPoint] = []
    durations: list[HistogramDataPoint] = []
    for attributes, row in rows:
        for measure, kind in (("input_tokens", "input"), ("output_tokens", "output")):
            tokens += _histogram({**attributes, "gen_ai.token.type": kind}, row, measure, 1, started, now)
        durations += _histogram(attributes, row, "latency_ms", 1000, started, now)
    yield from spread("gen_ai.client.token.usage", "{token}", "Tokens of a call.", tokens)
    yield from spread("gen_ai.client.operation.duration", "s", "How long a call took.", durations)
    costs = [
        number(attributes, row.sums["cost_nanousd"] / 10**9) for attributes, row in rows if priced(row.sums) is not None
    ]
    yield from total("aicg.cost", "{USD}", "US dollars that calls cost as they came in.", costs)
    for measure, (name, says) in _SUMS.items():
        points = [number(at, row.sums[measure]) for at, row in rows if row.sums[measure] or measure in spend.ALWAYS]
        yield from total(name, "{call}", says, points)
    parts = [
        number({**attributes, "aicg.token.part": part}, row.sums[measure])
        for attributes, row in rows
        for measure, part in spend.PARTS.items()
        if row.sums[measure]
    ]
    yield from total("aicg.token.parts", "{token}", "Tokens that are part of a call's.", parts)
    units = [
        number({**attributes, "aicg.unit": unit}, row.sums[measure] / size)
        for attributes, row in rows
        for measure, (unit, size) in spend.UNITS.items()
        if row.sums[measure]
    ]
    yield from total("aicg.units", "{unit}", "What is billed by something else than the token.", units)


def _histogram(
    attributes: Attributes, row: Row, measure: str, by: int, started: int, now: int
) -> Iterator[HistogramDataPoint]:
    counts = row.spreads[measure]
    if any(counts):
        # The least and the largest are not known: they are left out, as the protocol allows, and not made up.
        unknown: Any = None
        bounds = [bound / by for bound in taken.BOUNDS[measure]]
        amount = row.sums[measure] / by if by > 1 else row.sums[measure]
        yield HistogramDataPoint(attributes, started, now, sum(counts), amount, counts, bounds, unknown, unknown)


def _budgets(told: Spend, now: int) -> Iterator[Metric]:
    points: dict[tuple[str, str], list[NumberDataPoint]] = {}
    for kept, named, found in spend.budgeted(told):
        unit = spend.BUDGETED[kept.budget.unit]
        attributes = {
            f"aicg.{name}" if name in spend.PLACE else f"aicg.budget.{name}": value for name, value in named.items()
        }
        attributes["aicg.budget.name"] = attributes.pop("aicg.budget.budget")
        for what in ("limit", "spent"):
            if what in found:
                points.setdefault((what, unit), []).append(NumberDataPoint(_said(attributes), now, now, found[what]))
    for (what, unit), values in points.items():
        says = "The limit of a budget." if what == "limit" else "What is spent of it in the present period."
        yield Metric(f"aicg.budget.{what}.{unit}", says, _UNITS[unit], Gauge(values))


def _said(attributes: Mapping[str, str]) -> Attributes:
    return {name: value for name, value in attributes.items() if value}
