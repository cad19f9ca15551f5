"""Limits in code: one decision before every call."""

from aicostguard import CostConfig, CostPolicyEnforcer, TokenUsage

enforcer = CostPolicyEnforcer(
    CostConfig(
        budget_usd=100.0,
        per_session_limit_usd=5.0,
        daily_budget_usd=50.0,
        per_minute_tokens=100_000,
        on_exceed="block",
    )
)

# Check before every LLM call
usage = TokenUsage(model="gpt-4o", input_tokens=5000, output_tokens=1000)
decision = enforcer.check_and_record(usage)
if decision.blocked:
    print(f"Blocked: {decision.reason}")
    # "Session spend $5.12 would exceed per-session limit $5.00"
else:
    print(f"Allowed. Cost: ${decision.cost_usd:.4f}, Total: ${decision.cumulative_usd:.4f}")
