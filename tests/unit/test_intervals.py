"""Intervals against published values, second libraries and independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.stats import binomtest, norm, t
from statsmodels.stats.proportion import proportion_confint

from sftbench.analysis.intervals import (
    Interval,
    Limited,
    difference_of,
    mean_difference,
    mean_difference_is_negative,
    mean_share,
    newcombe,
    quantile,
    ratio_of,
    tango,
    wilson,
)

pytestmark = pytest.mark.unit

some = settings(max_examples=50, deadline=None)
shares_of = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
changes_of = st.integers(1, 500).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda up: st.tuples(st.just(up), st.integers(0, n - up), st.just(n))
    )
)


def columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def test_quantiles_are_those_of_scipy():
    assert quantile() == pytest.approx(norm.ppf(0.975))
    assert quantile(7.5) == pytest.approx(t.ppf(0.975, 7.5))
    assert quantile(7.5, 0.8) == pytest.approx(t.ppf(0.9, 7.5))


@some
@given(shares_of)
@example((0, 1))
@example((1, 1))
def test_wilson_is_that_of_scipy_and_statsmodels(counts):
    right, n = counts
    found = wilson(right, n)
    assert found == pytest.approx(
        tuple(binomtest(right, n).proportion_ci(method="wilson")), abs=1e-12
    )
    assert found == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(right, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(right, n)
    with pytest.raises(ValueError, match="no share"):
        mean_share([1, right], [2, n])


@pytest.mark.parametrize(("up", "down", "n"), [(0, 0, 0), (-1, 0, 3), (0, -1, 3), (2, 2, 3)])
def test_changes_that_do_not_fit_are_refused(up, down, n):
    with pytest.raises(ValueError, match="pairs"):
        tango(up, down, n)


def test_no_levels_are_refused():
    with pytest.raises(ValueError, match="no shares"):
        mean_share([], [])
    with pytest.raises(ValueError, match="pairs"):
        mean_difference([], [], [])


def direct_tango(gained, lost, n):
    """Tango's interval by the closed form of his paper, each bound the root of the score."""

    def score(change):
        b = -gained - lost + (2 * n - gained + lost) * change
        c = -lost * change * (1 - change)
        loss = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * loss + change * (1 - change))
        return (gained - lost - n * change) / math.sqrt(variance)

    q, seen, near = norm.ppf(0.975), (gained - lost) / n, 1e-6
    low = high = seen
    if lost < n:
        low = brentq(lambda change: score(change) - q, -1 + near, seen - near, xtol=1e-13)
    if gained < n:
        high = brentq(lambda change: score(change) + q, seen + near, 1 - near, xtol=1e-13)
    return low, high


@some
@given(changes_of)
@example((0, 0, 30))
@example((0, 39, 39))
@example((15, 15, 30))
@example((0, 1, 1))
def test_tango_is_that_of_the_closed_form(counts):
    assert tango(*counts) == pytest.approx(direct_tango(*counts), abs=1e-7)


def test_the_published_example():
    """Airway hyper-responsiveness before and after a transplantation (Fagerland et al. 2014)."""
    kept, gained, lost, n = 1, 1, 7, 21
    assert [round(bound, 3) for bound in tango(gained, lost, n)] == [-0.517, -0.026]
    assert [round(bound, 3) for bound in newcombe(kept, gained, lost, n)] == [-0.507, -0.026]


@some
@given(shares_of)
def test_the_mean_of_one_level_is_wilsons(counts):
    right, n = counts
    assert mean_share([right], [n]) == pytest.approx(wilson(right, n), abs=1e-8)
    assert mean_share([right], [n], q=3.0) == pytest.approx(wilson(right, n, q=3.0), abs=1e-8)


def bounds_by_search(observed, variance_at, lowest, q):
    """Where the distance from what was observed is q standard errors under that very mean."""

    def excess(figure):
        return (figure - observed) ** 2 - q * q * variance_at(figure)

    near = 1e-3
    return [
        brentq(excess, edge, observed + step, xtol=1e-7)
        for edge, step in ((lowest + near, -near), (1 - near, near))
    ]


