"""Which facts are asked: those of the test split that have a level, or a balanced part of them."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from sftbench.common.errors import SftbenchError
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MasteryCard


class Selection(NamedTuple):
    """The facts to ask.

    Attributes:
        rows: columns of `FACTS`, rate and level, sorted by fact_id.
        unlevelled: facts that would be asked if the card gave them a level.
    """

    rows: pl.DataFrame
    unlevelled: int


def select(
    facts: FactSet, card: MasteryCard, *, domain: str | None = None, limit: int | None = None
) -> Selection:
    """Return the facts to ask.

    With a limit, each (level, domain) gives one fact in turn, in the order of fact_id, which is
    a hash: a larger limit extends a smaller one, and a cell that runs short leaves its turns to
    the others.

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
    kept = levelled if limit is None else _balanced(levelled, limit)
    return Selection(kept, rows.height - levelled.height)


def _balanced(rows: pl.DataFrame, limit: int) -> pl.DataFrame:
    turn = pl.int_range(pl.len()).over("level", "domain")
    chosen = rows.with_columns(turn=turn).sort("turn", "level", "domain").head(limit)
    return chosen.drop("turn").sort("fact_id")
