"""A figure with its standard error, interval and what these rest on: one variant, or a pair."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sftbench.analysis.design import Design, Spread
from sftbench.analysis.intervals import (
    Interval,
    Limited,
    mean_difference,
    mean_share,
    quantile,
)

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats

SAME = 1e-9
"""Values that differ by less are the same."""


class Estimate(NamedTuple):
    """A mean over levels, or one level of it: fractions (100 of them are percentage points).

    Attributes:
        value: the figure.
        se: its standard error, stratified by relation and clustered by answer.
        low: lower bound of the 95 % interval.
        high: upper bound.
        n: facts.
        clusters: different answers (within relations) among them.
        df: degrees of freedom of the t quantile that the bounds use.
        deff: design effect, at least 1: how many times the variance of independent facts.
    """

    value: float
    se: float
    low: float
    high: float
    n: int
    clusters: int
    df: float
    deff: float

    @property
    def limited(self) -> Limited:
        """The figure with its bounds alone."""
        return Limited(self.value, self.low, self.high)


def share(design: Design, right: Floats) -> Estimate:
    """Return the mean over levels of the share that is right.

    The bounds are those of `mean_share` on counts divided by the design effect (Rao and Scott
    1992, Biometrics 48:577), with a t quantile.

    Args:
        design: the facts.
        right: 1 or 0 of each, ``[facts]``.
    """
    spread = design.spread(right)
    n = design.sizes / spread.deff
    bounds = mean_share(design.means(right) * n, n, q=quantile(spread.df))
    return _estimate(design, design.mean(right), spread, bounds)


def difference(design: Design, before: Floats, after: Floats) -> Estimate:
    """Return the mean over levels of the difference of two shares on the same facts.

    As `share`, with the bounds of `mean_difference`.

    Args:
        design: the facts.
        before: 1 or 0 of each, ``[facts]``.
        after: the same.
    """
    spread = design.spread(after - before)
    n = design.sizes / spread.deff
    gained = design.means(floats(after > before)) * n
    lost = design.means(floats(after < before)) * n
    bounds = mean_difference(gained, lost, n, q=quantile(spread.df))
    return _estimate(design, design.mean(after - before), spread, bounds)


def mean_change(design: Design, changes: Floats) -> Estimate | None:
    """Return the mean over levels of a difference of two rates, with its t interval.

    A rate is a mean over many draws, so there are no counts for a score interval: the bounds are t
    standard errors away, cut at -1 and 1.

    Args:
        design: the facts.
        changes: of each, in [-1, 1], ``[facts]``.

    Returns:
        None where nothing shows how the difference varies: one cluster alone, the same difference
        in every fact, or in every cluster.
    """
    spread = design.spread(changes)
    if design.clusters == 1 or np.ptp(changes) < SAME or spread.variance <= 0:
        return None
    value, half = design.mean(changes), quantile(spread.df) * math.sqrt(spread.variance)
    return _estimate(
        design, value, spread, Interval(max(-1.0, value - half), min(1.0, value + half))
    )


def _estimate(design: Design, value: float, spread: Spread, bounds: Interval) -> Estimate:
    return Estimate(
        value=value,
        se=math.sqrt(spread.variance),
        low=bounds.low,
        high=bounds.high,
        n=design.n,
        clusters=design.clusters,
        df=spread.df,
        deff=spread.deff,
    )


def floats(values: object) -> Floats:
    """Return Booleans or numbers as an array of floats."""
    return np.asarray(values, dtype=float)
