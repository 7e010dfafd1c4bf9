"""The statistics of the gate: error rates by simulation, power as computed, p values, settling."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from sftbench.analysis.design import Design
from sftbench.analysis.intervals import Interval, tango
from sftbench.analysis.noninferiority import (
    Contrast,
    between_runs,
    quantile,
    settling,
    verdict_of,
)
from sftbench.analysis.power import (
    Planned,
    chances,
    discordance_of,
    facts_needed,
    loss_seen,
    resized,
)

pytestmark = pytest.mark.unit

ALPHA = 0.05


def design_of(n, levels=1, clusters=None):
    """Facts spread over levels and over two relations; answers are shared by as many as asked."""
    clusters = clusters or n
    return Design.of(
        pl.DataFrame(
            {
                "fact_id": [f"{i:06d}" for i in range(n)],
                "level": [1 + i % levels for i in range(n)],
                "relation": [f"r{i % 2}" for i in range(n)],
                "answer": [str(i // 2 * 7919 % clusters) for i in range(n)],
            }
        )
    )


def drawn(rng, design, runs, right, *, between=0.0, together=0.0):
    """Return answers ``[runs, facts]``: shares that vary by run, facts of a cluster together."""
    found = []
    for _ in range(runs):
        share = np.clip(right + between * rng.normal(), 1e-9, 1 - 1e-9)
        of_cluster = rng.normal(size=design.clusters)[design.cluster]
        of_fact = rng.normal(size=design.n)
        latent = math.sqrt(together) * of_cluster + math.sqrt(1 - together) * of_fact
        found.append((latent < ndtri(share)).astype(float))
    return np.stack(found)


def share_for(discordance):
    """Return the share right at which two independent runs differ on so many facts."""
    return (1 + math.sqrt(1 - 2 * discordance)) / 2


def simulated(design, *, true, margin, runs=(1, 1), discordance=0.15, times=500, **how):
    """Return the shares of the verdicts over simulated gates."""
    rng = np.random.default_rng(7)
    right = share_for(discordance)
    found = []
    for _ in range(times):
        baseline = drawn(rng, design, runs[0], right, **how)
        candidate = drawn(rng, design, runs[1], right + true, **how)
        contrast = Contrast.of(design, baseline, candidate)
        found.append(verdict_of(contrast.bounds(ALPHA), margin))
    return {name: found.count(name) / times for name in set(found)}


def passing(verdicts):
    return verdicts.get("non_inferior", 0) + verdicts.get("superior", 0)


SLACK = 3 * math.sqrt(ALPHA * (1 - ALPHA) / 500)
"""Three standard errors of a simulated rate of 5 %."""


@pytest.mark.parametrize(
    ("n", "levels", "clusters", "runs", "how"),
    [
        (400, 1, None, (1, 1), {}),
        (400, 4, None, (1, 1), {}),
        (80, 4, None, (1, 1), {}),
        (400, 4, 60, (1, 1), {"together": 0.25}),
        (400, 4, None, (3, 3), {"between": 0.03}),
        (400, 4, None, (3, 3), {}),
        (400, 4, None, (1, 3), {"between": 0.03}),
        (400, 4, 60, (2, 5), {"between": 0.03, "together": 0.25}),
    ],
)
def test_a_loss_of_the_whole_margin_passes_in_one_of_twenty_at_most(n, levels, clusters, runs, how):
    design = design_of(n, levels, clusters)
    found = simulated(design, true=-0.06, margin=0.06, runs=runs, **how)
    assert passing(found) <= ALPHA + SLACK
    assert found.get("inferior", 0) <= ALPHA + SLACK


def test_seeds_taken_would_pass_far_too_often():
    """What the spread between runs is for: facts alone would let three times as many pass."""
    rng = np.random.default_rng(3)
    design, right = design_of(400, 4), share_for(0.15)
    naive = 0
    for _ in range(400):
        baseline = drawn(rng, design, 3, right, between=0.04)
        candidate = drawn(rng, design, 3, right - 0.06, between=0.04)
        contrast = Contrast.of(design, baseline, candidate)
        naive += contrast.over_facts(ALPHA).low > -0.06
    assert naive / 400 > 0.15


@pytest.mark.parametrize(
    ("n", "levels", "true", "margin", "runs", "between"),
    [
        (1000, 1, 0.0, 0.03, (1, 1), 0.0),
        (400, 4, 0.0, 0.06, (1, 1), 0.0),
        (400, 4, -0.02, 0.06, (1, 1), 0.0),
        (400, 4, 0.0, 0.08, (3, 3), 0.02),
        (400, 4, 0.0, 0.05, (3, 3), 0.0),
    ],
)
def test_power_is_as_computed(n, levels, true, margin, runs, between):
    design = design_of(n, levels)
    found = simulated(design, true=true, margin=margin, runs=runs, between=between)
    # A run's figure varies by what single facts do anew as well: that is what runs show.
    shown = math.sqrt(between**2 + 0.15 / 2 / n) if max(runs) > 1 else 0.0
    planned = Planned((n / levels,) * levels, 0.15, 1.0, math.inf, shown, *runs)
    told = chances(planned, true, margin, ALPHA)
    assert passing(found) == pytest.approx(told.passes, abs=0.06)


def test_a_true_loss_is_called_inferior_as_often_as_said():
    planned = Planned((100,) * 4, 0.15)
    loss = loss_seen(planned, 0.04, ALPHA)
    found = simulated(design_of(400, 4), true=-loss, margin=0.04, times=400)
    assert found["inferior"] == pytest.approx(0.8, abs=0.08)


def test_facts_needed_are_those_of_the_textbook():
    planned = Planned((100.0,), 0.15)
    for margin, items in ((0.03, 1030), (0.02, 2320), (0.01, 9270)):
        assert facts_needed(planned, margin, ALPHA) == pytest.approx(items, rel=0.01)


def test_facts_needed_are_enough_and_one_in_ten_fewer_are_not():
    planned = Planned((30.0, 20.0, 50.0, 100.0), 0.1, deff=1.6, between=0.01, baseline_runs=3)
    n = facts_needed(planned, 0.05, ALPHA)
    assert chances(resized(planned, n), 0.0, 0.05, ALPHA).passes >= 0.8
    assert chances(resized(planned, 0.9 * n), 0.0, 0.05, ALPHA).passes < 0.8


def test_no_number_of_facts_helps_against_runs_that_vary_more_than_the_margin():
    planned = Planned((100.0,), 0.1, between=0.05, baseline_runs=2, candidate_runs=2)
    assert facts_needed(planned, 0.02, ALPHA) is None
    assert facts_needed(Planned((100.0,), 0.1), 0.02, ALPHA, true=-0.02) is None


def test_with_one_level_and_independent_facts_it_is_tangos_interval():
    rng = np.random.default_rng(0)
    design = design_of(300)
    baseline, candidate = drawn(rng, design, 1, 0.8), drawn(rng, design, 1, 0.75)
    contrast = Contrast.of(design, baseline, candidate)
    change = (candidate - baseline)[0]
    if design.spread(change).deff > 1:
        pytest.skip("these draws hang together by chance")
    plain = tango((change > 0).sum(), (change < 0).sum(), design.n, q=quantile(contrast.df, ALPHA))
    assert contrast.bounds(ALPHA) == pytest.approx(plain, abs=0.002)


def test_no_answer_that_differs_is_no_proof():
    design = design_of(40, 4)
    same = np.ones((1, 40))
    contrast = Contrast.of(design, same, same)
    assert contrast.value == 0
    assert contrast.bounds(ALPHA).low < -0.02
    assert verdict_of(contrast.bounds(ALPHA), 0.02) == "inconclusive"


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (2, 3), (1, 4)]))
@settings(max_examples=25, deadline=None)
def test_p_values_are_the_alpha_whose_bound_is_the_threshold(seed, runs):
    rng = np.random.default_rng(seed)
    design = design_of(60, 3)
    contrast = Contrast.of(
        design, drawn(rng, design, runs[0], 0.8), drawn(rng, design, runs[1], 0.7)
    )
    for threshold in (-0.1, 0.0):
        above = contrast.p_above(threshold)
        if 1e-6 < above < 0.5:
            assert contrast.bounds(above).low == pytest.approx(threshold, abs=1e-3)
        if 1e-6 < 1 - above < 0.49:
            assert contrast.bounds(1 - above).high == pytest.approx(threshold, abs=1e-3)
        if abs(above - ALPHA) > 1e-3:
            assert (above < ALPHA) == (contrast.bounds(ALPHA).low > threshold)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_bounds_hold_the_figure_and_grow_with_confidence(seed):
    rng = np.random.default_rng(seed)
    design = design_of(40, 4, 9)
    contrast = Contrast.of(design, drawn(rng, design, 2, 0.7), drawn(rng, design, 2, 0.7))
    wide, narrow = contrast.bounds(0.01), contrast.bounds(0.2)
    assert -1 <= wide.low <= narrow.low <= contrast.value <= narrow.high <= wide.high <= 1


def test_verdicts_at_their_borders():
    assert verdict_of(Interval(0.001, 0.1), 0.02) == "superior"
    assert verdict_of(Interval(-0.019, 0.1), 0.02) == "non_inferior"
    assert verdict_of(Interval(-0.02, 0.1), 0.02) == "inconclusive"
    assert verdict_of(Interval(-0.2, -0.02), 0.02) == "inconclusive"
    assert verdict_of(Interval(-0.2, -0.021), 0.02) == "inferior"


def test_the_spread_between_runs_is_welchs():
    from scipy.stats import ttest_ind

    first, second = [0.70, 0.74, 0.69], [0.60, 0.66, 0.61, 0.68]
    found = between_runs(first, second)
    theirs = ttest_ind(first, second, equal_var=False)
    assert found.df == pytest.approx(theirs.df)
    assert (np.mean(first) - np.mean(second)) / found.se == pytest.approx(theirs.statistic)


def test_one_run_takes_the_spread_of_the_other_side():
    found = between_runs([0.7], [0.6, 0.66, 0.63])
    assert found.df == 2
    assert found.se == pytest.approx(np.std([0.6, 0.66, 0.63], ddof=1) * math.sqrt(4 / 3))
    assert between_runs([0.7], [0.6]).se == 0


def test_what_would_settle_does():
    rng = np.random.default_rng(5)
    design = design_of(100, 2)
    contrast = Contrast.of(design, drawn(rng, design, 1, 0.9), drawn(rng, design, 1, 0.88))
    margin = 0.03 + max(0.0, -contrast.value)
    assert verdict_of(contrast.bounds(ALPHA), margin) == "inconclusive"
    found = settling(contrast, margin, ALPHA)
    assert found.runs is None
    times = math.ceil(found.facts / design.n)
    larger = design_of(100 * times, 2)
    passes = 0
    for _ in range(200):
        # Facts drawn anew from those that were seen, each with both of its answers.
        chosen = rng.integers(0, 100, larger.n)
        pairs = contrast_values(rng, contrast, chosen)
        passes += verdict_of(Contrast.of(larger, *pairs).bounds(ALPHA), margin) in (
            "superior",
            "non_inferior",
        )
    assert passes / 200 >= 0.7


def contrast_values(rng, contrast, chosen):
    """Return answers with the shares of gained and lost facts that a contrast saw."""
    gained, lost = float(contrast.gained.mean()), float(contrast.lost.mean())
    uniform = rng.random(len(chosen))
    before = np.where(uniform < gained, 0.0, 1.0)
    after = np.where((uniform >= gained) & (uniform < gained + lost), 0.0, 1.0)
    return before[None, :], after[None, :]


def test_more_runs_settle_what_runs_leave_open():
    rng = np.random.default_rng(11)
    design = design_of(2000, 4)
    contrast = Contrast.of(
        design,
        drawn(rng, design, 2, 0.9, between=0.02),
        drawn(rng, design, 2, 0.9, between=0.02),
    )
    found = settling(contrast, 0.06 + max(0.0, -contrast.value), ALPHA)
    assert found.runs is None or found.runs > 2


def test_discordance_of_runs():
    runs = np.array([[1, 1, 0, 0], [1, 0, 0, 1.0]])
    assert discordance_of(runs) == pytest.approx(0.5)
    assert discordance_of(runs[:1]) is None
    rng = np.random.default_rng(2)
    three = (rng.random((3, 5000)) < 0.9).astype(float)
    assert discordance_of(three) == pytest.approx(0.18, abs=0.02)
