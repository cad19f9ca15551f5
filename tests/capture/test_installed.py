"""Whose code it is where the folder does not say so: told by what installers record, and by what was hooked."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, Optional

import pytest

from aicostguard.capture import caller, installed
from tests.capture.test_caller import ask, run_as

RECORDS = {
    "lib_a-1.0.dist-info": {"RECORD": "lib_a/__init__.py,sha256=x,1\nlib_a/core.py,sha256=y,2\n"},
    "single-1.0.dist-info": {"RECORD": "single.py,,\nsingle-1.0.dist-info/RECORD,,\n"},
}
LOCAL = '{"url": "file:///src/shop", "dir_info": {}}'
WHEEL = '{"url": "file:///wheels/shop.whl", "archive_info": {}}'


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(installed, "_folders", {})
    monkeypatch.setattr(installed, "_hooked", set())
    caller.forget()
    yield
    caller.forget()


def folder(root: Path, records: Dict[str, Dict[str, str]]) -> Path:
    for name, files in records.items():
        (root / name).mkdir(parents=True)
        for file, text in files.items():
            (root / name / file).write_text(text)
    return root


def archive(root: Path, records: Dict[str, Dict[str, str]]) -> Path:
    path = root / "app.pyz"
    with zipfile.ZipFile(path, "w") as made:
        for name, files in records.items():
            for file, text in files.items():
                made.writestr("%s/%s" % (name, file), text)
    return path


@pytest.mark.ids("G06")
@pytest.mark.parametrize("made", [folder, archive])
def test_libraries_beside_the_users_own_code_are_stepped_over(made: Callable[..., Path], tmp_path: Path) -> None:
    """AWS Lambda, `pip install --target`; zipapp and shiv."""
    root = str(made(tmp_path, RECORDS))
    for file, module in (("lib_a/core.py", "lib_a.core"), ("lib_a/__init__.py", "lib_a"), ("single.py", "single")):
        assert run_as("%s/%s" % (root, file), module, ask) == "run_as", module
    for file, module in (("handler.py", "handler"), ("shop/__init__.py", "shop"), ("lib_a/job.py", "__main__")):
        assert run_as("%s/%s" % (root, file), module, ask) == "helper", module


@pytest.mark.ids("G06")
@pytest.mark.parametrize(
    "origin, installer, found",
    [(LOCAL, "pip", "helper"), (LOCAL, "uv", "helper"), (LOCAL, "conda", "run_as"), (WHEEL, "pip", "run_as"),
     ("", "pip", "run_as")],
)  # fmt: skip
def test_the_users_own_program_may_be_installed(origin: str, installer: str, found: str, tmp_path: Path) -> None:
    """`pip install .` in a container puts it into `site-packages`; it may share a namespace with libraries there."""
    shop = {"RECORD": "shop/jobs.py,,\ncommon/own.py,,\n", "direct_url.json": origin, "INSTALLER": installer + "\n"}
    records = {**RECORDS, "shop-1.dist-info": shop, "common-1.dist-info": {"RECORD": "common/theirs.py,,\n"}}
    root = folder(tmp_path / "lib" / "python3.11" / "site-packages", records)
    assert run_as("%s/shop/jobs.py" % root, "shop.jobs", ask) == found
    assert run_as("%s/common/own.py" % root, "common.own", ask) == found
    assert run_as("%s/common/theirs.py" % root, "common.theirs", ask) == "run_as"
    assert run_as("%s/lib_a/core.py" % root, "lib_a.core", ask) == "run_as"


@pytest.mark.ids("G06")
def test_what_was_hooked_is_a_library_wherever_it_stands() -> None:
    """A frozen program has no folders, and some packers drop the records."""
    frozen = functools.partial(run_as, "somesdk/_base_client.py", "somesdk._base_client", ask)
    assert frozen() == "helper"
    installed.hooked("somesdk._base_client", {"somesdk": module("somesdk", "somesdk/__init__.pyc")}.get)
    assert frozen() == "helper", "learnt before"
    caller.forget()
    assert frozen() == "run_as"
    assert run_as("somesdk_tools/x.py", "somesdk_tools.x", ask) == "helper"


def test_hooking_a_library_forgets_what_its_files_were_taken_for() -> None:
    assert run_as("json/x.py", "json.x", ask) == "helper"
    caller.library("json.x")
    assert run_as("json/x.py", "json.x", ask) == "run_as"


def test_a_namespace_is_no_library() -> None:
    loaded = {
        "google": module("google", None),
        "google.genai": module("google.genai", "/task/google/genai/__init__.py"),
    }
    installed.hooked("google.genai._api_client", loaded.get)
    assert installed._hooked == {"google.genai"}


def module(name: str, file: Optional[str]) -> ModuleType:
    made = ModuleType(name)
    made.__file__ = file
    return made


def test_a_folder_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "app.pyz"
    broken.write_bytes(b"no archive")
    for root in (str(broken), str(tmp_path / "nowhere")):
        assert run_as(root + "/lib_a/core.py", "lib_a.core", ask) == "helper"


def test_a_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, read, reads = folder(tmp_path, RECORDS), installed._read, []

    def counted(*args: Any) -> Any:
        reads.append(args[0])
        return read(*args)

    monkeypatch.setattr(installed, "_read", counted)
    for name in ("core", "other", "core"):
        assert run_as("%s/lib_a/%s.py" % (root, name), "lib_a.%s" % name, ask) == "run_as"
    assert reads.count(str(root)) == 1
