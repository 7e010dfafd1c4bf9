"""Several runs on the same facts: what varies between them and within, by hand and by rule."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.design import Design
from sftbench.analysis.estimates import difference, share
from sftbench.analysis.intervals import quantile, wilson
from sftbench.analysis.seeds import difference_over_runs, share_over_runs

pytestmark = pytest.mark.unit

some = settings(max_examples=30, deadline=None)
answers = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=1, max_size=4
    )
).map(lambda rows: np.array(rows, dtype=float))  # fmt: skip


def design_of(n, together=1, levels=1):
    numbers = range(n)
    return Design.of(
        pl.DataFrame(
            {
                "fact_id": [f"f{i:03d}" for i in numbers],
                "level": [1 + i % levels for i in numbers],
                "relation": ["r"] * n,
                "answer": [f"a{i // together}" for i in numbers],
            }
        )
    )


def test_between_and_within_by_hand():
    found = share_over_runs(design_of(4), np.array([[1.0, 1, 0, 0], [1, 1, 1, 0]]))
    assert found.runs == (0.5, 0.75)
    assert found.value == 0.625
    assert found.between == pytest.approx(math.sqrt(2 * 0.125**2))
    assert found.within == pytest.approx(math.sqrt((0.25 / 3 + 0.1875 / 3) / 2))
    # Of the facts 0.6875/12; of the runs 0.03125/2.
    assert found.se == pytest.approx(math.sqrt(0.6875 / 12 + 0.03125 / 2))
    half = quantile(1) * found.between / math.sqrt(2)
    assert found.these_facts == (max(0.0, 0.625 - half), min(1.0, 0.625 + half))
    # The facts alone: 0.625 of 0.234375/4 / (0.6875/12) * 4 facts, t with 3 degrees of freedom.
    n = 4 * (0.234375 / 4) / (0.6875 / 12)
    of_facts = wilson(0.625 * n, n, q=quantile(3))
    assert found.low == max(0.0, 0.625 - math.hypot(0.625 - of_facts.low, half))
    assert found.high == min(1.0, 0.625 + math.hypot(of_facts.high - 0.625, half))
    assert (found.n, found.clusters) == (4, 4)


@pytest.mark.parametrize("n", [3, 6, 9, 30, 99])
def test_runs_that_miss_different_facts_are_not_certain(n):
    """Each fact is right in two of three runs: the means do not vary, but three runs are few."""
    right = np.array([[float(fact % 3 != run) for fact in range(n)] for run in range(3)])
    found = share_over_runs(design_of(n), right)
    assert found.value == pytest.approx(2 / 3)
    assert found.between == pytest.approx(0, abs=1e-12)
    # Never surer than three times as many facts, each asked once.
    whole = wilson(2 * n, 3 * n)
    assert found.low <= whole.low + 1e-9
    assert found.high >= whole.high - 1e-9


def test_runs_that_move_all_facts_vary_between_and_not_within():
    """All right or all wrong: each run is certain of itself, and no run of the next."""
    found = share_over_runs(design_of(50), np.repeat([[1.0], [0.0], [1.0], [1.0]], 50, axis=1))
    assert found.within == 0
    assert found.between == pytest.approx(0.5)
    assert found.se == pytest.approx(0.5 / 2)
    assert found.these_facts == (0, 1)  # 0.75 ± 3.18 * 0.25


def test_a_constant_shift_between_runs_shows():
    rng = np.random.default_rng(1)
    ease = rng.random(400)
    alike = (rng.random((4, 400)) < 0.2 + 0.6 * ease).astype(float)
    shift = np.array([-0.1, 0.0, 0.0, 0.1])[:, None]
    shifted = (rng.random((4, 400)) < 0.2 + 0.6 * ease + shift).astype(float)
    one, other = share_over_runs(design_of(400), alike), share_over_runs(design_of(400), shifted)
    assert one.between < 0.04 < 0.06 < other.between
    assert other.between == pytest.approx(np.std(other.runs, ddof=1))
    assert other.se > 1.3 * one.se
    assert other.within == pytest.approx(one.within, rel=0.1)


@some
@given(answers.map(lambda runs: runs[:1]))
def test_one_run_is_its_share(runs):
    design = design_of(runs.shape[1], together=2)
    found, alone = share_over_runs(design, runs), share(design, runs[0])
    assert (found.between, found.these_facts) == (None, None)
    assert found.limited == pytest.approx(alone.limited, abs=1e-9)
    assert (found.se, found.within) == pytest.approx((alone.se, alone.se))
    zero = np.zeros_like(runs)
    change, pair = difference_over_runs(design, zero, runs), difference(design, zero[0], runs[0])
    assert change.limited == pytest.approx(pair.limited, abs=1e-9)


@some
@given(answers, st.integers(2, 5))
def test_equal_runs_do_not_vary(runs, count):
    design = design_of(runs.shape[1], together=2)
    same = np.repeat(runs[:1], count, axis=0)
    found, alone = share_over_runs(design, same), share(design, runs[0])
    assert found.between == pytest.approx(0, abs=1e-12)
    assert found.these_facts == pytest.approx((alone.value, alone.value))
    assert (found.value, found.se) == pytest.approx((alone.value, alone.se))
    assert found.limited == pytest.approx(alone.limited, abs=1e-9)


@some
@given(answers, st.randoms(use_true_random=False))
def test_the_order_of_the_runs_does_not_matter(runs, random):
    design = design_of(runs.shape[1], together=2, levels=2)
    order = random.sample(range(len(runs)), len(runs))
    one, other = share_over_runs(design, runs), share_over_runs(design, runs[order])
    assert sorted(one.runs) == sorted(other.runs)
    assert one.limited == pytest.approx(other.limited, abs=1e-8)
    assert (one.se, one.within) == pytest.approx((other.se, other.within))
    assert one.between is None or one.between == pytest.approx(other.between, abs=1e-12)


@some
@given(answers, st.booleans())
def test_what_is_bounded_is_in_its_bounds(runs, shared_base):
    design = design_of(runs.shape[1], together=3, levels=2)
    after = share_over_runs(design, runs)
    before = np.roll(runs, 1, axis=1)[: 1 if shared_base else None]
    change = difference_over_runs(design, before, runs)
    for found, lowest in ((after, 0), (change, -1)):
        assert lowest <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= 1
        assert found.value == pytest.approx(np.mean(found.runs))
        if found.between is not None:
            assert found.se >= found.between / math.sqrt(len(runs)) - 1e-12
            low, high = found.these_facts
            # More facts than these can only add doubt.
            assert lowest <= found.low <= low <= found.value + 1e-9
            assert found.value - 1e-9 <= high <= found.high <= 1


@some
@given(answers)
def test_equal_inputs_differ_by_nothing(runs):
    found = difference_over_runs(design_of(runs.shape[1]), runs, runs)
    assert (found.value, found.se, found.within) == (0, 0, 0)
    assert found.low < 0 < found.high


@some
@given(answers)
def test_exchanging_before_and_after_mirrors_the_interval(runs):
    design, before = design_of(runs.shape[1], together=2), np.roll(runs, 1, axis=1)
    one = difference_over_runs(design, before, runs)
    other = difference_over_runs(design, runs, before)
    assert (-other.value, -other.high, -other.low) == pytest.approx(one.limited[:3], abs=1e-7)


def test_one_row_of_a_base_serves_all_runs():
    rng = np.random.default_rng(2)
    before, after = rng.integers(0, 2, (1, 30)) * 1.0, rng.integers(0, 2, (3, 30)) * 1.0
    design = design_of(30, levels=3)
    assert difference_over_runs(design, before, after) == difference_over_runs(
        design, np.repeat(before, 3, axis=0), after
    )
