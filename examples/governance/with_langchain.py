"""A callback handler in LangChain."""

from langchain_openai import ChatOpenAI

from aicostguard import CostTracker, LangChainCostCallback

tracker = CostTracker(max_budget=10.0)
callback = LangChainCostCallback(tracker, agent_id="research-agent")

# Use as a LangChain callback handler
llm = ChatOpenAI(model="gpt-4o", callbacks=[callback])
response = llm.invoke("Summarize this document...")
print(f"Spent: ${tracker.spent:.4f}, Remaining: ${tracker.remaining:.4f}")
