"""`python -m aicostguard.simulator`, and what importing the simulator brings along."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.simulator.raw import ask


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_stops_when_told(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "aicostguard.simulator", "--providers", "openai,groq"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        try:
            assert list(told["urls"]) == ["openai", "groq"]
            openai, groq = (url.split("//")[1] for url in told["urls"].values())
            assert told["AICG_HOSTS"] == "%s=openai,%s=groq" % (openai, groq)
            assert ask(told["urls"]["groq"], "/openai/v1/chat/completions", {"model": "m"}).status == 200
        finally:
            process.send_signal(number)
        assert process.wait(10) == 0


def test_bad_arguments_and_taken_ports() -> None:
    command = [sys.executable, "-m", "aicostguard.simulator", "--providers"]
    bad = subprocess.run([*command, "nobody"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "unknown providers: nobody" in bad.stderr
    far = subprocess.run([*command, "openai", "--port", "65536"], capture_output=True, text=True, check=False)
    assert far.returncode == 2
    assert "--port takes 0 to 65534, not 65536" in far.stderr
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        full = subprocess.run([*command, "openai", "--port", port], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "cannot listen" in full.stderr


def test_it_imports_nothing_that_it_is_there_to_check() -> None:
    code = (
        "import sys, aicostguard.simulator, aicostguard.simulator.__main__\n"
        "print([m for m in sys.modules if m.startswith('aicostguard.') and not m.startswith('aicostguard.simulator')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['aicostguard.usage']"
