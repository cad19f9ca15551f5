"""docs/access.md: its commands are run as they stand there, and its settings are read."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from aicostguard.cli.app import _group
from aicostguard.ledger.access import oidc, principal
from tests.ledger.support import ROOT, environment

TEXT = (ROOT / "docs" / "access.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.S)
SERVED = [line for block in BLOCKS for line in block.splitlines() if "aicg serve" in line]


def test_the_commands_do_what_they_say(tmp_path: Path) -> None:
    """In the order of the text, in one shell, on one ledger."""
    wanted = [block for block in BLOCKS if "aicg serve" not in block]
    assert len(wanted) == 2
    script = f'set -eu\naicg() {{ {shlex.quote(sys.executable)} -m aicostguard.cli "$@"; }}\n' + "\n".join(wanted)
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(AICG_DATA_DIR=str(tmp_path), COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done
    for words in ("made acme/search", "production", "organisation.created", "aicgc_", "revoked aicg_"):
        assert words in done.stdout, done.stdout


@pytest.mark.parametrize("line", SERVED)
def test_the_options_of_serve_are_there(line: str) -> None:
    words = shlex.split(line.partition("#")[0])
    words = words[words.index("aicg") + 1 :]
    command = _group.get_command(click.Context(_group), words[0])
    assert command is not None
    assert command.make_context("serve", words[1:]).params
    assert isinstance(command, click.Command)


def test_the_settings_are_read() -> None:
    body = json.loads(re.findall(r"```json\n(.*?)```", TEXT, re.S)[0])
    found = oidc.parse(body, None)
    assert [grant.group for grant in found.roles] == ["finops", "search-team"]


def test_the_roles_are_those_of_the_table() -> None:
    assert re.findall(r"^\| `(\w+)` \|", TEXT, re.M) == list(principal.ROLES)
