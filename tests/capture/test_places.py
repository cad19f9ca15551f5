"""Routes and tasks as features, where no function of the user's own can be seen: templates, never what was asked."""

from __future__ import annotations

import asyncio
from typing import Any, Iterator

import pytest

import aicostguard
from aicostguard.capture import caller
from aicostguard.capture.frameworks import places
from aicostguard.capture.state import state
from aicostguard.config import load
from tests.agent import Agent
from tests.capture.tools import CHAT, only

httpx = pytest.importorskip("httpx")

#: stands in the paths that are asked for, and must stand in no receipt
CANARY = "4711-secret"


@pytest.fixture(autouse=True)
def _no_frame_is_the_users_own() -> Iterator[None]:
    caller.forget()
    yield
    caller.forget()


@pytest.fixture
def unseen(agent: Agent) -> Agent:
    """Metering on, and every function counts as a library's."""
    state.rule = caller.Rule(("*",))
    state.default = "fallback"
    return agent


def ask(agent: Agent) -> str:
    with httpx.Client() as client:
        client.post(agent.url("openai") + "/v1/chat/completions", json=CHAT)
    return "done"


async def ask_async(agent: Agent) -> str:
    async with httpx.AsyncClient() as client:
        await client.post(agent.url("openai") + "/v1/chat/completions", json=CHAT)
    return "done"


def feature(agent: Agent) -> Any:
    """The feature of the one receipt, which says nothing of what was asked for."""
    receipt = only(agent)
    assert CANARY not in repr(receipt)
    agent.receipts.clear()
    return receipt["feature"]


def get(app: Any, path: str) -> None:
    """Ask an ASGI application."""

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            assert (await client.get(path)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.ids("G06")
def test_fastapi(unseen: Agent, kind: str) -> None:
    fastapi = pytest.importorskip("fastapi")
    app, router = fastapi.FastAPI(), fastapi.APIRouter(prefix="/shops/{shop}")

    def orders(shop: str, order: str) -> str:
        return ask(unseen)

    async def orders_async(shop: str, order: str) -> str:
        return await ask_async(unseen)

    router.get("/orders/{order:path}")(orders if kind == "sync" else orders_async)
    app.include_router(router)
    get(app, "/shops/%s/orders/%s" % (CANARY, CANARY))
    assert feature(unseen).endswith("/orders/:order")
    assert ask(unseen)
    assert feature(unseen) == "fallback"


def test_starlette(unseen: Agent) -> None:
    applications = pytest.importorskip("starlette.applications")
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> Any:
        return PlainTextResponse(await ask_async(unseen))

    app = applications.Starlette(routes=[Route("/orders/{order:int}", endpoint)])

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            assert (await client.get("/orders/4711")).text == "done"
        await ask_async(unseen)

    asyncio.run(run())
    assert [receipt["feature"] for receipt in unseen.receipts] == ["/orders/:order", "fallback"]


def test_flask(unseen: Agent) -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")
    app.add_url_rule("/orders/<string(length=11):order>", view_func=lambda order: ask(unseen), endpoint="orders")
    app.add_url_rule("/items/<item>", view_func=lambda item: ask(unseen), endpoint="items")
    assert app.test_client().get("/orders/" + CANARY).status_code == 200
    assert feature(unseen) == "/orders/:order"
    assert app.test_client().get("/items/" + CANARY).status_code == 200
    assert feature(unseen) == "/items/:item"
    assert app.test_client().get("/nowhere/" + CANARY).status_code == 404


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_django(unseen: Agent, kind: str) -> None:
    django = pytest.importorskip("django")
    from django.conf import settings
    from django.http import HttpResponse
    from django.test import AsyncRequestFactory, RequestFactory
    from django.urls import path, re_path

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x", ROOT_URLCONF="none")
        django.setup()

    def view(request: Any, **given: Any) -> Any:
        return HttpResponse(ask(unseen))

    async def view_async(request: Any, **given: Any) -> Any:
        return HttpResponse(await ask_async(unseen))

    chosen = view if kind == "sync" else view_async
    routes = (path("orders/<str:order>/", chosen), re_path(r"^items/(?P<item>[^/]+)/$", chosen, name="item"))
    for asked, wanted in (("/orders/%s/" % CANARY, "orders/:order/"), ("/items/%s/" % CANARY, "item")):
        if kind == "sync":
            from django.core.handlers.wsgi import WSGIHandler

            request = RequestFactory().get(asked)
            request.urlconf = routes  # type: ignore[assignment]
            WSGIHandler().get_response(request)
        else:
            from django.core.handlers.asgi import ASGIHandler

            request = AsyncRequestFactory().get(asked)
            request.urlconf = routes  # type: ignore[assignment]
            asyncio.run(ASGIHandler().get_response_async(request))  # type: ignore[arg-type]
        assert feature(unseen) == wanted
    ask(unseen)
    assert feature(unseen) == "fallback"


def test_celery(unseen: Agent) -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery("shop")

    @app.task(name="shop.summarise")  # type: ignore[untyped-decorator]
    def summarise(order: str) -> str:
        return ask(unseen)

    assert summarise.apply(args=[CANARY]).get() == "done"
    assert feature(unseen) == "shop.summarise"
    ask(unseen)
    assert feature(unseen) == "fallback"


@pytest.mark.ids("G06")
def test_the_users_own_function_and_an_explicit_feature_go_first(agent: Agent) -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")

    def orders(order: str) -> str:
        return ask(agent)

    def items(item: str) -> str:
        with aicostguard.feature("explicit"):
            return ask(agent)

    app.add_url_rule("/orders/<order>", view_func=orders)
    app.add_url_rule("/items/<item>", view_func=items)
    app.test_client().get("/orders/1")
    assert feature(agent) == "ask"
    app.test_client().get("/items/1")
    assert feature(agent) == "explicit"


def test_they_can_be_switched_off(agent: Agent) -> None:
    flask = pytest.importorskip("flask")
    agent.off()
    assert load({"AICG_AUTO_LABELS": "0"}).auto_labels is False
    state.automatic = False
    agent.on()
    state.rule, state.default = caller.Rule(("*",)), "fallback"
    app = flask.Flask("shop")
    app.add_url_rule("/orders/<order>", view_func=lambda order: ask(agent), endpoint="orders")
    app.test_client().get("/orders/1")
    assert feature(agent) == "fallback"


@pytest.mark.parametrize(
    "template, wanted",
    [
        ("/a/{b}/{c:path}", "/a/:b/:c"),
        ("/a/<int:b>/<c>", "/a/:b/:c"),
        ("shop.tasks.send", "shop.tasks.send"),
        (r"^a/(?P<b>\d+)$", None),
        ("", None),
        ("/a b", None),
        ("/" + "a" * 200, None),
        (None, None),
    ],
)
def test_a_template_is_written_as_a_feature_or_not_at_all(template: Any, wanted: Any) -> None:
    assert places.shown(template) == wanted
