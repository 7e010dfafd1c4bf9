"""The statistics of the gate: error rates by simulation, power as computed, p values, settling."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.intervals import Interval, tango
from sftbench.analysis.noninferiority import (
    Contrast,
    between_runs,
    least_deff,
    settling,
    upper_quantile,
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

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_gate", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
worlds = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worlds)
design_of, drawn = worlds.design_of, worlds.drawn

ALPHA = worlds.ALPHA


DRAWS = 400
SLACK = 3 * math.sqrt(ALPHA * (1 - ALPHA) / DRAWS)
"""Three standard errors of a simulated rate of 5 %."""


@pytest.mark.parametrize("world", worlds.WORLDS, ids=lambda world: world.name)
def test_a_loss_of_the_whole_margin_passes_in_one_of_twenty_at_most(world):
    found = worlds.simulated(world, world.margin, DRAWS)
    assert worlds.passing(found) <= ALPHA + SLACK
    assert found.get("inferior", 0) <= ALPHA + SLACK


def test_seeds_taken_would_pass_far_too_often():
    """What the spread between runs is for: facts alone would let three times as many pass."""
    rng = np.random.default_rng(3)
    design, right = design_of(400, 4), worlds.share_for(0.15)
    naive = 0
    for _ in range(400):
        baseline = drawn(rng, design, 3, right, between=0.04)
        candidate = drawn(rng, design, 3, right - 0.06, between=0.04)
        contrast = Contrast.of(design, baseline, candidate)
        naive += contrast.over_facts(ALPHA).low > -0.06
    assert naive / 400 > 0.15


@pytest.mark.parametrize("world", [worlds.WORLDS[i] for i in (0, 1, 3, 4, 5)], ids=lambda w: w.name)
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_power_is_as_computed(world, loss):
    true = loss * world.margin
    found = worlds.simulated(world, true, DRAWS)
    told = chances(world.planned, -true, world.margin, ALPHA)
    assert worlds.passing(found) == pytest.approx(told.passes, abs=0.09)


def test_a_true_loss_is_called_inferior_as_often_as_said():
    world = worlds.WORLDS[1]
    loss = loss_seen(world.planned, world.margin, ALPHA)
    found = worlds.simulated(world, loss, DRAWS)
    assert found["inferior"] == pytest.approx(0.8, abs=0.08)


def test_facts_needed_are_those_of_the_textbook():
    planned = Planned((100.0,), (0.15,))
    for margin, items in ((0.03, 1030), (0.02, 2320), (0.01, 9270)):
        assert facts_needed(planned, margin, ALPHA) == pytest.approx(items, rel=0.01)


def test_facts_needed_are_enough_and_one_in_ten_fewer_are_not():
    planned = Planned(
        (30.0, 20.0, 50.0, 100.0), (0.1,) * 4, deff=1.6, between=0.01, baseline_runs=3
    )
    n = facts_needed(planned, 0.05, ALPHA)
    assert chances(resized(planned, n), 0.0, 0.05, ALPHA).passes >= 0.8
    assert chances(resized(planned, 0.9 * n), 0.0, 0.05, ALPHA).passes < 0.8


def test_no_number_of_facts_helps_against_runs_that_vary_more_than_the_margin():
    planned = Planned((100.0,), (0.1,), between=0.05, baseline_runs=2, candidate_runs=2)
    assert facts_needed(planned, 0.02, ALPHA) is None
    assert facts_needed(Planned((100.0,), (0.1,)), 0.02, ALPHA, true=-0.02) is None


def test_with_one_level_and_independent_facts_it_is_tangos_interval():
    design = design_of(300)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        baseline, candidate = drawn(rng, design, 1, 0.8), drawn(rng, design, 1, 0.75)
        change = (candidate - baseline)[0]
        if design.spread(change).deff == 1:  # by luck the relations do not differ
            break
    contrast = Contrast.of(design, baseline, candidate)
    q = upper_quantile(contrast.df, ALPHA)
    plain = tango((change > 0).sum(), (change < 0).sum(), design.n, q=q)
    assert design.spread(change).deff == 1
    assert contrast.bounds(ALPHA) == pytest.approx(plain, abs=0.002)


def test_facts_of_one_answer_hang_together_until_many_show_that_they_do_not():
    design = design_of(100, 1, 10)
    largest = design.most
    none = np.zeros(100)
    assert least_deff(design, none) == largest
    whole = np.where(design.cluster == 3, -1.0, 0.0)
    assert least_deff(design, whole) == pytest.approx(largest, rel=0.05)
    single = none.copy()
    for cluster in range(design.clusters):
        single[np.flatnonzero(design.cluster == cluster)[0]] = -1.0
    assert least_deff(design, single) < 1 + 0.15 * (largest - 1)
    assert least_deff(design_of(100), none) == 1


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
    runs = np.array([[1, 1, 0, 0], [1, 0, 0, 0.0]])
    assert discordance_of(runs) == pytest.approx([0, 1, 0, 0])
    assert discordance_of(runs[:1]) is None
    rng = np.random.default_rng(2)
    three = (rng.random((3, 5000)) < 0.9).astype(float)
    assert discordance_of(three).mean() == pytest.approx(0.18, abs=0.02)
