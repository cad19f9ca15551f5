"""The page at /docs that shows what the API says about itself.

The page's script and style come from the package `fastapi-offline`, which carries Swagger UI's files, so that the page
works without internet; nothing on it is inline, so that the content security policy needs no exception for scripts.
"""

from __future__ import annotations

import os
from typing import Callable

from fastapi import FastAPI
from starlette.responses import FileResponse, Response

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>AI Cost Guard ledger: API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="docs/favicon.png"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="api"></div><noscript>The page needs JavaScript; the same is in
<a href="docs/openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
_START = """SwaggerUIBundle({url: "docs/openapi.json", dom_id: "#api", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], defaultModelsExpandDepth: 0});
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


def _assets() -> str:
    import fastapi_offline

    return os.path.join(os.path.dirname(fastapi_offline.__file__), "static")


def _sender(path: str, kind: str) -> Callable[[], Response]:
    return lambda: FileResponse(path, media_type=kind)


def mount(app: FastAPI) -> None:
    """Add the page and its files."""
    headers = {"Content-Security-Policy": _POLICY}

    def page() -> Response:
        return Response(_PAGE, media_type="text/html", headers=headers)

    def start() -> Response:
        return Response(_START, media_type="text/javascript")

    app.get("/docs", include_in_schema=False)(page)
    app.get("/docs/start.js", include_in_schema=False)(start)
    for name, kind in _FILES.items():
        path = os.path.join(_assets(), name)
        app.get(f"/docs/{name}", include_in_schema=False)(_sender(path, kind))
