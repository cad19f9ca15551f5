"""The attribution tree: total = direct + delegated, and nothing passes a cap above it."""

from __future__ import annotations

import math
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import BudgetExceeded, CostAttributionTree, ModelPricing, TokenUsage

REPORT = """\
Multi-Agent Cost Attribution
========================================
Global: $0.1008 spent
Budget: $50.00 (0% used)

Agent                     Direct  Delegated      Total Calls
------------------------------------------------------------
orchestrator          $   0.0000 $   0.1008 $   0.1008     0
  researcher          $   0.0400 $   0.0000 $   0.0400     1
  writer              $   0.0600 $   0.0000 $   0.0600     1
  reviewer            $   0.0008 $   0.0000 $   0.0008     1"""


def dollar_a_token():
    """Prices of which a test can see the sums: one nano-dollar a token."""
    pricing = ModelPricing()
    pricing.register("m", input_per_million="0.001", output_per_million="0.001")
    return pricing


def sources_tree():
    tree = CostAttributionTree(max_budget=50.0, session_id="run-42")
    tree.register_agent("orchestrator", max_budget=50.0)
    tree.register_agent("researcher", parent_id="orchestrator", max_budget=20.0)
    tree.register_agent("writer", parent_id="orchestrator", max_budget=15.0)
    tree.register_agent("reviewer", parent_id="orchestrator", max_budget=10.0)
    tree.record("researcher", TokenUsage(model="gpt-4o", input_tokens=8000, output_tokens=2000))
    tree.record("writer", TokenUsage(model="claude-sonnet-4", input_tokens=5000, output_tokens=3000))
    tree.record("reviewer", TokenUsage(model="gpt-4o-mini", input_tokens=3000, output_tokens=500))
    return tree


@pytest.mark.ids("ACC:B16", "B18")
def test_the_sources_report_has_the_right_figures():
    tree = sources_tree()
    assert tree.format_report() == REPORT
    assert tree.session_id == "run-42" and tree.spent == 0.10075


@pytest.mark.parametrize("cap, spent, used", [(50, 0, 0), (100, 99, 99), (7, 7, 100), (0, 0, 100)])
def test_the_share_that_is_used_is_rounded_down_and_of_nothing_all_is(cap, spent, used):
    tree = CostAttributionTree(max_budget=cap / 10**9, pricing=dollar_a_token())
    tree.register_agent("a")
    tree.record("a", TokenUsage("m", spent, 0))
    assert "(%d%% used)" % used in tree.format_report()


@pytest.mark.ids("B19")
def test_direct_delegated_total_and_calls():
    tree = sources_tree()
    tree.record("orchestrator", TokenUsage("gpt-4o", 1000, 0))
    part = tree.attribution("orchestrator")
    assert (part.direct_usd, part.delegated_usd, part.total_usd, part.calls) == (0.0025, 0.10075, 0.10325, 1)
    assert (part.parent, part.depth) == (None, 0)
    child = tree.attribution("writer")
    assert (child.parent, child.depth, child.calls, child.remaining_usd) == ("orchestrator", 1, 1, 14.94)


@pytest.mark.ids("ACC:B17")
def test_what_is_not_there_or_there_twice_is_named():
    tree = CostAttributionTree()
    tree.register_agent("a")
    with pytest.raises(ValueError, match="agent 'a' is registered already"):
        tree.register_agent("a")
    with pytest.raises(ValueError, match="parent agent 'b' is not registered"):
        tree.register_agent("c", parent_id="b")
    for ask in (lambda: tree.record("d", TokenUsage("gpt-4o", 1, 1)), lambda: tree.attribution("d")):
        with pytest.raises(ValueError, match="agent 'd' is not registered"):
            ask()
    assert [part.agent for part in tree.report()] == ["a"]


