"""Which facts are asked: those of the test split that have a level, or a balanced part of them.

Where a restore is to be chosen, a part is kept for that: the validation facts, which are not
scored. Facts of one answer stay together, since what helps one of them tends to help the others.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import polars as pl

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MasteryCard
from sftbench.scoring.balance import in_turn

Part = Literal["all", "validation", "scored"]
"""All facts; those that a restore is chosen on; the others."""
VALIDATION_SHARE = 0.25


class Selection(NamedTuple):
    """The facts to ask.

    Attributes:
        rows: columns of `FACTS`, rate and level, sorted by fact_id.
        unlevelled: facts that would be asked if the card gave them a level.
    """

    rows: pl.DataFrame
    unlevelled: int


def select(
    facts: FactSet,
    card: MasteryCard,
    *,
    domain: str | None = None,
    limit: int | None = None,
    part: Part = "all",
) -> Selection:
    """Return the facts to ask.

    With a limit, they are balanced over level and domain (`scoring.balance.in_turn`), and a larger
    limit extends a smaller one. Validation and scored facts are parts of those.

    Raises:
        SftbenchError: there is no fact to ask.
    """
    rows = facts.scored(domain=domain)
    levels = card.frame.select("fact_id", "rate", "level")
    levelled = rows.join(levels, on="fact_id").sort("fact_id")
    if levelled.is_empty():
        raise SftbenchError(
            f"the mastery card levels none of the {rows.height} facts of the test split"
            + (f" in the domain {domain}" if domain else ""),
            where=card.path,
            remedy="Make a card that covers them with `sftbench mastery`.",
        )
    kept = levelled if limit is None else in_turn(levelled).head(limit).sort("fact_id")
    if part != "all":
        chosen = _validation(kept)
        kept = kept.filter(pl.col("fact_id").is_in(chosen) == (part == "validation"))
    if kept.is_empty():
        raise SftbenchError(
            "too few facts to keep a quarter of them, whole answers together, for a choice",
            where=card.path,
            remedy="Ask more facts, or name the restores without --auto (check: --restore 5,20).",
        )
    return Selection(kept, rows.height - levelled.height)


def _validation(rows: pl.DataFrame) -> list[str]:
    """Return the validation facts: whole answers, in the order of a hash, of each domain."""
    clusters = rows.group_by("domain", "relation", pl.col("answers").list.first()).agg("fact_id")
    order = sorted(clusters.iter_rows(), key=lambda row: digest_of(["validation", *row[1:3]]))
    found: list[str] = []
    for domain in sorted(set(rows["domain"])):
        room = int(VALIDATION_SHARE * (rows["domain"] == domain).sum())
        for where, _, _, facts in order:
            if where == domain and len(facts) <= room:
                found += facts
                room -= len(facts)
    return found
