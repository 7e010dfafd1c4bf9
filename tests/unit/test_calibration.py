"""Calibration: against plain references, its bounds, and a model that is calibrated by making."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, poisson_binom

from sftbench.analysis.calibration import auroc, bins_for, calibration
from sftbench.analysis.intervals import wilson

pytestmark = pytest.mark.unit

few = settings(max_examples=40, deadline=None)
answers = st.lists(
    st.tuples(st.floats(0, 1), st.booleans(), st.floats(-50, 0)), min_size=1, max_size=150
)


def table(confidence, correct, logprob=None):
    n = len(confidence)
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:05d}" for i in range(n)],
            "relation": "r",
            "answer": "a",
            "correct": pl.Series(correct, dtype=pl.Boolean),
            "confidence": pl.Series(confidence, dtype=pl.Float64),
            "answer_logprob": pl.Series(logprob or [-1.0] * n, dtype=pl.Float64),
        }
    )


def of(rows):
    confidence, correct, logprob = (list(one) for one in zip(*rows, strict=True))
    return calibration(table(confidence, correct, logprob), "tuned", "in")


def simulated(n, seed, shift=0.0):
    """Return answers that are right as often as their confidence says, or less by `shift`."""
    chance = np.random.default_rng(seed)
    confidence = chance.beta(0.6, 0.6, n)
    right = chance.random(n) < (confidence - shift).clip(0, 1)
    return calibration(table(confidence, right), "tuned", "in")


@few
@given(answers)
def test_figures_are_those_of_a_plain_reference(rows):
    found = of(rows)
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], i))
    p = np.array([rows[i][0] for i in order])
    y = np.array([float(rows[i][1]) for i in order])
    n, expected, start = len(rows), 0.0, 0
    for one in found.bins:
        mine = slice(start, start + one.n)
        start += one.n
        expected += one.n / n * abs(y[mine].mean() - p[mine].mean())
        assert (one.confidence, one.accuracy) == pytest.approx((p[mine].mean(), y[mine].mean()))
        assert (one.low, one.high) == pytest.approx(wilson(y[mine].sum(), one.n))
    assert start == n
    assert found.ece == pytest.approx(expected)
    assert found.brier == pytest.approx(np.mean((p - y) ** 2))
    assert found.answer_logprob == pytest.approx(np.mean([row[2] for row in rows]))
    assert (found.confidence, found.accuracy) == pytest.approx((p.mean(), y.mean()))
    assert (found.variant, found.domain, found.n) == ("tuned", "in", n)


@few
@given(answers)
def test_figures_lie_in_their_bounds(rows):
    found = of(rows)
    assert 0 <= found.ece <= 1
    assert 0 <= found.ece_chance <= 0.5
    assert 0 <= found.ece_limit <= 1
    assert 0 <= found.brier <= 1
    # Of forecasts with one mean, none is further off than its gap in the mean says at least.
    assert found.ece >= abs(found.confidence - found.accuracy) - 1e-9
    assert found.auroc is None or 0 <= found.auroc <= 1
    assert [one.confidence for one in found.bins] == pytest.approx(
        sorted(one.confidence for one in found.bins)
    )
    for one in found.bins:
        assert 0 <= one.low <= one.accuracy <= one.high <= 1


@few
@given(st.integers(1, 2000))
def test_bins_are_of_equal_size_and_hold_ten_facts_if_there_are_so_many(n):
    sizes = [one.n for one in calibration(table([0.5] * n, [True] * n), "base", "in").bins]
    assert len(sizes) == bins_for(n) <= 10
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(n, 10)
    assert bins_for(n) == 10 or (bins_for(n) + 1) * 10 > n


@few
@given(answers, st.integers(0, 10**6))
def test_the_order_of_the_rows_does_not_matter(rows, seed):
    confidence, correct, logprob = (list(one) for one in zip(*rows, strict=True))
    frame = table([round(one, 1) for one in confidence], correct, logprob)  # with many ties
    found = calibration(frame, "base", "in")
    other = calibration(frame.sample(fraction=1, shuffle=True, seed=seed), "base", "in")
    assert [one.n for one in other.bins] == [one.n for one in found.bins]
    assert other.bins == found.bins
    assert other.ece == found.ece
    assert other.answer_logprob == pytest.approx(found.answer_logprob)


@few
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9]), min_size=1, max_size=40),
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=1, max_size=40),
)
def test_auroc_is_mann_whitney_over_pairs_with_ties_as_halves(right, wrong):
    confidence = np.array(right + wrong)
    marks = np.array([1.0] * len(right) + [0.0] * len(wrong))
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    found = auroc(confidence, marks)
    assert found == pytest.approx(np.mean(pairs))
    assert found == pytest.approx(mannwhitneyu(right, wrong).statistic / len(pairs))


def test_auroc_needs_right_and_wrong_answers():
    assert calibration(table([0.2, 0.9], [True, True]), "base", "in").auroc is None
    assert calibration(table([0.2, 0.9], [False, False]), "base", "in").auroc is None


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_error_by_chance_is_exact(confidence):
    """Against scipy's Poisson-binomial distribution, bin by bin."""
    found = calibration(table(confidence, [True] * len(confidence)), "base", "in")
    expected = 0.0
    for part in np.array_split(np.sort(confidence), bins_for(len(confidence))):
        counts = np.arange(len(part) + 1)
        expected += poisson_binom(part).pmf(counts) @ np.abs(counts - part.sum())
    assert found.ece_chance == pytest.approx(expected / len(confidence), abs=1e-9)


def test_a_calibrated_model_shows_just_the_error_by_chance():
    for n in (60, 500):
        runs = [simulated(n, seed) for seed in range(200)]
        gaps = np.array([one.ece - one.ece_chance for one in runs])
        assert abs(gaps.mean()) < 4 * gaps.std() / math.sqrt(len(gaps))
        assert runs[0].ece_chance > 0.02  # of few facts it is nowhere near 0
        below = np.mean([one.ece <= one.ece_limit for one in runs])
        assert 0.9 <= below <= 0.99
    assert simulated(20_000, 1).ece_chance < 0.01


def test_overconfidence_shows_above_the_error_by_chance():
    found = simulated(2000, 3, shift=0.2)
    assert found.ece > 0.12
    assert found.ece_chance < found.ece_limit < 0.04


def test_what_is_no_probability_or_missing_is_refused():
    with pytest.raises(ValueError, match="needs facts"):
        calibration(table([], []), "base", "in")
    for wrong in (1.01, -0.2, math.nan, None):
        with pytest.raises(ValueError, match="probability"):
            calibration(table([0.5, wrong], [True, False]), "base", "in")
    with pytest.raises(ValueError, match="right or wrong"):
        calibration(table([0.5], [None]), "base", "in")
    with pytest.raises(ValueError, match="log-probability"):
        calibration(table([0.5], [True], [math.nan]), "base", "in")
    rounded = calibration(table([1 + 1e-9], [True]), "base", "in")
    assert (rounded.confidence, rounded.brier, rounded.ece_chance) == (1.0, 0.0, 0.0)
