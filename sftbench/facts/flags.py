"""Flags that every fact source computes alike: echoes and majority answers."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sftbench.facts.matching import AnswerMatcher
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
    matchers: dict[tuple[str, ...], AnswerMatcher] = {}
    echoes, majorities = [], []
    for relation, question, answers in frame.select("relation", "question", "answers").rows():
        key = tuple(answers)  # many facts share their answers, and a matcher takes time to make
        if key not in matchers:
            matchers[key] = AnswerMatcher(answers)
        echoes.append(matchers[key].contains(question))
        majorities.append(majority.get(relation) == answers[0])
    found = {ANSWER_IN_QUESTION: echoes, MAJORITY_ANSWER: majorities}
    return frame.with_columns(
        flags=with_flag_where(
            "flags", {flag: pl.Series(holds, dtype=pl.Boolean) for flag, holds in found.items()}
        )
    )


def with_flag_where(column: str, holds: Mapping[str, pl.Series | pl.Expr]) -> pl.Expr:
    """Return a column of flags with each flag added where it holds, sorted."""
    none = pl.lit([], dtype=pl.List(pl.String))
    added = (
        pl.when(where).then(pl.lit([flag], dtype=pl.List(pl.String))).otherwise(none)
        for flag, where in holds.items()
    )
    return pl.concat_list(column, *added).list.unique().list.sort()


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
