"""Names the facts of a table, and flags test questions that stand in the training data too."""

from __future__ import annotations

import polars as pl

from sftbench.facts.flags import with_flag_where
from sftbench.facts.table import IN_TRAIN, fact_id_of


def with_train_overlap(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with `IN_TRAIN` added where a test question is asked in training too.

    Only in-domain train facts are trained on; the question counts in whatever relation.

    Args:
        frame: rows with at least question, domain, split and flags.
    """
    trained = frame.filter(pl.col("split") == "train", pl.col("domain") == "in")["question"]
    leaked = (pl.col("split") == "test") & pl.col("question").is_in(trained.unique().implode())
    return frame.with_columns(flags=with_flag_where("flags", {IN_TRAIN: leaked}))


def with_fact_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with a column fact_id.

    A test fact that is a train fact word for word would have that one's name: it is named as a
    second copy.

    Args:
        frame: rows with at least relation, subject, question, answers and split; no two of a
            split ask the same in one relation.
    """
    rows = frame.select(
        "relation", "subject", "question", pl.col("answers").list.first(), "split"
    ).rows()
    trained = {row[:4] for row in rows if row[4] == "train"}
    names = [
        fact_id_of(*row[:4], copy=2 if row[4] == "test" and row[:4] in trained else 1)
        for row in rows
    ]
    return frame.with_columns(pl.Series("fact_id", names, dtype=pl.String))
