"""A fact set by name: one that ships ("geography", "lab") or a file."""

from __future__ import annotations

from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench.facts.table import FACTS, FactSet

PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = {
    "geography": PACKAGE / "facts" / "data" / "geography.parquet",
    "lab": PACKAGE / "lab" / "data" / "facts.parquet",
}


def resolve_facts(ref: str | Path) -> FactSet:
    """Return the fact set that is meant by a shipped name or a path.

    Raises:
        SftbenchError: neither a shipped name nor a fact table.
    """
    if str(ref) in SHIPPED:
        return FactSet.read(SHIPPED[str(ref)])
    path = Path(ref)
    if not path.exists():
        raise SftbenchError(
            f"there is no fact table of this name; {' and '.join(SHIPPED)} ship with sftbench",
            where=path,
            remedy=FACTS.remedy,
        )
    return FactSet.read(path)


def shipped_facts(digest: str) -> FactSet | None:
    """Return the shipped fact set with this digest, or None."""
    import json

    import polars as pl

    from sftbench.common.tables import METADATA_KEY

    for path in SHIPPED.values():
        if not path.is_file():
            continue
        record = json.loads(pl.read_parquet_metadata(path).get(METADATA_KEY, "{}"))
        if record.get("digest") == digest:
            return FactSet.read(path)
    return None
