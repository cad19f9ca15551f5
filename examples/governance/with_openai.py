"""What a response of the OpenAI SDK cost."""

import openai

from aicostguard import CostTracker, OpenAICostExtractor

tracker = CostTracker(max_budget=5.0)
extractor = OpenAICostExtractor(tracker)

client = openai.OpenAI()
response = client.chat.completions.create(
    model="gpt-4o",
    messages=[{"role": "user", "content": "Hello"}],
)
extractor.record(response)  # Extracts usage, records cost
print(f"Spent: ${tracker.spent:.4f}, Remaining: ${tracker.remaining:.4f}")