@pytest.mark.parametrize(
    ("right", "n"),
    [([9, 3], [10, 12]), ([10, 4], [10, 30]), ([0, 5, 19], [6, 9, 20]), ([2.5, 7.5], [3.5, 8.0])],
)
def test_the_mean_of_several_levels_is_that_of_a_constrained_search(right, n):
    x, m = np.array(right, dtype=float), np.array(n, dtype=float)

    def variance_at(mean):
        def unlikely(p):
            return -(x * np.log(p) + (m - x) * np.log(1 - p)).sum()

        p = minimize(
            unlikely,
            np.full(len(m), mean),
            jac=lambda p: -(x / p - (m - x) / (1 - p)),
            method="SLSQP",
            bounds=[(1e-9, 1 - 1e-9)] * len(m),
            constraints={"type": "eq", "fun": lambda p: p.mean() - mean},
            options={"ftol": 1e-12, "maxiter": 500},
        ).x
        return (p * (1 - p) / m).sum() / len(m) ** 2

    expected = bounds_by_search((x / m).mean(), variance_at, 0.0, 1.96)
    assert mean_share(right, n, q=1.96) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("up", "down", "n"),
    [
        ([2, 1], [3, 6], [20, 15]),
        ([0, 1], [4, 0], [20, 15]),
        ([0, 0], [0, 5], [9, 30]),
        ([1, 0, 3], [2, 4, 3], [8, 25, 12]),
    ],
)
def test_the_mean_difference_is_that_of_a_constrained_search(up, down, n):
    counts = np.array([up, down, np.subtract(n, np.add(up, down))], dtype=float)
    m = counts.sum(axis=0)

    def variance_at(mean):
        def unlikely(flat):
            return -(counts * np.log(flat.reshape(counts.shape))).sum()

        start = np.array([max(mean, 0) + 0.05, max(-mean, 0) + 0.05, 0.1])
        start = np.repeat(start[:, None] / start.sum(), len(m), axis=1)
        p = minimize(
            unlikely,
            start.ravel(),
            jac=lambda flat: -(counts.ravel() / flat),
            method="SLSQP",
            bounds=[(1e-9, 1.0)] * counts.size,
            constraints=[
                {"type": "eq", "fun": lambda f: f.reshape(counts.shape).sum(axis=0) - 1},
                {
                    "type": "eq",
                    "fun": lambda f: (
                        (f.reshape(counts.shape)[0] - f.reshape(counts.shape)[1]).mean() - mean
                    ),
                },
            ],
            options={"ftol": 1e-13, "maxiter": 1000},
        ).x.reshape(counts.shape)
        change = p[0] - p[1]
        return ((p[0] + p[1] - change**2) / m).sum() / len(m) ** 2

    expected = bounds_by_search(((counts[0] - counts[1]) / m).mean(), variance_at, -1.0, 1.96)
    assert mean_difference(up, down, n, q=1.96) == pytest.approx(expected, abs=1e-4)


@some
@given(st.lists(shares_of, min_size=1, max_size=5))
def test_intervals_of_shares_hold_the_estimate_and_mirror(levels):
    right, n = columns(levels)
    value = float(np.mean(np.divide(right, n)))
    found = mean_share(right, n)
    assert 0 <= found.low <= value + 1e-9
    assert value - 1e-9 <= found.high <= 1
    wrong = mean_share(np.subtract(n, right), n)
    assert (1 - wrong.high, 1 - wrong.low) == pytest.approx(found, abs=1e-7)


@some
@given(st.lists(changes_of, min_size=1, max_size=5))
def test_intervals_of_differences_hold_the_estimate_and_mirror(levels):
    up, down, n = columns(levels)
    value = float(np.mean((np.array(up) - down) / n))
    found = mean_difference(up, down, n)
    assert -1 <= found.low <= value + 1e-9
    assert value - 1e-9 <= found.high <= 1
    mirrored = mean_difference(down, up, n)
    assert (-mirrored.high, -mirrored.low) == pytest.approx(found, abs=1e-7)


@some
@given(st.lists(changes_of, min_size=1, max_size=4), st.integers(2, 20))
def test_more_facts_of_the_same_shares_give_a_narrower_interval(levels, times):
    up, down, n = (np.array(column) for column in columns(levels))
    assert mean_share(up * times, n * times).width < mean_share(up, n).width
    more = mean_difference(up * times, down * times, n * times)
    assert more.width < mean_difference(up, down, n).width
    assert mean_share(up, n, q=3.0).width > mean_share(up, n, q=2.0).width


def test_a_level_that_is_all_right_brings_uncertainty():
    alone = mean_share([50], [100])
    beside = mean_share([50, 3], [100, 3])
    known = mean_share([50, 3e6], [100, 3e6])
    assert beside.width > 1.5 * known.width
    assert known.width == pytest.approx(alone.width / 2, abs=1e-3)


def test_width_is_the_distance_of_the_bounds():
    assert Interval(0.25, 0.75).width == 0.5


limited = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(
    lambda three: Limited(*(sorted(three)[place] for place in (1, 0, 2)))
)


correlations = st.sampled_from([(0.0, 0.0), (0.3, 0.1), (0.9, 1.0)])


