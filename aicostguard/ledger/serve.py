"""`aicg serve`: from a command line to a listening ledger, and back down again.

Owns start and stop: the checks before the port opens, the first key, what is said to the operator, signals.
Every way a start can fail ends in one sentence with the way out; no file that cannot be read is touched.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import socket
import stat
import sys
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import uvicorn
from fastapi import FastAPI

from aicostguard.config import mask
from aicostguard.ledger import keys, logs, now_ms, open_ledger, prices, supervised, turn
from aicostguard.ledger.access import opened
from aicostguard.ledger.access.exposed import LOCAL, Exposed, is_loopback
from aicostguard.ledger.alerts import watch
from aicostguard.ledger.api import create_app
from aicostguard.ledger.errors import LedgerError, NotWritable
from aicostguard.ledger.otlp import settings
from aicostguard.ledger.otlp.settings import Settings
from aicostguard.ledger.sqlite import SqliteStore

if TYPE_CHECKING:
    from aicostguard.ledger.access.oidc import Provider

#: how long requests under way may take to finish once the server is asked to stop
GRACE_S = 10


def serve(
    path: str,
    host: str,
    port: int,
    key_file: str | None,
    own: str | None = None,
    out: TextIO = sys.stdout,
    public_url: str | None = None,
    exposed: Exposed = LOCAL,
    otlp: str | None = None,
) -> None:
    """Run until SIGTERM or SIGINT. Raises `LedgerError` when it cannot start.

    `own` is a prices file to use and remember, "" to forget the one that is remembered. `public_url` is where people
    find the ledger; alerts link there. `otlp` is the URL of an OpenTelemetry collector.
    """
    sending = _sending(otlp)
    alerts = watch.settings(os.environ, public_url or "")
    exposed.check()
    provider = _provider(exposed.oidc)
    listener = _listen(host, port)
    try:
        if own:
            prices.read_own(own)  # before the ledger remembers a file that it cannot use
        store = open_ledger(path, check=True, own=own)
        try:
            key_path = key_file or os.path.join(os.path.dirname(os.path.abspath(path)), "ledger.key")
            key, made = keys.first_key(store, key_path, now_ms())
            if not alerts.public_url:
                alerts = alerts._replace(public_url=_address(listener, host, exposed))
            _greet(out, store, listener, host, key_path, key, made, exposed, alerts.public_url, sending)
            _run(store, listener, host, alerts, exposed, provider, sending)
        finally:
            store.close()
    finally:
        listener.close()
        if provider is not None:
            provider.close()


def _provider(path: str | None) -> Provider | None:
    """The OpenID Connect provider that a file describes. Raises `LedgerError`."""
    if path is None:
        return None
    try:
        from aicostguard.ledger.access import oidc
    except ImportError as error:
        raise NotWritable(f"--oidc needs the extra oidc: pip install 'aicostguard[oidc]' ({error})") from error
    return oidc.Provider(oidc.read(path))


def _sending(url: str | None) -> Settings | None:
    """Where metrics are sent, if anywhere. Raises `LedgerError`."""
    found = settings.read(url, os.environ)
    if found is not None:
        try:
            from aicostguard.ledger.otlp import sender  # noqa: F401
        except ImportError as error:
            raise NotWritable(f"--otlp needs the extra otlp: pip install 'aicostguard[otlp]' ({error})") from error
    return found


class _Server(uvicorn.Server):
    """uvicorn, which says at once that it was asked to stop: to probes and to its supervisor."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        supervised.tell(supervised.STOPPING)
        self.config.app.state.readiness.stopping = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def server_for(app: FastAPI, exposed: Exposed = LOCAL) -> uvicorn.Server:
    """uvicorn as the ledger runs it; it listens where `run(sockets=[…])` is told to."""
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,  # ours is set up already, or the program's around us
            # Query strings hold labels: they belong in nobody's log.
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="on",
            **exposed.for_uvicorn(),
        )
    )


