"""Counts of a fact table, for people who want to know what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from sftbench.facts.table import EXCLUDED_FLAGS, has_flag

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet


def relation_counts(facts: FactSet) -> pl.DataFrame:
    """Return one row for each relation, sorted by domain and name, and one row for all.

    Columns: relation, domain ("" in the row "all"), then for train and test the number of facts
    and of those that may be trained on or scored (train, train_scored, test, test_scored).
    """
    scored = ~has_flag(*EXCLUDED_FLAGS)
    counts = [
        column
        for split in ("train", "test")
        for column in (
            (pl.col("split") == split).sum().alias(split),
            ((pl.col("split") == split) & scored).sum().alias(f"{split}_scored"),
        )
    ]
    relations = facts.frame.group_by("relation", "domain").agg(counts).sort("domain", "relation")
    total = facts.frame.select(pl.lit("all").alias("relation"), pl.lit("").alias("domain"), *counts)
    return pl.concat([relations, total.select(relations.columns)])


def flag_counts(facts: FactSet) -> pl.DataFrame:
    """Return how many train and test facts carry each flag (columns flag, train, test)."""
    flags = facts.frame.select("split", pl.col("flags").alias("flag")).explode("flag").drop_nulls()
    return (
        flags.group_by("flag")
        .agg((pl.col("split") == split).sum().alias(split) for split in ("train", "test"))
        .sort("flag")
    )


def baseline_rows(facts: FactSet) -> pl.DataFrame:
    """Return what takes no knowledge, one row for each relation with test facts.

    Columns: relation, majority_answer, majority, echo, echo_of_scored (shares, see `Baseline`),
    sorted by domain and name as in `relation_counts`.
    """
    order = facts.frame.select("relation", "domain").unique().sort("domain", "relation")["relation"]
    found = {name: facts.baselines[name] for name in order if facts.baselines[name].facts}
    columns = ("majority_answer", "majority", "echo", "echo_of_scored")
    return pl.DataFrame(
        {
            "relation": list(found),
            **{name: [getattr(one, name) for one in found.values()] for name in columns},
        },
        schema={
            "relation": pl.String,
            "majority_answer": pl.String,
            **dict.fromkeys(columns[1:], pl.Float64),
        },
    )
