"""What a page is given: who asks, what stands in the address, ways to ask the ledger, and ways to answer.

Owns the questions that pages ask: the same functions as the JSON routes, of the same project, with the same authority,
at one moment for the whole page. A page has no SQL of its own. If this is wrong, a page shows what its API refuses.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence
from urllib.parse import quote, unquote, urlencode

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from aicostguard.ledger import query, secret
from aicostguard.ledger.access import chosen, sessions
from aicostguard.ledger.access.door import Door, actor
from aicostguard.ledger.access.principal import Principal
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.alerts.words import place
from aicostguard.ledger.budgets import permitted, status
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.model import DIMENSIONS
from aicostguard.ledger.query import PARAMETERS
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web import policy
from aicostguard.ledger.web.assets import Assets
from aicostguard.ledger.web.charts.bundle import Bundle
from aicostguard.ledger.web.state import State

if TYPE_CHECKING:
    from aicostguard.ledger.access.oidc import Provider

#: cookies: what a form is known by before anybody is logged in; what was just done; the theme, which scripts may read
FORM, SAID, THEME = "aicg_form", "aicg_said", "aicg_theme"
#: what says where in time one looks: kept from page to page, filters besides
KEPT = ("since", "until", "tz", "compare")


class Site(NamedTuple):
    """One ledger and all that pages need of it."""

    store: SqliteStore
    desk: Desk
    watch: Watch
    door: Door
    now_ms: Callable[[], int]
    drain: Callable[[SqliteStore], int]
    provider: Provider | None
    assets: Assets
    templates: Environment
    charts: Bundle


class Page(NamedTuple):
    """A page: see `web`. Without a `label` it stands in no menu; `own` are its parameters beside those of a query."""

    name: str
    path: str
    label: str
    show: Callable[[View], Response]
    own: tuple[str, ...] = ()
    #: what whoever looks must be allowed
    scope: str = "read"
    #: whether it speaks of a period, and so has the controls for it and keeps filters
    period: bool = True
    #: the period, unless the address says one
    since: str = query.DEFAULT_SINCE
    #: name of a form's `action` → what it does: it answers, or raises what is then shown above the page
    actions: Mapping[str, Callable[[View], Response]] = {}
    #: what whoever acts must be allowed
    acts: str = "manage"


class View:
    """One request for a page."""

    def __init__(
        self, site: Site, pages: Sequence[Page], page: Page, request: Request, principal: Principal | None = None
    ) -> None:
        self.site, self.pages, self.page, self.request = site, pages, page, request
        self._principal = principal
        self.now_ms = site.now_ms()
        self.state = State()
        #: what a form sent, each field once
        self.form: Mapping[str, str] = {}
        #: why what a form asked for was not done; the page is shown again with it
        self.refused: LedgerError | None = None
        self._projects: list[str] | None = None

    # Who asks.

    @property
    def principal(self) -> Principal:
        assert self._principal is not None, "a page that anybody may see asks for no one"
        return self._principal

    @property
    def known(self) -> bool:
        """Whether somebody is logged in."""
        return self._principal is not None

    @property
    def may_manage(self) -> bool:
        return self._principal is not None and self._principal.may("manage")

    @property
    def path(self) -> Mapping[str, str]:
        """What the path of the page leaves open."""
        return self.request.path_params

    @property
    def dimensions(self) -> list[str]:
        """What can be filtered by."""
        return list(DIMENSIONS)

    @property
    def projects(self) -> list[str]:
        """ORGANISATION/NAME of all that may be looked at."""
        if self._projects is None:
            found = [] if self._principal is None else self.site.door.readable(self._principal)
            self._projects = [f"{item.organisation}/{item.name}" for item in found]
        return self._projects

    # Questions. Each is what a JSON route asks.

    def ask(self, **parameters: str | Sequence[str] | None) -> dict[str, Any]:
        """`GET /v1/costs` with just these parameters."""
        return self._run(State().asked(**parameters))

    def costs(self, **changes: str | Sequence[str] | None) -> dict[str, Any]:
        """`GET /v1/costs` with the parameters of the address, some of them changed; None takes one away."""
        return self._run(self.asked(**changes))

    def asked(self, **changes: str | Sequence[str] | None) -> dict[str, list[str]]:
        """The parameters of the address for `GET /v1/costs`, with the page's period."""
        return self.state.asked(**{"since": self.state.one("since", self.page.since), **changes})

    def _run(self, parameters: dict[str, list[str]]) -> dict[str, Any]:
        return query.run(self.site.store, query.parse(parameters, self.principal.project_id, self.now_ms))

    def receipts(self, **changes: str | Sequence[str] | None) -> dict[str, Any]:
        """`GET /v1/receipts`."""
        asked = self.asked(**{"group_by": None, "order": None, "compare": None, "latency": None, **changes})
        cursor = changes.get("cursor") or self.state.own.get("cursor")
        if cursor:
            asked["cursor"] = [cursor] if isinstance(cursor, str) else list(cursor)
        return query.receipts(self.site.store, asked, self.principal.project_id, self.now_ms)

    def budgets(self, apart: bool = False) -> list[dict[str, Any]]:
        """`GET /v1/budgets`: those whose amounts may be seen, or (`apart`) the others that hold here."""
        told = self.look(status.budgets, self.now_ms, permitted.sees(self.principal))
        return list(told.get("of_organisation", ()) if apart else told["budgets"])

    def look(self, job: Callable[..., Any], *more: Any) -> Any:
        """A question to the store about this project, counters of budgets up to date."""
        self.site.desk.catch_up()
        return self.site.store.look(lambda connection: job(connection, self.principal.project_id, *more))

    @property
    def office(self) -> Office:
        """Alerts, rules and channels of this project."""
        return Office(self.site.watch, self.principal.project_id, actor(self.principal), self.site.now_ms)

    # Addresses.

    @property
    def tz(self) -> str:
        return self.state.one("tz", "UTC")

    @property
    def here(self) -> str:
        """The path of this page as it was asked for."""
        return quote(self.request.scope["path"], safe="/:@")

    @property
    def chosen(self) -> str:
        """The project that the address names, or ""."""
        return str(self.request.scope.get(chosen.CHOSEN, ""))

    def address(self, path: str, state: State | None = None, project: str | None = None) -> str:
        """A path with a state, in the project that is looked at."""
        pairs = [] if state is None else state.pairs()
        name = self.chosen if project is None else project
        query_string = urlencode([*pairs, *([(chosen.NAME, name)] if name else [])])
        return path + ("?" + query_string if query_string else "")

    def link(self, path: str = "", **changes: str | Sequence[str] | None) -> str:
        """This page, or another, with the state of the address, some parameters changed; None takes one away."""
        return self.address(path or self.here, self.state.having(**changes))

    def to(self, path: str, **parameters: str | Sequence[str] | None) -> str:
        """Another page with the period and the filters of this one, and these parameters besides."""
        return self.address(path, self._kept().having(**parameters))

    def _kept(self) -> State:
        gone = [name for name in PARAMETERS if name not in KEPT]
        return State({name: values for name, values in self.state.given.items() if name not in gone})

    def shows(self, given: Mapping[str, Any]) -> str:
        """The page that shows what an alert names: the same as behind the link in its message."""
        path, pairs = place(given)
        return self.address(path, State.of(pairs))

    def api(self, path: str, form: str = "json", **changes: str | Sequence[str] | None) -> str:
        """The address of the API's answer to what is shown, for a download."""
        given = {name: tuple(values) for name, values in self.asked(**changes).items()}
        return self.address(path, State(given, {"format": (form,)}))

    # Answers.

    def show(self, template: str, status_code: int = 200, **context: Any) -> Response:
        """The page, from a template and what it is to show."""
        if self.refused is not None and status_code == 200:
            status_code = self.refused.status
        said = unquote(self.request.cookies.get(SAID, ""))
        token, fresh = form_token(self.request)
        text = self.site.templates.get_template(template).render(
            view=self,
            page=self.page,
            state=self.state,
            now_ms=self.now_ms,
            csrf=token,
            said=said[:300],
            theme=theme(self.request),
            **context,
        )
        response = Response(text, status_code, media_type="text/html; charset=utf-8", headers=policy.HEADERS)
        if said:
            response.delete_cookie(SAID, path="/")
        if fresh:
            sessions.set_cookie(self.request, response, fresh, FORM)
        return response

    def go(self, address: str, said: str = "") -> Response:
        """On to another page after something was done; `said` is shown there, once."""
        response = RedirectResponse(address, status_code=303, headers=policy.HEADERS)
        if said:
            secure = self.request.url.scheme == "https"
            response.set_cookie(
                SAID, quote(said[:300]), max_age=60, path="/", secure=secure, httponly=True, samesite="lax"
            )
        return response

    def json(self, value: Any) -> Response:
        """Data for a script of the page."""
        return Response(
            json.dumps(value, separators=(",", ":")), media_type="application/json", headers=policy.DATA_HEADERS
        )


def form_token(request: Request) -> tuple[str, str]:
    """The token that a form of this browser must bring, and what to give a browser that was never here, or ""."""
    seed = sessions.token_of(request) or sessions.token_of(request, FORM)
    if seed:
        return token_of(seed), ""
    fresh = secret.make("aicgf_")
    return token_of(fresh), fresh


def token_of(seed: str) -> str:
    return hashlib.sha256(b"form " + seed.encode("utf-8", "replace")).hexdigest()


def genuine(request: Request, given: str) -> bool:
    """Whether a form brought the token of this browser."""
    wanted, fresh = form_token(request)
    return not fresh and hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))


def theme(request: Request) -> str:
    """`light`, `dark`, or "" for what the system says."""
    found = request.cookies.get(THEME, "")
    return found if found in ("light", "dark") else ""