def _run(
    store: SqliteStore,
    listener: socket.socket,
    host: str,
    alerts: watch.Settings,
    exposed: Exposed,
    provider: Provider | None,
    sending: Settings | None,
) -> None:
    app = create_app(
        store=store,
        alerts=alerts,
        per_minute=exposed.per_minute,
        provider=provider,
        hosts=exposed.hosts(host),
        otlp=sending,
    )
    server = server_for(app, exposed)
    # Each batch makes thousands of small objects without a cycle among them. What is here by now stays for good:
    # the collector need not look through it every few batches, which took a fifth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(turn.SWITCH_S)
    # uvicorn raises the signal once more after a clean stop; that must not turn it into a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    supervised.tell(supervised.READY)
    server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else, so that a second start does not touch the file of the first."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise NotWritable(f"{host} is no address of this machine ({error}); use --host 127.0.0.1") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise NotWritable(
                f"{where} is in use, perhaps by another `aicg serve`; stop that one or choose another with --port"
            ) from error
        if error.errno == errno.EACCES:
            raise NotWritable(f"{where} may not be used by this user; choose a --port above 1023") from error
        raise NotWritable(f"cannot listen on {where}: {error.strerror}") from error
    return listener


def _address(listener: socket.socket, host: str, exposed: Exposed) -> str:
    shown_host = f"[{host}]" if ":" in host else host
    return f"{exposed.scheme}://{shown_host}:{listener.getsockname()[1]}"


def _greet(
    out: TextIO,
    store: SqliteStore,
    listener: socket.socket,
    host: str,
    key_path: str,
    key: str | None,
    made: bool,
    exposed: Exposed,
    public_url: str,
    sending: Settings | None,
) -> None:
    url = _address(listener, host, exposed)
    say = _Say(out)
    say(f"AI Cost Guard ledger at {url}  (API: {url}/docs)")
    say(f"  data  {store.path}")
    if store.kept_as is not None:
        say(f"        of an older release, now migrated; as it was, it is kept: {store.kept_as}")
    if not store.checked:
        say("        large file: not all of it was checked for damage; `aicg backup` does, while this runs")
    if not store.alone:
        say("        another process has this file open, too: both may write, and neither counts twice")
    own = prices.own_file(store.path, store.setting(prices.SETTING))
    if own is not None:
        say(f"  price {own}")
    if sending is not None:
        say(f"  otlp  {sending.url}")
    if key is None:
        say(f"  key   {key_path} is gone; make another with `aicg keys create`")
    elif made and out.isatty():
        # Only a person at a terminal sees it; a log or a container's output never does.
        say(f"  key   {key}  (also in {key_path})")
    else:
        say(f"  key   {mask(key)} in {key_path}")
    if key is not None and _readable_by_others(key_path):
        say(f"  WARNING: {key_path} can be read by other users; run: chmod 600 {key_path}")
    if not is_loopback(host) and not exposed.tls_cert:
        say(f"  WARNING: listening on {host}: every machine that reaches this port can talk to the ledger, and over")
        say("  plain http keys and receipts travel unencrypted. Give --tls-cert and --tls-key, put a TLS proxy in")
        say("  front, or use --host 127.0.0.1.")
    say(f"  open  {_link(store, key, public_url) if out.isatty() else 'aicg dashboard'}  (the dashboard)")
    say(f"  send  AICG_URL={url} AICG_KEY=$(cat {key_path}) python your_app.py  # with: import aicostguard.auto")
    say("  ask   aicg costs --by feature,model")


def _link(store: SqliteStore, key: str | None, url: str) -> str:
    """An address that opens the dashboard with the first key, once, within ten minutes; else where to log in."""
    found = None if key is None else store.find_key(key)
    if found is None or "read" not in found.scopes:
        return f"{url}/login"
    return opened.address(url, store.change(lambda connection: opened.link(connection, found.id, now_ms())))


class _Say:
    """Prints a line and flushes; a closed pipe at the other end is no reason to stop."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError, UnicodeEncodeError):
            logging.getLogger("aicostguard.ledger").debug("the greeting could not be written")


def _readable_by_others(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def run(
    path: str,
    host: str,
    port: int,
    key_file: str | None,
    own: str | None = None,
    log_format: str = "text",
    log_level: str = "warning",
    public_url: str | None = None,
    exposed: Exposed = LOCAL,
    otlp: str | None = None,
) -> int:
    """As `serve`, with failures said on stderr. Returns the exit code: 0, or 1 when it could not start."""
    logs.configure(log_format, log_level)
    try:
        serve(path, host, port, key_file, own, public_url=public_url, exposed=exposed, otlp=otlp)
    except LedgerError as error:
        field = getattr(error, "field", "")
        sys.stderr.write(f"aicg serve: {field}{': ' if field else ''}{error}\n")
        return 2 if field else 1
    return 0
