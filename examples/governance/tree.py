"""Which agent spent what: caps and sums along a tree of agents."""

from aicostguard import CostAttributionTree, TokenUsage

tree = CostAttributionTree(max_budget=50.0, session_id="run-42")

# Register agent hierarchy
tree.register_agent("orchestrator", max_budget=50.0)
tree.register_agent("researcher", parent_id="orchestrator", max_budget=20.0)
tree.register_agent("writer", parent_id="orchestrator", max_budget=15.0)
tree.register_agent("reviewer", parent_id="orchestrator", max_budget=10.0)

# Record costs as agents make LLM calls
tree.record("researcher", TokenUsage(model="gpt-4o", input_tokens=8000, output_tokens=2000))
tree.record("writer", TokenUsage(model="claude-sonnet-4", input_tokens=5000, output_tokens=3000))
tree.record("reviewer", TokenUsage(model="gpt-4o-mini", input_tokens=3000, output_tokens=500))

# Get attribution report
print(tree.format_report())
