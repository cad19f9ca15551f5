"""A runaway loop is found at its fifth call."""

from aicostguard import BudgetExhausted, CostTracker, TokenUsage

tracker = CostTracker(max_budget=10.0)

# Simulate a runaway loop
for i in range(10):
    try:
        tracker.record(
            TokenUsage(model="gpt-4o", input_tokens=1000, output_tokens=200),
            agent_id="stuck-agent",
            action_type="retry_tool_call",
        )
    except BudgetExhausted:
        print(f"Loop detected at call {i + 1}")  # Loop detected at call 5
        break

tracker = CostTracker(
    max_budget=10.0,
    loop_window=120.0,  # seconds (default: 60)
    loop_threshold=10,  # calls (default: 5)
)
