"""Whose certificates we believe: those of the system, and those that the host program's environment names.

Owns the TLS context, shared by the blocking sender, the awaiting one and the probe. Verification is never switched off.
If it is wrong, the key is shown to somebody else, or a ledger inside a company is not reached.
"""

from __future__ import annotations

import os
import ssl
from typing import Mapping, Optional

from aicostguard.delivery.says import warn

#: what `requests` and curl read; a file or a folder. `SSL_CERT_FILE` and `SSL_CERT_DIR` OpenSSL reads by itself.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def context(environ: Optional[Mapping[str, str]] = None) -> ssl.SSLContext:
    """A context that verifies host and certificate.

    A bundle adds to the system's certificates: the environment names it for the program's other connections, and the
    ledger may stand on either side of a company's wall.
    """
    environ = os.environ if environ is None else environ
    made = ssl.create_default_context()
    named = [name for name in BUNDLES if environ.get(name)]
    for name in named:
        try:
            _load(made, environ[name])
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            warn("trust.unreadable", name)
    if not named and _none_here():
        bundled = _of_the_host()
        if bundled is not None:
            _load(made, bundled)
    return made


def _load(made: ssl.SSLContext, path: str) -> None:
    if os.path.isdir(path):
        made.load_verify_locations(capath=path)
    else:
        made.load_verify_locations(cafile=path)


def _none_here() -> bool:
    """Has this machine no certificates at all, like small images of containers?"""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return False
    try:
        return not paths.capath or not os.listdir(paths.capath)
    except OSError:
        return True


def _of_the_host() -> Optional[str]:
    """The bundle that came with the host's HTTP library (`certifi`), found without importing it."""
    from importlib.util import find_spec

    found = find_spec("certifi")
    if found is None or not found.origin:
        return None
    path = os.path.join(os.path.dirname(found.origin), "cacert.pem")
    return path if os.path.isfile(path) else None
