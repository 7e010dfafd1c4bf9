"""Whether a change is more than chance: exact tests of paired answers, and Holm over levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats, Places

FLIPS = 9_999
"""Random exchanges of before and after: a p value of 0.05 then has a standard error of 0.002."""


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p value of McNemar's test; facts count as independent.

    Args:
        lost: right before, wrong after.
        gained: wrong before, right after.
    """
    from scipy.stats import binomtest

    changed = lost + gained
    return float(binomtest(lost, changed, 0.5).pvalue) if changed else 1.0


def sign_flip(changes: Floats, cluster: Places) -> float:
    """Return the exact two-sided p value of a change, whole clusters exchanging before and after.

    If nothing but chance changed the answers, before and after of a cluster could be exchanged.
    The p value is the share of all such exchanges with a net change at least as large as the one
    seen. Where no two changed facts share a cluster it is `mcnemar`.

    Args:
        changes: -1, 0 or 1 of each fact (after minus before), ``[facts]``.
        cluster: cluster of each fact, ``[facts]``.
    """
    totals = np.bincount(cluster, changes)
    steps = np.abs(totals[totals != 0]).astype(int)
    reach = int(steps.sum())
    observed = abs(round(float(totals.sum())))
    # chance[i] is the probability that the steps with random signs add up to i - reach.
    chance = np.ones(1)
    for step in steps:
        wider = np.zeros(len(chance) + 2 * step)
        wider[: len(chance)] += chance / 2
        wider[2 * step :] += chance / 2
        chance = wider
    sums = np.abs(np.arange(len(chance)) - reach)
    return min(1.0, float(chance[sums >= observed].sum()))


def better_than_chance(
    changes: Floats, cluster: Places, *, seed: int, flips: int = FLIPS
) -> list[float]:
    """Return for each of several changes the p value that it is a gain, adjusted for all of them.

    Whole clusters exchange before and after, in all changes at once, so that what the changes have
    in common counts once; the p value is the share of exchanges in which the largest of all net
    gains reaches that of this change (the single-step maximum of Westfall and Young 1993). One
    sided; by random exchanges, the one that was seen among them, so that no value is below
    1 / (flips + 1).

    Args:
        changes: -1, 0 or 1 of each fact (after minus before), ``[changes, facts]``.
        cluster: cluster of each fact, ``[facts]``.
        seed: of the exchanges.
        flips: how many.
    """
    clusters = int(cluster.max(initial=-1)) + 1
    totals = np.stack([np.bincount(cluster, one, clusters) for one in changes])
    totals = totals[:, (totals != 0).any(axis=0)]
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(flips, totals.shape[1]))
    largest = (signs @ totals.T).max(axis=1)
    seen = totals.sum(axis=1)
    return [float((1 + (largest >= one).sum()) / (flips + 1)) for one in seen]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted by Holm's method (1979), in their order; empty for none.

    The smallest of m is multiplied by m, the next by m - 1 and so on, and none may fall below one
    that was smaller. (statsmodels has it too, and is what the test holds this against; it would
    bring pandas into a light installation, and collects garbage at each call, which with a model
    in memory takes longer than all the rest.)
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(one) for one in adjusted]
