"""Accuracy per variant, domain and level, with its n and interval, and the macro over levels."""

from __future__ import annotations

import polars as pl

from sftbench.analysis.intervals import wilson


def accuracy(items: pl.DataFrame) -> pl.DataFrame:
    """Return n, right, accuracy and its Wilson interval per variant, domain and level.

    Args:
        items: one row per fact and variant: variant, domain, level, correct.

    Returns:
        variant, domain, level, n, right, accuracy, low, high (fractions, 95 %), sorted. A cell
        without facts has no row.
    """
    cells = (
        items.group_by("variant", "domain", "level")
        .agg(n=pl.len(), right=pl.col("correct").sum())
        .sort("variant", "domain", "level")
    )
    bounds = [wilson(right, n) for right, n in cells.select("right", "n").iter_rows()]
    return cells.with_columns(
        accuracy=pl.col("right") / pl.col("n"),
        low=pl.Series([one.low for one in bounds], dtype=pl.Float64),
        high=pl.Series([one.high for one in bounds], dtype=pl.Float64),
    )


def macro(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the unweighted mean over the levels that have facts, per variant and domain.

    This is the paper's score (section 4 of its evaluation), for a fact set that may leave a
    level empty.

    Args:
        cells: as returned by `accuracy`.

    Returns:
        variant, domain, macro (fraction), levels (those averaged), n (facts in all), sorted.
    """
    return (
        cells.sort("variant", "domain", "level")
        .group_by("variant", "domain", maintain_order=True)
        .agg(macro=pl.col("accuracy").mean(), levels=pl.col("level"), n=pl.col("n").sum())
    )
