"""Calibration: does a model's probability for its own answer say whether that is right?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sftbench.analysis.intervals import CONFIDENCE, wilson
from sftbench.analysis.loss import Calibration, CalibrationBin

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from sftbench.analysis.design import Floats

BINS = 10
IN_BIN = 10
"""Facts that a bin holds at least, as far as there are so many: n // 10 bins below 100 facts."""
DRAWS = 9_999
"""Of the error of a calibrated model: its limit then has a standard error of 0.5 % of itself."""
ROUNDING = 1e-6
"""By how much a probability may leave [0, 1]: sums of log-probabilities are rounded."""


def calibration(frame: pl.DataFrame, variant: str, domain: str) -> Calibration:
    """Return how well the confidence of a variant's answers says whether they are right.

    Facts count as independent, also in the intervals of the bins, which are Wilson's.

    Args:
        frame: one row per fact: fact_id, correct (Boolean), confidence (probability of the model's
            own greedy answer, in [0, 1]), answer_logprob (of the canonical answer, nats).
        variant: whose answers they are.
        domain: "in" or "out".

    Raises:
        ValueError: there are no facts, a value is missing, or a confidence is no probability.
    """
    # By fact_id where confidences tie: neither the order of rows nor what is right decides a bin.
    rows = frame.select("fact_id", "correct", "confidence", "answer_logprob").sort(
        "confidence", "fact_id"
    )
    right = rows["correct"].cast(float).to_numpy()
    confidence = rows["confidence"].cast(float).to_numpy()
    logprob = rows["answer_logprob"].cast(float).to_numpy()
    inside = (confidence >= -ROUNDING) & (confidence <= 1 + ROUNDING)
    if not rows.height or not (inside.all() and np.isfinite(right).all()):
        raise ValueError("calibration needs facts, each right or wrong, with a probability")
    if np.isnan(logprob).any():
        raise ValueError("calibration needs the log-probability of every answer")
    confidence = confidence.clip(0, 1)
    n = rows.height
    splits = np.array_split(np.arange(n), bins_for(n))
    bins = tuple(_bin(confidence[one], right[one]) for one in splits)
    chance = _by_chance([confidence[one] for one in splits])
    return Calibration(
        variant=variant,
        domain=domain,
        n=n,
        answer_logprob=float(logprob.mean()),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        brier=float(((confidence - right) ** 2).mean()),
        ece=sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / n,
        ece_chance=chance.mean,
        ece_limit=chance.limit,
        auroc=auroc(confidence, right),
        bins=bins,
    )


def bins_for(n: int) -> int:
    """Return how many bins n facts are put into: ten, or so many that each holds ten; at least one.

    Sizes differ by one at most; the first bins, of the least confident, are the larger ones.
    """
    return min(BINS, max(1, n // IN_BIN))


def _bin(confidence: Floats, right: Floats) -> CalibrationBin:
    n, hits = len(right), float(right.sum())
    bounds = wilson(hits, n)
    return CalibrationBin(
        n=n,
        confidence=float(confidence.mean()),
        accuracy=hits / n,
        low=bounds.low,
        high=bounds.high,
    )


class _ByChance(NamedTuple):
    """The error of a perfectly calibrated model: its mean, and what 95 % of cases stay below."""

    mean: float
    limit: float


def _by_chance(bins: Sequence[Floats]) -> _ByChance:
    """Return what error a model shows whose answers are right just as often as it says.

    Answers are right independently, with the probabilities given. In each bin the error counts how
    far the number of right answers lies from the sum of their probabilities. Its mean is exact; the
    limit is from `DRAWS` draws of these numbers, with one seed for all data.

    Args:
        bins: probability of each answer, ``[bins][facts]``.
    """
    n = sum(map(len, bins))
    chance = np.random.default_rng(0)
    mean, drawn = 0.0, np.zeros(DRAWS)
    for confidence in bins:
        law = _number_right(confidence)
        gaps = np.abs(np.arange(len(law)) - confidence.sum())
        mean += float(law @ gaps) / n
        drawn += chance.choice(gaps, DRAWS, p=law) / n
    return _ByChance(mean, float(np.quantile(drawn, CONFIDENCE)))


def _number_right(confidence: Floats) -> Floats:
    """Return the probabilities of 0, 1, ... right answers, ``[facts + 1]``: Poisson-binomial.

    The distributions of the single answers are convolved two by two.
    """
    parts = [np.array([1 - p, p]) for p in confidence]
    while len(parts) > 1:
        pairs = [np.convolve(*pair) for pair in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + ([parts[-1]] if len(parts) % 2 else [])
    return np.asarray(parts[0] / parts[0].sum(), dtype=np.float64)


def auroc(confidence: Floats, right: Floats) -> float | None:
    """Return the probability that a right answer is more confident than a wrong one.

    Ties count half: the Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982,
    Radiology 143:29). None where all answers or none are right.

    Args:
        confidence: of each answer, ``[facts]``.
        right: 1 or 0 of each, ``[facts]``.
    """
    of_right, of_wrong = confidence[right > 0], np.sort(confidence[right == 0])
    pairs = len(of_right) * len(of_wrong)
    if not pairs:
        return None
    below, up_to = (np.searchsorted(of_wrong, of_right, side) for side in ("left", "right"))
    return float((below + up_to).sum()) / 2 / pairs
