"""Cards that ship with sftbench, found by the base and the facts that they are for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sftbench.common.errors import SftbenchError
from sftbench.common.tables import METADATA_KEY
from sftbench.facts.reference import SHIPPED
from sftbench.facts.table import FactSet
from sftbench.mastery.canonical import is_record_canonical
from sftbench.mastery.card import MAKE_ONE, MasteryCard

PACKAGE = Path(__file__).resolve().parent.parent
CARDS = PACKAGE / "mastery" / "cards"
FOLDERS = (CARDS, PACKAGE / "lab" / "data", CARDS / "canonical")
"""In the order in which a card is looked for: a sample before the canonical card of all facts."""
CANONICAL = "canonical"
"""What a user says for the canonical card of a base and a fact set."""


def bundled_cards() -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield the path and record of every card that ships."""
    import polars as pl

    for folder in FOLDERS:
        for path in sorted(folder.glob("*.parquet")):
            record = json.loads(pl.read_parquet_metadata(path).get(METADATA_KEY, "{}"))
            if record.get("kind") == "mastery":
                yield path, record


def find_card(
    *, base_digest: str, facts_digest: str | None = None, canonical: bool = False
) -> MasteryCard | None:
    """Return the shipped card of a base (and of a fact set, where one is given), or None."""
    path = find_path(base_digest=base_digest, facts_digest=facts_digest, canonical=canonical)
    return None if path is None else MasteryCard.read(path)


def find_path(
    *, base_digest: str, facts_digest: str | None = None, canonical: bool = False
) -> Path | None:
    """Return the file of the card that `find_card` reads.

    Where no fact set is given, a card of facts that ship comes before one of facts that are still
    to be made.
    """
    fitting = [
        (record["facts_name"] not in SHIPPED, path)
        for path, record in bundled_cards()
        if record["model_digest"] == base_digest
        and facts_digest in (None, record["facts_digest"])
        and (not canonical or is_record_canonical(record))
    ]
    return min(fitting, key=lambda found: found[0])[1] if fitting else None


def resolve_card(ref: str | None, *, base_digest: str, facts: FactSet) -> MasteryCard:
    """Return the card that was named, or a shipped one of this base and fact set, checked.

    Args:
        ref: path of a card; "canonical" for the shipped card by which leaderboards rank; None for
            the shipped card that is the least to ask.
        base_digest: of the base.
        facts: the fact set.

    Raises:
        SftbenchError: none ships for this base and these facts, or the named one is for others.
    """
    if ref is not None and ref != CANONICAL:
        card = MasteryCard.read(Path(ref))
    else:
        found = find_card(
            base_digest=base_digest, facts_digest=facts.digest, canonical=ref == CANONICAL
        )
        if found is None:
            raise none_ships(base_digest, facts, canonical=ref == CANONICAL)
        card = found
    card.require(facts=facts, base_digest=base_digest)
    return card


def none_ships(base_digest: str, facts: FactSet | None, *, canonical: bool) -> SftbenchError:
    """Return the error where a card that ships was wanted and there is none."""
    kind = "canonical mastery card" if canonical else "mastery card"
    on = "" if facts is None else f" on these facts ({facts.name}, digest {facts.digest[:12]})"
    return SftbenchError(
        f"no {kind} ships for this base (digest {base_digest[:12]}){on}",
        remedy=f"{MAKE_ONE} Then name it with --mastery card.parquet.",
    )
