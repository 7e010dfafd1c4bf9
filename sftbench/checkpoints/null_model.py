"""What a ranking would restore if update and weights had nothing to do with each other.

In the null model the weights of a tensor are normal with the tensor's root mean square, and so is
its update, independently. Ranking by relative change then mostly ranks by small weights: the share
of summed change that the top holds says nothing about the fine-tune unless it is held against
this. (p base, s tuned, d = s - p; a and b are the root mean squares of p and d.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sftbench.checkpoints.kernels import EPSILON

POINTS = 1_000
"""Of the integral over log |p|: enough for five digits."""


@dataclass(frozen=True)
class NullShares:
    """What the null model restores, as shares: of the scalars, the summed relative change, ...

    Attributes:
        scalars: the share of the scalars that is restored, which fixes the threshold.
        change: share of the summed relative change.
        l1: share of the update's L1 norm that goes.
        l2: L2 norm of what goes over that of the update.
        spread: share of each tensor's scalars that is restored, in the order given.
    """

    scalars: float
    change: float
    l1: float
    l2: float
    spread: tuple[float, ...]

    def record(self) -> dict[str, float]:
        """Return the shares over all tensors as a JSON value."""
        return {name: value for name, value in asdict(self).items() if name != "spread"}


def null_shares(
    criterion: str,
    share: float,
    sizes: Sequence[int],
    weights: Sequence[float],
    updates: Sequence[float],
) -> NullShares | None:
    """Return what a ranking would restore in the null model; None where it says nothing.

    Args:
        criterion: of `rules.CRITERIA`.
        share: of the scalars, 0 to 1, over all tensors.
        sizes: scalars of each tensor.
        weights: root mean square of p in each.
        updates: root mean square of d in each.
    """
    from scipy.optimize import brentq

    a, b = np.maximum(np.asarray(weights, float), 1e-12), np.asarray(updates, float)
    n = np.asarray(sizes, float)
    lowest = criterion in ("lowest-relative", "ties")
    relative = criterion in ("relative", "lowest-relative")
    if criterion not in ("relative", "absolute", "lowest-relative", "ties") or not b.any():
        return None
    top = 1 - share if lowest else share
    if not 0 < top < 1:
        return None
    model = _relative if relative else _absolute
    above = _relative_share if relative else _absolute_share

    def excess(logarithm: float) -> float:
        return float(n @ above(math.exp(logarithm), a, b) / n.sum()) - top

    low, high = -60.0, 60.0
    if excess(low) < 0 or excess(high) > 0:
        return None
    scalars, change, l1, squares = model(math.exp(brentq(excess, low, high, xtol=1e-10)), a, b)
    parts = [float(n @ of / (n @ whole)) for of, whole in zip(
        (change, l1, squares), _whole(a, b), strict=True
    )]  # fmt: skip
    if lowest:
        parts, scalars = [1 - part for part in parts], 1 - scalars
    change_share, l1_share, squared = parts
    return NullShares(
        share, change_share, l1_share, math.sqrt(max(0.0, squared)), tuple(scalars.tolist())
    )


Share = NDArray[np.float64]
Parts = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _whole(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the means of r, |d| and d^2 over all scalars of each tensor."""
    return _change(0.0, a, b), b * math.sqrt(2 / math.pi), b**2


def _relative_share(t: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> Share:
    shares: Share = 1 - 2 * np.arctan2(t * a, b) / math.pi
    return shares


def _absolute_share(t: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> Share:
    from scipy.special import erfc

    safe = np.where(b > 0, b, 1.0)
    return np.where(b > 0, erfc(t / safe / math.sqrt(2)), 0.0)


def _relative(t: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> Parts:
    """Return P(r > t) and the means of r, |d|, d^2 over r > t, per tensor.

    Without the constant in the denominator |d| / |p| > t is a wedge of the plane of (p / a, d / b).
    """
    angle = np.arctan2(t * a, b)
    scalars = _relative_share(t, a, b)
    l1 = b * math.sqrt(2 / math.pi) * np.cos(angle)
    squares = b**2 * (1 - (2 * angle - np.sin(2 * angle)) / math.pi)
    return scalars, _change(t, a, b), l1, squares


def _change(t: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of r = |d| / (|p| + 1e-8) over r > t, by an integral over log |p|."""
    x = np.linspace(math.log(1e-14), math.log(12 * float(a.max())), POINTS)
    p = np.exp(x)[:, None]
    density = 2 * np.exp(-0.5 * (p / a) ** 2) / (a * math.sqrt(2 * math.pi)) * p
    size = np.where(b > 0, b, 1.0)
    above = 2 * b * np.exp(-0.5 * (t * (p + EPSILON) / size) ** 2) / math.sqrt(2 * math.pi)
    found: Share = np.trapezoid(density * above / (p + EPSILON), x, axis=0)
    return found


def _absolute(t: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> Parts:
    """Return P(|d| > t) and the means of r, |d|, d^2 over |d| > t, per tensor."""
    z = t / np.where(b > 0, b, 1.0)
    tail = _absolute_share(t, a, b)
    bell = np.exp(-0.5 * z**2) * math.sqrt(2 / math.pi)
    l1 = b * np.where(b > 0, bell, 0.0)
    squares = b**2 * (tail + z * bell)
    # r = |d| / (|p| + 1e-8), and |p| is independent of the rank.
    whole = b * math.sqrt(2 / math.pi)
    share = np.where(whole > 0, l1 / np.where(whole > 0, whole, 1.0), 0.0)
    return tail, _change(0.0, a, b) * share, l1, squares
