"""Archive files: rows of one project and day as Parquet, with a manifest beside it.

Owns the form of the files and the proof that one holds what was put in. A file appears under its name only after it
was synced, read back and found to hold the same rows. If this is wrong, receipts are gone that nobody can bring back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import Corrupt, Full, LedgerError, NotWritable
from aicostguard.ledger.model import FLAGGED, MEASURES, TIMED, UNITS

#: rows that are held at once, and written as one group
GROUP = 10_000
MANIFEST = 1

Values = tuple[Any, ...]


class Columns(NamedTuple):
    """The columns of a file: their names, and which of them are integers; the others are texts."""

    names: tuple[str, ...]
    integers: frozenset[str]


class Written(NamedTuple):
    """A file and what is in it; `content` is a digest of its rows in their order, whatever the file's form."""

    file: str
    rows: int
    sums: dict[str, int]
    sha256: str
    bytes: int
    content: str


def need() -> Any:
    """pyarrow. Raises `LedgerError` that says how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise LedgerError(
            f"archives are Parquet files, which need pyarrow ({error}): pip install 'aicostguard[archive]'. "
            "Or delete old receipts without an archive: aicg retention set --delete"
        ) from None
    return pyarrow


def summed(names: Sequence[str], rows: Sequence[Values]) -> dict[str, int]:
    """What these rows are of the sums."""
    columns = dict(zip(names, zip(*rows))) if rows else {}

    def total(name: str) -> int:
        return sum(filter(None, columns.get(name, ())))

    sums = {"cost_nanousd": total("cost_nanousd"), "calls": len(rows)}
    sums["unpriced_calls"] = sum(cost is None for cost in columns.get("cost_nanousd", ()))
    sums.update({measure: total(flag) for flag, measure in FLAGGED.items()})
    sums["clock_adjusted_calls"] = total("clock_adjusted")
    sums.update({name: total(name) for name in (*UNITS, "cache_savings_nanousd", *TIMED)})
    sums.update({calls: sum(ms is not None for ms in columns.get(key, ())) for key, calls in TIMED.items()})
    return {name: sums[name] for name in MEASURES}


def added(one: Mapping[str, int], other: Mapping[str, int], sign: int = 1) -> dict[str, int]:
    return {name: one.get(name, 0) + sign * other.get(name, 0) for name in MEASURES}


def write(
    folder: str, name: str, columns: Columns, pages: Iterable[Sequence[Values]], about: Mapping[str, Any]
) -> Written:
    """Write rows to `folder/name` and its manifest, and read them back. Raises `LedgerError`, nothing left behind."""
    path = os.path.join(folder, name)
    part = f"{path}.part-{secrets.token_hex(4)}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        rows, sums, content = _fill(part, columns, pages)
        _sync(part)
        found = Written(name, rows, sums, _hash(part), os.path.getsize(part), content)
        _prove(part, columns, found)
        manifest = {"manifest": MANIFEST, "file": os.path.basename(name), **about, "rows": rows, "sums": sums}
        manifest.update({"sha256": found.sha256, "bytes": found.bytes})
        _put(path + ".json", json.dumps(manifest, indent=2).encode())
        os.rename(part, path)
        _sync(os.path.dirname(path))
    except OSError as error:
        _unlink(path + ".json")
        if error.errno in (28, 122):
            raise Full(f"no room for the archive {path}; no receipt was removed. Make room") from error
        raise NotWritable(f"the archive {path} cannot be written: {error.strerror}; no receipt was removed") from error
    finally:
        _unlink(part)
    return found


def _fill(part: str, columns: Columns, pages: Iterable[Sequence[Values]]) -> tuple[int, dict[str, int], str]:
    arrow = need()
    schema = arrow.schema(
        [(name, arrow.int64() if name in columns.integers else arrow.string()) for name in columns.names]
    )
    digest, sums, rows = hashlib.sha256(), dict.fromkeys(MEASURES, 0), 0
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with arrow.parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        for page in _grouped(pages):
            arrays = [arrow.array(values, field.type) for values, field in zip(zip(*page), schema)]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))
            rows += len(page)
            sums = added(sums, summed(columns.names, page))
            for row in page:
                digest.update(repr(row).encode())
    return rows, sums, digest.hexdigest()


def _grouped(pages: Iterable[Sequence[Values]]) -> Iterator[list[Values]]:
    held: list[Values] = []
    for page in pages:
        held += page
        if len(held) >= GROUP:
            yield held
            held = []
    if held:
        yield held


def _prove(path: str, columns: Columns, wanted: Written) -> None:
    digest, sums, rows = hashlib.sha256(), dict.fromkeys(MEASURES, 0), 0
    for page in read(path, columns.names):
        rows += len(page)
        sums = added(sums, summed(columns.names, page))
        for row in page:
            digest.update(repr(row).encode())
    if (rows, sums, digest.hexdigest()) != (wanted.rows, wanted.sums, wanted.content):
        raise Corrupt(f"{path} does not hold what was written to it; no receipt was removed. Check the device")


def names(path: str) -> tuple[str, ...]:
    """The columns of a file."""
    with _understood(path):
        return tuple(need().parquet.read_schema(path).names)


def read(path: str, wanted: Sequence[str], group: int = GROUP) -> Iterator[list[Values]]:
    """The rows of a file, some at a time. Raises `Corrupt` for one that is no Parquet file."""
    with _understood(path), need().parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=group, columns=list(wanted)):
            yield list(zip(*(batch.column(name).to_pylist() for name in wanted)))


@contextlib.contextmanager
def _understood(path: str) -> Iterator[None]:
    arrow = need()
    try:
        yield
    except FileNotFoundError:
        raise NotWritable(f"the archive {path} is not there: bring it back, or set another folder") from None
    except (arrow.ArrowException, OSError) as error:
        raise Corrupt(f"the archive {path} cannot be read ({type(error).__name__}): bring back a copy of it") from error


def check(path: str, sha256: str) -> None:
    """Is the file the one that was written? Raises `NotWritable` when it is gone, `Corrupt` when it is another."""
    try:
        found = _hash(path)
    except FileNotFoundError:
        raise NotWritable(f"the archive {path} is not there: bring it back, or set another folder") from None
    except OSError as error:
        raise NotWritable(f"the archive {path} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise Corrupt(f"the archive {path} is not as it was written (SHA-256 {found[:12]}…, not {sha256[:12]}…)")


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(path: str, data: bytes) -> None:
    part = path + ".part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
