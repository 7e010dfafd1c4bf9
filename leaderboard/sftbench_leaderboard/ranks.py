"""Ranks of models of one base: dense, with models that cannot be told apart in one group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sftbench.analysis.noninferiority import Contrast

if TYPE_CHECKING:
    from sftbench.analysis.design import Design, Floats

ALPHA = 0.05
"""One-sided: a model that is as good as the best of its group is put below it so often."""


class Rank(NamedTuple):
    """Where a model stands.

    Attributes:
        score: the retention score, a fraction.
        rank: 1 for the best group, then 2 ...: dense.
        leads: it is the best of its group, which the others are held against.
    """

    score: float
    rank: int
    leads: bool


def rank(design: Design, kept: Floats, alpha: float = ALPHA) -> list[Rank]:
    """Return the rank of each model, in the order given.

    From the best score down: a model joins the group of the one before it unless it is worse than
    the group's best by a paired one-sided test on the facts that all of them answered (score
    bound of the difference, facts of one answer hanging together: `Contrast.is_below`); then it
    leads the next group. So a model is shown to be worse than the best of the rank above, and not
    than each of its models; two models of one rank may still differ.

    Args:
        design: the facts that the base answers right, of level 1 to 4.
        kept: 1 where a model answers a fact right, else 0, ``[models, facts]``.
        alpha: of each test.
    """
    scores = [design.mean(row) for row in kept]
    # Of equal scores, the answers decide who is held against whom, not the order of the models.
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], kept[at].tobytes()))
    found: dict[int, Rank] = {}
    group, leader, last = 0, -1, math.nan
    for place in order:
        # Equal scores are never set apart, however else the two differ.
        leads = scores[place] != last and (
            leader < 0 or _is_worse(design, kept[leader], kept[place], alpha)
        )
        if leads:
            group, leader = group + 1, place
        found[place], last = Rank(scores[place], group, leads), scores[place]
    return [found[place] for place in range(len(scores))]


def _is_worse(design: Design, leader: Floats, other: Floats, alpha: float) -> bool:
    if np.array_equal(leader, other):
        return False
    return Contrast.of(design, leader[None], other[None]).is_below(alpha)
