"""A fact set by name: one that ships ("geography", "lab"), one made before, or a file."""

from __future__ import annotations

from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench.common.files import cache_folder
from sftbench.facts.table import FACTS, FactSet

PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = {
    "geography": PACKAGE / "facts" / "data" / "geography.parquet",
    "lab": PACKAGE / "lab" / "data" / "facts.parquet",
}
MADE = {
    "entityquestions": "sftbench facts entityquestions",
    "entityquestions-paper": "sftbench facts entityquestions --as-paper",
}
"""Names of fact sets that may not ship: the command that makes each once, in the cache."""


def cached_facts(name: str) -> Path:
    """Return where the fact set of `MADE` called `name` is kept."""
    return cache_folder() / "facts" / f"{name}.parquet"


def resolve_facts(ref: str | Path) -> FactSet:
    """Return the fact set that is meant by a name or a path.

    Raises:
        SftbenchError: neither a name nor a fact table, or a name whose table is still to be made.
    """
    name = str(ref)
    if name in SHIPPED:
        return FactSet.read(SHIPPED[name])
    path = Path(ref)
    if name in MADE and not path.is_file():
        return _made(name)
    if path.exists():
        return FactSet.read(path)
    raise SftbenchError(
        f"there is no fact table of this name; {' and '.join(SHIPPED)} ship with sftbench",
        where=path,
        remedy=FACTS.remedy,
    )


def _made(name: str) -> FactSet:
    """Return a fact set of `MADE` from the cache."""
    from sftbench.facts.entityquestions import VERSION

    path = cached_facts(name)
    if not path.is_file():
        raise SftbenchError(
            f"the facts {name} do not ship with sftbench and are still to be made",
            where=path,
            remedy=f"Make them once: {MADE[name]} (add --from dataset.zip without a network).",
        )
    facts = FactSet.read(path)
    if facts.source.get("version") != VERSION:
        raise SftbenchError(
            f"holds version {facts.source.get('version')} of the facts {name}; this sftbench "
            f"makes version {VERSION}",
            where=path,
            remedy=f"Make them anew: {MADE[name]}",
        )
    return facts


def how_to_make(name: object) -> str:
    """Return what to do for a fact set that a card names and that is not here; "" if unknown."""
    return f"Make them once: {MADE[name]}. " if isinstance(name, str) and name in MADE else ""


def shipped_facts(digest: str) -> FactSet | None:
    """Return the fact set with this digest among those that ship or were made, or None."""
    import json

    import polars as pl

    from sftbench.common.tables import METADATA_KEY

    for path in (*SHIPPED.values(), *map(cached_facts, MADE)):
        if not path.is_file():
            continue
        record = json.loads(pl.read_parquet_metadata(path).get(METADATA_KEY, "{}"))
        if record.get("digest") == digest:
            return FactSet.read(path)
    return None
