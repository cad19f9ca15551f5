"""What an answer of google-genai cost; events of Google's ADK are recorded alike."""

from google import genai

from aicostguard import CostTracker, GoogleCostExtractor

tracker = CostTracker(max_budget=5.0)
extractor = GoogleCostExtractor(tracker, default_model="gemini-2.5-flash")

client = genai.Client()
response = client.models.generate_content(model="gemini-2.5-pro", contents="Hello")
# Works with google.generativeai and Google ADK responses
extractor.record(response, model="gemini-2.5-pro")
print(f"Spent: ${tracker.spent:.4f}, Remaining: ${tracker.remaining:.4f}")
