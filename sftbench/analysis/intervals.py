"""Intervals of shares, paired differences, their means over levels, and ratios: from counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Numbers = Sequence[float] | Floats

CONFIDENCE = 0.95
ROUNDING = 1 + 1e-9
"""What counts that were divided may exceed their whole by."""
FARTHEST = 45
"""Multipliers are searched up to sinh(44), about 6e18."""
LARGE = 1e3
"""Stands for an infinite score, which a search cannot use."""
CLOSE = 1e-12
"""Steps that are no nearer are the same."""


class Interval(NamedTuple):
    """Lower and upper bound."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Distance of the bounds."""
        return self.high - self.low


class Limited(NamedTuple):
    """A figure with its bounds."""

    value: float
    low: float
    high: float


def quantile(df: float = math.inf, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t, or of the normal law for infinitely many df."""
    from scipy.special import ndtri, stdtrit

    tail = (1 + confidence) / 2
    return float(ndtri(tail) if math.isinf(df) else stdtrit(df, tail))


def wilson(right: float, n: float, *, q: float | None = None) -> Interval:
    """Return the Wilson score interval of a share (two-sided).

    The bounds are the shares p with ``|right/n - p| = q sqrt(p (1 - p) / n)`` (Wilson 1927).

    Args:
        right: how many are right; may be an effective number, not whole.
        n: of how many.
        q: the quantile; None for 95 % of the normal law.

    Raises:
        ValueError: n is not positive, or `right` is not in 0..n.
    """
    if not (n > 0 and 0 <= right <= n):
        raise ValueError(f"{right} of {n} is no share")
    square = (quantile() if q is None else q) ** 2
    share = right / n
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = math.sqrt(square * (share * (1 - share) / n + square / (4 * n * n))) / (1 + square / n)
    return Interval(
        0.0 if right == 0 else max(0.0, middle - half),
        1.0 if right == n else min(1.0, middle + half),
    )


def tango(gained: float, lost: float, n: float, *, q: float | None = None) -> Interval:
    """Return Tango's score interval of a paired difference of shares, ``(gained - lost) / n``.

    The bounds are the differences at which the score statistic, whose variance is estimated under
    that very difference, equals the quantile (Tango 1998, Statistics in Medicine 17:891).

    Args:
        gained: pairs that are wrong before and right after; may be an effective number.
        lost: pairs that are right before and wrong after.
        n: all pairs.
        q: the quantile; None for 95 % of the normal law.

    Raises:
        ValueError: n is not positive, or the counts do not fit into it.
    """
    return mean_difference([gained], [lost], [n], q=q)


def mean_share(right: Numbers, n: Numbers, *, q: float | None = None) -> Interval:
    """Return the score interval of an unweighted mean over levels of shares.

    Wilson's interval, generalised: the bounds are the means at which the distance from what was
    observed is `q` standard errors, these taken at the shares that are the most likely ones under
    that very mean (Decrouez and Robinson 2012, Australian & New Zealand Journal of Statistics
    54:281, for two levels). With one level it is Wilson's. A level in which all are right brings
    the uncertainty that its size has, and not none.

    Args:
        right: how many are right, of each level; may be effective numbers, not whole.
        n: of how many.
        q: the quantile; None for 95 % of the normal law.

    Raises:
        ValueError: an n is not positive, or a count does not fit into it.
    """
    x, m = np.asarray(right, dtype=float), np.asarray(n, dtype=float)
    if not (len(m) and (m > 0).all() and (x >= 0).all() and (x <= m * ROUNDING).all()):
        raise ValueError(f"{right} of {n} are no shares")
    x = np.minimum(x, m)

    def at(pull: float) -> tuple[float, float]:
        shares = _pulled_shares(pull, x, m)
        return float(shares.mean()), float((shares * (1 - shares) / m).sum()) / len(m) ** 2

    observed = float((x / m).mean())
    return Interval(
        _score_bound(observed, at, q, sign=1, edge=0.0) if x.any() else 0.0,
        _score_bound(observed, at, q, sign=-1, edge=1.0) if (x < m).any() else 1.0,
    )


def mean_difference(
    gained: Numbers, lost: Numbers, n: Numbers, *, q: float | None = None
) -> Interval:
    """Return the score interval of an unweighted mean over levels of paired differences.

    Tango's interval, generalised as `mean_share` generalises Wilson's.

    Args:
        gained: pairs wrong before and right after, of each level; may be effective numbers.
        lost: pairs right before and wrong after.
        n: all pairs.
        q: the quantile; None for 95 % of the normal law.

    Raises:
        ValueError: an n is not positive, or the counts do not fit into it.
    """
    return Interval(
        *(mean_difference_bound(gained, lost, n, q=q, upper=upper) for upper in (False, True))
    )


def mean_difference_bound(
    gained: Numbers, lost: Numbers, n: Numbers, *, q: float | None = None, upper: bool
) -> float:
    """Return the lower or the upper bound of `mean_difference` alone."""
    up, down, m = (np.asarray(one, dtype=float) for one in (gained, lost, n))
    fits = (up >= 0).all() and (down >= 0).all() and (up + down <= m * ROUNDING).all()
    if not (len(m) and (m > 0).all() and fits):
        raise ValueError(f"{gained} gained and {lost} lost of {n} pairs")

    at = _change_at(up, down, m)

    if not ((up if upper else down) < m).any():
        return 1.0 if upper else -1.0
    observed = float(((up - down) / m).mean())
    return _score_bound(observed, at, q, sign=-1 if upper else 1, edge=1.0 if upper else -1.0)


def mean_difference_is_negative(
    gained: Numbers, lost: Numbers, n: Numbers, *, q: float | None = None
) -> bool:
    """Return whether the upper bound of `mean_difference` lies below 0.

    The same as asking for the bound, and faster: of its place only the side of 0 is looked for.
    """
    up, down, m = (np.asarray(one, dtype=float) for one in (gained, lost, n))
    at = _change_at(up, down, m)
    observed = float(((up - down) / m).mean())
    if observed >= 0 or not (up < m).any():
        return False
    beyond = _distance(observed, at, quantile() if q is None else q, sign=-1)
    near, far = 0.0, 1.0
    while beyond(far) <= 0:
        if at(math.sinh(-far))[0] >= 0 or far >= FARTHEST - 1:
            return False
        near, far = far, far + 1
    # The bound lies between the two: halve until both are on one side of 0.
    while at(math.sinh(-far))[0] >= 0:
        if at(math.sinh(-near))[0] >= 0 or far - near < CLOSE:
            return False
        middle = (near + far) / 2
        near, far = (near, middle) if beyond(middle) > 0 else (middle, far)
    return True


def _change_at(up: Floats, down: Floats, m: Floats) -> Callable[[float], tuple[float, float]]:
    """Return the function of a pull that gives a mean difference and its variance there."""

    def at(pull: float) -> tuple[float, float]:
        more, less = _pulled_changes(pull, up, down, m)
        change = more - less
        variance = (more + less - change**2).clip(0) / m
        return float(change.mean()), float(variance.sum()) / len(m) ** 2

    return at


def _score_bound(
    observed: float,
    at: Callable[[float], tuple[float, float]],
    q: float | None,
    *,
    sign: int,
    edge: float,
) -> float:
    """Return the figure that is `q` standard errors below or above what was observed.

    Args:
        observed: the figure.
        at: returns the figure and its variance where the most likely shares are pulled down by a
            number (a Lagrange multiplier; negative pulls up).
        q: the quantile; None for 95 % of the normal law.
        sign: 1 for the figure below, -1 for the one above.
        edge: the farthest that the figure can be on that side.
    """
    from scipy.optimize import brentq

    q = quantile() if q is None else q

    beyond = _distance(observed, at, q, sign=sign)
    if beyond(0.0) >= 0:
        return observed  # no distance at all is asked for: the quantile is 0
    # The score grows with the pull; it starts below 0, since nothing is far from itself.
    far = next((step for step in range(1, FARTHEST) if beyond(step) > 0), None)
    if far is None:
        return edge
    return at(math.sinh(sign * float(brentq(beyond, 0.0, far))))[0]


def _distance(
    observed: float, at: Callable[[float], tuple[float, float]], q: float, *, sign: int
) -> Callable[[float], float]:
    """Return the function of a step that says how far beyond `q` standard errors its figure is."""

    def beyond(step: float) -> float:
        figure, variance = at(math.sinh(sign * step))
        distance = abs(observed - figure)
        if variance <= 0:
            return LARGE if distance > 0 else -q
        return min(distance / math.sqrt(variance) - q, LARGE)

    return beyond


def _pulled_shares(pull: float, x: Floats, m: Floats) -> Floats:
    """Return the most likely shares under a mean that a multiplier stands for, ``[levels]``.

    They solve ``x/p - (m-x)/(1-p) = pull``, a quadratic in p.
    """
    if pull == 0:
        return x / m
    b = pull + m
    root = np.sqrt(np.maximum(0.0, b * b - 4 * pull * x))
    # Of the two forms of the root, the one that does not subtract numbers of like size.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, 2 * x / (b + root), (b - root) / (2 * pull)).clip(0, 1)


def _pulled_changes(pull: float, up: Floats, down: Floats, m: Floats) -> tuple[Floats, Floats]:
    """Return the most likely probabilities of a gain and a loss, as `_pulled_shares` does.

    With t the largest root of ``t^3 - m t^2 + (pull (up - down) - pull^2) t + (m - up - down)
    pull^2``: a gain has ``up / (t + pull)``, a loss ``down / (t - pull)``, and neither the rest
    over t.
    """
    if pull == 0:
        return up / m, down / m
    rest = np.maximum(0.0, m - up - down)
    linear = pull * (up - down) - pull * pull
    # Three real roots: Viete's form of the largest.
    third = np.maximum(0.0, m * m / 9 - linear / 3)
    half = m**3 / 27 - m * linear / 6 - rest * pull * pull / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(third > 0, half / third**1.5, 1.0).clip(-1, 1)
        largest = m / 3 + 2 * np.sqrt(third) * np.cos(np.arccos(cosine) / 3)
        same = np.where(rest > 0, rest / largest, 0.0)
        if pull > 0:
            more = (up / (largest + pull)).clip(0, 1)
            return more, (1 - more - same).clip(0, 1)
        less = (down / (largest - pull)).clip(0, 1)
    return (1 - less - same).clip(0, 1), less


def newcombe(kept: float, gained: float, lost: float, n: float) -> Interval:
    """Return Newcombe's 95 % interval of a paired difference of shares, ``(gained - lost) / n``.

    Wilson limits of the two shares, combined with their correlation, which is reduced for
    continuity (Newcombe 1998, Statistics in Medicine 17:2635, method 10). It stands beside
    Tango's as a second opinion.

    Args:
        kept: pairs that are right before and after.
        gained: wrong before, right after.
        lost: right before, wrong after.
        n: all pairs.
    """
    neither = n - kept - gained - lost
    before, after = (kept + lost) / n, (kept + gained) / n
    first, second = wilson(kept + lost, n), wilson(kept + gained, n)
    margins = (kept + lost) * (gained + neither) * (kept + gained) * (lost + neither)
    product = kept * neither - gained * lost
    if product > 0:
        product = max(0.0, product - n / 2)
    phi = product / math.sqrt(margins) if margins else 0.0

    def apart(mine: float, other: float) -> float:
        return math.sqrt(max(0.0, mine * mine - 2 * phi * mine * other + other * other))

    value = after - before
    return Interval(
        value - apart(after - second.low, first.high - before),
        value + apart(second.high - after, before - first.low),
    )


def difference_of(
    top: Limited, bottom: Limited, correlation: tuple[float, float] = (0.0, 0.0)
) -> Limited:
    """Return the difference of two figures, its bounds made of theirs.

    The distances from figure to bound are added in squares, less what correlation takes off
    (MOVER: Zou and Donner 2008, Statistics in Medicine 27:1693).

    Args:
        top: the one.
        bottom: what is taken from it.
        correlation: of the two distances that make the lower bound, and of those that make the
            upper one, 0 to 1.
    """
    (p, low1, high1), (q, low2, high2) = top, bottom

    def apart(mine: float, other: float, together: float) -> float:
        return math.sqrt(max(0.0, mine * mine - 2 * together * mine * other + other * other))

    below = apart(p - low1, high2 - q, correlation[0])
    return Limited(p - q, p - q - below, p - q + apart(high1 - p, q - low2, correlation[1]))


def ratio_of(
    top: Limited, bottom: Limited, correlation: tuple[float, float] = (0.0, 0.0)
) -> Limited:
    """Return the ratio of two figures that are not negative, its bounds made of theirs.

    MOVER-R (Donner and Zou 2012, Statistical Methods in Medical Research 21:347; Newcombe 2016,
    the same journal 25:1774), which needs no normal law and no logarithm of zero. The bounds are
    the ratios R at which the interval of ``top - R bottom`` by `difference_of` ends in 0: it
    holds 1 just where that of the difference holds 0.

    Args:
        top: the one; its lower bound is above 0 if it is.
        bottom: what it is divided by.
        correlation: as in `difference_of`.

    Returns:
        value and high are infinite where the bottom is 0, high also where its lower bound is 0
        and the two do not correlate enough to bound it; where both are 0 the value is NaN.
    """
    (p, low1, high1), (q, low2, high2) = top, bottom
    value = p / q if q > 0 else (math.inf if p > 0 else math.nan)
    low, high = 0.0, math.inf
    if low1 > 0 and high2 > 0:
        # Of the two forms of the root, the one that also serves where a factor of R^2 is 0 or less.
        middle = p * q - correlation[0] * (p - low1) * (high2 - q)
        last = low1 * (2 * p - low1)
        root = math.sqrt(max(0.0, middle * middle - high2 * (2 * q - high2) * last))
        low = last / (middle + root)
    middle = p * q - correlation[1] * (high1 - p) * (q - low2)
    last = high1 * (2 * p - high1)
    if low2 > 0:
        first = low2 * (2 * q - low2)
        high = (middle + math.sqrt(max(0.0, middle * middle - first * last))) / first
    elif middle < 0:
        high = last / (2 * middle)
    return Limited(value, low, high)
