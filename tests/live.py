"""What tests of sessions share: a client of Gemini Live that speaks to the simulator, which has no TLS."""

from __future__ import annotations

from typing import Any


def without_tls(connect: Any) -> Any:
    """`websockets`' `connect`, which asks for `ws:` where it is told `wss:`. All else is the library's own."""

    class Plain(connect):  # type: ignore[misc]
        def __init__(self, uri: str, **more: Any) -> None:
            more.pop("ssl", None)
            super().__init__(uri.replace("wss:", "ws:", 1), **more)

    return Plain


def gemini(url: str) -> Any:
    """A client whose live sessions reach the simulator: google-genai insists on TLS."""
    from google import genai
    from google.genai import live

    if live.ws_connect.__name__ != "Plain":
        live.ws_connect = without_tls(live.ws_connect)
    return genai.Client(api_key="x", http_options={"base_url": url})
