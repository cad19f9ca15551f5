"""What becomes of output that nobody takes: an exit code and at most a sentence, never a traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.ledger.support import ROOT, command, environment, receipt

#: a command of the extra `server`, one of the core, one that is argparse's, and the module of `aicg-diagnose`
COMMANDS = {
    "costs": command("costs", "--since", "all", "--by", "user", "--limit", "10000", "--csv"),
    "policy": command("policy", "check", str(ROOT / "examples" / "governance" / "aicostguard.yaml")),
    "diagnose": command("diagnose"),
    "module": command(module="aicostguard.diagnostics"),
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A ledger with more to say than a pipe holds."""
    from aicostguard import ledger
    from tests.ledger.support import envelope, take

    folder: Path = tmp_path_factory.mktemp("output")
    with_ledger = environment(AICG_DATA_DIR=str(folder), AICG_STATE_DIR=str(folder / "state"))
    store = ledger.open_ledger(str(folder / "ledger.db"))
    take(store, envelope([receipt(user=f"user-{number}-größe") for number in range(2000)]))
    store.close()
    return with_ledger


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_sentence(name: str, env: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            COMMANDS[name], env=env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=180, check=False
        )
    assert (done.returncode, done.stderr) == (1, "aicg: cannot write: No space left on device\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_pipe_that_is_closed_is_no_error(name: str, env: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            COMMANDS[name], env=env, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=180, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_an_encoding_lacks_is_escaped_and_stays_apart(env: dict[str, str]) -> None:
    done = subprocess.run(
        COMMANDS["costs"],
        env={**env, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert len({line.split(",")[0] for line in done.stdout.splitlines()}) == 2001
    assert "user-7-gr\\xf6\\xdfe" in done.stdout


def test_closed_output_ends_no_command(env: dict[str, str]) -> None:
    shell = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *COMMANDS["costs"]]
    done = subprocess.run(shell, env=env, stderr=subprocess.PIPE, text=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, "")
