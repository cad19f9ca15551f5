"""How long the dashboard's first screen of a full ledger takes: `aicg serve` in a process, and a Chromium that looks.

`server` is what the ledger needs for the page when nothing else runs, asked without a browser. The other clocks are
the browser's own (navigation timing), from the moment at which the page is asked for: the first byte of the answer,
its last, the first thing painted, the moment at which the page can be used, and the first chart drawn. Once with a
browser that has nothing of it cached, and once with one that was there before. The bytes are what crossed the wire,
heads included.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
import tempfile
import time
from typing import Any, Dict, Iterator, List

from benchmarks.common import row

#: ms, and kB on the wire
AIMS = {"server": 100.0, "usable": 1000.0, "first chart": 1000.0, "kB": 1500.0}
PATIENCE_S = 60.0
_WATCH = """
new MutationObserver(() => {
  const figure = document.querySelector("figure[data-chart]");
  if (figure && figure.dataset.state && !window.drawnAt) window.drawnAt = performance.now();
}).observe(document, {subtree: true, attributes: true, attributeFilter: ["data-state"]});
"""
_READ = """() => {
  const page = performance.getEntriesByType("navigation")[0];
  const parts = performance.getEntriesByType("resource");
  return {
    "first byte": page.responseStart,
    "last byte": page.responseEnd,
    "painted": performance.getEntriesByName("first-contentful-paint")[0].startTime,
    "usable": page.domContentLoadedEventEnd,
    "first chart": window.drawnAt,
    "kB": (page.transferSize + parts.reduce((sum, part) => sum + part.transferSize, 0)) / 1000,
  };
}"""


def screen(rows: int, runs: int, db: str | None = None, folder: str | None = None) -> List[Dict[str, Any]]:
    """Figures of a ledger of `rows` receipts, or of the one at `db`; raises SystemExit without a browser."""
    from benchmarks.ingest import prefill, server

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("scripts/bench screen needs Chromium: apt-get install chromium")
    place = tempfile.mkdtemp(prefix="aicg-bench-", dir=folder)
    try:
        path = db or os.path.join(place, "ledger.db")
        if db is None:
            prefill(path, rows)
        with server(path) as (port, key, _):
            found = [row("server", _asked(port, key, runs), "ms", _aim("server"))]
            for cached in (False, True):
                name = "cached" if cached else "nothing cached"
                print("\nFirst screen, %s (ms after it was asked for)" % name)
                looks = list(_looks(browser, "http://127.0.0.1:%d/" % port, key, runs, cached))
                for figure in looks[0]:
                    values = [look[figure] for look in looks]
                    unit = "kB" if figure == "kB" else "ms"
                    found.append(row("%s, %s" % (figure, name), values, unit, _aim(figure)))
            return found
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _aim(figure: str) -> str:
    return "aim: at most %.0f" % AIMS[figure] if figure in AIMS else ""


def _asked(port: int, key: str, runs: int) -> List[float]:
    """ms from a request for the page to the last byte of it, each time but the first."""
    took = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    for _ in range(runs + 1):
        began = time.perf_counter()
        connection.request("GET", "/", headers={"Authorization": "Bearer " + key})
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read():
            raise SystemExit("the first screen answered %d" % answer.status)
        took.append((time.perf_counter() - began) * 1000)
    connection.close()
    return took[1:]


def _looks(browser: str, url: str, key: str, runs: int, cached: bool) -> Iterator[Dict[str, float]]:
    """What the browser measured, each time but the first, which wakes everything up."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        view = {"width": 1280, "height": 900}
        context: Any = chromium.new_context(viewport=view)
        page = context.new_page()
        page.goto(url + "login")
        page.fill("input[name=key]", key)
        page.click("button:has-text('with this key')")
        page.wait_for_url(url)
        state = context.storage_state()
        for number in range(runs + 1):
            if not cached or number == 0:
                context.close()
                context = chromium.new_context(viewport=view, storage_state=state)
                context.add_init_script(_WATCH)
                page = context.new_page()
            page.goto(url)
            deadline = time.monotonic() + PATIENCE_S
            while not page.evaluate("window.drawnAt && performance.getEntriesByName('first-contentful-paint')[0]"):
                if time.monotonic() > deadline:
                    raise SystemExit("no chart was drawn within %.0f s" % PATIENCE_S)
                page.wait_for_timeout(20)
            look: Dict[str, float] = page.evaluate(_READ)
            if number:
                yield look
                print("look %d of %d" % (number, runs), file=sys.stderr, flush=True)
        chromium.close()
