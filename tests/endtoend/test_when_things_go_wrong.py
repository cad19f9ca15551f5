"""A wrong key, a dead ledger, a full disk, a corrupt database, a bad variable: the program never notices.

A real program makes real SDK calls against the simulated providers, in a process of its own, while each thing is
broken in turn. Its output and exit code are compared with those of the same program without us.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

pytest.importorskip("openai")
pytest.importorskip("fastapi", reason="the ledger needs CPython 3.11 and the server extra")

from aicostguard.simulator import Simulator

ROOT = Path(__file__).parents[2]
CALLS = 3
PROGRAM = """
import sys
{activate}
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="x", max_retries=0)
for n in range({calls}):
    reply = client.chat.completions.create(model="gpt-4o", messages=[{{"role": "user", "content": "hi %d" % n}}])
    print(reply.usage.prompt_tokens, reply.usage.completion_tokens, type(reply).__name__)
stream = client.chat.completions.create(
    model="gpt-4o", messages=[], stream=True, stream_options={{"include_usage": True}}
)
print(len(list(stream)))
"""


class Ran(NamedTuple):
    """What a program left behind."""

    out: str
    err: str
    code: int
    seconds: float


class Ledger(NamedTuple):
    """A real `aicg serve`."""

    url: str
    key: str
    file: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def providers() -> Iterator[Simulator]:
    with Simulator(("openai",)) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _fresh(providers: Simulator) -> None:
    providers.reset_count()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(folder: Path, port: int) -> Ledger:
    key = folder / "ledger.key"
    command = [sys.executable, "-m", "aicostguard.cli", "serve", "--port", str(port), "--db", str(folder / "ledger.db")]
    process = subprocess.Popen(
        [*command, "--key-file", str(key)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (key.is_file() and key.read_text().strip() and listens(port)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError("the ledger did not start: %s" % process.communicate()[1])
        time.sleep(0.1)
    return Ledger("http://127.0.0.1:%d" % port, key.read_text().strip(), folder / "ledger.db", process)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def stop(ledger: Ledger) -> None:
    ledger.process.terminate()
    ledger.process.communicate(timeout=20)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    running = serve(tmp_path, free_port())
    yield running
    stop(running)


def program(providers: Simulator, state: Path, env: Dict[str, str], activate: bool = True) -> Ran:
    code = PROGRAM.format(activate="import aicostguard.auto" if activate else "", calls=CALLS)
    full = {name: value for name, value in os.environ.items() if not name.startswith("AICG_")}
    full.update(PYTHONPATH=str(ROOT), AICG_HOSTS=providers.hosts_setting(), AICG_STATE_DIR=str(state), **env)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, providers.urls["openai"]], env=full, capture_output=True, text=True, timeout=60
    )
    return Ran(done.stdout, done.stderr, done.returncode, time.monotonic() - started)


def status(state: Path) -> Dict[str, Any]:
    """The newest status file."""
    files = sorted((state / "status").glob("*.json"), key=lambda path: path.stat().st_mtime)
    return dict(json.loads(files[-1].read_text()))


def costs(ledger: Ledger) -> Dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "aicostguard.cli", "costs", "--json", "--db", str(ledger.file), "--by", "feature"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout)["totals"])


def aicg(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aicostguard.cli", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def same_as_without_us(ran: Ran, providers: Simulator, tmp_path: Path) -> None:
    """The program's own view: same output, same exit code, nothing of ours in its output."""
    plain = program(providers, tmp_path / "plain-state", {}, activate=False)
    assert plain.code == 0, plain.err
    assert (ran.out, ran.code) == (plain.out, plain.code), ran.err


def said(ran: Ran) -> List[str]:
    return [line for line in ran.err.splitlines() if line.startswith("aicostguard: ")]


@pytest.mark.ids("G01", "G12", "D16")
def test_all_is_well(providers: Simulator, ledger: Ledger, tmp_path: Path) -> None:
    ran = program(providers, tmp_path / "state", {"AICG_URL": ledger.url, "AICG_KEY": ledger.key})
    billed = providers.billed()
    assert said(ran) == []
    totals = costs(ledger)
    assert totals["calls"] == len(billed) == CALLS + 1
    assert totals["input_tokens"] == sum(row.usage.input_tokens or 0 for row in billed if row.usage)
    assert totals["output_tokens"] == sum(row.usage.output_tokens or 0 for row in billed if row.usage)
    assert totals["unpriced_calls"] == 0
    same_as_without_us(ran, providers, tmp_path)


def test_a_wrong_key_is_said_and_nothing_is_lost(providers: Simulator, ledger: Ledger, tmp_path: Path) -> None:
    state = tmp_path / "state"
    ran = program(providers, state, {"AICG_URL": ledger.url, "AICG_KEY": "aicg_" + "W" * 32})
    same_as_without_us(ran, providers, tmp_path)
    assert [line for line in said(ran) if "refuses AICG_KEY (HTTP 401)" in line] == said(ran)
    assert len(said(ran)) == 1
    assert costs(ledger)["calls"] == 0
    assert status(state)["counters"]["spooled"] == CALLS + 1


