"""Reads a user's table (CSV, TSV, JSONL, JSON, Parquet) into columns of text and lists of text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.common.errors import SftbenchError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LONGEST_FIELD = 100_000_000
"""Characters: a field that is too long to be an answer is counted and left out, not an error."""
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *JSON_LINES, ".json", ".parquet")

TEXTS = pl.List(pl.String)


@dataclass(frozen=True)
class Raw:
    """A table as it was read.

    Attributes:
        frame: columns of text or of lists of text, null where a cell is empty; and `row`, the
            number of the row in its file (for CSV and JSONL that of its line), from 1.
        not_text: numbers of the rows that were left out because a cell that is used is neither
            text nor a whole number nor a list of those.
    """

    frame: pl.DataFrame
    not_text: tuple[int, ...] = ()


Choose = Callable[[Sequence[str]], Iterable[str]]
"""Takes the columns that a table has and returns those that are used; raises if one is missing."""


def read_table(path: Path, choose: Choose, *, encoding: str, delimiter: str | None) -> Raw:
    """Read the chosen columns of a file; "a.b" is the field b of the column a.

    Raises:
        SftbenchError: no such file, another kind of file, or one that cannot be read as what its
            name says; the error names the line.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise SftbenchError("there is no such file", where=path)
    if suffix == ".parquet":
        return of_frame(_parquet(path), choose, where=str(path))
    if suffix in DELIMITERS:
        return _read_csv(path, choose, encoding, delimiter or DELIMITERS[suffix])
    if suffix in JSON_LINES or suffix == ".json":
        return _read_json(path, choose, encoding)
    raise SftbenchError(
        f"is of a kind that cannot be imported ({suffix or 'no ending'})",
        where=path,
        remedy=f"Give a file that ends in {', '.join(SUFFIXES)}, or a Hugging Face data set.",
    )


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        first = (str(error).splitlines() or ["unknown"])[0]
        raise SftbenchError(f"cannot be read as Parquet ({first})", where=path) from None


def decoded(path: Path, encoding: str) -> str:
    """Return the text of a file without a byte order mark.

    Raises:
        SftbenchError: no such encoding, or a byte that it does not have; says which, and where.
    """
    content = path.read_bytes()
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise SftbenchError(
            f"there is no encoding called {encoding}",
            where="--encoding",
            remedy="Name one such as utf-8, cp1252, latin-1 or utf-16.",
        ) from None
    except UnicodeDecodeError as error:
        byte = f" 0x{content[error.start]:02x}" if error.start < len(content) else ""
        line = content.count(b"\n", 0, error.start) + 1
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        likely = "utf-16" if wide else "cp1252 (Windows) or latin-1"
        raise SftbenchError(
            f"the byte{byte} at position {error.start} (line {line}) is not {encoding}",
            where=path,
            remedy=f"Say how the file is written: --encoding {likely}.",
        ) from None


def _read_csv(path: Path, choose: Choose, encoding: str, delimiter: str) -> Raw:
    text = decoded(path, encoding)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except TypeError:
        raise SftbenchError(
            f"a delimiter is one character, not {delimiter!r}", where="--delimiter"
        ) from None
    begun, before = 1, csv.field_size_limit(LONGEST_FIELD)
    try:
        header = next(reader, [])
        _check_header(header, path)
        used = list(choose(header))
        places = [header.index(name) for name in used]
        numbers: list[int] = []
        cells: list[list[str]] = [[] for _ in used]
        begun = reader.line_num + 1
        for row in reader:
            begun = reader.line_num + 1
            if not row:  # a blank line
                continue
            if len(row) != len(header):
                raise SftbenchError(
                    f"line {reader.line_num} has {len(row)} fields, the header {len(header)}",
                    where=path,
                    remedy="Mend the line (a delimiter inside a field needs quotation marks), or "
                    "name another --delimiter.",
                )
            numbers.append(reader.line_num)
            for column, place in zip(cells, places, strict=True):
                column.append(row[place])
    except csv.Error as error:
        raise SftbenchError(
            f"the row that begins in line {begun}: {error}",
            where=path,
            remedy="A quotation mark that is never closed is the usual reason: mend that row.",
        ) from None
    finally:
        csv.field_size_limit(before)
    columns = {
        name: pl.Series(name, cell, pl.String) for name, cell in zip(used, cells, strict=True)
    }
    return Raw(pl.DataFrame({"row": pl.Series(numbers, dtype=pl.UInt32), **columns}))


def _check_header(header: Sequence[str], path: Path) -> None:
    if not any(header):
        raise SftbenchError("has no header line with the names of its columns", where=path)
    twice = {name for name in header if list(header).count(name) > 1}
    if twice:
        raise SftbenchError(f"two columns are called {sorted(twice)[0]!r}", where=path)


