"""`TokenUsage` and `CostTracker`: sums are exact, budgets and loops are said, whoever calls from wherever."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import sys
import threading
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import BudgetExceeded, BudgetExhausted, CostTracker, LoopDetected, ModelPricing, TokenUsage
from aicostguard.guard import tracker as module

#: dollars per million tokens of gpt-4o; its cached input is half of it
IN, OUT = Fraction(5, 2), Fraction(10)

#: however busy the machine is
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.ids("D01", "X3")
def test_the_cost_of_a_call_is_given():
    assert CostTracker().track("gpt-4o", 1500, 500) == 0.00875
    assert CostTracker().track(model="gpt-4o", input_tokens=1500, output_tokens=500) == 0.00875


@pytest.mark.ids("D02", "D04", "X3", "B23")
def test_both_ways_add_to_the_same_sums():
    tracker = CostTracker(max_budget=10.0)
    tracker.track("gpt-4o", 1500, 500)
    assert tracker.record(TokenUsage("gpt-4o", 1500, 500), agent_id="a") == 0.00875
    tracker.record(TokenUsage("gpt-4o-mini", 1_000_000, 0), agent_id="b")
    assert (tracker.total_tokens, tracker.call_count) == (1_004_000, 3)
    assert tracker.total_cost == tracker.spent == 0.1675
    assert tracker.remaining == 9.8325
    assert tracker.by_model == {"gpt-4o": 0.0175, "gpt-4o-mini": 0.15}
    assert tracker.by_agent == {"a": 0.00875, "b": 0.15}
    assert tracker.spent_nanousd == 167_500_000


@pytest.mark.ids("C10", "D02")
@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30))
def test_sums_are_exact(calls):
    """Each call is rounded once, to the nano-dollar; sums are not rounded at all."""
    tracker = CostTracker()
    for into, out in calls:
        tracker.track("gpt-4o", into, out)
    assert tracker.spent_nanousd == sum(int(1000 * (into * IN + out * OUT)) for into, out in calls)


@pytest.mark.ids("D03", "X1", "B32")
def test_an_unknown_model_has_no_cost_and_is_not_free(caplog):
    tracker = CostTracker(max_budget=1)
    with pytest.raises(ValueError, match=r"^No pricing configured for model: nobodys-model$"):
        tracker.track("nobodys-model", 1, 1)
    assert tracker.call_count == 0
    with caplog.at_level(logging.WARNING, "aicostguard"):
        for _ in range(3):
            assert tracker.record(TokenUsage("nobodys-model", 10, 10)) is None
    assert (tracker.unpriced, tracker.call_count, tracker.total_tokens, tracker.spent) == (3, 3, 60, 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "No pricing configured for model: nobodys-model; its calls are counted and stand in no sum of money"
    ]
    with pytest.raises(ValueError, match="nobodys-model"):
        CostTracker(on_unpriced="block").record(TokenUsage("nobodys-model", 10, 10))


@pytest.mark.ids("B31")
def test_registered_models_have_the_prices_they_were_given():
    pricing = ModelPricing()
    pricing.register("my-fine-tuned-model", input_per_million=5.0, output_per_million=15.0, cached_per_million=2.5)
    tracker = CostTracker(pricing=pricing)
    cost = tracker.record(TokenUsage("my-fine-tuned-model", 1_000_000, 1_000_000, cached_tokens=400_000))
    assert cost == 3.0 + 1.0 + 15.0


@pytest.mark.ids("X2", "B23")
def test_a_budget_may_be_reached_and_not_passed():
    tracker = CostTracker(max_budget=0.0175)
    tracker.track("gpt-4o", 1500, 500)
    tracker.track("gpt-4o", 1500, 500)
    assert tracker.remaining == 0
    with pytest.raises(BudgetExceeded) as caught:
        tracker.record(TokenUsage("gpt-4o", 1500, 500))
    assert isinstance(caught.value, BudgetExhausted)
    assert str(caught.value) == "Spend $0.03 exceeds budget $0.02"
    assert (caught.value.limit, caught.value.spent, caught.value.estimate) == (17_500_000, 26_250_000, 8_750_000)
    assert tracker.spent == 0.02625, "it was spent, so it is counted"
    assert tracker.remaining == 0


@pytest.mark.ids("B05")
def test_amounts_that_differ_look_different():
    tracker = CostTracker(max_budget="0.000000001")
    with pytest.raises(BudgetExceeded, match=r"^Spend \$0\.000003 exceeds budget \$0\.000000$"):
        tracker.track("gpt-4o", 1, 0)


def test_without_a_budget_nothing_is_used_up():
    tracker = CostTracker()
    tracker.track("gpt-4o", 10**9, 10**9)
    assert tracker.remaining == math.inf


@pytest.mark.ids("B33", "B35", "B36", "X7")
def test_the_sources_loop_is_found_at_its_fifth_call():
    tracker = CostTracker(max_budget=10.0)
    for _ in range(10):
        try:
            tracker.record(
                TokenUsage(model="gpt-4o", input_tokens=1000, output_tokens=200),
                agent_id="stuck-agent",
                action_type="retry_tool_call",
            )
        except BudgetExhausted as error:
            found = error
            break
    assert type(found) is LoopDetected and "loop" in str(found).lower()
    assert tracker.call_count == 5, "the fifth was made, so it is counted"


@pytest.mark.ids("B34", "B35")
def test_window_and_threshold_are_settings():
    tracker = CostTracker(max_budget=10.0, loop_window=120.0, loop_threshold=10)
    usage = TokenUsage("gpt-4o", 10, 10)
    for _ in range(9):
        tracker.record(usage, agent_id="a")
    with pytest.raises(LoopDetected, match="10 times within 120 seconds"):
        tracker.record(usage, agent_id="a")


@pytest.mark.ids("D8", "X7")
def test_different_work_is_no_loop():
    tracker = CostTracker()
    for n in range(16):
        tracker.record(TokenUsage("gpt-4o", 1000 + n, 200), agent_id="worker", action_type="summarise")
        tracker.record(TokenUsage("gpt-4o", 1000, 200), agent_id="worker%d" % n)
        tracker.record(TokenUsage("gpt-4o", 1000, 200), agent_id="worker", fingerprint="document %d" % n)
        tracker.record(TokenUsage("gpt-4o", 1000, 200))  # nothing says that these are the same call
        tracker.track("gpt-4o", 1000, 200)


@pytest.mark.ids("X7")
def test_agents_that_delegate_back_and_forth_are_a_loop():
    tracker = CostTracker()
    usage = TokenUsage("gpt-4o", 1000, 200)
    with pytest.raises(LoopDetected, match="agents editor and writer handed the same work to each other 5 times"):
        for n in range(10):
            agent, parent = ("writer", "editor") if n % 2 else ("editor", "writer")
            tracker.record(usage, agent_id=agent, parent_id=parent)
    assert tracker.call_count == 5


@pytest.mark.ids("B38")
def test_nothing_is_lost_between_threads():
    tracker = CostTracker()
    start = threading.Barrier(16)

    def work(n):
        start.wait()
        for each in range(250):
            if each % 2:
                tracker.track("gpt-4o", 1500, 500)
            else:
                tracker.record(TokenUsage("gpt-4o", 1500, 500), agent_id="a%d" % n, fingerprint=each)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert tracker.call_count == 4000 and tracker.total_tokens == 8_000_000
    assert tracker.spent_nanousd == 4000 * 8_750_000
    assert sum(tracker.by_agent.values()) == pytest.approx(17.5)


@pytest.mark.ids("D10")
def test_memory_does_not_grow_with_names():
    tracker = CostTracker()
    for n in range(3 * module.MOST):
        tracker.record(TokenUsage("gpt-4o", 1000, 0), agent_id="agent %d" % n)
    assert len(tracker.by_agent) == module.MOST + 1
    assert tracker.by_agent[module.OTHER] == 2 * module.MOST * 0.0025


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"max_budget": -1}, "CostTracker.max_budget: -1 cannot be used"),
        ({"loop_window": "x"}, "CostTracker.loop_window"),
        ({"loop_threshold": 0}, "CostTracker.loop_threshold"),
        ({"on_unpriced": "ignore"}, "CostTracker.on_unpriced"),
    ],
)
def test_settings_are_checked(wrong, says):
    with pytest.raises(ValueError, match=says):
        CostTracker(**wrong)


@pytest.mark.ids("B06")
def test_a_usage_is_a_value():
    usage = TokenUsage("gpt-4o", 1000, 100, 400, provider="azure", reasoning_output_tokens=50)
    for way in (lambda u: pickle.loads(pickle.dumps(u)), copy.copy, copy.deepcopy):
        assert way(usage) == usage
    assert usage != TokenUsage("gpt-4o", 1000, 100, 400)
    assert eval(repr(usage), {"TokenUsage": TokenUsage}) == usage
    assert usage.total_tokens == 1100
    assert TokenUsage(model="m", input_tokens=1, output_tokens=2).cached_tokens == 0


@pytest.mark.ids("B06", "B5")
def test_cached_tokens_are_a_part_of_the_input():
    assert CostTracker().record(TokenUsage("gpt-4o", 1_000_000, 0, 400_000)) == 1.5 + 0.5
    with pytest.raises(ValueError, match="cached_tokens is a part of input_tokens, so 11 cannot be more than 10"):
        TokenUsage("gpt-4o", 10, 0, 11)


@pytest.mark.ids("C2")
def test_a_usage_takes_what_else_decides_the_price():
    plain = CostTracker().record(TokenUsage("o3", 1_000_000, 0))
    assert CostTracker().record(TokenUsage("o3", 1_000_000, 0, service_tier="flex")) == plain / 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_tokens": -1},
        {"output_tokens": 1.5},
        {"input_tokens": True},
        {"cached_tokens": None},
        {"reasoning_output_tokens": -1},
    ],
)
def test_counts_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TokenUsage("gpt-4o", **wrong)


@pytest.mark.parametrize("name", ["tokens", "user", "tags", "cache_read_input_tokens"])
def test_unknown_counts_are_refused(name):
    with pytest.raises(TypeError, match=name):
        TokenUsage("gpt-4o", **{name: 1})


@pytest.mark.ids("B06")
def test_a_receipts_usage_costs_what_the_receipt_does():
    from aicostguard import pricing

    receipt = {
        "provider": "anthropic", "model": "claude-sonnet-4-20250514", "input_tokens": 12307, "output_tokens": 550,
        "cache_creation_input_tokens": 12304, "latency_ms": 900, "feature": "f", "user": "u", "streamed": True,
    }  # fmt: skip
    usage = TokenUsage.of(receipt)
    assert "user" not in usage.more
    assert usage.price(ModelPricing()).cost_nanousd == pricing.price(receipt, 1_790_000_000_000).cost_nanousd
