"""The dashboard's own scripts and styles: read once, packed once, kept by browsers for a year.

Owns their addresses. A part of the address is a hash over all of them, so that modules import each other by plain
names and still never mix two releases. Only names that are in the folder are answered.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Mapping, NamedTuple

from fastapi import FastAPI, Request
from starlette.responses import Response

from aicostguard.ledger.errors import Refused

FOLDER = Path(__file__).parent / "assets"
#: ending → media type; what ends otherwise is no asset
TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_EVER = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    plain: bytes
    packed: bytes
    media_type: str


class Assets:
    """All files of a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, Asset] = {}
        whole = hashlib.sha256()
        for path in sorted(folder.iterdir()):
            if path.suffix in TYPES:
                data = path.read_bytes()
                whole.update(path.name.encode() + b"\0" + data)
                self._files[path.name] = Asset(data, gzip.compress(data, 9, mtime=0), TYPES[path.suffix])
        self.version = whole.hexdigest()[:16]

    def url(self, name: str) -> str:
        """Where a file is found. A name that is no file is a mistake of ours."""
        if name not in self._files:
            raise LookupError(f"{name} is no asset; there are {', '.join(self._files)}")
        return f"/assets/{self.version}/{name}"

    def answer(self, request: Request, version: str, name: str) -> Response:
        found = self._files.get(name)
        if found is None or version != self.version:
            raise Refused(404, "there is no such file; load the page again")
        return packed(request, found)


def packed(request: Request, asset: Asset) -> Response:
    """An asset for whoever asks, gzipped where that is understood."""
    headers = {"Cache-Control": FOR_EVER, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.packed, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.plain, media_type=asset.media_type, headers=headers)


def add(app: FastAPI, assets: Assets) -> None:
    """Add the route. It needs no log-in: there is nothing in it that the package does not show everybody."""

    @app.get("/assets/{version}/{name}", include_in_schema=False)
    def get_asset(request: Request, version: str, name: str) -> Response:
        return assets.answer(request, version, name)
