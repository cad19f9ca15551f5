"""Agents that ask each other: whose spending is whose, live in a tree with caps, and afterwards in the ledger."""

import aicostguard.auto  # isort: skip  # the one line

import openai

from aicostguard import CostAttributionTree, TokenUsage, agent

client = openai.OpenAI()
tree = CostAttributionTree(max_budget=1.0, session_id="report")
tree.register_agent("planner")
tree.register_agent("researcher", parent_id="planner", max_budget=0.5)
tree.register_agent("writer", parent_id="planner", max_budget=0.5)


def ask(name: str, question: str) -> str:
    answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": question}])
    tree.record(name, TokenUsage("gpt-4o", answer.usage.prompt_tokens, answer.usage.completion_tokens))
    return answer.choices[0].message.content or ""


def write_report(topic: str) -> str:
    with agent("planner"):
        plan = ask("planner", f"Plan a report on {topic}")
        with agent("researcher"):  # inside another agent: its child
            facts = [ask("researcher", f"{plan}: facts, part {part}") for part in (1, 2)]
        with agent("writer"):
            return ask("writer", " ".join(facts))


write_report("container ports")
print(tree.format_report())
