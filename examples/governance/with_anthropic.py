"""What a message of the Anthropic SDK cost."""

import anthropic

from aicostguard import AnthropicCostExtractor, CostTracker

tracker = CostTracker(max_budget=5.0)
extractor = AnthropicCostExtractor(tracker)

client = anthropic.Anthropic()
message = client.messages.create(
    model="claude-sonnet-4-20250514",
    max_tokens=1024,
    messages=[{"role": "user", "content": "Hello"}],
)
extractor.record(message)  # Extracts usage, records cost
print(f"Spent: ${tracker.spent:.4f}, Remaining: ${tracker.remaining:.4f}")
