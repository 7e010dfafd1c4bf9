"""Several runs on the same facts, such as seeds of a recipe: how they vary, and their mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sftbench.analysis.design import Design, Spread
from sftbench.analysis.estimates import floats
from sftbench.analysis.intervals import Interval, Limited, mean_difference, mean_share, quantile

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats

FEW_RUNS = 3
"""With fewer runs, how much they vary is hardly known."""


class OverRuns(NamedTuple):
    """The mean of a figure over runs: fractions.

    Attributes:
        value: mean over the runs.
        runs: the figure of each run.
        between: standard deviation between runs; None for one run.
        within: standard error of one run that comes of the choice of facts (root mean square).
        se: standard error of `value` for further runs and further facts.
        low: lower bound of the 95 % interval for further runs and further facts.
        high: upper bound.
        these_facts: 95 % interval of the mean over further runs on these very facts; None for one
            run.
        these_runs: 95 % interval of the mean over these very runs on further facts.
        n: facts.
        clusters: different answers (within relations) among them.
    """

    value: float
    runs: tuple[float, ...]
    between: float | None
    within: float
    se: float
    low: float
    high: float
    these_facts: Interval | None
    these_runs: Interval
    n: int
    clusters: int

    @property
    def limited(self) -> Limited:
        """The mean with its bounds alone."""
        return Limited(self.value, self.low, self.high)


def share_over_runs(design: Design, right: Floats) -> OverRuns:
    """Return the mean over runs of the mean over levels of the share that is right.

    Args:
        design: the facts.
        right: 1 or 0 of each run and fact, ``[runs, facts]``.
    """
    facts = _facts(design, right)
    shares = design.means(right.mean(axis=0))
    n = facts.effective(design, shares * (1 - shares))
    return _over_runs(design, right, facts, mean_share(shares * n, n, q=facts.q), lowest=0.0)


def difference_over_runs(design: Design, before: Floats, after: Floats) -> OverRuns:
    """Return the mean over runs of the mean over levels of a difference of two shares.

    Args:
        design: the facts.
        before: 1 or 0 of each run and fact, ``[runs, facts]``; one row where all runs start from
            the same answers, as those of a base.
        after: the same, ``[runs, facts]``.
    """
    changes = after - before
    gained, lost = (design.means(floats(one).mean(axis=0)) for one in (changes > 0, changes < 0))
    spread = gained + lost - (gained - lost) ** 2
    facts = _facts(design, changes)
    n = facts.effective(design, spread)
    bounds = mean_difference(gained * n, lost * n, n, q=facts.q)
    return _over_runs(design, changes, facts, bounds, lowest=-1.0)


class _Facts(NamedTuple):
    """What the choice of facts brings to the mean over runs: its spread, and how sure it can be."""

    spread: Spread
    alone: float
    runs: int

    @property
    def q(self) -> float:
        """The t quantile."""
        return quantile(self.spread.df)

    def effective(self, design: Design, spread: Floats) -> Floats:
        """Return how many independent facts, asked once, would vary as much, ``[levels]``.

        Args:
            design: the facts.
            spread: variance of one answer in each level, ``[levels]``.
        """
        once = float((spread / design.sizes).sum()) / len(design.levels) ** 2
        # As for one run, nothing is gained from strata; and so many answers are independent at
        # most.
        least = max(self.spread.variance, self.alone, once / self.runs)
        return design.sizes * (once / least) if once > 0 else design.sizes / self.spread.deff


def _facts(design: Design, values: Floats) -> _Facts:
    """Return what the choice of facts brings; values are of each run and fact."""
    mean = values.mean(axis=0)
    return _Facts(design.spread(mean), design.alone(mean), len(values))


def _over_runs(
    design: Design, values: Floats, facts: _Facts, bounds: Interval, *, lowest: float
) -> OverRuns:
    """Return the mean over runs, for further runs and further facts.

    What the choice of facts leaves open, `bounds`, and what that of runs does, the t interval of
    the runs' figures, are added in squares, each with the quantile of its own degrees of freedom
    (Banerjee 1960, Sankhya 22:357). What single facts do anew in
    each run counts in both, so this errs on the side of width.

    Args:
        design: the facts.
        values: of each run and fact, ``[runs, facts]``.
        facts: what the choice of facts brings.
        bounds: what it leaves open.
        lowest: the least that a figure can be; the most is 1.
    """
    runs = floats([design.mean(run) for run in values])
    spreads = [design.spread(run).variance for run in values]
    value, count = float(runs.mean()), len(runs)
    # Without rounding, equal runs do not vary.
    between = None if count == 1 else float((runs - runs[0]).std(ddof=1))
    of_runs = 0.0 if between is None else between / math.sqrt(count)
    half = quantile(count - 1) * of_runs if count > 1 else 0.0

    def within(low: float, high: float) -> Interval:
        return Interval(max(lowest, value - low), min(1.0, value + high))

    low, high = within(math.hypot(value - bounds.low, half), math.hypot(bounds.high - value, half))
    return OverRuns(
        value=value,
        runs=tuple(float(run) for run in runs),
        between=between,
        within=math.sqrt(float(np.mean(spreads))),
        se=math.hypot(math.sqrt(facts.spread.variance), of_runs),
        low=low,
        high=high,
        these_facts=None if between is None else within(half, half),
        these_runs=bounds,
        n=design.n,
        clusters=design.clusters,
    )
