"""Mastery before and after: halves, regression to the mean, and a loss of a known size."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.mastery_change import halves, mastery_change
from sftbench.mastery.levels import level_of

pytestmark = pytest.mark.unit

few = settings(max_examples=20, deadline=None)


def facts_of(n):
    numbers = range(n)
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:03d}" for i in numbers],
            "relation": [f"r{i % 3}" for i in numbers],
            "answer": [f"a{i // 2}" for i in numbers],
        }
    )


def hits_of(hits):
    return pl.DataFrame(
        {"fact_id": [f"f{i:03d}" for i in range(len(hits))], "hits": hits},
        schema_overrides={"hits": pl.List(pl.List(pl.Boolean))},
    )


def measured(rate, templates, draws, seed):
    chance = np.random.default_rng(seed).random((len(rate), templates, draws))
    return hits_of((chance < rate[:, None, None]).tolist())


RATES = np.random.default_rng(0).beta(0.35, 0.6, 300)
"""Of the facts of the simulations: many near 0 and near 1, some between."""


def test_halves_by_hand():
    found = halves(hits_of([[[True, False, True], [True, True, False]]]))
    assert found.row(0) == ("f000", 3, 3, 1, 3)


@few
@given(st.integers(1, 21), st.integers(1, 12), st.integers(0, 20))
def test_halves_hold_every_template_alike(templates, draws, place):
    hits = np.zeros((1, templates, draws), dtype=bool)
    hits[0, place % templates] = True
    _, hits_0, draws_0, hits_1, draws_1 = halves(hits_of(hits.tolist())).row(0)
    assert (hits_0 + hits_1, draws_0 + draws_1) == (draws, templates * draws)
    assert abs(hits_0 - hits_1) == draws % 2
    assert abs(draws_0 - draws_1) == templates * draws % 2


def test_levels_and_rates_by_hand():
    """One fact is lucky in its first half, the other is sure."""
    base = hits_of([[[True, False] * 4], [[True, True] * 4]])
    found = mastery_change(facts_of(2), base, hits_of([[[False] * 8], [[True] * 8]]))
    zero, four, whole = found.levels
    assert (zero.level, four.level, whole.level) == (0, 4, None)
    assert (zero.n, four.n, whole.n) == (0.5, 1.5, 2)
    assert (zero.levelled, zero.before, zero.after) == (0, 1, 0)
    assert (four.levelled, four.before) == pytest.approx((1, 2 / 3))
    assert four.chance.value == pytest.approx(-1 / 3)
    assert four.after == pytest.approx(2 / 3)
    assert four.naive == pytest.approx(-1 / 3)
    assert four.change is not None
    assert four.change.value == pytest.approx(0)
    assert whole.change is not None
    assert (whole.before, whole.after, whole.change.value) == pytest.approx((0.75, 0.5, -0.25))
    assert (found.moved_by_chance, found.moved, found.facts, found.draws) == (0.5, 0.25, 2, (4, 4))


@few
@given(st.integers(1, 20).flatmap(lambda draws: st.lists(st.booleans(), min_size=draws * 2)))
def test_levels_are_those_of_the_card(drawn):
    base = hits_of([[drawn]])
    _, hits_0, draws_0, hits_1, draws_1 = halves(base).row(0)
    found = mastery_change(facts_of(1), base)
    expected = {level_of(hits_0, draws_0), level_of(hits_1, draws_1)}
    assert {one.level for one in found.levels} == {*expected, None}
    assert found.moved_by_chance == len(expected) - 1


@pytest.mark.parametrize(("templates", "draws"), [(1, 12), (12, 1), (3, 5)])
def test_a_fine_tune_that_does_nothing_shows_a_loss_only_if_measured_naively(templates, draws):
    before, after = (measured(RATES, templates, draws, seed) for seed in (1, 2))
    found = mastery_change(facts_of(300), before, after)
    top = next(one for one in found.levels if one.level == 4)
    assert top.change is not None
    assert top.naive is not None
    assert top.naive < -0.03
    assert top.chance.high < 0
    assert top.change.low <= 0 <= top.change.high
    assert found.levels[-1].change.low <= 0 <= found.levels[-1].change.high
    assert found.moved == pytest.approx(found.moved_by_chance, abs=0.06)


def test_a_loss_of_a_known_size_is_found():
    before, after = measured(RATES, 3, 8, 1), measured(RATES * 0.7, 3, 8, 2)
    found = mastery_change(facts_of(300), before, after)
    whole, top = found.levels[-1], next(one for one in found.levels if one.level == 4)
    assert whole.change is not None
    assert top.change is not None
    assert whole.change.low <= -0.3 * RATES.mean() <= whole.change.high < 0
    assert whole.change.value == pytest.approx(-0.3 * RATES.mean(), abs=0.03)
    assert top.change.high < -0.2
    assert found.moved is not None
    assert found.moved > found.moved_by_chance + 0.1


def test_the_base_alone_shows_chance_and_no_change():
    found = mastery_change(facts_of(300), measured(RATES, 1, 12, 1))
    assert found.moved is None
    assert all((one.after, one.change, one.naive) == (None,) * 3 for one in found.levels)
    whole = found.levels[-1]
    assert whole.chance is None  # both halves are before once
    assert whole.levelled == pytest.approx(whole.before)
    assert whole.n == 300
    four = found.levels[-2]
    assert four.chance is not None
    assert four.chance.clusters <= 300
    assert 1 <= four.chance.df <= four.chance.clusters


def test_what_shows_no_variation_has_no_interval():
    sure = hits_of([[[True] * 4]] * 3)
    (top, _) = mastery_change(facts_of(3), sure).levels
    assert top.chance == (0.0, None, None, None, 3, None)
    for n in (3, 7, 10):  # 1 to 1/5: of no binary fraction, so that sums are rounded
        base, tuned = hits_of([[[True] * 6]] * n), hits_of([[[True] + [False] * 4]] * n)
        whole = mastery_change(facts_of(n), base, tuned).levels[-1]
        assert whole.change.value == pytest.approx(-0.8)
        assert (whole.change.se, whole.change.low) == (None, None)
    alike = facts_of(2).with_columns(relation=pl.lit("r"), answer=pl.lit("a"))
    base = hits_of([[[True] * 4], [[True, True, True, False]]])
    tuned = hits_of([[[True] * 4], [[False] * 4]])
    whole = mastery_change(alike, base, tuned).levels[-1]
    assert (whole.change.clusters, whole.change.se, whole.change.low) == (1, None, None)


@few
@given(st.integers(0, 10**6))
def test_the_order_of_the_rows_does_not_matter(seed):
    facts = facts_of(20)
    before, after = measured(RATES[:20], 2, 4, 1), measured(RATES[:20], 2, 3, 2)
    found = mastery_change(facts, before, after)
    mixed = [one.sample(fraction=1, shuffle=True, seed=seed) for one in (facts, before, after)]
    other = mastery_change(mixed[0], mixed[1], mixed[2].reverse())
    assert other.moved == found.moved
    assert other.moved_by_chance == found.moved_by_chance
    for mine, theirs in zip(found.levels, other.levels, strict=True):
        assert theirs[:4] == pytest.approx(mine[:4])
        assert theirs.chance == pytest.approx(mine.chance)
        assert theirs.change == pytest.approx(mine.change)


def test_shares_of_levels_add_up_and_rates_lie_in_their_bounds():
    before, after = (measured(RATES[:60], 1, 6, seed) for seed in (1, 2))
    found = mastery_change(facts_of(60), before, after)
    assert sum(one.n for one in found.levels[:-1]) == found.levels[-1].n == found.facts == 60
    assert found.levels[-1].chance is None
    for one in found.levels[:-1]:
        for rate in (one.chance, one.change):
            assert rate.low is None or -1 <= rate.low <= rate.value <= rate.high <= 1
        assert one.naive == pytest.approx(one.chance.value + one.change.value)


def test_too_few_draws_are_refused():
    facts = facts_of(2)
    for base in (hits_of([[[True]], [[True]]]), hits_of([[[True, False]], [[]]])):
        with pytest.raises(ValueError, match="two draws"):
            mastery_change(facts, base)
    other = measured(RATES[:2], 1, 4, 1)
    with pytest.raises(ValueError, match="two draws"):
        mastery_change(facts.with_columns(fact_id="g" + pl.col("fact_id")), other)
    with pytest.raises(ValueError, match="two draws"):
        mastery_change(facts, other, other.with_columns(fact_id="g" + pl.col("fact_id")))
