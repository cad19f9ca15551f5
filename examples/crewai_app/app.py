"""A crew of two: each agent's calls are counted under its role."""

import aicostguard.auto  # isort: skip  # the one line

from crewai import LLM, Agent, Crew, Task

llm = LLM(model="openai/gpt-4o-mini")
reader = Agent(role="reader", goal="Find what matters", backstory="Reads quickly", llm=llm)
writer = Agent(role="writer", goal="Say it in one sentence", backstory="Writes little", llm=llm)
read = Task(description="Read the release notes", expected_output="Three points", agent=reader)
write = Task(description="Sum up the points", expected_output="One sentence", agent=writer)


def sum_up() -> str:
    return str(Crew(agents=[reader, writer], tasks=[read, write]).kickoff())


sum_up()
