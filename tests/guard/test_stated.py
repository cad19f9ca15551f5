"""A budget as people state it: every key, and what is said of every mistake."""

from __future__ import annotations

import pytest

from aicostguard.guard import stated
from aicostguard.guard.policy import BadPolicy, Budget


def test_the_least_and_the_most_that_can_be_stated():
    assert stated.budget({"name": "default", "limit_usd": 50}) == Budget("default", 50 * 10**9)
    given = {
        "name": "search",
        "limit_tokens": 1000,
        "match": {"team": "search", "tags.tier": "gold"},
        "per": ["user"],
        "period": "month",
        "timezone": "Europe/Berlin",
        "on_exceed": "warn",
        "alert_at": [0.9, "50%", 1],
    }
    rule = stated.budget(given)
    assert rule[:3] == ("search", 1000, "tokens")
    assert rule.match == {"team": "search", "tags.tier": "gold"} and rule.per == ("user",)
    assert (rule.period, rule.timezone, rule.on_exceed) == ("month", "Europe/Berlin", "warn")
    assert rule.alert_at == (500, 900, 1000)
    assert stated.budget({"limit_requests": 3}, name="here").name == "here"
    assert stated.budget({"name": "x", "limit_usd": 1, "per": "team", "match": None}).per == ("team",)


@pytest.mark.parametrize(
    "change, field, words",
    [
        ({"limit": 5}, "limit", "did you mean limit_"),
        ({"limit_usd": -1}, "limit_usd", "use an amount in USD"),
        ({"limit_usd": "0.0000000001"}, "limit_usd", "nano-dollar"),
        ({"limit_usd": None}, "limit_usd", "give one of"),
        ({"limit_tokens": 5}, "limit_usd", "limit_usd and limit_tokens are both given"),
        ({"name": None}, "name", "is missing"),
        ({"name": "no\nline"}, "name", "use 1 to 128"),
        ({"match": {"teem": "x"}}, "match", "did you mean team"),
        ({"match": {"team": 5}}, "match", "such as"),
        ({"match": "team"}, "match", "such as"),
        ({"per": ["team", "team"]}, "per", "each once"),
        ({"per": ["prompt"]}, "per", "known are"),
        ({"period": "daily"}, "period", "use one of call"),
        ({"timezone": "Berlin"}, "timezone", "did you mean Europe/Berlin"),
        ({"on_exceed": "stop"}, "on_exceed", "block, warn, log"),
        ({"alert_at": [75]}, "alert_at", "percentage"),
        ({"alert_at": 0.5}, "alert_at", "such as"),
    ],
)
def test_a_mistake_is_refused_with_field_value_and_remedy(change, field, words):
    given = {"name": "b", "limit_usd": 5, **change}
    with pytest.raises(BadPolicy) as error:
        stated.budget(given, "budgets[0].")
    assert str(error.value).startswith("budgets[0].%s: " % field)
    assert words in str(error.value)
