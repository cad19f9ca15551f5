"""Passwords: what is taken for one, what is kept of it, and whether one is right.

Owns the hash (argon2id, with the library's parameters of today; a hash of older ones is made anew at the next log-in).
Each takes 64 MB for a moment, so that only a few are worked on at once.
"""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from aicostguard.ledger.errors import Refused

LEAST, MOST = 10, 1024
#: worked on at once, by all threads
AT_ONCE = 2

_HASHER = PasswordHasher()
_turn = threading.BoundedSemaphore(AT_ONCE)
#: of a password that nobody knows: an account that does not exist takes as long as one that does
_NOBODY = _HASHER.hash("\x00nobody")


def check(password: object, email: str, field: str = "password") -> str:
    """A new password, if it will do. Raises `Refused` (422)."""
    if not isinstance(password, str) or not LEAST <= len(password) <= MOST:
        raise Refused(422, f"must be text of {LEAST} to {MOST} characters; a few words in a row are good", field)
    if len(set(password)) < 4 or password.lower() in (email, email.partition("@")[0]):
        raise Refused(422, "is the first that somebody would try; choose another", field)
    try:
        password.encode()
    except UnicodeEncodeError:
        raise Refused(422, "holds half a character, which no keyboard gives", field) from None
    return password


def hashed(password: str) -> str:
    """What is stored of it."""
    with _turn:
        return _HASHER.hash(password)


def right(password: str, stored: str | None) -> bool:
    """Whether it is the one. Takes as long where there is none."""
    with _turn:
        try:
            _HASHER.verify(stored or _NOBODY, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False
    return stored is not None


def outdated(stored: str) -> bool:
    """Whether it was made with weaker parameters than today's."""
    return _HASHER.check_needs_rehash(stored)
