"""Typed Parquet tables that carry the record of what made them in their own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.common.digests import canonical_json
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file

if TYPE_CHECKING:
    import polars as pl

METADATA_KEY = "sftbench"


@dataclass(frozen=True)
class TableSpec:
    """The columns of one kind of table.

    Attributes:
        kind: the name of the table ("facts", "mastery", "answers"), stored in each file.
        columns: column name to polars data type.
        remedy: how a user makes such a table; shown when a file is not one.
        optional: columns that older files lack; they are null there.
    """

    kind: str
    columns: Mapping[str, Any]
    remedy: str
    optional: frozenset[str] = frozenset()

    def conform(self, frame: pl.DataFrame, *, where: str | Path | None = None) -> pl.DataFrame:
        """Return `frame` with this table's columns, in order and cast; raise if it cannot be."""
        import polars as pl

        absent = [name for name in self.columns if name not in frame.columns]
        missing = [name for name in absent if name not in self.optional]
        if missing:
            raise SftbenchError(
                f"a {self.kind} table needs the column{'s' * (len(missing) > 1)} "
                f"{', '.join(missing)}; this one has {', '.join(frame.columns) or 'none'}",
                where=where,
                remedy=self.remedy,
            )
        frame = frame.with_columns(pl.lit(None).alias(name) for name in absent)
        try:
            return frame.select(pl.col(name).cast(kind) for name, kind in self.columns.items())
        except (pl.exceptions.PolarsError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise SftbenchError(
                f"a column of this {self.kind} table has the wrong type ({first})",
                where=where,
                remedy=self.remedy,
            ) from None

    def write(self, frame: pl.DataFrame, path: Path, record: Mapping[str, Any]) -> None:
        """Write the table with its record (JSON) in the file's metadata, atomically."""
        content = canonical_json({**record, "kind": self.kind})
        with atomic_file(path) as temporary:
            self.conform(frame).write_parquet(temporary, metadata={METADATA_KEY: content})

    def read(self, path: Path) -> tuple[pl.DataFrame, dict[str, Any]]:
        """Read a table and its record; anything that is not this kind of table raises."""
        import polars as pl

        if not path.is_file():
            raise SftbenchError(
                f"there is no such {self.kind} file", where=path, remedy=self.remedy
            )
        try:
            frame = pl.read_parquet(path)
            stored = pl.read_parquet_metadata(path).get(METADATA_KEY)
        except (pl.exceptions.PolarsError, OSError):
            raise SftbenchError(
                f"is not a Parquet file, so it cannot be a {self.kind} table",
                where=path,
                remedy=self.remedy,
            ) from None
        record = json.loads(stored) if stored else {}
        if record.get("kind", self.kind) != self.kind:
            raise SftbenchError(
                f"is a {record['kind']} table where a {self.kind} table is needed",
                where=path,
                remedy=self.remedy,
            )
        return self.conform(frame, where=path), record
