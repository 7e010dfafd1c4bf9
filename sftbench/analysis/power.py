"""What a gate can see: how likely each verdict is for a true difference, before it is relied on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sftbench.analysis.noninferiority import MOST_TIMES, POWER, upper_quantile

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats

LUCKS = 64
"""Equally likely spreads between runs that a probability is averaged over."""


@dataclass(frozen=True)
class Planned:
    """What a gate will have.

    Attributes:
        sizes: facts of each level that is averaged; one number where facts count alike.
        discordance: share of the facts of each level that one run of each side answer differently,
            fractions, ``[levels]``: that of two runs of one recipe where nothing changed.
        deff: design effect of facts that share an answer.
        df: degrees of freedom of what the choice of facts brings.
        between: standard deviation of the figure between runs of one recipe, a fraction, beyond
            what single facts do anew in each run.
        baseline_runs: runs of the baseline.
        candidate_runs: runs of the candidate.
    """

    sizes: tuple[float, ...]
    discordance: tuple[float, ...]
    deff: float = 1.0
    df: float = math.inf
    between: float = 0.0
    baseline_runs: int = 1
    candidate_runs: int = 1

    @property
    def n(self) -> float:
        """All facts."""
        return sum(self.sizes)

    @property
    def _shares(self) -> float:
        """1 for a run on each side, and less for more of them."""
        return (1 / self.baseline_runs + 1 / self.candidate_runs) / 2

    def of_facts(self, true: float, edge: float | None = None) -> float:
        """Return the standard error that the choice of facts brings under a true difference.

        A true loss comes on top of what differs between two runs anyway.

        Args:
            true: the true difference.
            edge: the difference under which the standard error is taken; None for the true one.
        """
        squared = (true if edge is None else edge) ** 2
        of_answers = (
            max(0.0, min(1.0, share + abs(true)) - squared) / size
            for share, size in zip(self.discordance, self.sizes, strict=True)
        )
        unit = self.deff / len(self.sizes) ** 2
        return math.sqrt(unit * sum(of_answers) * self._shares)

    @property
    def _seen_between(self) -> float:
        """The standard deviation that runs show: their own, and what single facts do anew."""
        return math.sqrt(self.between**2 + self.anew)

    @property
    def anew(self) -> float:
        """Variance of a run's figure that comes of what single facts do anew in each run."""
        each = (share / 2 / size for share, size in zip(self.discordance, self.sizes, strict=True))
        return self.deff * sum(each) / len(self.sizes) ** 2

    @property
    def of_runs(self) -> float:
        """The standard error that the choice of runs brings, as far as runs show it."""
        return self._seen_between * math.sqrt(2 * self._shares) if self._run_df else 0.0

    @property
    def _run_df(self) -> float:
        """Degrees of freedom of the spread between runs (Welch's, for equal spreads); 0 of none."""
        a, b = self.baseline_runs, self.candidate_runs
        if min(a, b) == 1:
            return max(a, b) - 1
        return (1 / a + 1 / b) ** 2 / (1 / (a * a * (a - 1)) + 1 / (b * b * (b - 1)))

    def halves(self, true: float, edge: float, alpha: float) -> Floats:
        """Return how far the bound lies from the figure where it falls on `edge`, ``[64]``.

        Equally likely values: how much the runs happen to vary decides it, and with few runs that
        is a matter of luck.
        """
        from scipy.special import gammaincinv

        facts = upper_quantile(self.df, alpha) * self.of_facts(true, edge)
        df = self._run_df
        if not df or self.of_runs <= 0:
            return np.full(LUCKS, facts)
        seen = 2 * gammaincinv(df / 2, (np.arange(LUCKS) + 0.5) / LUCKS) / df  # chi square over df
        runs = upper_quantile(df, alpha) * self.of_runs * np.sqrt(seen)
        halves: Floats = np.hypot(facts, runs)
        return halves

    def scatter(self, true: float) -> float:
        """Return the standard deviation of the figure itself.

        With one run on each side the spread between runs is there all the same, though no run
        shows it.
        """
        return math.hypot(self.of_facts(true), self.between * math.sqrt(2 * self._shares))


class Chances(NamedTuple):
    """How likely each verdict is, fractions; a pass is "superior" or "non_inferior"."""

    passes: float
    inconclusive: float
    inferior: float


def chances(planned: Planned, true: float, margin: float, alpha: float) -> Chances:
    """Return how likely the verdicts are for a true difference (candidate minus baseline).

    The bound lies `Planned.halves` from the figure and is compared with the margin, so its standard
    error is that under a difference at the margin (a score test); how far the figure scatters is
    told by that under the true difference (Connor 1987, Biometrics 43:207; without the margin,
    alpha 0.05 and a power of 0.8 it is the 6.18 x discordance / margin^2 of textbooks).

    Args:
        planned: what the gate will have.
        true: the true difference, a fraction; a loss is negative.
        margin: of the gate, a fraction above 0.
        alpha: one-sided error of a pass at the margin.
    """
    from scipy.special import ndtr

    scatter = planned.scatter(true)
    halves = planned.halves(true, -margin, alpha)
    if scatter <= 0:
        passes = float((true - halves > -margin).mean())
        inferior = float((true + halves < -margin).mean())
    else:
        passes = float(ndtr((true + margin - halves) / scatter).mean())
        inferior = float(ndtr((-margin - true - halves) / scatter).mean())
    return Chances(passes, max(0.0, 1 - passes - inferior), inferior)


def facts_needed(
    planned: Planned, margin: float, alpha: float, *, true: float = 0.0, power: float = POWER
) -> int | None:
    """Return how many facts, in the same proportions, pass with this probability.

    Returns:
        None if even a hundred times as many would not: the true difference is at the margin, or
        the spread between runs alone is too large.
    """

    def passes(n: float) -> float:
        return chances(resized(planned, n), true, margin, alpha).passes

    low, high = len(planned.sizes), int(MOST_TIMES * max(planned.n, 1000))
    if passes(high) < power:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) >= power else (middle + 1, high)
    return low


def resized(planned: Planned, n: float) -> Planned:
    """Return the same plan with about n facts in the same proportions, one in each level at least.

    A level's size stays a fraction where it is, so that a search over n has no steps.
    """
    times = n / planned.n
    return replace(planned, sizes=tuple(max(1e-9, size * times) for size in planned.sizes))


def loss_seen(
    planned: Planned, margin: float, alpha: float, *, power: float = POWER
) -> float | None:
    """Return the smallest true loss (a fraction above 0) that is called inferior so often."""
    from scipy.optimize import brentq

    def short(loss: float) -> float:
        return chances(planned, -loss, margin, alpha).inferior - power

    return float(brentq(short, margin, 1.0)) if short(1.0) > 0 else None


def discordance_of(runs: Floats) -> Floats | None:
    """Return how likely two of the runs answer each fact differently, ``[facts]``; None for one.

    Args:
        runs: 1 or 0 of each run and fact, ``[runs, facts]``.
    """
    count = len(runs)
    if count < 2:
        return None
    mean = runs.mean(axis=0)
    differ: Floats = 2 * mean * (1 - mean) * count / (count - 1)
    return differ
