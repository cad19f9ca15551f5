"""What is kept of a secret: its hash.

Owns that rule. Keys, session tokens and codes are made here from 238 random bits or more, so one round of a plain
hash is enough: nobody can try them all. Passwords are another matter (`access.passwords`).
"""

from __future__ import annotations

import hashlib
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits


def hash_key(secret: str) -> str:
    """What is stored of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def make(prefix: str) -> str:
    """A new one: the prefix and 40 letters and digits, 238 bits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(40))
