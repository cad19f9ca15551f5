"""`CostPolicyEnforcer`: the sources' decisions and report, on the engine."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading

import pytest

from aicostguard import CostConfig, CostPolicyEnforcer, ModelPricing, TokenUsage
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store.memory import MemoryStore

#: a token of either kind costs a thousandth of a dollar
PRICING = ModelPricing()
PRICING.register("m", input_per_million=1000, output_per_million=1000)


def usage(thousandths: int) -> TokenUsage:
    return TokenUsage("m", thousandths)


def enforcer(**limits) -> CostPolicyEnforcer:
    return CostPolicyEnforcer(CostConfig(**limits), pricing=PRICING)


@pytest.mark.ids("B03", "B04", "B06")
def test_the_sources_call_is_allowed_and_its_cost_told():
    asked = CostPolicyEnforcer(
        CostConfig(
            budget_usd=100.0,
            per_session_limit_usd=5.0,
            daily_budget_usd=50.0,
            per_minute_tokens=100_000,
            on_exceed="block",
        )
    )
    decision = asked.check_and_record(TokenUsage(model="gpt-4o", input_tokens=5000, output_tokens=1000))
    assert decision == (True, "", 0.0225, 0.0225, None)
    assert decision.allowed and not decision.blocked


@pytest.mark.ids("B04", "B05", "B11")
def test_the_sources_reason():
    asked = enforcer(budget_usd=100, per_session_limit_usd=5)
    assert asked.check_and_record(usage(4900)).allowed
    decision = asked.check_and_record(usage(220))
    assert decision.blocked and not decision.allowed
    assert decision.reason == "Session spend $5.12 would exceed per-session limit $5.00"
    assert (decision.dimension, decision.cost_usd, decision.cumulative_usd) == ("session", 0.22, 4.9)
    assert asked.get_report()["call_count"] == 1, "it is not charged"


@pytest.mark.ids("B05")
def test_the_reason_shows_the_difference_however_small():
    asked = enforcer(per_session_limit_usd="4.999")
    decision = asked.check_and_record(usage(5000))
    assert decision.reason == "Session spend $5.000 would exceed per-session limit $4.999"


LIMITS = {
    "per_call_limit_usd": ("per_call", 2.0, "Call cost $2.01 would exceed per-call limit $2.00"),
    "per_session_limit_usd": ("session", 2.0, "Session spend $2.01 would exceed per-session limit $2.00"),
    "daily_budget_usd": ("daily", 2.0, "Daily spend $2.01 would exceed daily budget $2.00"),
    "per_minute_tokens": (
        "per_minute_tokens",
        2000,
        "Token use of 60 seconds 2,010 tokens would exceed per-minute limit 2,000 tokens",
    ),
    "budget_usd": ("budget", 2.0, "Total spend $2.01 would exceed total budget $2.00"),
}


@pytest.mark.ids("B02", "B07", "X2")
@pytest.mark.parametrize("limit", LIMITS)
def test_each_dimension_stands_by_itself(limit):
    dimension, most, reason = LIMITS[limit]
    asked = enforcer(**{limit: most})
    decision = asked.check_and_record(usage(2010))
    assert (decision.blocked, decision.dimension, decision.reason) == (True, dimension, reason)
    assert asked.check_and_record(usage(2000)).allowed, "reaching it exactly is allowed"
    assert asked.check_and_record(usage(1)).blocked == (limit != "per_call_limit_usd")


@pytest.mark.ids("B12", "B13")
@pytest.mark.parametrize("mode, level", [("warn", logging.WARNING), ("log", logging.INFO)])
def test_warn_and_log_let_the_call_through_and_say_so(mode, level, caplog):
    asked = enforcer(per_session_limit_usd=1, on_exceed=mode, alert_threshold=1)
    with caplog.at_level(logging.INFO, "aicostguard.guard"):
        decision = asked.check_and_record(usage(1500))
    said = "Session spend $1.50 would exceed per-session limit $1.00"
    assert decision.allowed and decision.reason.startswith(said) and decision.dimension == "session"
    assert (level, said) in [(record.levelno, record.getMessage()) for record in caplog.records]
    assert asked.get_report()["spent"] == 1.5, "it is charged"


@pytest.mark.ids("B14", "D7")
def test_the_alert_comes_once_with_the_sources_text(caplog):
    asked = enforcer(budget_usd=10, alert_threshold=0.8)
    said = "Budget utilization 90% exceeds alert threshold 80%"
    with caplog.at_level(logging.WARNING, "aicostguard.guard"):
        reasons = [asked.check_and_record(usage(each)).reason for each in (7900, 1100, 500)]
    assert reasons == ["", said, ""]
    assert [record.getMessage() for record in caplog.records] == [said]


@pytest.mark.ids("B10")
def test_the_total_is_shared_by_sessions_and_the_sessions_are_not():
    store = MemoryStore()
    config = CostConfig(budget_usd=3, per_session_limit_usd=2)
    one, two = (CostPolicyEnforcer(config, store=store, pricing=PRICING) for _ in range(2))
    assert one.check_and_record(usage(2000)).allowed
    assert one.check_and_record(usage(1)).dimension == "session"
    assert two.check_and_record(usage(1000)).allowed
    assert two.check_and_record(usage(1)).dimension == "budget"
    assert two.get_report()["spent"] == 3.0 and two.get_report()["by_model"] == {"m": 1.0}
    assert one.session_id != two.session_id


#: one call of a program, of a dollar, under limits that are kept in a file
PROGRAM = """
import sys
from aicostguard import CostConfig, CostPolicyEnforcer, ModelPricing, TokenUsage
pricing = ModelPricing()
pricing.register("m", input_per_million=1000, output_per_million=1000)
asked = CostPolicyEnforcer(CostConfig(budget_usd=2), store=sys.argv[1], pricing=pricing)
print(asked.check_and_record(TokenUsage("m", 1000)).allowed, asked.get_report()["spent"])
asked.close()
"""


@pytest.mark.ids("ACC:B10")
@pytest.mark.parametrize("store", ["sqlite", "sqlite:///%s"])
def test_a_total_in_a_file_holds_across_runs_of_a_program(store, tmp_path):
    (tmp_path / "app.py").write_text(PROGRAM)
    (tmp_path / "other.py").write_text(PROGRAM)
    env = {**os.environ, "AICG_STATE_DIR": str(tmp_path / "state")}
    where = store.replace("%s", str(tmp_path / "budgets.db"))

    def run(name):
        command = [sys.executable, str(tmp_path / name), where]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()

    assert [run("app.py") for _ in range(3)] == [["True", "1.0"], ["True", "2.0"], ["False", "2.0"]]
    # a file that is named is shared by who names it; else each program has its own
    assert run("other.py") == (["False", "2.0"] if "://" in store else ["True", "1.0"])


@pytest.mark.ids("ACC:B10")
def test_a_store_that_there_is_not_is_refused_with_the_words_that_there_are():
    with pytest.raises(ValueError, match="store: this cannot be used: write memory, sqlite"):
        CostPolicyEnforcer(CostConfig(budget_usd=2), store="budgets.db")


@pytest.mark.ids("B37")
def test_the_report_has_the_sources_keys():
    asked = CostPolicyEnforcer(
        CostConfig(
            budget_usd=100.0,
            per_call_limit_usd=2.0,
            per_session_limit_usd=10.0,
            daily_budget_usd=50.0,
            per_minute_tokens=100000,
            on_exceed="block",
        ),
        session_id="run-42",
    )
    asked.check_and_record(TokenUsage("gpt-4o", 8000, 2000), agent_id="researcher")
    asked.check_and_record(TokenUsage("claude-sonnet-4", 5000, 3000), agent_id="writer")
    assert asked.get_report() == {
        "session_id": "run-42",
        "max_budget": 100.0,
        "spent": 0.1,
        "remaining": 99.9,
        "utilization": 0.001,
        "call_count": 2,
        "unpriced": 0,
        "by_model": {"gpt-4o": 0.04, "claude-sonnet-4": 0.06},
        "by_agent": {"researcher": 0.04, "writer": 0.06},
        "daily_spent": 0.1,
        "tokens_last_minute": 18000,
        "limits": {
            "budget_usd": 100.0,
            "per_call_limit_usd": 2.0,
            "per_session_limit_usd": 10.0,
            "daily_budget_usd": 50.0,
            "per_minute_tokens": 100000,
            "on_exceed": "block",
        },
    }


@pytest.mark.ids("B02", "B37")
def test_a_report_without_limits_measures_all_the_same():
    asked = enforcer()
    for _ in range(3):
        assert asked.check_and_record(usage(10**6)).reason == ""
    report = asked.get_report()
    assert (report["max_budget"], report["remaining"], report["utilization"]) == (None, None, 0.0)
    assert (report["spent"], report["daily_spent"], report["tokens_last_minute"]) == (3000.0, 3000.0, 3 * 10**6)


@pytest.mark.ids("X1", "B32", "D6")
@pytest.mark.parametrize("mode, allowed", [("allow", True), ("warn", True), ("block", False)])
def test_a_model_without_a_price(mode, allowed):
    asked = CostPolicyEnforcer(CostConfig(budget_usd=1, on_unpriced=mode))
    decision = asked.check_and_record(TokenUsage("nobodys", 10, 10))
    assert decision.allowed == allowed
    assert math.isnan(decision.cost_usd), "not known is not zero"
    assert ("No price is known for model nobodys" in decision.reason) == (mode != "allow")
    assert asked.get_report()["unpriced"] == int(allowed)


@pytest.mark.ids("X1")
@pytest.mark.parametrize("limits", [{}, {"per_minute_tokens": 100}, {"budget_usd": 1, "on_exceed": "warn"}])
def test_a_model_without_a_price_is_blocked_also_where_no_limit_blocks(limits):
    asked = CostPolicyEnforcer(CostConfig(on_unpriced="block", **limits), pricing=PRICING)
    decision = asked.check_and_record(TokenUsage("nobodys", 10, 10))
    assert decision.blocked and "No price is known for model nobodys" in decision.reason
    assert asked.check_and_record(usage(1)).allowed and asked.get_report()["call_count"] == 1


@pytest.mark.ids("X7")
@pytest.mark.parametrize("action, blocked", [("warn", False), ("block", True), ("off", False)])
def test_loops_are_warned_of_or_blocked(action, blocked):
    asked = CostPolicyEnforcer(CostConfig(loop_action=action), pricing=PRICING)
    found = [asked.check_and_record(usage(1), agent_id="a", action_type="retry") for _ in range(5)]
    assert [decision.blocked for decision in found] == [False] * 4 + [blocked]
    assert ("Loop detected" in found[4].reason) == (action != "off")
    assert found[4].dimension == (None if action == "off" else "loop")


@pytest.mark.ids("A12", "A31")
def test_any_policy_and_any_label_will_do():
    policy = Policy(budgets=(Budget("marketing", 10**9, match={"team": "marketing"}, period="month"),))
    asked = CostPolicyEnforcer(policy, pricing=PRICING)
    assert asked.check_and_record(usage(5000), labels={"team": "engineering"}).allowed
    assert asked.check_and_record(usage(5000), labels={"team": "marketing"}).blocked


@pytest.mark.ids("B38", "D1")
def test_threads_never_pass_a_limit_together():
    asked = enforcer(budget_usd=1)
    start, found = threading.Barrier(16), []

    def work():
        start.wait()
        found.extend([asked.check_and_record(usage(1)).allowed for _ in range(100)])

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 1000 and asked.get_report()["spent"] == 1.0
