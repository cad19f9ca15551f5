"""How the ledger stands in the network: TLS, whose word about an address is taken, by which names it is asked.

Owns these settings and their checks at the start. A page of somewhere else can point a name of its own at 127.0.0.1 and
then talk to whatever listens there as if it were its own server; a ledger that listens on this machine alone therefore
answers to this machine's names, and to no other unless it is told so.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from aicostguard.config import LOOPBACK
from aicostguard.ledger.errors import NotWritable, Refused
from aicostguard.ledger.problem import Problem


class Exposed(NamedTuple):
    """`--tls-cert`, `--tls-key`, `--forwarded-allow`, `--allow-host`, `--oidc` and `--per-minute` of `aicg serve`."""

    tls_cert: str | None = None
    tls_key: str | None = None
    #: addresses and networks of proxies, with commas
    forwarded_allow: str | None = None
    allow_host: tuple[str, ...] = ()
    oidc: str | None = None
    per_minute: int | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.tls_cert else "http"

    def check(self) -> None:
        """Raises `Refused` (422) for what cannot be, `NotWritable` for files that cannot be used."""
        if self.tls_key and not self.tls_cert:
            raise Refused(422, "needs --tls-cert, too: the certificate that the key belongs to", "--tls-key")
        if self.tls_cert:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                # No prompt: nobody sits in front of a server.
                context.load_cert_chain(self.tls_cert, self.tls_key, password=lambda: "")
            except (OSError, ValueError) as error:
                what = f"{self.tls_cert}" + (f" and {self.tls_key}" if self.tls_key else "")
                why = getattr(error, "reason", None) or error
                raise NotWritable(
                    f"{what} cannot be used for TLS ({why}): both must be PEM, the key without a passphrase and of "
                    "the certificate"
                ) from None
        for item in (self.forwarded_allow or "").split(","):
            try:
                if item.strip():
                    ipaddress.ip_network(item.strip(), strict=False)
            except ValueError:
                raise Refused(
                    422,
                    f"{item.strip()[:64]!a} is no address; name those of your proxies, like 10.0.0.5 or 10.0.0.0/24",
                    "--forwarded-allow",
                ) from None

    def for_uvicorn(self) -> dict[str, Any]:
        """What of it uvicorn does. Without a proxy that is named, nobody's word about an address is taken."""
        return {
            "ssl_certfile": self.tls_cert,
            "ssl_keyfile": self.tls_key,
            "proxy_headers": bool(self.forwarded_allow),
            "forwarded_allow_ips": [item.strip() for item in (self.forwarded_allow or "").split(",") if item.strip()],
        }

    def hosts(self, host: str) -> frozenset[str] | None:
        """The names that are answered to by one that listens on `host`; None for all."""
        if not self.allow_host and not is_loopback(host):
            return None
        return frozenset({*LOOPBACK, "127.0.0.1", "localhost", "::1", host.lower(), *map(str.lower, self.allow_host)})


#: this machine alone, over plain http
LOCAL = Exposed()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Hosts:
    """Refuses what is asked by a name that is not ours. 403, for an agent keeps what that refuses."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str] | None) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._allowed is not None:
            name = named(Headers(scope=scope).get("host", ""))
            if name not in self._allowed:
                shown = ascii(name[:64])
                await Problem(
                    403,
                    f"{shown} is no name of this ledger; use 127.0.0.1, or start `aicg serve --allow-host NAME`",
                    "Host",
                )(scope, receive, send)
                return
        await self._app(scope, receive, send)


def named(host: str) -> str:
    """The name in a Host header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
