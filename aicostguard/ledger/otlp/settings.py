"""Where metrics are sent, and how: a URL of ours, the rest from the variables that every OpenTelemetry program knows.

Owns their checks at the start. A URL alone turns it on: `OTEL_EXPORTER_OTLP_ENDPOINT`, which is set for whole machines,
does not. The library reads `OTEL_EXPORTER_OTLP_HEADERS`, `…_CERTIFICATE`, `…_CLIENT_KEY`, `…_CLIENT_CERTIFICATE` and
`…_COMPRESSION`, each also with `_METRICS` in it; it logs a header that it cannot read, secret included, so they are
read here first. No value of a header is in any message of ours.
"""

from __future__ import annotations

import os
import re
from typing import Mapping, NamedTuple
from urllib.parse import unquote, urlsplit

from aicostguard.ledger.errors import NotWritable, Refused

URL = "AICG_OTLP_URL"
PATH = "/v1/metrics"
EVERY = "OTEL_METRIC_EXPORT_INTERVAL"
_HEADERS = ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_FILES = tuple(
    f"OTEL_EXPORTER_OTLP_{of}{name}"
    for of in ("METRICS_", "")
    for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_SHORTEST_MS, _LONGEST_MS = 1_000, 86_400_000


class Settings(NamedTuple):
    """Checked. `secrets` are values that no log may hold."""

    url: str
    every_s: float = 60.0
    #: one request waits so long at most, trying again within it
    timeout_s: float = 10.0
    secrets: tuple[str, ...] = ()


def read(url: str | None, environ: Mapping[str, str]) -> Settings | None:
    """What was set; None while nobody names a URL. Raises `Refused` (422), `NotWritable` for a file that is none."""
    field, url = ("--otlp", url) if url else (URL, environ.get(URL, ""))
    if not url:
        return None
    for name in _FILES:
        path = environ.get(name)
        if path and not os.path.isfile(path):
            raise NotWritable(f"{name} names {path}, which is no file: give a PEM file, or leave it out")
    return Settings(_address(url, field), _every(environ.get(EVERY, "")) / 1000, secrets=_secrets(environ))


def _address(url: str, field: str) -> str:
    """The whole URL of metrics, from that or from the collector's own."""
    shown = ascii(url.partition("?")[0].rpartition("@")[2][:100])
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or any(ord(one) <= 32 or ord(one) > 126 for one in url):
        raise Refused(422, f"{shown} is no URL of a collector; give one like http://127.0.0.1:4318", field)
    if parts.username is not None or parts.query or parts.fragment:
        raise Refused(
            422, f"{shown} has a user, a query or a fragment; put secrets into {_HEADERS[1]}, as name=value", field
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith(PATH) else path + PATH}"


def _every(text: str) -> int:
    if not text.strip():
        return 60_000
    if not text.strip().isdecimal() or not _SHORTEST_MS <= int(text) <= _LONGEST_MS:
        raise Refused(422, f"{text[:20]!a} must be milliseconds, {_SHORTEST_MS} to {_LONGEST_MS}", EVERY)
    return int(text)


def _secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The values of headers. Raises `Refused` that names the variable and the place, never what stands there."""
    name = next((name for name in _HEADERS if environ.get(name)), None)
    if name is None:
        return ()
    found: list[str] = []
    for place, item in enumerate(environ[name].split(","), 1):
        if not item.strip():
            continue
        header, equals, value = item.partition("=")
        plain = unquote(value.strip())
        if not equals or not _NAME.match(unquote(header.strip())) or not plain.isprintable() or not plain.isascii():
            raise Refused(422, f"item {place} is no header; write name=value, several with commas, % as %25", name)
        found += [value.strip(), plain]
    return tuple(dict.fromkeys(value for value in found if value))
