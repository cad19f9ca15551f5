"""A gateway to AI models with its books beside it: five routes, and the ledger in the same process, on SQLite.

Run: uvicorn main:app            (http://127.0.0.1:8000; the end of ../README.md tries it)
"""

import os

os.environ.setdefault("AICG_URL", "sqlite:///gateway.db")

import aicostguard.auto  # isort: skip  # the one line

from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import openai
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from aicostguard import CostCalculator, PricingRegistry, ledger
from aicostguard.ledger import keys
from aicostguard.ledger.api import create_app

DB = os.environ["AICG_URL"].removeprefix("sqlite:///")
MOST = 256  # tokens of an answer


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Prices, the SDKs' clients, and the ledger's own API, asked in this process instead of over a socket."""
    app.state.cost_calculator = CostCalculator(PricingRegistry())
    store = ledger.open_ledger(DB)
    key, _ = keys.first_key(store, DB + ".key", ledger.now_ms())
    api = create_app(store=store)
    books = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=api), base_url="http://ledger", headers={"Authorization": f"Bearer {key}"}
    )
    async with (
        api.router.lifespan_context(api),
        books,
        openai.AsyncOpenAI() as gpt,
        anthropic.AsyncAnthropic() as claude,
    ):
        app.state.books, app.state.gpt, app.state.claude = books, gpt, claude
        yield
    store.close()


app = FastAPI(title="AI Gateway", lifespan=lifespan)


class Asked(BaseModel):
    """What `/infer` takes; anything else is a 422."""

    model: str = "gpt-4"
    prompt: str = ""
    team: str = "default"


async def ask(request: Request, method: str, path: str, body: Any = None) -> JSONResponse:
    """What the ledger says, as it says it; with everything counted that this program has been answered."""
    await run_in_threadpool(aicostguard.flush)
    reply = await request.app.state.books.request(method, path, json=body)
    return JSONResponse(reply.json(), reply.status_code)


@app.post("/infer")
async def infer(asked: Asked, request: Request):
    """Ask a model, if there is room for it in every budget. The receipt settles what was held for the call."""
    state, model = request.app.state, asked.model
    try:
        state.cost_calculator.calculate_request_cost(model=model, input_tokens=1, output_tokens=1)
    except ValueError as error:
        return JSONResponse({"detail": str(error)}, 400)
    # Before the call its tokens are estimated: never more than the bytes of the prompt, and some around it.
    call = {"model": model, "input_tokens": len(asked.prompt.encode()) + 20, "max_output_tokens": MOST}
    granted = await ask(request, "POST", "/v1/authorize", {**call, "team": asked.team})
    if granted.status_code != 200:
        return granted  # 402: Budget limit reached. Inference blocked.
    ticket = httpx.Response(200, content=granted.body).json()["ticket"]
    prompt = {"model": model, "messages": [{"role": "user", "content": asked.prompt}], "max_tokens": MOST}
    try:
        with aicostguard.labels(request=ticket, team=asked.team):
            if model.startswith("claude"):
                answer = await state.claude.messages.create(**prompt)
                used = answer.usage.input_tokens, answer.usage.output_tokens
            else:
                answer = await state.gpt.chat.completions.create(**prompt)
                used = answer.usage.prompt_tokens, answer.usage.completion_tokens
    except (openai.APIStatusError, anthropic.APIStatusError) as error:  # nothing is billed: give back what was held
        await ask(request, "POST", "/v1/settle", {"ticket": ticket, "release": True})
        return JSONResponse({"detail": f"The provider of {model} answers {error.status_code}"}, 502)
    except (openai.APIConnectionError, anthropic.APIConnectionError):  # it may be billed: held, then booked
        return JSONResponse({"detail": f"The provider of {model} does not answer"}, 504)
    cost = state.cost_calculator.calculate_request_cost(model=model, input_tokens=used[0], output_tokens=used[1])
    return {"model": model, "input_tokens": used[0], "output_tokens": used[1], "estimated_cost_usd": cost}


@app.get("/costs")
async def costs(request: Request):
    """The total of this month and each model's part, by the ledger's prices."""
    return await ask(request, "GET", "/v1/costs?since=month&group_by=model")


@app.get("/compare/")
async def compare(request: Request):
    """Quality beside cost: scores come in by POST /v1/scores of the ledger."""
    return await ask(request, "GET", "/v1/views/compare_models")


@app.get("/budgets/")
async def budgets(request: Request):
    return await ask(request, "GET", "/v1/budgets")


@app.post("/budgets/")
async def put_budget(payload: dict, request: Request):
    """`{"name": "default", "limit": 50.0, "spent": 0.0}`; `spent` counts once, when the budget is made."""
    return await ask(request, "POST", "/v1/budgets", payload)


@app.get("/alerts/")
async def alerts(request: Request):
    return await ask(request, "GET", "/v1/alerts")
