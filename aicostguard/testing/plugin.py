"""The pytest plugin: what each test cost, in the summary, and limits that fail a test or stop the run.

Owns pytest's hooks. It is loaded with every run of pytest where the package is installed, so until it is asked (an
option, `aicg = true` in the configuration, a `max_cost` mark, the fixture `ai_spend`) it does nothing but define them.
A receipt counts for the test that runs when it comes: calls end before their test does, but what a thread that is
left running, or a stream that is collected later, brings counts for a later test, or for none ("outside tests").
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, Generator, Iterator, List, Optional, Tuple

import pytest

from aicostguard.testing.spend import Spend, limit_nanousd, over

#: the key of a report's property that carries a test's spend, also from a worker to whoever started it
PROPERTY = "aicg_spend"
#: tests that the summary names
TOP = 10
#: seconds that an estimate may take at the end of a test
WAIT = 2.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aicostguard", "what AI calls cost")
    group.addoption("--aicg", action="store_true", help="meter the AI calls of the tests and show what they cost")
    group.addoption(
        "--aicg-max-cost",
        metavar="USD",
        help="stop the run, and fail it, once its AI calls have cost more than so many dollars",
    )
    group.addoption("--aicg-top", metavar="N", type=int, default=TOP, help="so many tests in the summary (%d)" % TOP)
    group.addoption("--aicg-json", metavar="FILE", help="write what each test spent there")
    parser.addini("aicg", "meter the AI calls of the tests and show what they cost", type="bool", default=False)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before anything of the user's brings `aicostguard.auto`: what it sends says that it is of tests."""
    if _asked(early_config.known_args_namespace, early_config):
        os.environ.setdefault("AICG_ENVIRONMENT", "test")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "max_cost(usd): fail the test when its AI calls cost more than so many dollars, or it is not known"
    )
    limit: Optional[int] = None
    if config.option.aicg_max_cost is not None:
        try:
            limit = limit_nanousd(config.option.aicg_max_cost, "--aicg-max-cost")
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Ledger(config, limit, _asked(config.option, config)), "aicostguard-ledger")


def _asked(options: Any, config: pytest.Config) -> bool:
    return bool(options.aicg or options.aicg_json or options.aicg_max_cost is not None or config.getini("aicg"))


@pytest.fixture
def ai_spend(request: pytest.FixtureRequest) -> Spend:
    """What this test has spent so far: `calls`, `cost_usd`, `assert_calls(2)`, `assert_cost_at_most(0.02)`."""
    ledger: Ledger = request.config.pluginmanager.getplugin("aicostguard-ledger")
    return ledger.now


