"""No silent failure modes: each known problem is said once, in words, through logging, and stays visible.

Three warnings (a library that is not as it was tested, a stream without usage, a send that nobody sees) with what must
not warn beside each; settings that are wrong; and the promise that without a destination, or switched off, nothing
happens at all. Each test starts a fresh interpreter, because a warning is given once per process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import pytest

from aicostguard.simulator import Simulator
from tests.delivery.fake_ledger import FakeLedger

ROOT = Path(__file__).parents[2]
PRELUDE = """
import json, logging, sys
LOGGED = []
class Listen(logging.Handler):
    def emit(self, record):
        LOGGED.append([record.name, record.levelname, record.getMessage()])
logging.getLogger("aicostguard").addHandler(Listen())
HI = [{"role": "user", "content": "hi"}]
"""
EPILOGUE = """
import aicostguard
aicostguard.flush(5)
aicostguard.shutdown(5)
print("RESULT" + json.dumps({"logged": LOGGED, "stats": aicostguard.stats()}))
"""


class Done(NamedTuple):
    """What a program said: log records `[logger, level, text]`, `stats()`, and the rest of its output."""

    logged: List[List[str]]
    stats: Dict[str, Any]
    out: str
    err: str

    def texts(self, part: str) -> List[str]:
        """The logged texts that hold `part`."""
        return [
            text for name, level, text in self.logged if part in text and (name, level) == ("aicostguard", "WARNING")
        ]


@pytest.fixture
def environ(simulator: Simulator, tmp_path: Path) -> Dict[str, str]:
    """The environment of the programs: a local ledger file, the simulated hosts."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    return dict(
        plain,
        AICG_URL="sqlite:///%s/ledger.db" % tmp_path,
        AICG_STATE_DIR=str(tmp_path / "state"),
        AICG_HOSTS=simulator.hosts_setting(),
        SIM=simulator.base_url("openai"),
        HOME=str(tmp_path / "home"),
    )


