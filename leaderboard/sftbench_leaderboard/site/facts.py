"""The facts that a model lost and gained, as its page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.summary import DOMAIN_NAMES
from sftbench.facts.table import DOMAINS
from sftbench.report import words
from sftbench_leaderboard.items import read_items
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.record import LeaderboardRecord
from sftbench_leaderboard.site.render import visible

SHOWN = 25
"""Lost facts of a run on the page, and as many gained; all are in the items."""


class Fact(NamedTuple):
    """A fact that the model lost or gained."""

    question: words.Clipped
    about: str
    answer: words.Clipped
    before: words.Clipped
    after: words.Clipped


class Facts(NamedTuple):
    """The facts shown, and how many there are."""

    rows: tuple[Fact, ...]
    total: int


def changed_facts(record: LeaderboardRecord, path: Path, known: Known) -> tuple[Facts, Facts]:
    """Return the facts that a variant lost, the best known first, and those that it gained.

    Args:
        record: the variant's record.
        path: of the record.
        known: fact sets that questions are taken from.
    """
    items = read_items(items_beside(path).read_bytes())
    facts = known.fact_set(record.facts.digest)
    if facts is None:
        items = items.with_columns(question=pl.col("relation"))
    else:
        asked = facts.frame.select("fact_id", "question")
        items = items.join(asked, on="fact_id", how="left", maintain_order="left")
    order = pl.col("domain").replace_strict({name: at for at, name in enumerate(DOMAINS)})
    lost = items.filter(pl.col("base_correct") & ~pl.col("correct"))
    gained = items.filter(~pl.col("base_correct") & pl.col("correct"))
    return (
        _shown(lost.sort(order, -pl.col("level"), "fact_id")),
        _shown(gained.sort(order, "level", "fact_id")),
    )


def _shown(facts: pl.DataFrame) -> Facts:
    return Facts(
        tuple(
            Fact(
                *(_clipped(row["question"] or row["relation"]), _about(row)),
                *(_clipped(row[name]) for name in ("answer", "base_text", "text")),
            )
            for row in facts.head(SHOWN).iter_rows(named=True)
        ),
        facts.height,
    )


def _clipped(text: str) -> words.Clipped:
    return words.clip(visible(text))


def _about(row: dict[str, Any]) -> str:
    return f"{row['relation']}, {DOMAIN_NAMES[row['domain']]}, level {row['level']}"
