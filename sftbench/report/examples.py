"""The before/after examples of the page: the most telling lost and gained facts, cut to fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sftbench.analysis.summary import DOMAIN_NAMES, Summary
from sftbench.report import words
from sftbench.report.words import Clipped

if TYPE_CHECKING:
    import polars as pl

SHOWN = 12
"""Facts of each kind on the page; all of them are in the tables beside it."""
TOLD = ("format", "access", "knowledge")
"""Kinds of loss that are named beside a lost fact, where losses were told apart."""


class Example(NamedTuple):
    """One fact before and after.

    Attributes:
        about: relation, domain, mastery level and rate, and the kind of loss where it is told.
        base_logprob: log-probability of the right answer, nats.
        tuned_logprob: the same.
        restored: the restored variants that answer right, as amounts such as "5 %".
    """

    question: Clipped
    about: str
    answer: Clipped
    base_text: Clipped
    tuned_text: Clipped
    base_logprob: float
    tuned_logprob: float
    restored: tuple[str, ...]


class Examples(NamedTuple):
    """The examples shown and the number of facts that they are the first of."""

    rows: tuple[Example, ...]
    total: int


def examples(facts: pl.DataFrame, right_in: str, summary: Summary) -> Examples:
    """Return the first facts of a table as examples.

    Args:
        facts: as returned by `lost_facts` or `gained_facts` of `sftbench.analysis.changes`.
        right_in: its last column, "healed_by" or "preserved_by".
        summary: names the restored variants.
    """
    amounts = {one.name: words.label(one).removeprefix("restored ") for one in summary.restored}
    rows = facts.head(SHOWN).iter_rows(named=True)
    return Examples(tuple(_example(row, right_in, amounts) for row in rows), facts.height)


def _example(row: Mapping[str, Any], right_in: str, amounts: Mapping[str, str]) -> Example:
    return Example(
        question=words.clip(row["question"]),
        about=(
            f"{row['relation']}, {DOMAIN_NAMES[row['domain']]}, "
            f"level {row['level']} (R = {row['rate']:.2f})"
            + (f", a loss of {row['kind']}" if row.get("kind") in TOLD else "")
        ),
        answer=words.clip(row["answer"]),
        base_text=words.clip(row["base_text"]),
        tuned_text=words.clip(row["tuned_text"]),
        base_logprob=row["base_logprob"],
        tuned_logprob=row["tuned_logprob"],
        restored=tuple(amounts.get(name, name) for name in row[right_in]),
    )
