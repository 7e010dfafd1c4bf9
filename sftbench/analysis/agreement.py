"""How far two measurements of mastery agree on the same facts: share, weighted kappa, bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sftbench.analysis.record import Record

LEVELS = 5


class LevelBias(Record):
    """Facts of one level by the first card: the mean rate of both, second minus first as bias."""

    level: int
    n: int
    first: float
    second: float
    bias: float


class Agreement(Record):
    """Two measurements of the same facts.

    Attributes:
        n: facts in both.
        same: share whose level is the same.
        kappa: Cohen's, weighted by the squared distance of the levels; None where all facts are of
            one level in both.
        middle: facts that either puts into level 2, 3 or 4.
        middle_same: share of those whose level is the same; None if there are none.
        middle_kappa: their weighted kappa; None where it is not defined.
        bias: mean rate of the second minus that of the first.
        distance: root of the mean squared difference of the rates.
        levels: by the level of the first.
        table: facts by (level of the first, level of the second), 5 by 5.
    """

    n: int
    same: float
    kappa: float | None
    middle: int
    middle_same: float | None
    middle_kappa: float | None
    bias: float
    distance: float
    levels: tuple[LevelBias, ...]
    table: tuple[tuple[int, ...], ...]


def agreement(first: Sequence[tuple[int, float]], second: Sequence[tuple[int, float]]) -> Agreement:
    """Return how far two measurements agree.

    Args:
        first: (level, rate) of each fact.
        second: the same facts in the same order.

    Raises:
        ValueError: no facts, or not as many in both.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} facts")
    level_a, level_b = (np.array([level for level, _ in side]) for side in (first, second))
    rate_a, rate_b = (np.array([rate for _, rate in side], dtype=float) for side in (first, second))
    table = np.zeros((LEVELS, LEVELS), dtype=int)
    np.add.at(table, (level_a, level_b), 1)
    middle = (level_a >= 2) | (level_b >= 2)
    inside = np.zeros_like(table)
    np.add.at(inside, (level_a[middle], level_b[middle]), 1)
    return Agreement(
        n=len(first),
        same=float((level_a == level_b).mean()),
        kappa=weighted_kappa(table),
        middle=int(middle.sum()),
        middle_same=float((level_a == level_b)[middle].mean()) if middle.any() else None,
        middle_kappa=weighted_kappa(inside),
        bias=float((rate_b - rate_a).mean()),
        distance=float(np.sqrt(((rate_b - rate_a) ** 2).mean())),
        levels=tuple(
            LevelBias(
                level=level,
                n=int(chosen.sum()),
                first=float(rate_a[chosen].mean()),
                second=float(rate_b[chosen].mean()),
                bias=float((rate_b - rate_a)[chosen].mean()),
            )
            for level in range(LEVELS)
            if (chosen := level_a == level).any()
        ),
        table=tuple(tuple(int(count) for count in row) for row in table),
    )


def weighted_kappa(table: np.ndarray) -> float | None:
    """Return Cohen's kappa with quadratic weights (Cohen 1968), None where it is not defined.

    Args:
        table: counts by (first, second), square.
    """
    total = table.sum()
    if not total:
        return None
    places = np.arange(len(table))
    weights = (places[:, None] - places[None, :]) ** 2
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    by_chance = float((weights * expected).sum())
    return 1 - float((weights * table).sum()) / by_chance if by_chance else None
