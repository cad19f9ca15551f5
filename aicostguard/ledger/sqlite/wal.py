"""Is the write-ahead log whole? Read before SQLite reads it, because SQLite does not say.

Owns one question: does a commit stand behind a damaged frame? SQLite takes the frames up to the first one whose
checksum is wrong and forgets the rest, without a word: after a kill that is a torn last transaction, which was
never acknowledged; after a damage it is acknowledged receipts. If this misjudges, a start is refused for nothing,
or receipts are missing and only the gaps of their programs show it.

The format: https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import operator
import os
import struct
import time
from typing import BinaryIO

_MAGIC = 0x377F0682  # the last bit says which end of the checksummed words comes first
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MASK = 0xFFFFFFFF


def damage(path: str, seconds: float) -> str | None:
    """What is wrong with the WAL of the database at `path`; None when nothing is, or when `seconds` did not suffice.

    Only for a file that nobody else has open: a WAL that is written to looks damaged at its end.
    """
    try:
        with open(path + "-wal", "rb") as wal:
            return _damage(wal, time.monotonic() + seconds)
    except FileNotFoundError:
        return None


def _damage(wal: BinaryIO, deadline: float) -> str | None:
    size = os.fstat(wal.fileno()).st_size
    head = wal.read(_HEADER.size)
    if len(head) < _HEADER.size or not any(head) or size <= _HEADER.size + _FRAME.size:
        return None  # nothing was ever committed to it
    magic, _, page_size, _, salt_1, salt_2, *sums = _HEADER.unpack(head)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or [*_checksum(order, head[:24], 0, 0)] != sums:
        return "the header of its WAL is damaged, so that no receipt in it can be read"
    whole = _FRAME.size + page_size
    # Each commit is on disk before the next begins: only the last may be torn, and it was not acknowledged then.
    commits = [0, 0]
    for number in range((size - _HEADER.size) // whole):
        wal.seek(_HEADER.size + number * whole)
        _, commit, *salts = _FRAME.unpack(wal.read(_FRAME.size))[:4]
        if commit and salts == [salt_1, salt_2]:
            commits = [commits[1], number + 1]
    known = commits[0]
    wal.seek(_HEADER.size)
    first, second = sums
    for number in range(known):
        frame = wal.read(whole)
        *_, third, fourth = fields = _FRAME.unpack(frame[: _FRAME.size])
        first, second = _checksum(order, frame[:8] + frame[_FRAME.size :], first, second)
        if fields[2:4] != (salt_1, salt_2) or (first, second) != (third, fourth):
            return f"its WAL is damaged at frame {number + 1}, and receipts behind it were acknowledged"
        if time.monotonic() > deadline:
            return None
    return None


def _checksum(order: str, data: bytes, first: int, second: int) -> tuple[int, int]:
    """SQLite's checksum, carried on from `(first, second)`.

    Each word makes the next member of a row in which a member is the sum of the two before it and the word. So
    a word counts for as much as the Fibonacci number of its distance from the end: a sum that C code can work out.
    """
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    count = len(words)
    weights = _fibonacci(count + 2)
    # weights[n] is Fibonacci number n: the last word counts once for the last member, not at all for the one before.
    falling = weights[count::-1]
    last = sum(map(operator.mul, words, falling)) + first * weights[count] + second * weights[count + 1]
    before = sum(map(operator.mul, words, falling[1:])) + first * weights[count - 1] + second * weights[count]
    return before & _MASK, last & _MASK


_known: list[int] = [0, 1]


def _fibonacci(count: int) -> list[int]:
    while len(_known) < count:
        _known.append((_known[-1] + _known[-2]) & _MASK)
    return _known
