"""Hooks wait for imports in any order, change nothing about them, and never break one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Dict, Optional

import pytest

from aicostguard.capture import exits, hooks, patch
from tests.ids import ROOT


def python(code: str, tmp_path: Path, env: Optional[Dict[str, str]] = None, raises: bool = True) -> str:
    """Run code in a fresh interpreter with metering on (into a file of its own); its output."""
    import os

    full = dict(os.environ, AICG_URL="sqlite:///%s/ledger.db" % tmp_path, AICG_STATE_DIR=str(tmp_path / "state"))
    full["AICG_TEST_RAISE"] = "1" if raises else "0"
    full.update(env or {})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=full,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.ids("G28")
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(
    "name", ["httpx", "aiohttp", "requests", "urllib3", "http.client", "botocore.client", "openai", "anthropic"]
)
def test_libraries_are_hooked_whichever_is_imported_first(name: str, order: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    lines = ["import aicostguard.auto", "import %s" % name]
    if order == "after":
        lines.reverse()
    out = python("\n".join([*lines, "import aicostguard; print(aicostguard.stats()['hooks'])"]), tmp_path)
    wanted = {"openai": "openai._base_client", "anthropic": "anthropic._base_client"}.get(name, name)
    assert "'%s': 'patched'" % wanted in out


@pytest.mark.ids("A16")
def test_http_client_alone_loads_next_to_nothing(tmp_path: Path) -> None:
    """Nearly every program imports it; few talk to an AI provider through it. The rest comes with a first request."""
    out = python(
        """
        import sys, aicostguard.auto, http.client
        heavy = ("aicostguard.capture.call", "aicostguard.metering", "aicostguard.delivery")
        print([name for name in heavy if name in sys.modules], aicostguard.auto._delivery)
        print(aicostguard.auto.stats()["hooks"])
        """,
        tmp_path,
    )
    assert out.splitlines() == ["[] None", "{'http.client': 'patched'}"]


@pytest.mark.ids("A13")
def test_a_hook_that_raises_leaves_the_import_whole_and_is_reported(tmp_path: Path) -> None:
    out = python(
        """
        import aicostguard.auto
        import aicostguard.capture.transports.requests as ours
        def broken(module, hook): raise KeyError("planted")
        ours.install = broken
        import requests
        print(requests.Session().headers["User-Agent"][:15])
        stats = aicostguard.auto.stats()
        print(stats["hooks"]["requests"], stats["faults"], sorted(stats["warnings"]))
        """,
        tmp_path,
        raises=False,
    )
    assert out.splitlines() == [
        "python-requests",
        "failed: KeyError {'hooks.requests: KeyError': 1} ['unsupported:requests']",
    ]


@pytest.mark.ids("A13")
def test_an_import_that_fails_fails_as_it_did_and_works_when_tried_again(tmp_path: Path) -> None:
    package = tmp_path / "site" / "requests"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import does_not_exist_at_all\n")
    out = python(
        """
        import sys, aicostguard.auto
        sys.path.insert(0, %r)
        try:
            import requests
        except ModuleNotFoundError as error:
            print(error.name)
        open(%r, "w").write("class Session:\\n    def send(self): return 'sent'\\n")
        import importlib; importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        import requests
        print(requests.Session().send.__wrapped__.__name__, aicostguard.auto.stats()["hooks"]["requests"])
        """
        % (str(tmp_path / "site"), str(package / "__init__.py")),
        tmp_path,
    )
    assert out.splitlines() == ["does_not_exist_at_all", "send patched (without what its hooks ask)"]


def test_the_module_keeps_its_loader_and_spec(tmp_path: Path) -> None:
    out = python(
        """
        import aicostguard.auto, requests
        loader = requests.__spec__.loader
        print(type(loader).__name__, loader is requests.__loader__, "exec_module" in vars(loader))
        import importlib.resources, importlib
        print(importlib.resources.files("requests").joinpath("api.py").is_file())
        print(importlib.reload(requests) is requests)
        """,
        tmp_path,
    )
    assert out.splitlines() == ["SourceFileLoader True False", "True", "True"]


@pytest.mark.ids("G28", "A13")
def test_a_library_that_is_imported_anew_is_hooked_anew(tmp_path: Path) -> None:
    """As test suites, plug-in hosts and `eventlet.import_patched` do: its new classes are other ones."""
    pytest.importorskip("requests")
    out = python(
        """
        import sys, aicostguard, aicostguard.auto, requests
        old = requests.Session
        def ours(): return [hasattr(kind.send, "__aicostguard__") for kind in (old, requests.Session)]
        for name in [name for name in sys.modules if name.partition(".")[0] == "requests"]: del sys.modules[name]
        import requests
        print(requests.Session is old, ours())
        import importlib
        importlib.reload(requests.sessions); importlib.reload(requests)
        print(ours(), aicostguard.stats()["hooks"]["requests"], aicostguard.stats()["faults"])
        aicostguard.uninstrument()
        print(ours())
        """,
        tmp_path,
    )
    assert out.splitlines() == ["False [True, True]", "[True, True] patched {}", "[False, False]"]


def test_uninstrument_puts_the_originals_back(tmp_path: Path) -> None:
    out = python(
        """
        import requests
        original = requests.Session.send
        import aicostguard.auto, aicostguard, sys
        print(requests.Session.send is original, requests.Session.send.__wrapped__ is original)
        aicostguard.uninstrument()
        print(requests.Session.send is original)
        print([f for f in sys.meta_path if "aicostguard" in type(f).__module__])
        """,
        tmp_path,
    )
    assert out.splitlines() == ["False True", "True", "[]"]


def test_uninstrument_leaves_a_later_wrapper_alone_and_goes_silent() -> None:
    class Owner:
        def send(self) -> str:
            return "sent"

    hook = patch.Hook("test")

    def make(original):  # type: ignore[no-untyped-def]
        def send(self):  # type: ignore[no-untyped-def]
            return ("seen " if hook.on else "") + original(self)

        return send

    patch.replace(hook, Owner, "send", make)
    ours = Owner.send

    def theirs(self: Owner) -> str:
        return "theirs " + ours(self)

    Owner.send = theirs  # type: ignore[method-assign]
    assert Owner().send() == "theirs seen sent"
    patch.restore()
    assert Owner.send is theirs
    assert Owner().send() == "theirs sent"


def test_two_names_of_one_class_are_hooked_once() -> None:
    class Owner:
        def send(self) -> int:
            return 1

    hook = patch.Hook("test")

    def make(original):  # type: ignore[no-untyped-def]
        return lambda self: original(self) + 1

    assert patch.replace(hook, Owner, "send", make)
    assert not patch.replace(hook, Owner, "send", make)
    assert Owner().send() == 2
    patch.restore()


def test_a_module_that_calls_itself_otherwise_is_hooked_by_the_name_it_is_imported_by() -> None:
    class Crew:
        def kickoff(self) -> str:
            return "done"

    original = Crew.kickoff
    module = ModuleType("crewai.crew")
    module.Crew = Crew  # type: ignore[attr-defined]
    module.__name__ = "crewai.agents.agent_builder.base_agent"  # as crewai 1.15 leaves it
    exits.install(module, patch.Hook("crewai.crew"))
    hooked = Crew.kickoff
    patch.restore()
    assert hooked is not original
    assert Crew.kickoff is original


@pytest.mark.ids("A8")
def test_a_hook_that_keeps_failing_switches_itself_off_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard import health

    fresh = health.Health()
    monkeypatch.setattr(health, "_raise", False)
    monkeypatch.setattr(patch, "health", fresh)
    hook = patch.Hook("httpx")
    for _ in range(patch.PATIENCE - 1):
        hook.failed("begin", KeyError())
    hook.worked()
    for _ in range(patch.PATIENCE - 1):
        hook.failed("begin", KeyError())
    assert hook.on
    hook.failed("begin", KeyError())
    assert not hook.on
    assert fresh.faults == {"httpx.begin: KeyError": 2 * patch.PATIENCE - 1}
    assert "switched itself off" in fresh.warnings["hook-off:httpx"]


@pytest.mark.parametrize(
    "text, numbers",
    [("1.30.5", (1, 30, 5)), ("2.0rc1", (2, 0)), ("3", (3,)), ("2.0.dev1", (2, 0)), ("unknown", ())],
)
def test_versions(text: str, numbers: hooks.Version) -> None:
    assert hooks.parse_version(text) == numbers


def test_no_module_is_in_two_tables() -> None:
    """A module has one row: another one for it would take its place."""
    rows = (*hooks.INSTRUMENTS, *hooks.HANDOVERS, *hooks.EXITS, *hooks.REPLAYS, *hooks.FRAMEWORKS)
    assert [name for name, count in Counter(row.module for row in rows).items() if count > 1] == []


@pytest.mark.ids("G11")
@pytest.mark.parametrize("automatic", [True, False])
def test_a_framework_that_brings_the_first_library_is_hooked(tmp_path: Path, automatic: bool) -> None:
    """It is in the middle of its import when the library comes, and what waits for frameworks begins to wait."""
    package = tmp_path / "smolagents"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "agents.py").write_text(
        "import requests\nclass MultiStepAgent:\n    name = 'helper'\n    def _run_stream(self):\n        yield\n"
    )
    program = (
        "from aicostguard.capture import hooks\n"
        "from aicostguard.capture.state import state\n"
        "state.automatic = %s\n"
        "hooks.install()\n"
        "import smolagents.agents as agents\n"
        "print(hasattr(agents.MultiStepAgent._run_stream, '__aicostguard__'), sorted(hooks.states()))\n" % automatic
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)])),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(automatic)), done.stdout
    assert ("smolagents.agents" in done.stdout) == automatic
