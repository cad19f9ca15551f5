"""Cannot leak an API key: neither the provider's keys nor our own turn up in anything that leaves the agent.

Keys go into every place where programs put them, right and wrong; then everything the agent let out is searched for
them, whole and in part. Our own key stands in one place only: the `Authorization` header of our own POST.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from aicostguard import auto, config
from aicostguard.simulator import Simulator
from tests.delivery.fake_ledger import Answer, FakeLedger, free_port
from tests.safety import inject, wiring
from tests.safety.calls import CALLS, CLAUDE, GPT, HI, Clients
from tests.safety.wiring import Outlets, Wire

SECRET = "Qz7canarykey"
PROVIDER_KEY = "sk-proj-%s-0123456789abcdef0123456789abcdef" % SECRET


def leaked(outlets: Outlets, *more: bytes) -> List[str]:
    """What is found of any key in anything that left the agent: of ours, what follows the part that may be shown."""
    text = b"\n".join([outlets.all(), *more]).decode("utf-8", "replace")
    return sorted(set(re.findall("%s[\\w-]*|%s\\w*" % (SECRET, re.escape(wiring.KEY[9:16])), text)))


def ask_with_keys(clients: Clients, simulator: Simulator) -> int:
    """Calls with a key in every place that a program may put one; how many of them bill."""
    billed = 0
    body = {"model": GPT, "messages": HI, "api_key": PROVIDER_KEY}
    path = "/v1/chat/completions"
    plain = simulator.urls["openai"] + path
    with_userinfo = plain.replace("http://", "http://user:%s@" % PROVIDER_KEY)
    heads: List[Dict[str, str]] = [
        {"Authorization": "Bearer " + PROVIDER_KEY},
        {"x-api-key": PROVIDER_KEY},
        {"api-key": PROVIDER_KEY},
        {"x-goog-api-key": PROVIDER_KEY, "cookie": "token=" + PROVIDER_KEY},
        {"Proxy-Authorization": "Basic " + PROVIDER_KEY},
    ]
    if "httpx_plain" in CALLS:
        for headers in heads:
            clients["httpx"].post(plain, json=body, headers=headers)
        clients["httpx"].post(plain + "?key=" + PROVIDER_KEY, json=body)
        clients["httpx"].post(with_userinfo, json=body, auth=("user", PROVIDER_KEY))
        clients["httpx"].post(plain, content=b"key=%s" % PROVIDER_KEY.encode())
        clients["httpx"].post(simulator.urls["openai"] + "/v1/%s/unknown" % PROVIDER_KEY, json=body)
        echoed = {"status": 401, "error": {"message": "Incorrect API key provided: " + PROVIDER_KEY}}
        clients["httpx"].post(plain, json=body, headers={"x-sim": json.dumps(echoed)})
        billed += 7
    if "requests_plain" in CALLS:
        clients["requests"].post(with_userinfo + "?api_key=" + PROVIDER_KEY, json=body, headers=heads[0])
        billed += 1
    if "aiohttp_plain" in CALLS:

        async def ask() -> None:
            async with clients["aiohttp"].post(with_userinfo + "?key=" + PROVIDER_KEY, json=body) as answer:
                await answer.read()

        clients.run(ask())
        billed += 1
    if "openai_plain" in CALLS:
        import openai

        with openai.OpenAI(
            base_url=simulator.base_url("openai"),
            api_key=PROVIDER_KEY,
            organization=PROVIDER_KEY,
            max_retries=0,
            default_headers={"api-key": PROVIDER_KEY},
            default_query={"key": PROVIDER_KEY},
        ) as client:
            client.chat.completions.create(model=GPT, messages=HI, extra_body={"api_key": PROVIDER_KEY})  # type: ignore[arg-type]
            list(client.chat.completions.create(model=GPT, messages=HI, stream=True))  # type: ignore[arg-type]
            echoed = {"status": 401, "error": {"message": "Incorrect API key provided: " + PROVIDER_KEY}}
            with pytest.raises(openai.AuthenticationError):
                client.chat.completions.create(
                    model=GPT,
                    messages=HI,  # type: ignore[arg-type]
                    extra_headers={"x-sim": json.dumps(echoed)},
                )
        dead = openai.OpenAI(
            base_url="http://user:%s@127.0.0.1:%d/v1" % (PROVIDER_KEY, free_port()), api_key=PROVIDER_KEY
        )
        with dead, pytest.raises(openai.APIConnectionError):
            dead.with_options(max_retries=0).chat.completions.create(model=GPT, messages=HI)  # type: ignore[arg-type]
        billed += 2
    if "anthropic_plain" in CALLS:
        import anthropic

        with anthropic.Anthropic(base_url=simulator.urls["anthropic"], api_key=PROVIDER_KEY, max_retries=0) as claude:
            claude.messages.create(model=CLAUDE, max_tokens=9, messages=HI)  # type: ignore[arg-type]
        billed += 1
    if "google_plain" in CALLS:
        from google import genai

        gemini = genai.Client(api_key=PROVIDER_KEY, http_options={"base_url": simulator.urls["google"]})
        gemini.models.generate_content(model="gemini-2.5-flash", contents="hi")
        billed += 1
    return billed


@pytest.mark.ids("G18", "E9", "G05")
@pytest.mark.parametrize("mode", ["background", "inline", "file", "dead ledger", "wrong key", "refusing"])
def test_no_key_leaves_the_process(
    mode: str,
    wired: Wire,
    outlets: Outlets,
    simulator: Simulator,
    clients: Clients,
    listening: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, PROVIDER_KEY)
    answers = {"dead ledger": Answer(drop=True), "wrong key": Answer(401), "refusing": Answer(400)}
    with FakeLedger(then=answers.get(mode, Answer())) as ledger:
        outlets.ledgers.append(ledger)
        url = "sqlite:///%s" % outlets.file if mode == "file" else ledger.url
        wired(url, MODE="inline" if mode == "inline" else "background")
        billed = ask_with_keys(clients, simulator)
        auto.flush(5)
        auto.shutdown(5)
        listening()
        assert len(simulator.billed()) == billed
        assert auto.stats()["counters"]["generated"] == billed
        if mode != "file":
            assert ("Bearer " + wiring.KEY).encode() in outlets.heads(), "the search can find our key"
            assert outlets.heads().count(wiring.KEY.encode()) == len(ledger.seen), "once, in one header, of each POST"
        if mode in ("dead ledger", "wrong key", "refusing"):
            assert outlets.files().count(b'"provider":"openai"') > 5, "the spool was to be looked at"
        assert b'"destination"' in outlets.files(), "the status file was to be looked at"
        assert b"carried no usage" in outlets.all(), "the log was to be looked at"
        assert leaked(outlets) == []


# A socket of ours that a planted fault leaves to the garbage collector says so, where warnings are errors.
@pytest.mark.filterwarnings("ignore:Exception ignored (in|while final):pytest.PytestUnraisableExceptionWarning")
@pytest.mark.ids("G18", "E9")
def test_keys_in_exceptions_inside_us_leave_no_trace(
    wired: Wire, outlets: Outlets, clients: Clients, listening: Any
) -> None:
    class Telling(ValueError):
        def __init__(self) -> None:
            super().__init__(PROVIDER_KEY, wiring.KEY)

    with FakeLedger() as ledger:
        outlets.ledgers.append(ledger)
        wired(ledger.url, MODE="inline")
        _, reached = inject.reached(lambda: CALLS["httpx_plain"](clients))
        functions = inject.functions()
        tried = 0
        for code in reached:
            name = inject.name_of(code)
            if name.startswith(("capture/call", "capture/transports", "delivery")) and not inject.guards(code):
                if name.endswith(".send"):
                    continue
                tried += 1
                with inject.planted(code, functions, Telling):
                    CALLS["httpx_plain"](clients)
        wiring.end_delivery()
        listening()
        assert tried > 20
        assert "Telling" in repr(auto.stats()["faults"])
        assert leaked(outlets) == []


@pytest.mark.ids("G18", "E9", "G02")
@pytest.mark.parametrize(
    "name", ["HOSTS", "FEATURE_DEFAULT", "SERVICE", "MODE", "URL", "KEY", "RECEIPT", "DISABLED", "X"]
)
def test_a_key_in_the_wrong_setting_is_not_repeated(name: str) -> None:
    for value in (PROVIDER_KEY, "https://user:%s@host/v1" % SECRET, "%s@host" % SECRET, "a%s b!" % wiring.KEY):
        problems = config.load({"AICG_" + name: value, "AICG_STATE_DIR": "/nowhere"}).problems
        assert problems or name in ("FEATURE_DEFAULT", "SERVICE", "HOSTS")
        assert not re.search("%s|%s" % (SECRET, wiring.KEY[9:]), " ".join(problems))


@pytest.mark.ids("G18", "E9", "G23")
def test_diagnose_and_a_whole_process_show_a_masked_key(tmp_path: Path) -> None:
    key = "aicg_" + SECRET + "4" * 28
    code = """
        import aicostguard.auto, aicostguard, httpx, os, sys
        url = "http://user:%s@127.0.0.1:9/v1/chat/completions?key=%s"
        try:
            httpx.post(url, json={}, headers={"api-key": os.environ["OPENAI_API_KEY"]})
        except httpx.ConnectError:
            print("no connection")
        import aicostguard.auto as auto
        auto._deliver({"provider": "openai", "model": "gpt-4o"})
        print(aicostguard.flush(2))
        print(aicostguard.stats(), auto._settings.state_dir and "state")
    """ % (PROVIDER_KEY, PROVIDER_KEY)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    environ.update(AICG_KEY=key, AICG_URL="http://127.0.0.1:%d" % free_port(), AICG_STATE_DIR=str(tmp_path / "state"))
    environ.update(AICG_HOSTS="127.0.0.1:9=openai", AICG_DEBUG="1", OPENAI_API_KEY=PROVIDER_KEY)
    root = Path(__file__).parents[2]
    import textwrap

    runs = [
        [sys.executable, "-c", textwrap.dedent(code)],
        [sys.executable, "-m", "aicostguard.diagnostics"],
        [sys.executable, "-m", "aicostguard.diagnostics", "--json"],
    ]
    spoken = ""
    for run in runs:
        done = subprocess.run(run, env=environ, cwd=root, capture_output=True, text=True, timeout=60)
        assert done.returncode in (0, 1), done.stderr
        spoken += done.stdout + done.stderr
    assert "no connection" in spoken and "False" in spoken and "aicg_Qz7c" in spoken
    # Its first nine characters, `aicg_` and four, are what a person knows a key by; no more of it may show.
    files = b"\n".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).decode("utf-8", "replace")
    names = " ".join(path.name for path in tmp_path.rglob("*"))
    assert "gpt-4o" in files
    assert SECRET not in spoken + files + names
