"""One request of ours as values: where it goes and what its head says. Shared by the sync and the async sender.

Owns the address, the proxy from the environment and the headers. The bearer key appears here and nowhere
else: not in a log, a fault, the spool or the status file.
"""

from __future__ import annotations

import base64
from typing import Dict, NamedTuple, Optional, Tuple
from urllib.parse import unquote, urlsplit

from aicostguard.config import LOOPBACK
from aicostguard.delivery.envelope import compress

PATH = "/v1/receipts"

#: seconds for a connection
CONNECT_SECONDS = 3.0


class Proxy(NamedTuple):
    """A forward proxy. `authorization` is the value of `Proxy-Authorization`, or None."""

    host: str
    port: int
    authorization: Optional[str]


class Target(NamedTuple):
    """The ledger's address."""

    host: str
    port: int
    tls: bool
    path: str
    authority: str
    proxy: Optional[Proxy]
    #: the kind of a proxy that the environment names and we cannot use
    unusable: Optional[str] = None

    @property
    def line(self) -> str:
        """The request target: absolute when a proxy has to read it."""
        return "http://%s%s" % (self.authority, self.path) if self.proxy and not self.tls else self.path


def target(url: str, path: str = PATH) -> Target:
    """Where `{url}{path}` is, and through which proxy (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`)."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    authority = parts.netloc.rpartition("@")[2]
    return Target(host, port, tls, parts.path + path, authority, *_proxy(host, port, parts.scheme))


def _proxy(host: str, port: int, scheme: str) -> Tuple[Optional[Proxy], Optional[str]]:
    """`(the proxy, None)`, or `(None, its kind)` for one we cannot use."""
    # Not `getproxies`: on macOS it asks the system's frameworks, which crash in a forked child.
    from urllib.request import getproxies_environment
    from urllib.request import proxy_bypass_environment as bypassed  # type: ignore[attr-defined]

    # A proxy elsewhere cannot reach our own machine.
    if host in LOOPBACK or bypassed("%s:%d" % (host, port)) or _in_networks(host, getproxies_environment()):
        return None, None
    proxies = getproxies_environment()
    url = proxies.get(scheme) or proxies.get("all")
    if not url:
        return None, None
    parts = urlsplit(url if "://" in url else "http://" + url)
    if parts.scheme != "http" or not parts.hostname:
        return None, parts.scheme  # SOCKS and TLS to the proxy itself need more than the standard library gives
    authorization = None
    if parts.username:
        pair = "%s:%s" % (unquote(parts.username), unquote(parts.password or ""))
        authorization = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    return Proxy(parts.hostname, parts.port or 8080, authorization), None


def _in_networks(host: str, proxies: Dict[str, str]) -> bool:
    """Does `NO_PROXY` name a network that this address lies in (`10.0.0.0/8`)? As `requests` and curl read it."""
    networks = [part.strip() for part in proxies.get("no", "").split(",") if "/" in part]
    if not networks:
        return False
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # a name
    for text in networks:
        try:
            if address in ipaddress.ip_network(text, strict=False):
                return True
        except ValueError:
            continue  # not a network: nothing that we could be in
    return False


def encode(
    address: Target,
    key: Optional[str],
    body: bytes,
    agent: str,
    method: str = "POST",
    more: Optional[Dict[str, str]] = None,
) -> Tuple[bytes, bytes]:
    """`(head, body)` as they go on the wire, with `more` headers. Raises `ValueError` when one cannot stand there."""
    body, zipped = compress(body)
    headers: Dict[str, str] = {
        "Host": address.authority,
        "User-Agent": "aicostguard/%s" % agent,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Accept": "application/json",
    }
    if zipped:
        headers["Content-Encoding"] = "gzip"
    if address.proxy and address.proxy.authorization and not address.tls:
        headers["Proxy-Authorization"] = address.proxy.authorization
    if key:
        headers["Authorization"] = "Bearer " + key
    headers.update(more or {})
    for value in headers.values():
        if "\r" in value or "\n" in value:
            raise ValueError("a header value holds a line break")
    lines = ["%s %s HTTP/1.1" % (method, address.line)]
    lines.extend("%s: %s" % pair for pair in headers.items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"), body
