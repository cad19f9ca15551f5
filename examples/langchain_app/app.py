"""A chain of LangChain: nothing in it knows of costs."""

import aicostguard.auto  # isort: skip  # the one line

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(model="gpt-4o-mini", stream_usage=True)
chain = ChatPromptTemplate.from_template("Name three {things}.") | llm | StrOutputParser()


def name_three(things: str) -> str:
    return chain.invoke({"things": things})


def stream_three(things: str) -> str:
    return "".join(chain.stream({"things": things}))


name_three("rivers")
chain.batch([{"things": "mountains"}, {"things": "lakes"}])
stream_three("seas")
