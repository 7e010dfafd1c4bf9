"""Flags that every fact source computes alike: echoes and majority answers."""

from __future__ import annotations

import polars as pl

from sftbench.facts.matching import answer_in_question
from sftbench.facts.table import ANSWER_IN_QUESTION, MAJORITY_ANSWER


def with_flags(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the facts with `answer_in_question` and `majority_answer` set, flags sorted.

    The majority answer of a relation is the canonical answer that most of its facts share (the
    first in the alphabet among equals); a relation whose answers are all different has none.
    Flags that the source has set are kept.

    Args:
        frame: rows with at least relation, question, answers and flags.
    """
    majority = majority_answers(frame)
    flags = []
    for row in frame.iter_rows(named=True):
        held = set(row["flags"])
        if answer_in_question(row["question"], row["answers"]):
            held.add(ANSWER_IN_QUESTION)
        if majority.get(row["relation"]) == row["answers"][0]:
            held.add(MAJORITY_ANSWER)
        flags.append(sorted(held))
    return frame.with_columns(pl.Series("flags", flags, dtype=pl.List(pl.String)))


def majority_answers(frame: pl.DataFrame) -> dict[str, str]:
    """Return relation to its most frequent canonical answer, where one is given twice or more."""
    counts = (
        frame.select("relation", pl.col("answers").list.first().alias("answer"))
        .group_by("relation", "answer")
        .len()
        .filter(pl.col("len") > 1)
        .sort("relation", "len", "answer", descending=[False, True, False])
        .unique("relation", keep="first", maintain_order=True)
    )
    return dict(counts.select("relation", "answer").iter_rows())
