"""`scripts/layers` finds what it is there to find: each rule is broken once in a package of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest

from tests.test_project import tree

layers = tree.script("layers")

#: name → (files of the package, part of the complaint)
PLANTED: Dict[str, tuple[Dict[str, str], str]] = {
    "upward": ({"metering/read.py": "from aicostguard.capture import tap", "capture/tap.py": ""}, "a layer above"),
    "upward inside a function": (
        {"usage.py": "def f():\n    import aicostguard.delivery.queue", "delivery/queue.py": ""},
        "a layer above usage",
    ),
    "upward by name": (
        {
            "pricing/book.py": "import importlib\nimportlib.import_module('aicostguard.ledger')",
            "ledger/__init__.py": "",
        },
        "a layer above pricing",
    ),
    "capture imports guard": ({"capture/tap.py": "import aicostguard.guard.budget", "guard/budget.py": ""}, "above"),
    "relative": ({"metering/a.py": "from .b import c", "metering/b.py": "c = 1"}, "relatively"),
    "root": ({"delivery/client.py": "from aicostguard import feature"}, "package root"),
    "eager root": ({"__init__.py": "from aicostguard.ledger import api", "ledger/api.py": ""}, "lazy"),
    "third party": ({"delivery/client.py": "import requests"}, "Python's own modules only"),
    "third party in a function": ({"metering/a.py": "def f():\n    import regex"}, "Python's own modules only"),
    "hook at load": ({"capture/transports/x.py": "import httpx"}, "Python's own modules only"),
    "wrapt": ({"capture/patch.py": "import wrapt"}, "imports wrapt"),
    "extra in the root of cli": ({"cli/__init__.py": "import click"}, "imports click"),
    "too new for 3.9": ({"config.py": "import tomllib"}, "CPython 3.9"),
    "no layer": ({"helpers.py": ""}, "no layer"),
    "ring": (
        {"metering/a.py": "import aicostguard.metering.b", "metering/b.py": "import aicostguard.metering.a"},
        "ring of imports",
    ),
}
ALLOWED = {
    "downward": {"capture/tap.py": "from aicostguard.metering import read", "metering/read.py": "import json"},
    "own package": {"metering/a.py": "from aicostguard.metering.b import c", "metering/b.py": "c = 1"},
    "hook in a function": {"capture/transports/x.py": "def install():\n    import httpx"},
    "for the type checker": {
        "capture/tap.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import httpx\n"
    },
    "extras": {"ledger/api.py": "import fastapi", "simulator/http.py": "import h11", "cli/costs.py": "import rich"},
    "version": {"__init__.py": "__version__ = '1'", "delivery/client.py": "from aicostguard import __version__"},
    "root from above": {"cli/app.py": "import aicostguard", "ledger/client.py": "from aicostguard import feature"},
    "lazy root": {"__init__.py": "def __getattr__(n):\n    import aicostguard.ledger.api", "ledger/api.py": ""},
}


def plant(folder: Path, files: Dict[str, str]) -> Path:
    package = folder / "aicostguard"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


@pytest.mark.parametrize("name", PLANTED)
def test_finds(name: str, tmp_path: Path) -> None:
    files, complaint = PLANTED[name]
    found = layers.check(plant(tmp_path, files))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize("name", ALLOWED)
def test_allows(name: str, tmp_path: Path) -> None:
    assert layers.check(plant(tmp_path, ALLOWED[name])) == []


def test_the_tree_holds_to_its_layers() -> None:
    assert layers.check(tree.ROOT / "aicostguard") == []
