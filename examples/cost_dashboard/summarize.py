"""A client that writes down what its calls cost, in a file of its own."""

from aicostguard import TrackedClient, daily_cost_by_model

# Initialize with your key
ai = TrackedClient(api_key="sk-your-key")

# Make calls: costs are logged automatically
result = ai.create(
    model="claude-sonnet-4-5",
    messages=[{"role": "user", "content": "Summarize this doc..."}],
    max_tokens=1024,
    feature="summarize",
)

# Check what you've spent
daily_cost_by_model(ai.db)
# claude-sonnet-4-5             1 calls  $0.02
