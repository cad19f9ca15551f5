"""A small support desk: it sorts tickets, looks things up, drafts answers and reports on the day.

An ordinary program, written against the providers' own SDKs (sync, async, streamed). The one line about cost is the
first import. The labels further down (`aicostguard.labels`, `aicostguard.agent`) are optional: they say for which
user and by which agent a call was made; the feature is the name of the calling function, found by itself.

Endpoints and keys come from the SDKs' usual environment variables. It ends with one line of JSON: how many calls
it made.
"""

from __future__ import annotations

import aicostguard.auto  # isort: skip  # the one line

import asyncio
import json
import os
import threading
from typing import List

import anthropic
import openai
from google import genai

TICKETS = [
    ("ada", "My invoice shows the old address."),
    ("grace", "The export stops at 10,000 rows."),
    ("linus", "How do I rotate an API key?"),
    ("ada", "Can I pay by card instead?"),
]
ARTICLES = ["Changing your billing address", "Limits of exports", "Rotating API keys", "Ways to pay"]


class Calls:
    """Counts what this program asks of its providers, to compare with what was metered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.made = 0

    def one(self) -> None:
        with self._lock:
            self.made += 1


calls = Calls()
gpt = openai.OpenAI()
async_gpt = openai.AsyncOpenAI()
claude = anthropic.Anthropic()
async_claude = anthropic.AsyncAnthropic()
gemini = genai.Client(http_options={"base_url": os.environ.get("GOOGLE_GEMINI_BASE_URL")})


def index_articles() -> List[List[float]]:
    """Embeddings."""
    calls.one()
    reply = gpt.embeddings.create(model="text-embedding-3-small", input=ARTICLES)
    return [row.embedding for row in reply.data]


def sort_ticket(text: str) -> str:
    """A plain chat completion."""
    calls.one()
    reply = gpt.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "system", "content": "billing, product or how-to?"}, {"role": "user", "content": text}],
    )
    return reply.choices[0].message.content or ""


def draft_answer(text: str, kind: str) -> str:
    """A streamed Anthropic message."""
    calls.one()
    with claude.messages.stream(
        model="claude-sonnet-5", max_tokens=500, messages=[{"role": "user", "content": "%s (%s)" % (text, kind)}]
    ) as stream:
        return "".join(stream.text_stream)


def translate(text: str) -> str:
    """A plain Gemini call."""
    calls.one()
    return gemini.models.generate_content(model="gemini-2.5-flash", contents="In French: " + text).text or ""


def suggest_title(text: str) -> str:
    """A chat stream that asks for its usage."""
    calls.one()
    stream = gpt.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "A title for: " + text}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


async def search_web(question: str) -> str:
    """An async Gemini stream."""
    calls.one()
    parts = []
    async for chunk in await gemini.aio.models.generate_content_stream(model="gemini-2.5-pro", contents=question):
        parts.append(chunk.text or "")
    return "".join(parts)


async def research(question: str) -> str:
    """The research agent: it searches, then weighs what it found."""
    with aicostguard.agent("researcher"):
        found = await search_web(question)
        calls.one()
        reply = await async_claude.messages.create(
            model="claude-haiku-4-5", max_tokens=300, messages=[{"role": "user", "content": found or question}]
        )
        return "".join(block.text for block in reply.content if block.type == "text")


async def coordinate(user: str, question: str) -> str:
    """The coordinating agent: it delegates, then decides."""
    with aicostguard.labels(user=user), aicostguard.agent("coordinator"):
        notes = await asyncio.gather(research(question), research(question + " (second opinion)"))
        calls.one()
        decision = await async_gpt.responses.create(model="gpt-5-mini", input="Decide: " + " / ".join(notes))
        return decision.output_text


async def report_day(answers: List[str]) -> str:
    """A streamed Responses call."""
    calls.one()
    text = []
    stream = await async_gpt.responses.create(model="gpt-5", input="\n".join(answers), stream=True)
    async for event in stream:
        if event.type == "response.output_text.delta":
            text.append(event.delta)
    return "".join(text)


async def afternoon(answers: List[str]) -> None:
    """Everything that runs on the event loop."""
    await asyncio.gather(*(coordinate(user, text) for user, text in TICKETS[:2]))
    await report_day(answers)
    await async_gpt.close()
    await async_claude.close()


def main() -> None:
    """One working day."""
    index_articles()
    answers = []
    for user, text in TICKETS:
        with aicostguard.labels(user=user, team="support"):
            answers.append(draft_answer(text, sort_ticket(text)))
            suggest_title(text)
    with aicostguard.feature("french-edition"):
        translate(answers[0] or "Bonjour")
    asyncio.run(afternoon(answers))
    print(json.dumps({"calls": calls.made}))


if __name__ == "__main__":
    main()