class Ledger:
    """What each test of this run spent. In a run with xdist each worker has one, and so has whoever started them."""

    def __init__(self, config: pytest.Config, limit: Optional[int], asked: bool) -> None:
        self.config = config
        self.limit = limit
        self.asked = asked
        self.stop: Optional[Callable[[], None]] = None
        self.disabled = False
        self.rows: Dict[str, Dict[str, Any]] = {}
        self.limits: Dict[str, int] = {}
        self.over = ""
        self.now: Spend = Spend()
        self.outside: Spend = Spend()
        self.total: Spend = Spend()

    # -- before the tests

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """All test modules are loaded: hook what they have brought in, if anybody wants to know."""
        for item in session.items:
            mark = item.get_closest_marker("max_cost")
            if mark is not None:
                try:
                    self.limits[item.nodeid] = limit_nanousd(*_argument(mark), "max_cost of %s" % item.nodeid)
                except ValueError as error:
                    raise pytest.UsageError(str(error)) from None
            if mark is not None or "ai_spend" in getattr(item, "fixturenames", ()):
                self.asked = True
        if self.asked and session.items and not self.config.getoption("collectonly"):
            os.environ.setdefault("AICG_ENVIRONMENT", "test")
            from aicostguard import auto

            self.now = self.outside
            self.stop = auto.observe(self._seen)
            self.disabled = self.stop is None

    def _seen(self, receipt: Any) -> None:
        self.now.add(receipt)

    # -- around a test

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        self.now = Spend()
        yield
        self.now = self.outside

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, None]:
        outcome = yield
        self._settle()
        problem = self._over(item)
        if problem and outcome.excinfo is None:
            outcome.force_exception(pytest.fail.Exception(problem, pytrace=False))

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, None]:
        within = not self._over(item)
        outcome = yield
        self._settle()
        problem = self._over(item)
        if problem and within and outcome.excinfo is None:  # the end of a fixture spent too much
            outcome.force_exception(pytest.fail.Exception(problem, pytrace=False))

    def _over(self, item: pytest.Item) -> str:
        limit = self.limits.get(item.nodeid)
        return "" if limit is None else over(self.now, limit)

    def _settle(self) -> None:
        """Wait for estimates that are being made."""
        if self.stop is not None:
            from aicostguard.capture.state import state

            if state.estimates is not None:
                state.estimates.flush(WAIT)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, None]:
        outcome = yield
        if call.when == "teardown" and self.now.calls:
            outcome.get_result().user_properties.append((PROPERTY, self.now.as_dict()))

    # -- what was spent, here or in a worker

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        for name, row in report.user_properties:
            if name == PROPERTY and isinstance(row, dict):
                self.total.merge(row)
                known = self.rows.get(report.nodeid)  # run again: what it cost before was spent, too
                self.rows[report.nodeid] = row if known is None else _sum(known, row)
        if self.limit is not None and not self.over:
            self.over = over(self.total, self.limit)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        self.session = session
        yield

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        if self.over and not _worker(self.config):
            self.session.shouldfail = "--aicg-max-cost: " + self.over
            workers = self.config.pluginmanager.getplugin("dsession")  # xdist asks for another mark
            if workers is not None:
                workers.shouldstop = self.session.shouldfail

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """A worker of xdist has ended: what it spent outside its tests."""
        row = getattr(node, "workeroutput", {}).get(PROPERTY)
        if row is not None:
            self.outside.merge(row)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, None]:
        yield  # first what others do at the end, as xdist waiting for its workers
        if self.stop is not None:
            self.stop()
        if _worker(self.config):
            self.config.workeroutput[PROPERTY] = self.outside.as_dict()  # type: ignore[attr-defined]
            return
        self.total.merge(self.outside.as_dict())
        if self.limit is not None and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            self.over = self.over or over(self.total, self.limit)
            if self.over:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        path = self.config.getoption("--aicg-json")
        if path:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(self._said(), file, indent=2)
                file.write("\n")

    def _said(self) -> Dict[str, Any]:
        rows = [dict(row, test=node) for node, row in self.rows.items()]
        return {"tests": rows, "outside_tests": self.outside.as_dict(), "total": self.total.as_dict()}

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not (self.asked or self.rows):
            return
        from aicostguard.testing import shown

        if self.disabled:
            terminalreporter.write_line("what AI calls cost is not known: AICG_DISABLED is set", yellow=True)
            return
        for line, marks in shown.summary(self.rows, self.outside, self.total, self.config.getoption("--aicg-top")):
            terminalreporter.write_sep("=", line) if marks is None else terminalreporter.write_line(line, **marks)
        if self.over:
            terminalreporter.write_line("over --aicg-max-cost: " + self.over, red=True)


def _argument(mark: pytest.Mark) -> Tuple[Any]:
    given = [*mark.args, *mark.kwargs.values()]
    if len(given) != 1 or set(mark.kwargs) - {"usd"}:
        raise ValueError("max_cost takes one limit in dollars: @pytest.mark.max_cost(0.02)")
    return (given[0],)


def _sum(one: Dict[str, Any], other: Dict[str, Any]) -> Dict[str, Any]:
    spend = Spend()
    spend.merge(one)
    spend.merge(other)
    row: Dict[str, Any] = spend.as_dict()
    return row


def _worker(config: pytest.Config) -> bool:
    """Is this a worker of xdist? Then whoever started it tells."""
    return hasattr(config, "workerinput")


__all__: List[str] = []
