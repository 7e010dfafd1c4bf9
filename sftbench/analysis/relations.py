"""What became of the facts relation by relation: counts per variant against the base."""

from __future__ import annotations

import polars as pl


def by_relation(items: pl.DataFrame, base: str) -> pl.DataFrame:
    """Return counts per relation and variant.

    Args:
        items: one row per fact and variant: fact_id, variant, relation, domain, correct.
        base: name of the base variant.

    Returns:
        domain, relation, variant, n, right, kept, lost, gained (counts; kept, lost and gained
        against the base), sorted by the first three. A relation that occurs in both domains has
        rows in each.
    """
    before = items.filter(pl.col("variant") == base).select("fact_id", known="correct")
    known, right = pl.col("known"), pl.col("correct")
    return (
        items.join(before, on="fact_id")
        .group_by("domain", "relation", "variant")
        .agg(
            n=pl.len(),
            right=right.sum(),
            kept=(known & right).sum(),
            lost=(known & ~right).sum(),
            gained=(~known & right).sum(),
        )
        .sort("domain", "relation", "variant")
    )
