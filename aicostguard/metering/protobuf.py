"""The protobuf wire format, read without knowing the messages: field numbers and raw values.

Owns the split of one message into its fields. Nothing here imports protobuf, of which a process may hold any version,
or none. Cost grows with the number of fields, not with their size: a text is stepped over. Never raises for what a
provider sent: what is no message is None. If this breaks, calls over gRPC bill nothing.
Definition: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

Value = Union[int, bytes]
Fields = Dict[int, List[Value]]

#: fields of one message that are looked at; a message of a model has far fewer
_MOST = 100_000


def fields(data: bytes) -> Optional[Fields]:
    """Field number → its values in order: integers, or bytes for texts, messages and packed lists."""
    found: Fields = {}
    at, end, left = 0, len(data), _MOST
    try:
        while at < end and left:
            left -= 1
            tag, at = _varint(data, at)
            kind = tag & 7
            if kind == 2:
                size, at = _varint(data, at)
                value: Value = data[at : at + size]
                at += size
            elif kind == 0:
                value, at = _varint(data, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
                value = data[at : at + size]
                at += size
            else:
                return None
            found.setdefault(tag >> 3, []).append(value)
    except (IndexError, ValueError):
        return None
    return found if at == end else None


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("no varint")


def number(found: Fields, at: int) -> Optional[int]:
    """The last integer under a field, or None. Negative ones, which a count never is, are None."""
    values = found.get(at)
    value = values[-1] if values else None
    return value if type(value) is int and value < 1 << 63 else None


def text(found: Fields, at: int) -> Optional[str]:
    """The last text under a field, or None when there is none or it is empty."""
    values = found.get(at)
    value = values[-1] if values else None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) and value else None


def message(found: Fields, at: int) -> Optional[Fields]:
    """The last message under a field, split; None when the field is absent."""
    values = found.get(at)
    value = values[-1] if values else None
    return fields(value) if isinstance(value, bytes) else None


def messages(found: Fields, at: int) -> List[Fields]:
    """Every message under a field."""
    split = [fields(value) for value in found.get(at, ()) if isinstance(value, bytes)]
    return [each for each in split if each is not None]


def numbers(found: Fields, at: int) -> List[int]:
    """Every integer under a field, packed or not."""
    out: List[int] = []
    for value in found.get(at, ()):
        if isinstance(value, int):
            out.append(value)
            continue
        inner = 0
        try:
            while inner < len(value):
                each, inner = _varint(value, inner)
                out.append(each)
        except (IndexError, ValueError):
            return out
    return out


def value_of(data: bytes, depth: int = 12) -> Any:
    """A `google.protobuf.Value` as JSON has it; whole numbers as integers, other ones as None."""
    found = fields(data) if depth else None
    if not found:
        return None
    if 2 in found:
        import struct

        raw = found[2][-1]
        amount = struct.unpack("<d", raw)[0] if isinstance(raw, bytes) and len(raw) == 8 else None
        return int(amount) if amount is not None and abs(amount) < 2**53 and amount.is_integer() else None
    if 3 in found:
        return text(found, 3) or ""
    if 5 in found:
        members = {}
        for entry in messages(message(found, 5) or {}, 1):
            inner = entry.get(2, [b""])[-1]
            members[text(entry, 1) or ""] = value_of(inner, depth - 1) if isinstance(inner, bytes) else None
        return members
    if 6 in found:
        rows = (message(found, 6) or {}).get(1, ())
        return [value_of(row, depth - 1) for row in rows if isinstance(row, bytes)]
    return None
