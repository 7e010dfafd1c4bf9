"""The null model of restore: the paper's table without a fine-tune, and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sftbench.checkpoints.null_model import null_shares

pytestmark = pytest.mark.unit

RANKED = ("relative", "lowest-relative", "absolute", "ties")
LLAMA = {"sizes": [10**9], "weights": [0.015], "updates": [1e-4]}
"""Weights and update as in `method.md`, section 6: normal, independent, eps 1e-8."""
MIXED = {
    "sizes": [100_000, 40_000, 60_000, 20_000],
    "weights": [2e-5, 3e-4, 5e-6, 1e-3],
    "updates": [1e-7, 3e-6, 2e-8, 1e-7],
}
"""Scales at which the sum of r does not hang on a handful of scalars, so that simulations agree."""


@pytest.mark.parametrize(
    ("percent", "share"),
    [(1, 70.75), (3, 78.77), (5, 82.08), (10, 87.26), (20, 91.98), (40, 96.70), (60, 98.70)],
)
def test_the_papers_table_needs_no_fine_tune(percent, share):
    """Ye et al. 2025, section 6: share of the summed relative change in the top so many percent."""
    found = null_shares("relative", percent / 100, **LLAMA)
    assert 100 * found.change == pytest.approx(share, abs=1.0)


@pytest.mark.parametrize(("percent", "share"), [(20, 31), (40, 59), (60, 81)])
def test_what_the_papers_ranking_removes_of_the_update(percent, share):
    """In closed form: sin of the angle of that share of the plane (p / a, d / b)."""
    found = null_shares("relative", percent / 100, **LLAMA)
    assert 100 * found.l1 == pytest.approx(share, abs=0.5)
    assert found.l1 == pytest.approx(math.sin(math.pi / 2 * percent / 100), abs=1e-6)


def test_the_scale_of_weights_and_update_does_not_matter_without_the_constant():
    small = null_shares("relative", 0.2, [1], [0.015], [1e-4])
    large = null_shares("relative", 0.2, [1], [15.0], [3.0])
    assert (small.l1, small.l2) == pytest.approx((large.l1, large.l2), abs=1e-9)


def simulated(criterion, share, sizes, weights, updates, *, seed=0):
    """Rank scalars drawn from the null model."""
    rng = np.random.default_rng(seed)
    drawn = [(rng.normal(0, a, n), rng.normal(0, b, n)) for n, a, b in
             zip(sizes, weights, updates, strict=True)]  # fmt: skip
    p, d = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    size, change = np.abs(d), np.abs(d) / (np.abs(p) + 1e-8)
    score = change if "relative" in criterion else size
    order = np.argsort(score if criterion in ("lowest-relative", "ties") else -score)
    chosen = np.zeros(len(p), bool)
    chosen[order[: round(share * len(p))]] = True
    ends = np.cumsum(sizes)[:-1]
    return {
        "change": change[chosen].sum() / change.sum(),
        "l1": size[chosen].sum() / size.sum(),
        "l2": math.sqrt((d[chosen] ** 2).sum() / (d**2).sum()),
        "spread": [part.mean() for part in np.split(chosen, ends)],
    }


@pytest.mark.parametrize("share", [0.01, 0.2, 0.6, 0.95])
@pytest.mark.parametrize("criterion", RANKED)
def test_tensors_of_different_scales_agree_with_a_simulation(criterion, share):
    found = null_shares(criterion, share, **MIXED)
    runs = [simulated(criterion, share, **MIXED, seed=seed) for seed in range(3)]
    for name, error in (("l1", 0.003), ("l2", 0.006), ("change", 0.02)):
        expected = np.mean([run[name] for run in runs])
        assert getattr(found, name) == pytest.approx(expected, abs=error), name
    expected = np.mean([run["spread"] for run in runs], axis=0)
    assert found.spread == pytest.approx(expected.tolist(), abs=0.01)


@pytest.mark.parametrize("criterion", RANKED)
def test_the_restored_scalars_are_as_many_as_asked_for(criterion):
    for share in (0.001, 0.25, 0.5, 0.999):
        found = null_shares(criterion, share, **MIXED)
        sizes = np.array(MIXED["sizes"])
        assert found.scalars == share
        assert sizes @ found.spread / sizes.sum() == pytest.approx(share, abs=1e-8)
        assert all(0 <= value <= 1 for value in found.record().values())


@pytest.mark.parametrize("pair", [("relative", "lowest-relative"), ("absolute", "ties")])
def test_from_below_is_what_from_above_leaves(pair):
    high, low = null_shares(pair[0], 0.3, **MIXED), null_shares(pair[1], 0.7, **MIXED)
    assert (low.change, low.l1) == pytest.approx((1 - high.change, 1 - high.l1), abs=1e-8)
    assert low.l2**2 == pytest.approx(1 - high.l2**2, abs=1e-8)
    assert low.spread == pytest.approx([1 - part for part in high.spread], abs=1e-8)


@pytest.mark.parametrize("criterion", RANKED)
def test_shares_grow_with_what_is_restored(criterion):
    found = [null_shares(criterion, share, **MIXED) for share in (0.05, 0.2, 0.5, 0.8)]
    for name in ("change", "l1", "l2"):
        values = [getattr(one, name) for one in found]
        assert values == sorted(values)


@pytest.mark.parametrize("criterion", RANKED)
def test_tensors_without_an_update_are_never_among_the_first(criterion):
    still = {"sizes": [1000, 1000], "weights": [0.02, 0.02], "updates": [1e-4, 0.0]}
    lowest = criterion in ("lowest-relative", "ties")
    found = null_shares(criterion, 0.75 if lowest else 0.25, **still)
    assert found.spread == pytest.approx((0.5, 1.0) if lowest else (0.5, 0.0), abs=1e-6)
    alone = null_shares(criterion, 0.5, [1000], [0.02], [1e-4])
    assert (found.change, found.l1, found.l2) == pytest.approx(
        (alone.change, alone.l1, alone.l2), abs=1e-6
    )
    # More than all that changed: no threshold of the model restores that many.
    assert null_shares(criterion, 0.25 if lowest else 0.75, **still) is None


@pytest.mark.parametrize("criterion", RANKED)
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_or_nothing_needs_no_model(criterion, share):
    assert null_shares(criterion, share, **LLAMA) is None


@pytest.mark.parametrize("criterion", RANKED)
def test_no_update_no_model(criterion):
    assert null_shares(criterion, 0.2, [10, 10], [1.0, 1.0], [0.0, 0.0]) is None


@pytest.mark.parametrize(
    "criterion", ["random", "fapm", "interpolation", "dare", "spectral", "noise"]
)
def test_other_criteria_have_no_model(criterion):
    assert null_shares(criterion, 0.2, **LLAMA) is None


def test_a_base_of_zeros_does_not_break_it():
    found = null_shares("relative", 0.5, [100, 100], [0.0, 0.02], [1e-4, 1e-4])
    assert found.spread[0] > found.spread[1]
    assert all(math.isfinite(value) for value in found.record().values())


def test_the_record_is_plain():
    record = null_shares("relative", 0.2, **MIXED).record()
    assert set(record) == {"scalars", "change", "l1", "l2"}
    assert all(type(value) is float for value in record.values())
