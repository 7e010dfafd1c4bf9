"""Mastery levels before and after a fine-tune, for facts that were all measured again.

The rows of both tables are the levels of the card. The columns are levels measured again, by draws
that had no part in the card: of the base in one table, of the tuned model in the other. So what
comes of choosing facts by a lucky or unlucky card (regression to the mean) is alike in both, and
what differs between them is the fine-tune's. This is the cross-fitting: one set of draws levels,
another measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.estimates import mean_change
from sftbench.analysis.evidence import EstimateRecord
from sftbench.analysis.loss import LevelMove, LevelTable
from sftbench.analysis.mastery_change import LEVELS

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats

Counts = tuple[tuple[int, ...], ...]


def level_moves(
    card: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, facts: pl.DataFrame
) -> tuple[LevelMove, ...]:
    """Return the mean mastery rates of each level of the card that has facts, then of all facts.

    Every fact counts alike. Intervals are clustered: facts with the same answer in a relation may
    move together (`sftbench.analysis.design.Design`).

    Args:
        card: fact_id, rate, level (0..4) of the base's card, of at least these facts.
        before: the same of the base measured again, by draws that levelled nothing.
        after: the same of the tuned model.
        facts: fact_id, relation, answer (canonical) of the facts to look at, each once.

    Raises:
        ValueError: there are no facts, or one was not measured exactly once in each table. Leaving
            it out would choose facts by how they were measured.
    """
    rows = _measured(card, before, after, facts)
    present = set(rows["level"])
    parts: list[tuple[int | None, pl.DataFrame]] = [
        (level, rows.filter(pl.col("level") == level)) for level in LEVELS if level in present
    ]
    return tuple(_move(level, part) for level, part in [*parts, (None, rows)])


def level_tables(
    card: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, facts: pl.DataFrame
) -> tuple[LevelTable, ...]:
    """Return the levels before and after: a table for each domain, then one for each relation.

    Args:
        card: as for `level_moves`.
        before: likewise.
        after: likewise.
        facts: fact_id, relation, answer (canonical), domain ("in" or "out"), each fact once.

    Returns:
        domains in the order of their names, relations by domain and name.

    Raises:
        ValueError: as `level_moves`.
    """
    rows = _measured(card, before, after, facts)
    whole = rows.partition_by("domain", as_dict=True)
    single = rows.partition_by("domain", "relation", as_dict=True)
    return (
        *(_table(str(domain), None, whole[(domain,)]) for (domain,) in sorted(whole)),
        *(_table(str(key[0]), str(key[1]), single[key]) for key in sorted(single)),
    )


def _measured(
    card: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, facts: pl.DataFrame
) -> pl.DataFrame:
    """Return the facts with levelled, level, before, level_before, after and level_after."""
    rows = facts.select(pl.col("fact_id", "relation", "answer", "^domain$")).join(
        card.select("fact_id", "level", levelled="rate"), on="fact_id"
    )
    for name, measured in (("before", before), ("after", after)):
        again = measured.select(
            "fact_id", pl.col("rate").alias(name), pl.col("level").alias(f"level_{name}")
        )
        rows = rows.join(again, on="fact_id")
    whole = rows.drop_nulls()
    if whole.is_empty() or whole.height != facts.height or whole["fact_id"].is_duplicated().any():
        raise ValueError("every fact must be levelled, and measured before and after, just once")
    return whole


def _move(level: int | None, part: pl.DataFrame) -> LevelMove:
    design = Design.of(part, by_level=False)
    levelled, before, after = (
        value_column(part, design, name) for name in ("levelled", "before", "after")
    )
    return LevelMove(
        level=level,
        n=design.n,
        levelled=design.mean(levelled),
        before=design.mean(before),
        after=design.mean(after),
        chance=_change(design, before - levelled),
        change=_change(design, after - before),
    )


def _change(design: Design, changes: Floats) -> EstimateRecord | None:
    found = mean_change(design, changes)
    return None if found is None else EstimateRecord(**found._asdict())


def _table(domain: str, relation: str | None, part: pl.DataFrame) -> LevelTable:
    return LevelTable(
        domain=domain,
        relation=relation,
        before=_counts(part["level"], part["level_before"]),
        after=_counts(part["level"], part["level_after"]),
    )


def _counts(first: pl.Series, second: pl.Series) -> Counts:
    """Return how many facts stand in each pair of levels, ``[5][5]``."""
    counts = np.zeros((len(LEVELS), len(LEVELS)), dtype=int)
    np.add.at(counts, (first.to_numpy(), second.to_numpy()), 1)
    return tuple(tuple(int(one) for one in row) for row in counts)
