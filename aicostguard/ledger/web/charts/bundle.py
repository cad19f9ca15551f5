"""The script that draws charts in a browser: Vega as `vl-convert-python` carries it, made once and kept.

Owns its address and its keeping. Making it takes some seconds in a process of its own; then it lies in memory, and in
a folder of the user's alone, so that a ledger that starts again has it at once. The address says the package's release
and what of it is wanted, so browsers keep it for a year. Charts run without `unsafe-eval`: expressions are interpreted.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata
import json
import os
import stat
import tempfile
import threading
import zlib
from pathlib import Path

from aicostguard.ledger.web.charts import draw, theme

DEADLINE_S = 120.0
#: what the page's own script takes from it
SNIPPET = "export {{ vegaEmbed as embed }}; export const themes = {themes};"
_HEAD = b"\x1f\x8b"


class Bundle:
    """The script, gzipped. `folder`: where it is kept between runs; None for nowhere."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._packed = b""
        self._begun = False
        themes = json.dumps({name: theme.config(name) for name in theme.THEMES}, sort_keys=True)
        self._snippet = SNIPPET.format(themes=themes)
        known = importlib.metadata.version("vl-convert-python") if draw.able() else ""
        self.version = hashlib.sha256(f"{known}\0{self._snippet}".encode()).hexdigest()[:16] if known else ""

    @property
    def name(self) -> str:
        """The file's name; empty where the package is missing."""
        return f"vega-{self.version}.js" if self.version else ""

    def address(self, path: str) -> str:
        """Where a browser finds it. Whoever is told will ask for it soon: it is made meanwhile."""
        if self.name and not self._packed and not self._begun:
            self._begun = True
            threading.Thread(target=self._warm, name="aicg-charts", daemon=True).start()
        return path + self.name if self.name else ""

    def _warm(self) -> None:
        with contextlib.suppress(draw.NotDrawn):  # said to whoever asks for it
            self.packed()

    def packed(self) -> bytes:
        """The script, gzipped. Raises `draw.NotDrawn`. Blocks for some seconds the first time."""
        with self._lock:
            if not self._packed:
                self._packed = self._found() or self._made()
            return self._packed

    def plain(self) -> bytes:
        return gzip.decompress(self.packed())

    def _made(self) -> bytes:
        made = draw.drawn({"make": "bundle", "snippet": self._snippet}, DEADLINE_S)
        if self._folder is not None:
            with contextlib.suppress(OSError):  # a place that cannot be written: it is made again next time
                _keep(self._folder, self.name + ".gz", made)
        return made

    def _found(self) -> bytes:
        """From the folder, where nobody else can have put it."""
        if self._folder is None or not self.version:
            return b""
        try:
            with open(self._folder / (self.name + ".gz"), "rb") as file:
                for one in (os.stat(self._folder), os.fstat(file.fileno())):
                    if one.st_uid != os.geteuid() or stat.S_IMODE(one.st_mode) & 0o022:
                        return b""
                packed = file.read()
            return packed if packed.startswith(_HEAD) and gzip.decompress(packed) else b""
        except (OSError, EOFError, zlib.error):  # cut off, or not there
            return b""


def folder(environ: dict[str, str] | os._Environ[str] = os.environ) -> Path | None:
    """Where a user's caches lie, or None for a user without a home."""
    base = environ.get("XDG_CACHE_HOME") or (environ.get("HOME", "") and os.path.join(environ["HOME"], ".cache"))
    return Path(base) / "aicostguard" if base and os.path.isabs(base) else None


def _keep(place: Path, name: str, data: bytes) -> None:
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, path = tempfile.mkstemp(dir=place)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(path, place / name)
    except OSError:
        os.unlink(path)
        raise
    for old in place.glob("vega-*.js.gz"):
        if old.name != name:
            old.unlink(missing_ok=True)
