"""What people download: the wheel and the sdist, built here and looked into."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Set

import pytest

from tests.test_project import tree

PACKAGE = tree.ROOT / "aicostguard"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=str(tree.ROOT),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def sdist(built: Path) -> Set[str]:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_is_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    of_tree = {p.relative_to(tree.ROOT).as_posix() for p in tree.files() if PACKAGE in p.parents}
    assert inside == of_tree
    assert "aicostguard/py.typed" in inside
    assert [name for name in inside if name.startswith("aicostguard/pricing/") and not name.endswith(".py")]


@pytest.mark.ids("G26")
def test_the_licence_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert wheel.read(name) == (tree.ROOT / "LICENSE").read_bytes()
    assert b"Apache License\n                           Version 2.0, January 2004" in wheel.read(name)
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"


@pytest.mark.ids("G13", "B39")
def test_the_agent_needs_python_alone(wheel: zipfile.ZipFile) -> None:
    told = metadata(wheel)
    assert told["Requires-Python"] == ">=3.9"
    assert [line for line in told.get_all("Requires-Dist") or () if "extra ==" not in line] == []
    assert set(told.get_all("Provides-Extra") or ()) == {
        "server",
        "oidc",
        "otlp",
        "demo",
        "dev",
        "docs",
        "frames",
        "notebook",
        "estimate",
        "guard",
        "archive",
        "alerts",
        "dashboard",
        "all",
    }


def test_both_commands_are_named(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    text = wheel.read(name).decode()
    assert "aicg = aicostguard.cli:main" in text
    assert "aicg-diagnose = aicostguard.diagnostics:main" in text


def test_the_sdist_can_be_tested(sdist: Set[str]) -> None:
    """Everything of the tree but what only git needs; nothing that a run left behind."""
    of_tree = {p.relative_to(tree.ROOT).as_posix() for p in tree.files()}
    assert of_tree - sdist == set()
    assert sdist - of_tree <= {"", "PKG-INFO", ".gitignore"}
