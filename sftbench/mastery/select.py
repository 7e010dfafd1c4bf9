"""Which facts a card covers when it does not cover them all."""

from __future__ import annotations

from typing import Any, Literal

import polars as pl

from sftbench.common.errors import SftbenchError
from sftbench.facts.table import WELL_KNOWN, FactSet, has_flag

SELECTION = "round-robin over (split, domain, relation, well-known), then fact_id"

Split = Literal["train", "test"]


def selection_of(limit: int | None, split: Split | None) -> dict[str, Any]:
    """Return what a card's record says of the facts that were chosen for it."""
    # Without a split there is no such key: cards are named by this, and older ones have none.
    return {"limit": limit, "rule": SELECTION, **({"split": split} if split else {})}


def require_some(facts: FactSet, split: Split | None) -> None:
    """Raise unless there is a fact to level.

    Raises:
        SftbenchError: there is none in this split.
    """
    if select(facts, 1, split).is_empty():
        raise SftbenchError(
            f"has no facts to level{f' in the {split} split' if split else ''}",
            where=f'facts "{facts.name}"',
            remedy="Train facts are those of in-domain relations; facts whose answer stands in "
            "the question are left out. See `sftbench facts show`.",
        )


def select(facts: FactSet, limit: int | None, split: Split | None = None) -> pl.DataFrame:
    """Return the facts to level: all that may be trained on or scored, or a balanced `limit`.

    Those are the train facts of in-domain relations and every test fact; out-of-domain train
    facts serve as few-shot examples alone.

    Each group of (split, domain, relation, well-known or not) gives one fact in turn, in the
    order of fact_id, which is a hash: a larger limit extends a smaller one, and a group that
    runs short leaves its turns to the others.

    Args:
        facts: the fact set.
        limit: at most so many facts; None is all.
        split: of these alone; None is both.
    """
    rows = pl.concat([facts.scored(split="train", domain="in"), facts.scored(split="test")])
    if split is not None:
        rows = rows.filter(split=split)
    if limit is None:
        return rows.sort("fact_id")
    groups = ("split", "domain", "relation", "known")
    turn = pl.int_range(pl.len()).over(groups)
    return (
        rows.sort("fact_id")
        .with_columns(known=has_flag(WELL_KNOWN))
        .with_columns(turn=turn)
        .sort("turn", *groups)
        .head(limit)
        .drop("known", "turn")
    )
