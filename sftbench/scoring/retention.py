"""The knowledge-retention score: what of the base's knowledge a variant still answers."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from sftbench.common.errors import SftbenchError

LEVELS = (0, 1, 2, 3, 4)
SCORED_LEVELS = (1, 2, 3, 4)
"""Levels that the score averages: in level 0 there is no knowledge to retain."""


class LevelRetention(NamedTuple):
    """Counts of one mastery level.

    Attributes:
        level: mastery level of the base, 0..4.
        known: facts that the base answers right.
        kept: of these, facts that the variant also answers right.
        retained: kept / known, a fraction; None where the base answers nothing right.
        unknown: facts that the base answers wrong.
        gained: of these, facts that the variant answers right.
        gain: gained / unknown, a fraction; None where the base answers everything right.
    """

    level: int
    known: int
    kept: int
    retained: float | None
    unknown: int
    gained: int
    gain: float | None


class Retention(NamedTuple):
    """The knowledge-retention score of one variant, with its gains beside it and never in it.

    Attributes:
        score: mean of `retained` over `scored_levels`, a fraction; None if there is none.
        scored_levels: the levels among 1..4 in which the base answers at least one fact right.
        known: facts of the levels 1..4 that the base answers right: what the score rests on.
        kept: of these, facts that the variant also answers right.
        unknown: facts of all levels that the base answers wrong.
        gained: of these, facts that the variant answers right.
        gain: gained / unknown, a fraction; None where `unknown` is 0.
        levels: the counts of every level 0..4.
    """

    score: float | None
    scored_levels: tuple[int, ...]
    known: int
    kept: int
    unknown: int
    gained: int
    gain: float | None
    levels: tuple[LevelRetention, ...]


def retention(base: pl.DataFrame, variant: pl.DataFrame, levels: pl.DataFrame) -> Retention:
    """Return the knowledge-retention score of a variant against its base.

    For each level 1..4: of the facts that the base answers right, the share that the variant
    also answers right; the score is the mean over the levels in which there is such a fact. A
    copy of the base scores 1.

    Args:
        base: the base's answers: fact_id, correct (Boolean).
        variant: the variant's answers to the same facts.
        levels: fact_id, level (0..4, of the base); facts that are not in it do not count.

    Raises:
        SftbenchError: the two did not answer the same facts, or a fact was answered twice.
    """
    rows = _paired(base, variant).join(levels.select("fact_id", "level"), on="fact_id")
    known, right = pl.col("base"), pl.col("variant")
    counts = rows.group_by("level").agg(
        known=known.sum(),
        kept=(known & right).sum(),
        unknown=(~known).sum(),
        gained=(~known & right).sum(),
    )
    by_level = {row["level"]: row for row in counts.iter_rows(named=True)}
    return _combined(tuple(_level(level, by_level.get(level, {})) for level in LEVELS))


def _paired(base: pl.DataFrame, variant: pl.DataFrame) -> pl.DataFrame:
    left = base.select("fact_id", base="correct")
    right = variant.select("fact_id", variant="correct")
    paired = left.join(right, on="fact_id")
    if not left.height == right.height == paired.height == paired["fact_id"].n_unique():
        raise SftbenchError(
            f"the base answered {left.height} facts and the variant {right.height}, of which "
            f"{paired['fact_id'].n_unique()} are the same",
            remedy="Retention needs one answer of each to the same facts: ask both again.",
        )
    return paired


def _level(level: int, counts: dict[str, int]) -> LevelRetention:
    known, kept = counts.get("known", 0), counts.get("kept", 0)
    unknown, gained = counts.get("unknown", 0), counts.get("gained", 0)
    return LevelRetention(
        level, known, kept, share(kept, known), unknown, gained, share(gained, unknown)
    )


def _combined(levels: tuple[LevelRetention, ...]) -> Retention:
    scored = [one for one in levels if one.level in SCORED_LEVELS]
    shares = {one.level: one.retained for one in scored if one.retained is not None}
    unknown, gained = sum(one.unknown for one in levels), sum(one.gained for one in levels)
    return Retention(
        score=sum(shares.values()) / len(shares) if shares else None,
        scored_levels=tuple(shares),
        known=sum(one.known for one in scored),
        kept=sum(one.kept for one in scored),
        unknown=unknown,
        gained=gained,
        gain=share(gained, unknown),
        levels=levels,
    )


def share(part: int, whole: int) -> float | None:
    """Return part / whole, a fraction; None (never NaN) where the whole is empty."""
    return part / whole if whole else None
