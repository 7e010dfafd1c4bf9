"""Exact tests and Holm: against second libraries, by hand, and what always holds."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from sftbench.analysis.exact import better_than_chance, holm, mcnemar, sign_flip

pytestmark = pytest.mark.unit

some = settings(max_examples=40, deadline=None)
few = st.integers(0, 60)
changed_facts = st.lists(
    st.tuples(st.integers(-1, 1), st.integers(0, 7)), min_size=1, max_size=30
).map(np.array)


@pytest.fixture(scope="module", autouse=True)
def _without_collecting():
    """The Holm of statsmodels collects garbage at each call, which takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)
        yield


@some
@given(few, few)
def test_mcnemar_is_that_of_statsmodels(lost, gained):
    expected = statsmodels_mcnemar([[5, lost], [gained, 7]], exact=True).pvalue
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, expected))
    assert mcnemar(gained, lost) == pytest.approx(mcnemar(lost, gained))


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 2**5)


@some
@given(few, few, few)
def test_where_no_facts_share_a_cluster_it_is_mcnemar(lost, gained, same):
    changes = np.repeat([-1.0, 1.0, 0.0], [lost, gained, same + 1])
    assert sign_flip(changes, np.arange(len(changes))) == pytest.approx(mcnemar(lost, gained))


@settings(max_examples=25, deadline=None)
@given(changed_facts)
def test_it_is_the_permutation_test_of_scipy(facts):
    changes, cluster = facts[:, 0].astype(float), facts[:, 1]
    totals = np.bincount(cluster, changes, 8)
    expected = permutation_test(
        (totals, np.zeros(8)),
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    assert sign_flip(changes, cluster) == pytest.approx(expected)


def test_a_cluster_that_is_lost_together_is_one_exchange():
    assert sign_flip(np.full(20, -1.0), np.zeros(20, dtype=int)) == 1
    assert sign_flip(np.full(20, -1.0), np.arange(20) // 4) == pytest.approx(2 / 2**5)
    assert sign_flip(np.full(20, -1.0), np.arange(20)) == pytest.approx(2 / 2**20)


@some
@given(changed_facts, st.randoms(use_true_random=False))
def test_order_and_direction_do_not_matter(facts, random):
    changes, cluster = facts[:, 0].astype(float), facts[:, 1]
    p = sign_flip(changes, cluster)
    order = random.sample(range(len(facts)), len(facts))
    assert 0 < p <= 1
    assert sign_flip(changes[order], cluster[order]) == p
    assert sign_flip(-changes, cluster) == p


def test_thousands_of_changes_are_exact_too():
    changes = np.repeat([-1.0, 1.0], [2100, 1900])
    assert sign_flip(changes, np.arange(4000)) == pytest.approx(mcnemar(2100, 1900), rel=1e-6)


def test_holm_by_hand():
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.01, 0.6, 0.02]) == pytest.approx([1.0, 0.04, 1.0, 0.06])


def test_holm_is_that_of_statsmodels():
    p_values = [0.011, 0.2, 0.004, 0.04, 0.011]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@some
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rises_with_p_and_lies_between_p_and_bonferroni(p_values):
    adjusted = holm(p_values)
    pairs = sorted(zip(p_values, adjusted, strict=True))
    assert [high for _, high in pairs] == sorted(adjusted)
    n = len(pairs)
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * n))
    for p, high in pairs:
        assert p <= high <= 1
    steps = np.array([p for p, _ in pairs]) * np.arange(n, 0, -1)
    assert sorted(adjusted) == pytest.approx(np.maximum.accumulate(steps).clip(max=1))


def test_the_best_of_several_is_held_against_the_largest_gain_of_every_exchange():
    """Against all exchanges, one by one; ten clusters, three changes of which two are alike."""
    random = np.random.default_rng(3)
    cluster = random.permutation(np.repeat(np.arange(10), 2))
    changes = random.choice([-1.0, 0.0, 1.0], size=(3, 20), p=[0.1, 0.5, 0.4])
    changes[1] = changes[0]
    totals = np.stack([np.bincount(cluster, one, 10) for one in changes])
    largest = [max(totals @ signs) for signs in itertools.product((-1.0, 1.0), repeat=10)]
    expected = [np.mean([one >= total for one in largest]) for total in totals.sum(axis=1)]
    found = better_than_chance(changes, cluster, seed=1)
    assert found == pytest.approx(expected, abs=0.02)
    assert found[0] == found[1]
    alone = better_than_chance(changes[:1], cluster, seed=1)
    assert alone[0] <= found[0] + 0.02


def test_without_any_change_nothing_is_better_than_chance():
    assert better_than_chance(np.zeros((2, 5)), np.arange(5), seed=0) == [1.0, 1.0]