def _read_json(path: Path, choose: Choose, encoding: str) -> Raw:
    text = decoded(path, encoding)
    if path.suffix.lower() == ".json" and text.lstrip()[:1] == "[":
        whole = _parsed(text, "", path)
        records = partial(_listed, whole, path)
    else:
        records = partial(_lines, text, path)
    # Twice over the file: a key that only the last record has is a column too.
    names = dict.fromkeys(key for _, record in records() for key in _keys(record))
    builder = _Builder(list(choose(list(names))))
    for number, record in records():
        builder.add(number, record)
    return builder.raw()


def _listed(records: Sequence[Any], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and record of a file that is one list."""
    for number, record in enumerate(records, 1):
        yield number, _record(record, f"record {number}", path)


def _lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and record of a file with one record on each line."""
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            where = f"line {number}"
            yield number, _record(_parsed(line, f"{where} ", path), where, path)


def _parsed(text: str, where: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SftbenchError(
            f"{where}cannot be read as JSON ({str(error)[:200]})",
            where=path,
            remedy="Each line of a .jsonl file is one record; a .json file may be one list.",
        ) from None


def _record(value: Any, where: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SftbenchError(f"{where} is not a record but {str(value)[:100]}", where=path)
    return value


def _keys(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the columns of a record, and "a.b" for the fields of one that is a record itself."""
    for key, value in record.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{inner}" for inner in value)


class _NotTextError(Exception):
    """A value that is neither text nor a whole number."""


class _Builder:
    """Collects the used values of JSON records into columns."""

    def __init__(self, used: Sequence[str]) -> None:
        self._numbers: list[int] = []
        self._not_text: list[int] = []
        self._cells: dict[str, list[list[str] | str | None]] = {name: [] for name in used}

    def add(self, number: int, record: Mapping[str, Any]) -> None:
        """Add one record, or note its number where a value is not text."""
        try:
            values = [_value(_looked_up(record, name)) for name in self._cells]
        except _NotTextError:
            self._not_text.append(number)
            return
        self._numbers.append(number)
        for cells, value in zip(self._cells.values(), values, strict=True):
            cells.append(value)

    def raw(self) -> Raw:
        """Return the table."""
        columns = {name: _column(cells) for name, cells in self._cells.items()}
        numbers = pl.Series(self._numbers, dtype=pl.UInt32)
        return Raw(pl.DataFrame({"row": numbers, **columns}), tuple(self._not_text))


def _looked_up(record: Mapping[str, Any], name: str) -> Any:
    if name in record:
        return record[name]
    outer, _, inner = name.partition(".")
    held = record.get(outer)
    return held.get(inner) if inner and isinstance(held, dict) else None


def _value(value: Any) -> list[str] | str | None:
    if isinstance(value, list):
        return [_text(one) for one in value if one is not None]
    return None if value is None else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _NotTextError
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _NotTextError  # half a character, which JSON can write and no file can hold
    return value


def _column(cells: Sequence[list[str] | str | None]) -> pl.Series:
    """Return text, or lists of text where any cell is a list."""
    if not any(isinstance(cell, list) for cell in cells):
        return pl.Series(cells, dtype=pl.String)
    lists = [[cell] if isinstance(cell, str) else cell or [] for cell in cells]
    # Flat and then grouped: polars takes many small lists from Python one by one, and slowly.
    flat = pl.DataFrame(
        {
            "cell": [number for number, values in enumerate(lists) for _ in values],
            "values": [value for values in lists for value in values],
        },
        schema={"cell": pl.UInt32, "values": pl.String},
    )
    every = pl.DataFrame({"cell": pl.Series(range(len(lists)), dtype=pl.UInt32)})
    grouped = flat.group_by("cell").agg("values")
    return every.join(grouped, on="cell", how="left", maintain_order="left")["values"]


def of_frame(frame: pl.DataFrame, choose: Choose, *, where: str) -> Raw:
    """Return the chosen columns of a polars table as text and lists of text.

    Raises:
        SftbenchError: a chosen column holds something else than text and whole numbers.
    """
    fields = {
        f"{name}.{field.name}": pl.col(name).struct.field(field.name)
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.Struct)
        for field in kind.fields
    }
    known = {**{name: pl.col(name) for name in frame.columns}, **fields}
    chosen = frame.select(known[name].alias(name) for name in choose(list(known)))
    for name, kind in chosen.schema.items():
        inner = kind.inner if isinstance(kind, (pl.List, pl.Array)) else kind
        if not _holds_text(inner):
            raise SftbenchError(
                f"the column {name} holds {kind}, not text (nor lists of text)",
                where=where,
                remedy="Name another column, such as a field of this one: --answers "
                f"{name}.{kind.fields[0].name}."
                if isinstance(kind, pl.Struct) and kind.fields
                else "Name another column, or turn it into text first.",
            )
        wanted = TEXTS if isinstance(kind, (pl.List, pl.Array)) else pl.String
        chosen = chosen.with_columns(pl.col(name).cast(wanted))
    return Raw(chosen.with_row_index("row", offset=1))


def _holds_text(kind: Any) -> bool:
    return kind in (pl.String, pl.Null, pl.Categorical, pl.Enum) or kind.is_integer()
