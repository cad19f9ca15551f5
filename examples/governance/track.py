"""The cost of a request, and totals."""

from aicostguard import CostTracker

# Usage
tracker = CostTracker()
cost = tracker.track("gpt-4o", input_tokens=1500, output_tokens=500)
print(f"Request cost: ${cost:.4f}")
print(f"{tracker.total_tokens} tokens, ${tracker.total_cost:.5f}")
