"""Is a candidate no worse than a baseline by more than a margin? Runs on the same facts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sftbench.analysis.design import Design
from sftbench.analysis.intervals import Interval, mean_difference_bound, mean_difference_is_negative

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats

Verdict = Literal["superior", "non_inferior", "inconclusive", "inferior"]
PASSING: tuple[Verdict, ...] = ("superior", "non_inferior")

POWER = 0.8
"""Probability with which the numbers that would settle a verdict settle it."""
LEAST_P, MOST_P = 1e-9, 0.499
"""P values are searched between these; at one half the bound is the figure itself."""
MOST_RUNS = 50
"""No more runs of a recipe are proposed."""
MOST_TIMES = 100
"""No more than so many times the facts are proposed."""


def upper_quantile(df: float, alpha: float) -> float:
    """Return the one-sided upper quantile of Student's t, or of the normal law for endless df."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(1 - alpha) if math.isinf(df) else stdtrit(df, 1 - alpha))


class BetweenRuns(NamedTuple):
    """What the choice of runs brings to a difference of two means over runs.

    Attributes:
        se: standard error; 0 where each side has one run, which shows nothing of it.
        df: its degrees of freedom.
    """

    se: float
    df: float


@dataclass(frozen=True, eq=False)
class Contrast:
    """The mean over levels of candidate minus baseline: fractions.

    Two things are uncertain. Other *facts* would show another difference: the score interval of
    a paired difference, facts of one answer hanging together (`analysis.design`). Other *runs* of
    the two recipes would, too: the t interval of Welch (1947) for the runs' own figures; where
    one side has a single run, the other side's spread is taken for both. The distances from figure
    to bound are added in squares, each with the quantile of its own degrees of freedom (Banerjee
    1960). What single facts do anew in each run counts in both: the gate errs on the side of
    "inconclusive".

    Attributes:
        design: the facts.
        value: the difference.
        baseline: figure of each run of the baseline.
        candidate: of each run of the candidate.
        gained: share of the facts, over all pairs of runs, that only the candidate answers right,
            ``[levels]``.
        lost: that only the baseline answers right, ``[levels]``.
        effective: as many independent facts, asked once, would vary as much, ``[levels]``.
        df: degrees of freedom of what the choice of facts brings.
        runs: what the choice of runs brings.
    """

    design: Design
    value: float
    baseline: tuple[float, ...]
    candidate: tuple[float, ...]
    gained: Floats
    lost: Floats
    effective: Floats
    df: float
    runs: BetweenRuns

    @classmethod
    def of(cls, design: Design, baseline: Floats, candidate: Floats) -> Contrast:
        """Return the contrast of runs on the facts of a design.

        Args:
            design: the facts.
            baseline: 1 or 0 of each run and fact, ``[runs, facts]``.
            candidate: the same; the numbers of runs may differ.
        """
        before, after = baseline.mean(axis=0), candidate.mean(axis=0)
        gained, lost = (design.means(one) for one in ((1 - before) * after, before * (1 - after)))
        figures = [[design.mean(run) for run in side] for side in (baseline, candidate)]
        change = after - before
        together = least_deff(design, change)
        spread = design.spread(change)
        return cls(
            design=design,
            value=design.mean(change),
            baseline=tuple(figures[0]),
            candidate=tuple(figures[1]),
            gained=gained,
            lost=lost,
            effective=_effective(design, change, gained, lost, _answers(*figures)),
            df=design.df(max(spread.deff, together)),
            runs=between_runs(*figures),
        )

    def bounds(self, alpha: float) -> Interval:
        """Return bounds, each of which the true difference is beyond with probability alpha."""
        return Interval(*(self._bound(alpha, upper=upper) for upper in (False, True)))

    def _bound(self, alpha: float, *, upper: bool) -> float:
        half = upper_quantile(self.runs.df, alpha) * self.runs.se
        away = math.hypot(self._over_facts(alpha, upper=upper) - self.value, half)
        return min(1.0, self.value + away) if upper else max(-1.0, self.value - away)

    def over_facts(self, alpha: float) -> Interval:
        """Return such bounds for these very runs on further facts."""
        return Interval(*(self._over_facts(alpha, upper=upper) for upper in (False, True)))

    def is_below(self, alpha: float) -> bool:
        """Return whether the candidate is worse on further facts: the upper bound is below 0."""
        return self.value < 0 and mean_difference_is_negative(
            self.gained * self.effective,
            self.lost * self.effective,
            self.effective,
            q=upper_quantile(self.df, alpha),
        )

    def _over_facts(self, alpha: float, *, upper: bool) -> float:
        return mean_difference_bound(
            self.gained * self.effective,
            self.lost * self.effective,
            self.effective,
            q=upper_quantile(self.df, alpha),
            upper=upper,
        )

    def p_above(self, threshold: float) -> float:
        """Return the one-sided p value against a true difference of `threshold` or less.

        Its complement is the p value against a true difference of `threshold` or more.
        """
        upper = self.value < threshold
        p = self._p(threshold, upper=upper)
        return 1 - p if upper else p

    def _p(self, threshold: float, *, upper: bool) -> float:
        """Return the alpha whose bound on this side is the threshold."""
        from scipy.optimize import brentq

        sign = 1 if upper else -1

        def short(log_alpha: float) -> float:
            return sign * (self._bound(math.exp(log_alpha), upper=upper) - threshold)

        least, most = math.log(LEAST_P), math.log(MOST_P)
        if short(least) <= 0:
            return LEAST_P
        if short(most) >= 0:
            return 0.5
        return math.exp(float(brentq(short, least, most, xtol=1e-4)))