@pytest.mark.ids("B32", "X1")
def test_a_model_without_a_price_is_refused():
    tree = CostAttributionTree()
    tree.register_agent("a")
    with pytest.raises(ValueError, match=r"^No pricing configured for model: nobodys$"):
        tree.record("a", TokenUsage("nobodys", 1, 1))
    assert tree.attribution("a").calls == 0


@pytest.mark.ids("B20")
def test_a_childs_cap_is_what_its_parent_has_left():
    tree = CostAttributionTree(max_budget=10, pricing=dollar_a_token())
    assert tree.register_agent("root", max_budget=100) == 10
    assert tree.register_agent("a", "root", max_budget=8) == 8
    tree.record("a", TokenUsage("m", 10**9, 10**9 // 2))
    tree.record("a", TokenUsage("m", 10**9, 10**9 // 2))
    assert tree.register_agent("b", "root", max_budget=9) == 7
    assert tree.register_agent("c", "root") == 7
    assert tree.remaining("a") == 5 and tree.remaining() == 7
    for _ in range(4):
        tree.record("b", TokenUsage("m", 10**9))
    assert tree.remaining("a") == 3, "less than its own cap leaves: its sibling has used it"


@pytest.mark.ids("B21", "D9", "X2")
def test_an_exhausted_child_is_blocked_and_its_siblings_go_on():
    tree = CostAttributionTree(max_budget=10, pricing=dollar_a_token())
    tree.register_agent("root", max_budget=5)
    tree.register_agent("child", "root", max_budget=2)
    tree.register_agent("sibling", "root", max_budget=4)
    tree.record("child", TokenUsage("m", 10**9, 10**9))  # reaches it exactly
    with pytest.raises(BudgetExceeded) as caught:
        tree.record("child", TokenUsage("m", 10**8))
    assert str(caught.value) == "Spend $2.10 of agent child would exceed the budget of agent child $2.00"
    assert caught.value.scope == {"agent": "child"} and caught.value.budget == "child"
    tree.record("sibling", TokenUsage("m", 10**9))
    tree.record("root", TokenUsage("m", 10**9))
    with pytest.raises(BudgetExceeded) as caught:
        tree.record("sibling", TokenUsage("m", 10**9 + 0, 1))
    assert str(caught.value) == (
        "Spend $5.000000001 below the budget of agent root, with a call of agent sibling, would exceed $5.000000000"
    )
    assert (caught.value.limit, caught.value.spent, caught.value.estimate) == (5 * 10**9, 4 * 10**9, 10**9 + 1)
    assert tree.attribution("sibling").calls == 1, "what was refused is not counted"


@pytest.mark.ids("B22")
def test_all_classes_of_tokens_roll_up_at_any_depth():
    tree = CostAttributionTree()
    tree.register_agent("0")
    for n in range(1, 50):
        tree.register_agent(str(n), str(n - 1))
    tree.record("49", TokenUsage("gpt-4o", 1000, 100, 400, reasoning_output_tokens=50))
    tree.record("25", TokenUsage("gpt-4o", 1000, 100, 400))
    expected = {
        "input_tokens": 2000,
        "output_tokens": 200,
        "cache_read_input_tokens": 800,
        "reasoning_output_tokens": 50,
    }
    assert tree.attribution("0").tokens == tree.attribution("25").tokens == expected
    assert tree.attribution("26").tokens["input_tokens"] == 1000
    assert tree.attribution("0").delegated_usd == tree.spent


@pytest.mark.ids("B22", "D9")
def test_a_tree_may_be_deeper_than_python():
    depth = 3 * sys.getrecursionlimit()
    tree = CostAttributionTree(max_budget=1)
    tree.register_agent("0")
    for n in range(1, depth):
        tree.register_agent(str(n), str(n - 1), max_budget=0.5)
    tree.record(str(depth - 1), TokenUsage("gpt-4o", 1000, 0))
    assert tree.attribution("0").total_usd == 0.0025
    assert len(tree.format_report().splitlines()) == 7 + depth
    del tree


def test_without_caps_nothing_is_blocked():
    tree = CostAttributionTree()
    assert tree.register_agent("a") == math.inf == tree.remaining("a")
    tree.record("a", TokenUsage("gpt-4o", 10**9, 10**9))
    assert "Budget" not in tree.format_report()


def test_caps_are_checked():
    with pytest.raises(ValueError, match=r"CostAttributionTree\.max_budget: -1 cannot be used"):
        CostAttributionTree(max_budget=-1)
    tree = CostAttributionTree()
    with pytest.raises(ValueError, match="max_budget"):
        tree.register_agent("a", max_budget="much")
    assert tree.report() == []


caps = st.none() | st.integers(0, 60)
steps = st.lists(
    st.tuples(st.just("register"), st.integers(-1, 12), caps)
    | st.tuples(st.just("record"), st.integers(0, 12), st.integers(0, 20)),
    max_size=60,
)


@pytest.mark.ids("D9", "B19", "B20", "B21")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(caps, steps)
def test_sums_and_caps_hold_whatever_is_done(cap, steps):
    """Amounts in nano-dollars; agents are numbers. The model is a list of parents, effective caps and own spends."""
    tree = CostAttributionTree(None if cap is None else "%.9f" % (cap / 1e9), pricing=dollar_a_token())
    parents, limits, direct = [], [], []

    def chain(n):
        while n >= 0:
            yield n
            n = parents[n]

    def total(n):
        return sum(own for each, own in enumerate(direct) if n == -1 or n in chain(each))

    def room(n):
        rooms = [limits[each] - total(each) for each in chain(n) if limits[each] is not None]
        return min([*rooms, *([] if cap is None else [cap - total(-1)])], default=None)

    for what, agent, amount in steps:
        if what == "register":
            parent = min(agent, len(parents) - 1)
            left = room(parent)
            tree.register_agent(
                str(len(parents)),
                None if parent < 0 else str(parent),
                None if amount is None else "%.9f" % (amount / 1e9),
            )
            parents.append(parent)
            limits.append(amount if left is None or amount is None else min(amount, left))
            direct.append(0)
        elif agent < len(parents):
            left = room(agent)
            if left is not None and amount > left:
                with pytest.raises(BudgetExceeded):
                    tree.record(str(agent), TokenUsage("m", amount))
            else:
                tree.record(str(agent), TokenUsage("m", amount))
                direct[agent] += amount
        for n, node in enumerate(tree._nodes.values()):
            assert node.direct == direct[n] and node.total == node.direct + node.delegated == total(n)
            assert node.limit is None or node.total <= node.limit
            above = node.parent.remaining()
            assert above is None or node.remaining() <= above, "no child has more room than its parent"
        assert cap is None or tree._root.total <= cap
        assert tree._root.total == sum(direct)


@pytest.mark.ids("B17")
@pytest.mark.parametrize("name, kind", [(None, "NoneType"), ("", "an empty one"), (5, "int"), (["a"], "list")])
def test_an_agent_has_a_name(name, kind):
    tree = CostAttributionTree()
    with pytest.raises(ValueError, match="agent_id must be the name of an agent, not %s$" % kind):
        tree.register_agent(name)
    assert tree.report() == []


@pytest.mark.ids("B38", "D1")
def test_threads_never_pass_a_cap_together():
    tree = CostAttributionTree(max_budget=1, pricing=dollar_a_token())
    tree.register_agent("root", max_budget="0.9")
    for n in range(8):
        tree.register_agent(str(n), "root", max_budget="0.2")
    refused = []
    start = threading.Barrier(16)

    def work(n):
        start.wait()
        for _ in range(100):
            try:
                tree.record(str(n % 8), TokenUsage("m", 10**6))
            except BudgetExceeded:
                refused.append(n)

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
    assert tree.spent == 0.9 and len(refused) == 700
    assert sum(part.calls for part in tree.report()) == 900