@pytest.mark.ids("E4", "G21")
def test_a_dead_ledger_costs_nothing_and_gets_everything_later(providers: Simulator, tmp_path: Path) -> None:
    port, state = free_port(), tmp_path / "state"
    folder = tmp_path / "ledger"
    folder.mkdir()
    running = serve(folder, port)
    stop(running)  # its key exists; the ledger is down
    env = {"AICG_URL": running.url, "AICG_KEY": running.key}
    ran = program(providers, state, env)
    same_as_without_us(ran, providers, tmp_path)
    assert len(said(ran)) == 1
    assert "cannot be reached" in said(ran)[0]
    assert status(state)["counters"]["spooled"] == CALLS + 1

    again = serve(folder, port)
    try:
        providers.reset_count()
        second = program(providers, state, env)
        assert said(second) == []
        deadline = time.monotonic() + 10
        while costs(again)["calls"] < 2 * (CALLS + 1) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert costs(again)["calls"] == 2 * (CALLS + 1)
    finally:
        stop(again)


def test_a_full_disk_is_counted(providers: Simulator, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(mount)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        (mount / "filler").write_bytes(b"x" * 24_000)
        try:
            with (mount / "rest").open("wb") as rest:
                while True:
                    rest.write(b"x" * 512)
                    rest.flush()
        except OSError:
            pass
        env = {"AICG_URL": "http://127.0.0.1:%d" % free_port(), "AICG_KEY": "aicg_" + "a" * 32}
        ran = program(providers, mount / "state", env)
        same_as_without_us(ran, providers, tmp_path)
        assert "cannot be reached" in ran.err
        assert "dropped" in ran.err
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_corrupt_ledger_file_is_not_overwritten(providers: Simulator, tmp_path: Path) -> None:
    broken, state = tmp_path / "broken.db", tmp_path / "state"
    broken.write_bytes(b"this is no database at all" * 100)
    before = broken.read_bytes()
    ran = program(providers, state, {"AICG_URL": "sqlite:///%s" % broken})
    same_as_without_us(ran, providers, tmp_path)
    assert any("cannot be written" in line for line in said(ran))
    assert broken.read_bytes() == before
    assert status(state)["counters"]["spooled"] == CALLS + 1
    for command in (["costs", "--db", str(broken)], ["serve", "--db", str(broken), "--port", str(free_port())]):
        refused = aicg(*command)
        assert refused.returncode == 1
        assert str(broken) in refused.stderr
        assert "Traceback" not in refused.stderr
    assert broken.read_bytes() == before


@pytest.mark.ids("G02", "G24")
@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("AICG_MODE", "sometimes", "AICG_MODE='sometimes': use one of auto, background, inline"),
        ("AICG_HOSTS", "http://x/y", "AICG_HOSTS='http://x/y': use host[:port][=provider]"),
        ("AICG_FEATUER_DEFAULT", "x", "AICG_FEATUER_DEFAULT is not a setting; did you mean AICG_FEATURE_DEFAULT?"),
        ("AICG_URL", "localhost:8090", "AICG_URL: use http(s)://host[:port] or sqlite:///path"),
        ("AICG_ENFORCE", "ledger", "AICG_ENFORCE=ledger needs the AICG_URL of a running ledger, and AICG_KEY"),
    ],
)
def test_a_bad_variable_is_said_once(
    name: str, value: str, sentence: str, providers: Simulator, tmp_path: Path
) -> None:
    env = {"AICG_URL": "sqlite:///%s" % (tmp_path / "l.db"), "AICG_STATE_DIR": str(tmp_path / "state"), name: value}
    env.pop("AICG_STATE_DIR")
    full_env = dict(env)
    ran = (
        program(providers, tmp_path / "state", full_env)
        if name != "AICG_HOSTS"
        else _without_hosts(providers, tmp_path, full_env)
    )
    same_as_without_us(ran, providers, tmp_path)
    assert [line for line in said(ran) if sentence in line] == said(ran)
    assert len(said(ran)) == 1


def _without_hosts(providers: Simulator, tmp_path: Path, env: Dict[str, str]) -> Ran:
    class Bad:
        urls = providers.urls

        @staticmethod
        def hosts_setting() -> str:
            return env["AICG_HOSTS"]

    rest = {key: value for key, value in env.items() if key != "AICG_HOSTS"}
    return program(Bad, tmp_path / "state", rest)  # type: ignore[arg-type]


@pytest.mark.ids("G02")
@pytest.mark.parametrize("env", [{}, {"AICG_URL": "sqlite:///never.db", "AICG_DISABLED": "1"}])
def test_without_a_destination_there_is_no_effect(env: Dict[str, str], providers: Simulator, tmp_path: Path) -> None:
    state = tmp_path / "state"
    ran = program(providers, state, env)
    same_as_without_us(ran, providers, tmp_path)
    assert said(ran) == []
    assert not state.exists()
    assert not Path("never.db").exists()


def test_a_bad_receipt_is_refused_by_name(ledger: Ledger) -> None:
    import urllib.error
    import urllib.request

    def post(body: object) -> Any:
        request = urllib.request.Request(ledger.url + "/v1/receipts", json.dumps(body).encode())
        request.add_header("Authorization", "Bearer " + ledger.key)
        request.add_header("Content-Type", "application/json")
        request.add_header("Idempotency-Key", str(time.monotonic()))
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    good = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 2}
    assert post(good)[1]["accepted"] == 1
    for field, value in (("prompt", "secret"), ("input_tokens", -1), ("model", "two words"), ("streamed", False)):
        status_code, reply = post({**good, field: value})
        assert status_code in (200, 400, 422)
        assert field in json.dumps(reply)
        assert "secret" not in json.dumps(reply)
    assert costs(ledger)["calls"] == 1
