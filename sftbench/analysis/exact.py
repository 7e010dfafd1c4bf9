"""Whether a change is more than chance: exact tests of paired answers, and Holm over levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats, Places


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
