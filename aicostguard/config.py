"""The `AICG_*` settings: read once from the environment, checked, never a reason for the host to fail.

Owns names, defaults and ranges. A bad value is reported once and the default used; an unknown `AICG_`
name is reported too, with the nearest known one. Never reads a file and never opens a connection.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

_KEY = re.compile(r"aicg_[A-Za-z0-9]{32,64}\Z")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.*-]+)(:\d{1,5})?(=[a-z0-9-]{1,32})?\Z")

#: variables that say "this process is frozen between calls": receipts must be on the wire before a call returns
SERVERLESS = ("VERCEL", "AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE", "FUNCTION_TARGET", "AZURE_FUNCTIONS_ENVIRONMENT")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Settings(NamedTuple):
    """The settings of this process. `problems` are sentences for the user, one per bad or unknown variable."""

    key: Optional[str] = None
    url: Optional[str] = None
    feature_default: Optional[str] = None
    feature_skip: Tuple[str, ...] = ()
    feature_style: str = "name"
    service: Optional[str] = None
    environment: Optional[str] = None
    release: Optional[str] = None
    #: (host, port or None, provider or None)
    hosts: Tuple[Tuple[str, Optional[int], Optional[str]], ...] = ()
    mode: str = "auto"
    receipt: str = "full"
    spool: str = "durable"
    #: megabytes that the spool may take
    spool_mb: int = 256
    state_dir: str = ""
    data_dir: str = ""
    #: `request`: ask for usage on chat streams that did not
    stream_usage: Optional[str] = None
    #: a policy file, whose budgets are enforced
    policy: Optional[str] = None
    #: `ledger`: its budgets are enforced, too
    enforce: Optional[str] = None
    watchdog: bool = False
    auto_labels: bool = True
    disabled: bool = False
    debug: bool = False
    serverless: bool = False
    problems: Tuple[str, ...] = ()

    @property
    def inline(self) -> bool:
        """True when each receipt has to be on the wire before the call that caused it returns."""
        return self.mode == "inline" or (self.mode == "auto" and self.serverless)

    @property
    def sqlite_path(self) -> Optional[str]:
        """The ledger file of `AICG_URL=sqlite:///path`, else None."""
        if self.url and self.url.startswith("sqlite:///"):
            return self.url[len("sqlite:///") :]
        return None

    @property
    def active(self) -> bool:
        """True when there is somewhere to deliver to: else no network, no files, no hooks."""
        if self.disabled or not self.url:
            return False
        return self.sqlite_path is not None or self.key is not None


class Bad(ValueError):
    """A value that a setting cannot take; its text says what it can."""


def _text(value: str) -> str:
    return value


def _flag(value: str) -> bool:
    lowered = value.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise Bad("use 1 or 0")


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise Bad("use one of " + ", ".join(allowed))
        return value

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
        if not least <= number <= most:
            raise Bad("use a whole number from %d to %d" % (least, most))
        return number

    return parse


def _names(value: str) -> Tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _label(value: str) -> str:
    if not re.match(r"[\w.:/@ -]{1,128}\Z", value):
        raise Bad("use 1 to 128 letters, digits, spaces or . : / @ _ -")
    return value


def _url(value: str) -> str:
    if value.startswith("sqlite:///"):
        if len(value) == len("sqlite:///"):
            raise Bad("name a file: sqlite:///relative.db or sqlite:////absolute/path.db")
        return value
    try:
        parts = urlsplit(value)
        parts.port  # raises on a port out of range  # noqa: B018
    except ValueError:
        raise Bad("use http(s)://host[:port] or sqlite:///path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Bad("use http(s)://host[:port] or sqlite:///path")
    if parts.username or parts.query or parts.fragment:
        raise Bad("leave out user, password, query and fragment; the key belongs in AICG_KEY")
    return value.rstrip("/")


def _hosts(value: str) -> Tuple[Tuple[str, Optional[int], Optional[str]], ...]:
    rows: List[Tuple[str, Optional[int], Optional[str]]] = []
    for part in _names(value):
        match = _HOST.match(part)
        if not match:
            raise Bad("use host[:port][=provider], comma-separated" + _shown("; %r is not one", part))
        port = int(match.group(2)[1:]) if match.group(2) else None
        if port is not None and not 0 < port < 65536:
            raise Bad("a port is 1 to 65535, not %d" % port)
        provider = match.group(3)[1:] if match.group(3) else None
        rows.append((match.group(1).strip("[]").lower(), port, provider))
    return tuple(rows)


#: variable → (attribute of Settings, parser)
_ROWS: Dict[str, Tuple[str, Callable[[str], object]]] = {
    "AICG_KEY": ("key", _text),
    "AICG_URL": ("url", _url),
    "AICG_FEATURE_DEFAULT": ("feature_default", _label),
    "AICG_FEATURE_SKIP": ("feature_skip", _names),
    "AICG_FEATURE_STYLE": ("feature_style", _one_of("name", "qualified")),
    "AICG_SERVICE": ("service", _label),
    "AICG_ENVIRONMENT": ("environment", _label),
    "AICG_RELEASE": ("release", _label),
    "AICG_HOSTS": ("hosts", _hosts),
    "AICG_MODE": ("mode", _one_of("auto", "background", "inline")),
    "AICG_RECEIPT": ("receipt", _one_of("full", "core")),
    "AICG_STREAM_USAGE": ("stream_usage", _one_of("request")),
    "AICG_WATCHDOG": ("watchdog", _flag),
    "AICG_SPOOL": ("spool", _one_of("durable", "on-failure", "off")),
    "AICG_SPOOL_MB": ("spool_mb", _whole(4, 65536)),
    "AICG_STATE_DIR": ("state_dir", _text),
    "AICG_DATA_DIR": ("data_dir", _text),
    "AICG_POLICY": ("policy", _text),
    "AICG_ENFORCE": ("enforce", _one_of("ledger")),
    "AICG_AUTO_LABELS": ("auto_labels", _flag),
    "AICG_DISABLED": ("disabled", _flag),
    "AICG_DEBUG": ("debug", _flag),
}
#: names read by tests, scripts, the launcher and the ledger, and where an audit trail is written
_OURS = (
    *("AICG_TEST_RAISE", "AICG_CORPUS", "AICG_RUN_SAID", "AICG_AUDIT_KEY"),
    *("AICG_PUBLIC_URL", "AICG_ALERT_PRIVATE", "AICG_ALERT_CHARTS", "AICG_OTLP_URL", "AICG_OIDC_SECRET"),
)

#: OpenTelemetry resource attribute → attribute of Settings
_OTEL = {
    "service.name": "service",
    "deployment.environment.name": "environment",
    "deployment.environment": "environment",
    "service.version": "release",
}


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings. Never raises for a bad value: see `Settings.problems`."""
    values: Dict[str, object] = {}
    problems: List[str] = []
    for name, raw in environ.items():
        if not name.startswith("AICG_") or not raw.strip():
            continue
        if name in _ROWS:
            attribute, parse = _ROWS[name]
            try:
                values[attribute] = parse(raw.strip())
            except Bad as error:
                shown = "" if name in ("AICG_KEY", "AICG_URL") else _shown("=%r", raw)
                problems.append("%s%s: %s; the default is used" % (name, shown, error))
        elif name not in _OURS:
            problems.append("%s is not a setting%s" % (name, _nearest(name)))
    key, url = values.get("key"), values.get("url")
    if isinstance(key, str) and not _KEY.match(key):
        problems.append("AICG_KEY is malformed (aicg_ and 32 to 64 letters and digits expected); it is sent as it is")
    if isinstance(url, str) and url.startswith("http"):
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            problems.append("AICG_URL is plain http to another host: receipts and key travel unencrypted; use https")
        if not key:
            problems.append("AICG_URL is set but AICG_KEY is not: nothing is metered; set AICG_KEY")
    _from_otel(environ, values)
    values.setdefault("state_dir", _xdg(environ, "XDG_STATE_HOME", ".local/state"))
    values.setdefault("data_dir", _xdg(environ, "XDG_DATA_HOME", ".local/share"))
    return Settings(serverless=_serverless(environ), problems=tuple(problems), **values)  # type: ignore[arg-type]


