"""`CostConfig`: what people write becomes exactly the rules they meant, or is refused with the remedy."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard import CostConfig
from aicostguard.guard import rules
from aicostguard.guard.policy import BadPolicy, Budget

SOURCE = {
    "budget_usd": 100.0,
    "per_call_limit_usd": 2.0,
    "per_session_limit_usd": 10.0,
    "daily_budget_usd": 50.0,
    "per_minute_tokens": 100_000,
    "alert_threshold": 0.8,
    "on_exceed": "block",
}

#: however busy the machine is
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.ids("B01", "B03", "B07", "B08", "B09")
def test_the_sources_seven_keys_are_five_rules():
    policy = CostConfig(**SOURCE).policy("app", "sqlite")
    assert (policy.name, policy.store) == ("app", "sqlite")
    assert {rule.name: rule for rule in policy.budgets} == {
        "per_call_limit_usd": Budget("per_call_limit_usd", 2 * 10**9, period="call", alert_at=(), dimension="per_call"),
        "per_session_limit_usd": Budget(
            "per_session_limit_usd", 10 * 10**9, period="session", alert_at=(800,), dimension="session"
        ),
        "daily_budget_usd": Budget("daily_budget_usd", 50 * 10**9, period="day", alert_at=(800,), dimension="daily"),
        "per_minute_tokens": Budget(
            "per_minute_tokens", 100_000, "tokens", period="minute", alert_at=(), dimension="per_minute_tokens"
        ),
        "budget_usd": Budget("budget_usd", 100 * 10**9, period="total", alert_at=(800,), dimension="budget"),
    }


@pytest.mark.ids("B02")
@pytest.mark.parametrize("name", [row[0] for row in rules.DIMENSIONS])
def test_every_limit_is_optional(name):
    assert [rule.name for rule in CostConfig(**{name: SOURCE[name]}).policy().budgets] == [name]


@pytest.mark.ids("B02")
def test_no_limit_is_no_rule():
    assert CostConfig().policy().budgets == ()


@pytest.mark.ids("B12", "B13", "X1", "X7")
def test_the_other_words_become_the_policys():
    policy = CostConfig(
        budget_usd=1,
        on_exceed="warn",
        on_unpriced="block",
        on_unknown_bound="max",
        on_store_failure="closed",
        loop_window=120,
        loop_threshold=10,
        loop_action="block",
        audit="audit.jsonl",
    ).policy()
    assert policy.budgets[0].on_exceed == "warn"
    assert policy[2:] == ("block", "max", "closed", 120.0, 10, "block", "memory", None, "audit.jsonl")


@pytest.mark.ids("B03")
@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"budget_uds": 5}, "CostConfig.budget_uds: there is no such key: did you mean budget_usd?"),
        ({"limit": 5}, "CostConfig.limit: there is no such key: known are budget_usd, "),
        ({"budget_usd": -5}, "CostConfig.budget_usd: -5 cannot be used: use an amount in USD"),
        ({"budget_usd": "ten"}, "CostConfig.budget_usd: 'ten' cannot be used"),
        ({"budget_usd": float("nan")}, "CostConfig.budget_usd: nan cannot"),
        ({"budget_usd": float("inf")}, "CostConfig.budget_usd: inf cannot"),
        ({"budget_usd": True}, "CostConfig.budget_usd: True cannot"),
        ({"budget_usd": 1e-10}, "no finer than a nano-dollar"),
        ({"budget_usd": 1e30}, "CostConfig.budget_usd"),
        ({"budget_usd": "0100"}, "CostConfig.budget_usd"),
        ({"budget_usd": [5]}, "CostConfig.budget_usd: [5] cannot"),
        ({"per_minute_tokens": 0.5}, "use a whole number of tokens"),
        ({"per_minute_tokens": -1}, "use a whole number of tokens"),
        ({"alert_threshold": 0}, "use a share of the limit above 0"),
        ({"alert_threshold": 80}, "or a percentage such as 80%"),
        ({"on_exceed": "stop"}, "CostConfig.on_exceed: 'stop' cannot be used: use one of block, warn, log"),
        ({"on_exceed": True}, "CostConfig.on_exceed"),
        ({"alert_threshold": "100.1%"}, "use a share of the limit above 0"),
        ({"loop_threshold": 1}, "use a whole number of calls from 2"),
        ({"loop_threshold": 1001}, "use a whole number of calls from 2"),
        ({"loop_window": 0}, "use seconds, above 0"),
        ({"loop_window": 86400.001}, "use seconds, above 0"),
        ({"loop_action": "stop"}, "use one of warn, block, off"),
    ],
)
def test_a_mistake_names_field_value_and_remedy(wrong, says):
    with pytest.raises(BadPolicy) as caught:
        CostConfig(**wrong)
    assert says in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("window, threshold, share", [(0.001, 2, "0.1%"), (86400, 1000, "100%"), ("60", "2", 1)])
def test_what_lies_at_the_ends_is_taken(window, threshold, share):
    policy = CostConfig(budget_usd=1, loop_window=window, loop_threshold=threshold, alert_threshold=share).policy()
    assert (policy.loop_window, policy.loop_threshold) == (float(window), int(threshold))
    assert policy.budgets[0].alert_at == (1 if share == "0.1%" else 1000,)


@pytest.mark.ids("C10")
@pytest.mark.parametrize(
    "written, nano",
    [
        (0.1, 10**8),
        ("0.1", 10**8),
        (Decimal("0.1"), 10**8),
        (0.3, 3 * 10**8),
        (1e-09, 1),
        ("0.000000001", 1),
        (".5", 5 * 10**8),
        ("100_000", 10**14),
        ("1e3", 10**12),
        (Decimal("1E+2"), 10**11),
        (0, 0),
        ("123456789.123456789", 123456789123456789),
    ],
)
def test_money_is_exact(written, nano):
    assert CostConfig(budget_usd=written).policy().budgets[0].limit == nano


@pytest.mark.ids("C10")
@UNHURRIED
@given(st.integers(0, rules.MOST))
def test_every_amount_of_nano_dollars_can_be_written(nano):
    text = "%d.%09d" % divmod(nano, 10**9)
    assert rules.decimal(text, 10**9) == nano
    assert rules.decimal(Decimal(nano).scaleb(-9), 10**9) == nano


@UNHURRIED
@given(st.floats(0, 10**6, allow_nan=False))
def test_a_float_is_what_it_prints(value):
    exact = Decimal(repr(value)) * 10**9
    assert rules.decimal(value, 10**9) == (int(exact) if exact == int(exact) else None)


@UNHURRIED
@given(st.text(max_size=12))
def test_text_is_an_amount_or_refused(text):
    try:
        assert CostConfig(budget_usd=text).policy().budgets[0].limit >= 0
    except BadPolicy:
        pass


@pytest.mark.parametrize("way", [lambda c: pickle.loads(pickle.dumps(c)), copy.copy, copy.deepcopy])
def test_a_configuration_is_a_value(way):
    config = CostConfig(**SOURCE)
    assert way(config) == config and way(config).policy() == config.policy()
    assert config != CostConfig(budget_usd=1)
    assert eval(repr(config), {"CostConfig": CostConfig}) == config
    assert config.limits == {name: SOURCE[name] for name in SOURCE if name != "alert_threshold"}


@pytest.mark.ids("B03")
@pytest.mark.parametrize("name", ["alert_threshold", "on_exceed", "on_unpriced", "loop_window", "loop_action"])
def test_none_leaves_a_limit_out_and_is_no_value_of_anything_else(name):
    assert CostConfig(budget_usd=None, per_minute_tokens=None, audit=None).policy().budgets == ()
    with pytest.raises(BadPolicy, match=f"CostConfig.{name}: None cannot be used: use "):
        CostConfig(**{name: None})


def test_a_limit_that_is_changed_afterwards_would_hold_nowhere_and_is_refused():
    config = CostConfig(budget_usd=100)
    with pytest.raises(AttributeError, match="build another one with budget_usd=5"):
        config.budget_usd = 5
    assert config.budget_usd == 100 and config.policy() == CostConfig(budget_usd=100).policy()