@some
@given(limited, limited, correlations)
def test_ratio_is_that_of_the_textbook_formula(top, bottom, r):
    (p, low1, high1), (q, low2, high2) = top, bottom
    found = ratio_of(top, bottom, r)
    assert found.value == p / q

    def terms(one, other, r):
        middle = p * q - r * (p - one) * (other - q)
        inner = middle**2 - one * other * (2 * p - one) * (2 * q - other)
        return middle, math.sqrt(max(0.0, inner)), other * (2 * q - other)

    middle, root, below = terms(high1, low2, r[1])
    assert found.high == pytest.approx((middle + root) / below, rel=1e-6)
    middle, root, below = terms(low1, high2, r[0])
    if abs(below) > 1e-3:  # Elsewhere the textbook form divides by 0.
        assert found.low == pytest.approx((middle - root) / below, rel=1e-6)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.high >= found.value * (1 - 1e-9)


@some
@given(limited, limited, correlations)
def test_a_ratio_excludes_1_just_where_the_difference_excludes_0(top, bottom, r):
    ratio, gap = ratio_of(top, bottom, r), difference_of(top, bottom, r)
    for one, other in ((ratio.low, gap.low), (ratio.high, gap.high)):
        assert (one > 1) == (other > 0) or min(abs(one - 1), abs(other)) < 1e-7


@some
@given(limited, limited, correlations)
def test_the_ends_of_a_ratio_are_where_the_difference_from_that_multiple_ends_in_0(top, bottom, r):
    found = ratio_of(top, bottom, r)
    for ratio, end in ((found.low, 1), (found.high, 2)):
        scaled = Limited(*(ratio * one for one in bottom))
        assert difference_of(top, scaled, r)[end] == pytest.approx(0, abs=1e-6 * max(1, ratio))


def test_a_ratio_is_bounded_where_the_difference_is_though_the_bottom_may_be_0():
    top, bottom = Limited(0.01, 0.001, 0.1), Limited(0.5, 0.0, 1.0)
    ratio, gap = ratio_of(top, bottom, (1, 1)), difference_of(top, bottom, (1, 1))
    assert gap.high < 0
    assert ratio.value < ratio.high < 1
    scaled = Limited(*(ratio.high * one for one in bottom))
    assert difference_of(top, scaled, (1, 1)).high == pytest.approx(0, abs=1e-9)
    assert ratio_of(top, bottom).high == math.inf


def test_a_difference_by_hand():
    top, bottom = Limited(0.5, 0.2, 0.9), Limited(0.3, 0.2, 0.7)
    assert difference_of(top, bottom) == pytest.approx((0.2, 0.2 - 0.5, 0.2 + math.sqrt(0.17)))
    assert difference_of(top, top, (1, 1)) == pytest.approx((0, -0.1, 0.1))


def test_the_lower_bound_where_the_textbook_divides_by_zero():
    top, bottom = Limited(0.4, 0.3, 0.5), Limited(0.1, 0.05, 0.2)
    beside = ratio_of(top, Limited(0.1, 0.05, 0.2 + 1e-9))
    assert ratio_of(top, bottom).low == pytest.approx(0.3 * 0.5 / (2 * 0.4 * 0.1))
    assert ratio_of(top, bottom).low == pytest.approx(beside.low, rel=1e-6)


def test_ratios_with_zero():
    some_, zero, sure = Limited(0.2, 0.1, 0.3), Limited(0.0, 0.0, 0.05), Limited(0.0, 0.0, 0.0)
    assert ratio_of(some_, zero)[::2] == (math.inf, math.inf)
    assert 0 < ratio_of(some_, zero).low < math.inf
    assert ratio_of(some_, sure) == (math.inf, 0.0, math.inf)
    assert ratio_of(zero, some_)[:2] == (0.0, 0.0)
    assert 0 < ratio_of(zero, some_).high < math.inf
    assert math.isnan(ratio_of(zero, zero).value)
    assert ratio_of(zero, zero)[1:] == (0.0, math.inf)
    assert ratio_of(some_, Limited(0.1, 0.0, 0.2)).high == math.inf


@settings(max_examples=300, deadline=None)
@given(st.lists(changes_of, min_size=1, max_size=4), st.floats(0.1, 4))
@example([(0, 0, 1)], 1.6)
@example([(0, 1, 1)], 1.6)
@example([(0, 30, 30), (0, 30, 30)], 1.6)
@example([(3, 20, 100)], 3.6)
def test_the_side_of_zero_is_found_without_the_bound(rows, q):
    gained, lost, n = columns(rows)
    high = mean_difference(gained, lost, n, q=q).high
    if abs(high) > 1e-9:
        assert mean_difference_is_negative(gained, lost, n, q=q) == (high < 0)