def mask(key: Optional[str]) -> str:
    """A key as it may be shown: its first nine characters and bullets."""
    return "" if not key else key[:9] + "•" * max(0, len(key) - 9)


def _shown(template: str, value: str) -> str:
    # A secret may have been put into the wrong variable, and the sentence goes to logs: what is long or looks like
    # user:password@host is not repeated.
    return template % value if len(value) <= 24 and "@" not in value else ""


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, _ROWS, 1)
    return "; did you mean %s?" % close[0] if close else ""


def _serverless(environ: Mapping[str, str]) -> bool:
    if any(environ.get(name) for name in SERVERLESS):
        return True
    return bool(environ.get("FUNCTION_NAME") and environ.get("GCP_PROJECT"))


def _from_otel(environ: Mapping[str, str], values: Dict[str, object]) -> None:
    if environ.get("OTEL_SERVICE_NAME"):
        values.setdefault("service", environ["OTEL_SERVICE_NAME"])
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, _, value = pair.partition("=")
        attribute = _OTEL.get(name.strip())
        if attribute and value.strip():
            values.setdefault(attribute, value.strip())


def _xdg(environ: Mapping[str, str], name: str, default: str) -> str:
    import os.path

    base = environ.get(name) or os.path.join(os.path.expanduser("~"), default)
    return os.path.join(base, "aicostguard")
