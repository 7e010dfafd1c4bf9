"""A results folder as one Parquet file, and back: the bytes of records and items as they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file
from sftbench_leaderboard.items import MOST_BYTES
from sftbench_leaderboard.layout import BETWEEN, RECORD, items_beside, place_of
from sftbench_leaderboard.validate import MOST_RECORD_BYTES

AT_ONCE = 64
"""Records of one row group."""
MOST_UNPACKED = 16 * 1024**3
"""Bytes of all files together: what is unpacked lies in a temporary folder."""
COLUMNS = ("path", "record", "items")
"""Where a record lies in the folder; the content of its two files."""
REMEDY = "Make one with `sftbench leaderboard pack`, or name a folder of results."


def pack(records: Iterable[Path], path: Path) -> int:
    """Write records with their items into one Parquet file; return how many.

    Args:
        records: paths of records in a results folder.
        path: the file.

    Raises:
        SftbenchError: a folder lies there.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if path.is_dir():
        raise SftbenchError(
            "is a folder, and a file is to be written",
            where=path,
            remedy="Name a file, such as one in that folder.",
        )
    schema = pa.schema([("path", pa.string()), ("record", pa.binary()), ("items", pa.binary())])
    count = 0
    with (
        atomic_file(path) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for rows in _in_batches(records):
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    return count


def _in_batches(records: Iterable[Path]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for record in records:
        place = "/".join(record.parts[-3:])
        contents = {"record": record.read_bytes(), "items": items_beside(record).read_bytes()}
        rows.append({"path": place, **contents})
        if len(rows) == AT_ONCE:
            yield rows
            rows = []
    if rows:
        yield rows


@contextmanager
def as_folder(results: Path) -> Iterator[Path]:
    """Yield a results folder: the one that is named, or a temporary one with what a file holds.

    What a file holds is validated like any results; here only its names and sizes are looked at.

    Raises:
        SftbenchError: it is neither a folder nor such a file.
    """
    if not results.is_file():
        yield results
        return
    with TemporaryDirectory(prefix="sftbench-results-") as scratch:
        folder = Path(scratch)
        left = MOST_UNPACKED
        for number, row in enumerate(_rows(results)):
            left -= _put(folder, row, results, number)
            if left < 0:
                raise SftbenchError(
                    f"unpacks to more than {MOST_UNPACKED:,} bytes", where=results, remedy=REMEDY
                )
        yield folder


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        if tuple(file.schema_arrow.names) != COLUMNS:
            raise SftbenchError(
                "is a Parquet file, but not one of results", where=path, remedy=REMEDY
            )
        # Row by row: one value may be repeated in a file of a few bytes.
        for batch in file.iter_batches(batch_size=1):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise SftbenchError("is no Parquet file of results", where=path, remedy=REMEDY) from None


def _put(folder: Path, row: dict[str, Any], source: Path, number: int) -> int:
    """Write the files of a row to their place and return their size in bytes."""
    to = _place(row)
    if to is None or (folder / to).exists():
        what = "is no record with its items" if to is None else "is of the same place as another"
        raise SftbenchError(f"row {number} {what}", where=source, remedy=REMEDY)
    path = folder / to
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(row["record"])
    items_beside(path).write_bytes(row["items"])
    return len(row["record"]) + len(row["items"])


def _place(row: dict[str, Any]) -> Path | None:
    """Return where a row's record belongs; None where the row is none, or is too large."""
    contents = ((row["record"], MOST_RECORD_BYTES), (row["items"], MOST_BYTES))
    if not all(isinstance(one, bytes) and len(one) <= most for one, most in contents):
        return None
    try:
        model, digest, name = row["path"].split("/")
        org, between, rest = model.partition(BETWEEN)
        place = place_of(f"{org}/{rest}", digest, name.removesuffix(RECORD))
    except (SftbenchError, ValueError, TypeError, AttributeError):
        return None
    return place if between else None
