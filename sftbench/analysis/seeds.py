"""Several runs on the same facts, such as seeds of a recipe: how they vary, and their mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sftbench.analysis.design import Design
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
        df: degrees of freedom (Satterthwaite).
        low: lower bound of the 95 % interval for further runs and further facts.
        high: upper bound.
        these_facts: 95 % interval of the mean over further runs on these very facts; None for one
            run.
        n: facts.
        clusters: different answers (within relations) among them.
    """

    value: float
    runs: tuple[float, ...]
    between: float | None
    within: float
    se: float
    df: float
    low: float
    high: float
    these_facts: Interval | None
    n: int
    clusters: int

    @property
    def limited(self) -> Limited:
        """The mean with its bounds alone."""
        return Limited(self.value, self.low, self.high)


class _Variance(NamedTuple):
    """Of the mean over runs: value, degrees of freedom, and of the parts."""

    whole: float
    df: float
    runs: Floats
    within: float


def share_over_runs(design: Design, right: Floats) -> OverRuns:
    """Return the mean over runs of the mean over levels of the share that is right.

    Args:
        design: the facts.
        right: 1 or 0 of each run and fact, ``[runs, facts]``.
    """
    variance = _variance(design, right)
    mean = right.mean(axis=0)
    shares = design.means(mean)
    n = _effective(design, variance, mean, shares * (1 - shares))
    bounds = mean_share(shares * n, n, q=quantile(variance.df))
    return _over_runs(design, variance, bounds, lowest=0.0)


def difference_over_runs(design: Design, before: Floats, after: Floats) -> OverRuns:
    """Return the mean over runs of the mean over levels of a difference of two shares.

    Args:
        design: the facts.
        before: 1 or 0 of each run and fact, ``[runs, facts]``; one row where all runs start from
            the same answers, as those of a base.
        after: the same, ``[runs, facts]``.
    """
    changes = after - before
    variance = _variance(design, changes)
    gained, lost = (design.means(floats(one).mean(axis=0)) for one in (changes > 0, changes < 0))
    spread = gained + lost - (gained - lost) ** 2
    n = _effective(design, variance, changes.mean(axis=0), spread)
    bounds = mean_difference(gained * n, lost * n, n, q=quantile(variance.df))
    return _over_runs(design, variance, bounds, lowest=-1.0)


def _variance(design: Design, values: Floats) -> _Variance:
    """Return the variance of the mean over runs and facts, both drawn at random and crossed.

    Runs vary by themselves, facts vary alike in all runs, and facts vary anew in each run. The
    variance between runs holds the first and the last, that of the facts' means the second and
    the last; so the last, which both hold, is taken off once (Cameron, Gelbach and Miller 2011,
    Journal of Business & Economic Statistics 29:238, for two ways of clustering). Degrees of
    freedom by Satterthwaite (1946).
    """
    count = len(values)
    runs = floats([design.mean(run) for run in values])
    within = math.sqrt(float(np.mean([design.spread(run).variance for run in values])))
    facts = design.spread(values.mean(axis=0))
    if count == 1:
        return _Variance(facts.variance, facts.df, runs, within)
    between = float(runs.var(ddof=1)) / count
    anew = values - values.mean(axis=0)
    both = sum(design.spread(run).variance for run in anew) / (count * (count - 1))
    whole = max(between, facts.variance, between + facts.variance - both)
    noise = between**2 / (count - 1) + facts.variance**2 / facts.df
    return _Variance(whole, max(1.0, whole**2 / noise) if noise else facts.df, runs, within)


def _effective(design: Design, variance: _Variance, mean: Floats, spread: Floats) -> Floats:
    """Return the effective number of facts in each level, ``[levels]``.

    So many independent facts, asked once, would give the variance. The variance counts at least
    as what independent facts with these means over runs would have: as for one run, nothing is
    gained from strata.

    Args:
        design: the facts.
        variance: of the mean over runs.
        mean: value of each fact, the mean over runs, ``[facts]``.
        spread: variance of one answer in each level, ``[levels]``.
    """
    once = float((spread / design.sizes).sum()) / len(design.levels) ** 2
    least = max(variance.whole, design.alone(mean))
    return design.sizes * (once / least) if once > 0 and least > 0 else design.sizes


def _over_runs(design: Design, variance: _Variance, bounds: Interval, *, lowest: float) -> OverRuns:
    runs, count = variance.runs, len(variance.runs)
    value = float(runs.mean())
    between = None if count == 1 else float(runs.std(ddof=1))
    these = None
    if between is not None:
        half = quantile(count - 1) * between / math.sqrt(count)
        these = Interval(max(lowest, value - half), min(1.0, value + half))
    return OverRuns(
        value=value,
        runs=tuple(float(run) for run in runs),
        between=between,
        within=variance.within,
        se=math.sqrt(variance.whole),
        df=variance.df,
        low=bounds.low,
        high=bounds.high,
        these_facts=these,
        n=design.n,
        clusters=design.clusters,
    )