def program(code: str, environ: Dict[str, str], before: str = "", cwd: Optional[Path] = None) -> Done:
    """Run `before`, the agent's one line, and `code`."""
    text = PRELUDE + textwrap.dedent(before) + "\nimport aicostguard.auto\n" + textwrap.dedent(code) + EPILOGUE
    environ = dict(environ, PYTHONPATH=os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", text], env=environ, cwd=cwd or ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    out, _, result = done.stdout.partition("RESULT")
    parsed = json.loads(result)
    return Done(parsed["logged"], parsed["stats"], out, done.stderr)


def diagnose(environ: Dict[str, str]) -> str:
    """What aicg-diagnose says afterwards, as another process."""
    done = subprocess.run(
        [sys.executable, "-m", "aicostguard.diagnostics"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


OPENAI = """
import openai, os
client = openai.OpenAI(base_url=os.environ["SIM"], api_key="x", max_retries=0)
"""
GOOD = """
for _ in range(2):
    client.chat.completions.create(model="gpt-4o", messages=HI)
    list(client.chat.completions.create(
        model="gpt-4o", messages=HI, stream=True, stream_options={"include_usage": True}))
"""


#: the same four calls without an SDK, whose import would take most of a test's time
PLAIN = """
import httpx, os
client = httpx.Client()
"""
PLAIN_GOOD = """
for _ in range(2):
    for stream in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
        client.post(os.environ["SIM"] + "/chat/completions", json={"model": "gpt-4o", "messages": HI, **stream})
"""


@pytest.mark.ids("G20")
def test_nothing_is_said_when_all_is_well(environ: Dict[str, str]) -> None:
    pytest.importorskip("openai")
    done = program(OPENAI + GOOD, environ)
    assert done.logged == [] and done.err == ""
    assert done.stats["counters"]["sent"] == 4
    assert done.stats["warnings"] == {} and done.stats["faults"] == {}


# Unsupported SDK version.


@pytest.mark.ids("G20")
@pytest.mark.parametrize(
    "name, version, warns",
    [
        ("openai", "99.1.0", True),
        ("httpx", "0.22.9", True),
        ("httpx", "1.0", True),
        ("httpx", "0.28.99", False),
        ("httpx", "not a number", False),
    ],
)
def test_a_version_outside_the_tested_range_is_said_once(
    name: str, version: str, warns: bool, environ: Dict[str, str]
) -> None:
    pytest.importorskip(name)
    module = {"openai": "openai._version"}.get(name, name)
    disguise = "import %s\n%s.__version__ = %r" % (module, module, version)
    code = OPENAI + GOOD if name == "openai" else PLAIN + PLAIN_GOOD
    done = program(code, environ, before=disguise)
    texts = done.texts("outside the versions we test")
    assert len(texts) == (1 if warns else 0) == len(done.logged)
    assert all("%s %s" % (name, version) in text for text in texts), "which library, and which version of it"
    assert len(done.stats["warnings"]) == len(texts)
    assert done.stats["counters"]["sent"] == 4, "what looks familiar is metered all the same"


@pytest.mark.ids("G20", "A13")
def test_a_library_that_is_not_what_it_was_is_said_once(environ: Dict[str, str], tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "requests").mkdir(parents=True)
    (site / "requests" / "__init__.py").write_text("__version__ = '2.32.0'\nclass Other: pass\n")
    code = """
    import requests
    print(requests.Other.__name__)
    """
    done = program(code, dict(environ, PYTHONPATH=str(site)))
    assert done.out.split() == ["Other"]
    texts = done.texts("does not look like the ones we know")
    assert len(texts) == 1 and "requests" in texts[0]
    assert done.stats["hooks"]["requests"].startswith("failed")
    assert done.stats["counters"]["faults"] == 1
    assert "requests" in diagnose(environ)


@pytest.mark.ids("G20")
def test_private_parts_that_moved_fall_back_and_are_shown(environ: Dict[str, str]) -> None:
    pytest.importorskip("httpx")
    before = """
    import httpx
    del httpx.Response._get_content_decoder
    httpx.Response._get_decoder = lambda self: None
    """
    code = """
    import os
    with httpx.Client() as client:
        with client.stream("POST", os.environ["SIM"] + "/chat/completions",
                json={"model": "gpt-4o", "stream": True, "stream_options": {"include_usage": True}}) as answer:
            print(len(b"".join(answer.iter_raw())) > 100)
    """
    done = program(code, environ, before=before)
    assert done.out.split() == ["True"]
    assert done.stats["hooks"]["httpx"] == "patched (public stream)"
    assert done.stats["counters"]["sent"] == 1


# A stream without usage.


@pytest.mark.ids("G20", "G10", "B12")
def test_a_stream_without_usage_is_said_once_per_call_site(environ: Dict[str, str]) -> None:
    pytest.importorskip("openai")
    code = (
        OPENAI
        + """
def summarise():
    return list(client.chat.completions.create(model="gpt-4o", messages=HI, stream=True))
def translate():
    return list(client.chat.completions.create(model="gpt-4o", messages=HI, stream=True))
for _ in range(3):
    summarise(); translate()
"""
    )
    done = program(code, environ)
    texts = done.texts("carried no usage")
    assert len(texts) == 2 == len(done.logged)
    assert sum("summarise" in text for text in texts) == 1 and sum("translate" in text for text in texts) == 1
    known = "an estimate at best" if find_spec("unicodedataplus") else "not known"
    assert all("include_usage" in text and "its cost is %s." % known in text for text in texts), "the remedy is named"
    assert done.stats["notes"]["usage_missing"] == 6, "counted each time"
    assert done.stats["counters"]["sent"] == 6, "and each has its receipt"
    shown = diagnose(environ)
    assert "usage_missing" in shown and "6" in shown


@pytest.mark.ids("G20", "G10")
def test_a_stream_left_early_is_no_stream_without_usage(environ: Dict[str, str]) -> None:
    pytest.importorskip("openai")
    code = (
        OPENAI
        + """
stream = client.chat.completions.create(
    model="gpt-4o", messages=HI, stream=True, stream_options={"include_usage": True})
next(iter(stream)); stream.close()
"""
    )
    done = program(code, environ)
    assert done.logged == []


# A wrapper that was there before us.


@pytest.mark.ids("G20")
def test_a_send_put_onto_the_client_object_is_said_once(environ: Dict[str, str]) -> None:
    pytest.importorskip("openai")
    before = """
    import httpx, openai, os
    client = openai.OpenAI(base_url=os.environ["SIM"], api_key="x", max_retries=0)
    original = client._client.send
    client._client.send = lambda *args, **kwargs: original(*args, **kwargs)
    """
    done = program(GOOD, environ, before=before)
    texts = done.texts("has its own 'send'")
    assert len(texts) == 1 == len(done.logged)
    assert "openai" in texts[0] and "not counted" in texts[0]
    # It goes on to the method it took before us, which no hook sees.
    assert done.stats["counters"]["generated"] == 0
    assert "openai" in diagnose(environ)


@pytest.mark.ids("G20")
@pytest.mark.parametrize("passes_on", [False, True])
def test_a_class_with_a_send_of_its_own_is_said_where_nothing_is_seen(passes_on: bool, environ: Dict[str, str]) -> None:
    pytest.importorskip("openai")
    before = """
    import openai, os
    class Own(type(openai.OpenAI(base_url=os.environ["SIM"], api_key="x")._client)):
        def send(self, request, **kwargs):
            if %r:
                return super().send(request, **kwargs)
            response = self._send_single_request(request)
            response.read()
            return response
    client = openai.OpenAI(base_url=os.environ["SIM"], api_key="x", max_retries=0, http_client=Own())
    """
    done = program(GOOD, environ, before=before % passes_on)
    texts = done.texts("has its own 'send'")
    assert len(texts) == (0 if passes_on else 1) == len(done.logged)
    assert passes_on or "not counted" in texts[0]
    assert (done.stats["counters"]["generated"] > 0) is passes_on


@pytest.mark.ids("G20")
def test_a_wrapper_on_the_class_is_seen_through(environ: Dict[str, str]) -> None:
    pytest.importorskip("httpx")
    before = """
    import functools, httpx
    def wrap(original):
        @functools.wraps(original)
        def send(self, *args, **kwargs):
            return original(self, *args, **kwargs)
        return send
    httpx.Client.send = wrap(httpx.Client.send)
    """
    done = program(PLAIN + PLAIN_GOOD, environ, before=before)
    assert done.logged == []
    assert done.stats["counters"]["sent"] == 4


# Settings.


@pytest.mark.ids("G20", "G24")
def test_settings_that_are_wrong_are_said_once_and_defaults_used(environ: Dict[str, str]) -> None:
    pytest.importorskip("httpx")
    wrong = {
        "AICG_MODE": "sideways",
        "AICG_RECEIPT": "everything",
        "AICG_FEATURE_DEFAUL": "x",
        "AICG_SPOOL": "maybe",
        "AICG_DEBUG": "perhaps",
    }
    done = program(PLAIN + PLAIN_GOOD + PLAIN_GOOD, dict(environ, **wrong))
    for name in wrong:
        assert len(done.texts(name)) == 1, name
    assert len(done.logged) == len(wrong)
    assert "did you mean AICG_FEATURE_DEFAULT?" in done.texts("AICG_FEATURE_DEFAUL")[0]
    assert done.stats["counters"]["sent"] == 8
    assert "AICG_MODE" in diagnose(dict(environ, **wrong))


@pytest.mark.ids("G20", "G02")
def test_a_url_without_a_key_is_said(environ: Dict[str, str]) -> None:
    with FakeLedger() as ledger:
        done = program("import httpx", dict(environ, AICG_URL=ledger.url))
        assert len(done.texts("AICG_KEY is not")) == 1
        assert done.stats["active"] is False and done.stats["hooks"] == {}
        assert ledger.connections == 0


NO_EFFECT = """
assert [getattr(owner, name) for owner, name in places] == originals, "a method was replaced"
assert sys.meta_path == meta_path and threading.active_count() == threads
loaded = [name for name in sys.modules if name.startswith(("aicostguard.delivery", "aicostguard.metering"))]
port = os.environ["SIM"].split(":")[2].split("/")[0]
print([line for line in done if port not in line], loaded)
"""


@pytest.mark.ids("G02", "G24")
@pytest.mark.parametrize(
    "off", [{"AICG_URL": ""}, {"AICG_DISABLED": "1"}, {"AICG_DISABLED": "true", "AICG_MODE": "?"}], ids=str
)
def test_without_a_destination_or_switched_off_there_is_no_effect(
    off: Dict[str, str], environ: Dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("httpx")
    before = """
    import os, threading, httpx, asyncio
    meta_path, threads = list(sys.meta_path), threading.active_count()
    places = [(httpx.Client, "send"), (httpx.AsyncClient, "send")]
    originals = [getattr(owner, name) for owner, name in places]
    done = []
    def audit(event, args):
        written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if written or event in ("os.mkdir", "sqlite3.connect", "socket.connect", "_thread.start_new_thread"):
            done.append(event + " " + repr(args)[:200])
    sys.addaudithook(audit)
    """
    with FakeLedger() as ledger:
        on = dict(environ, AICG_URL=ledger.url, AICG_KEY="aicg_" + "k" * 40)
        done = program(PLAIN + PLAIN_GOOD + NO_EFFECT, dict(on, **off), before=before)
        assert done.out.strip() == "[] []"
        assert done.logged == [] and done.err == ""
        assert done.stats["active"] is False and done.stats["hooks"] == {}
        assert ledger.connections == 0
    assert not (tmp_path / "state").exists() and not (tmp_path / "ledger.db").exists()


# Our own traffic.


@pytest.mark.ids("E6")
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_our_own_traffic_is_never_counted(mode: str, environ: Dict[str, str]) -> None:
    pytest.importorskip("httpx")
    awaited = """
async def ask():
    async with httpx.AsyncClient() as client:
        await client.post(os.environ["SIM"] + "/chat/completions", json={"model": "gpt-4o", "messages": HI})
import asyncio, aicostguard
asyncio.run(ask())
aicostguard.flush(5)
"""
    with FakeLedger() as ledger:
        # The ledger's own host is named as an AI host, by its port and whole.
        hosts = environ["AICG_HOSTS"] + ",127.0.0.1:%d=openai,127.0.0.1" % ledger.port
        more = {"AICG_URL": ledger.url, "AICG_KEY": "aicg_" + "k" * 40, "AICG_HOSTS": hosts, "AICG_MODE": mode}
        done = program(PLAIN + PLAIN_GOOD + awaited, dict(environ, **more))
        assert len(ledger.stored) == 5
        assert all(seen.path == "/v1/receipts" for seen in ledger.seen)
        counters = done.stats["counters"]
        assert (counters["generated"], counters["sent"], counters["unrecognised"]) == (5, 5, 0)
        assert not [note for note in done.stats["notes"] if note.startswith("unrecognised")]