def _answers(baseline: list[float], candidate: list[float]) -> float:
    """Return how many runs of each side would make the mean as sure (their harmonic mean)."""
    return 2 / (1 / len(baseline) + 1 / len(candidate))


def _effective(
    design: Design, change: Floats, gained: Floats, lost: Floats, answers: float
) -> Floats:
    """Return the effective facts of each level.

    As for one run, nothing is gained from strata, and so many answers are independent at most;
    facts that share an answer hang together at least as much as `least_deff` says.
    """
    of_answer = gained + lost - (gained - lost) ** 2
    once = float((of_answer / design.sizes).sum()) / len(design.levels) ** 2
    together = least_deff(design, change)
    if once <= 0:
        return design.sizes / together
    least = max(design.alone(change), once / answers) * together
    effective: Floats = design.sizes * (once / max(design.spread(change).variance, least))
    return effective


def least_deff(design: Design, change: Floats) -> float:
    """Return the design effect that changes of so few facts do not rule out, 1 or more.

    Where hardly anything changed, nothing shows whether facts that share an answer change
    together: no change among 400 facts with 20 answers is no change of 20 things. So of each
    cluster of several facts that changed, it is taken how many of its other facts changed
    likewise, beyond what chance does; and one cluster more is counted in that changed as a whole
    (a prior of one observation). Many clusters that changed in one fact alone outweigh it.

    Args:
        design: the facts.
        change: candidate minus baseline of each, -1 to 1, ``[facts]``.
    """
    size = np.bincount(design.cluster, minlength=design.clusters).astype(float)
    shares = [1.0]
    for side in (change > 0, change < 0):
        usual = float(side.mean())
        changed = np.bincount(design.cluster, side, design.clusters)
        seen = (changed > 0) & (size > 1)
        others = (changed[seen] - 1) / (size[seen] - 1)
        shares += list((others - usual) / (1 - usual) if usual < 1 else np.ones(seen.sum()))
    return 1 + (design.most - 1) * min(1.0, max(0.0, float(np.mean(shares))))


def between_runs(baseline: list[float], candidate: list[float]) -> BetweenRuns:
    """Return what the choice of runs brings, from the figure of each run (Welch 1947)."""
    several = [side for side in (baseline, candidate) if len(side) > 1]
    if not several:
        return BetweenRuns(0.0, math.inf)
    spreads = [float(np.var(side, ddof=1)) for side in several]
    if len(several) == 1:
        count = len(several[0])
        return BetweenRuns(math.sqrt(spreads[0] * (1 + 1 / count)), count - 1)
    parts = [
        variance / len(side) for variance, side in zip(spreads, (baseline, candidate), strict=True)
    ]
    total = sum(parts)
    if total <= 0:
        return BetweenRuns(0.0, len(baseline) + len(candidate) - 2)
    squared = sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (baseline, candidate), strict=True)
    )
    return BetweenRuns(math.sqrt(total), total**2 / squared)


def verdict_of(bounds: Interval, margin: float) -> Verdict:
    """Return what bounds say of a margin (both fractions): see `Contrast.bounds`."""
    if bounds.low > 0:
        return "superior"
    if bounds.low > -margin:
        return "non_inferior"
    return "inferior" if bounds.high < -margin else "inconclusive"


class Settling(NamedTuple):
    """What would probably (80 %) settle an inconclusive verdict, if the difference seen is true.

    Attributes:
        facts: so many facts in place of those of the figure; None if no number up to a hundred
            times as many would.
        runs: so many runs on each side; None likewise, up to 50, or if one run was made of each.
        near: the difference seen is so near the margin that neither would do together; else it
            is the spread between runs that more facts do not mend.
    """

    facts: int | None
    runs: int | None
    near: bool


def settling(contrast: Contrast, margin: float, alpha: float) -> Settling:
    """Return how many facts, or how many runs, would settle an inconclusive verdict."""
    gap = abs(contrast.value + margin)
    toward = "low" if contrast.value > -margin else "high"
    edge = getattr(contrast.over_facts(alpha), toward)
    of_facts = ((contrast.value - edge) / upper_quantile(contrast.df, alpha)) ** 2
    facts_need = _reach(contrast.df, alpha) ** 2 * of_facts
    room = gap**2 - _reach(contrast.runs.df, alpha) ** 2 * contrast.runs.se**2
    times = facts_need / room if room > 0 else math.inf
    return Settling(
        facts=math.ceil(max(times, 1.1) * contrast.design.n) if times <= MOST_TIMES else None,
        runs=_runs(contrast, gap**2 - facts_need, alpha),
        near=facts_need > MOST_TIMES * gap**2,
    )


def _reach(df: float, alpha: float) -> float:
    """Return how many standard errors the figure must be from the margin to pass so often."""
    return upper_quantile(df, alpha) + upper_quantile(math.inf, 1 - POWER)


def _runs(contrast: Contrast, room: float, alpha: float) -> int | None:
    """Return the number of runs on each side whose spread fits into the room (a variance)."""
    there = max(len(contrast.baseline), len(contrast.candidate))
    if contrast.runs.se <= 0 or room <= 0:
        return None
    sides = 1 / len(contrast.baseline) + 1 / len(contrast.candidate)
    variance = contrast.runs.se**2 / sides  # of one run's figure
    for count in range(there + 1, MOST_RUNS + 1):
        if _reach(2 * count - 2, alpha) ** 2 * variance * 2 / count <= room:
            return count
    return None
