"""Where messages may be sent: not into the ledger's own network, unless its operator has said so.

Owns that decision, made for the address that is connected to, not for its name: a name may lead elsewhere the next
time. Whoever may name a channel could else have the ledger knock at every door behind the firewall. Stands alone, for
the child process that loads it by its path.
"""

from __future__ import annotations

import ipaddress
from typing import Iterable, List, Union

#: the setting that names addresses and networks that may be reached although they are not public
SETTING = "AICG_ALERT_PRIVATE"
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_LOCALHOST = ("127.0.0.0/8", "::1/128")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def networks(text: str) -> List[Network]:
    """The networks of a setting: addresses and networks with commas; `localhost` for this machine.

    Raises ValueError that says what is wrong.
    """
    out: List[Network] = []
    for item in (part.strip() for part in text.split(",")):
        for one in _LOCALHOST if item == "localhost" else (item,) if item else ():
            try:
                out.append(ipaddress.ip_network(one, strict=False))
            except ValueError:
                raise ValueError(
                    "%s: %r is neither an address nor a network; use some like 10.1.2.3, 10.0.0.0/8 or localhost, "
                    "with commas" % (SETTING, item[:64])
                ) from None
    return out


def _within(address: Address) -> List[Address]:
    """The address, and those that it is another way to write."""
    out = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            out = [address.ipv4_mapped]
        elif address.sixtofour:
            out.append(address.sixtofour)
        elif address.teredo:
            out.append(address.teredo[1])
        elif address in _NAT64:
            out.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return out


def why_not(address: object, allowed: Iterable[Network]) -> str:
    """Why nothing is sent to an address; empty when it may be."""
    try:
        found = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return "it is no address of a network"
    known = list(allowed)
    for one in _within(found):
        if (not one.is_global or one.is_multicast) and not any(one in network for network in known):
            return "%s is not a public address; %s=%s on the ledger allows it" % (found, SETTING, found)
    return ""
