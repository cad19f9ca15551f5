"""Ledgers served by `aicg serve`, and a browser: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

import pytest

from aicostguard import ledger
from tests.ledger.support import ROOT, Reply, Server, served, serving
from tests.web import filled as filling
from tests.web.visitor import Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

#: where pictures of pages are put: artefacts of CI, and for whoever changes a page to look at
SHOTS = ROOT / ".cache" / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Site(NamedTuple):
    """A ledger that is served: where, and keys of it."""

    server: Server
    path: Path
    #: may everything in the first project
    key: str
    #: may everything in the second project, and nothing in the first
    other: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def get(self, path: str, key: str | None = None) -> Reply:
        return self.server.get(path, key=key or self.key)

    def api(self, path: str, key: str | None = None) -> Any:
        """What the API answers."""
        reply = self.get(path, key)
        assert reply.status == 200, reply.raw
        return reply.body


@contextlib.contextmanager
def site(folder: Path, fill: Callable[[Any], None] | None = None) -> Iterator[Site]:
    """`aicg serve` on a file that was filled before."""
    path = folder / "ledger.db"
    store = ledger.open_ledger(str(path))
    try:
        if fill is not None:
            fill(store)
        keys = [filling.key(store)]
        if fill is filling.fill:
            keys.append(filling.key(store, "secret-lab"))
    finally:
        store.close()
    with served(folder) as (process, server):
        threading.Thread(target=_tell, args=(process.stderr,), daemon=True).start()
        yield Site(server, path, *keys)


def _tell(said: Any) -> None:
    """What the ledger complains of belongs to the test that runs; kept in a full pipe, it would stop the ledger."""
    with contextlib.suppress(ValueError):  # closed
        for line in said:
            sys.stderr.write(line)


def _single(store: Any) -> None:
    receipt = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1240, "output_tokens": 312, "latency_ms": 842}
    filling.send(store, store.default_project(), [(ledger.now_ms() - 1000, receipt)], "01TESTSINGLE0000000000000A")


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Months of a company's calls, and a second project."""
    with site(tmp_path_factory.mktemp("full"), filling.fill) as made:
        yield made


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """No receipt at all."""
    with site(tmp_path_factory.mktemp("empty")) as made:
        yield made


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One receipt."""
    with site(tmp_path_factory.mktemp("single"), _single) as made:
        yield made


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Tab:
    """A page in a browser of its own, which remembers what went wrong in it."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context, self.site = context, site
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)  # the machine may be busy
        #: refusals of the content security policy, errors of scripts, failed requests
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def log_in(self, key: str | None = None) -> Tab:
        """With a key, on the log-in page."""
        self.page.goto(self.site.url + "/login")
        self.page.fill("input[name=key]", key or self.site.key)
        self.page.click("button:has-text('with this key')")
        self.page.wait_for_url(self.site.url + "/")
        return self

    def goto(self, path: str) -> Tab:
        self.page.goto(self.site.url + path, wait_until="load")
        return self

    def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)

    @property
    def text(self) -> str:
        return self.page.inner_text("main")

    def too_wide(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def session(self) -> str:
        """The cookie that a request with this browser's rights sends."""
        cookies = {cookie.get("name", ""): cookie.get("value", "") for cookie in self.context.cookies()}
        return f"aicg_session={cookies['aicg_session']}"


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens tabs: `tab(full)`, `tab(full, phone=True, dark=True, key="…", logged_in=False)`."""
    contexts: list[BrowserContext] = []

    def open_tab(
        site: Site, *, phone: bool = False, dark: bool = False, key: str | None = None, logged_in: bool = True
    ) -> Tab:
        context = chromium.new_context(
            viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        made = Tab(context, site)
        return made.log_in(key) if logged_in else made

    yield open_tab
    for context in contexts:
        context.close()


def amounts(text: str) -> list[str]:
    """The amounts of money in a text."""
    return re.findall(r"[-+]?\$[\d,.]*\d", text)


def axe(page: Page) -> list[str]:
    """What axe-core finds that is serious."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']} {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def keep(name: str, text: str) -> None:
    """A text beside the pictures."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS / name).write_text(text, encoding="utf-8")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    """An empty ledger of one's own."""
    opened = ledger.open_ledger(str(tmp_path / "ledger.db"))
    yield opened
    opened.close()


@pytest.fixture
def given() -> dict[str, Any]:
    """What `server` is made with: `create_app`'s words."""
    return {}


@pytest.fixture
def server(store: Any, given: dict[str, Any]) -> Iterator[Server]:
    """The ledger, served by this process, with the key `KEY`."""
    with serving(store, **given) as running:
        yield running


@pytest.fixture
def admin(server: Server) -> Visitor:
    """Somebody with that key, without a browser."""
    return Visitor(server)
