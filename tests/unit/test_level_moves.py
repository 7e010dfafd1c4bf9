"""Levels before and after: by hand, regression to the mean, and a fine-tune that does nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.design import Design
from sftbench.analysis.estimates import mean_change
from sftbench.analysis.level_moves import level_moves, level_tables
from sftbench.mastery.levels import level_of

pytestmark = pytest.mark.unit

few = settings(max_examples=20, deadline=None)


def facts_of(n, answers=None):
    numbers = range(n)
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:04d}" for i in numbers],
            "relation": [f"r{i % 3}" for i in numbers],
            "answer": [f"a{i if answers is None else i % answers}" for i in numbers],
            "domain": ["out" if i % 3 == 2 else "in" for i in numbers],
        }
    )


def levelled(hits, draws):
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:04d}" for i in range(len(hits))],
            "rate": [hit / draws for hit in hits],
            "level": pl.Series([level_of(int(hit), draws) for hit in hits], dtype=pl.Int8),
        }
    )


def test_moves_and_tables_by_hand():
    card, before, after = (levelled(one, 4) for one in ([4, 4, 2, 0], [4, 2, 2, 0], [0, 2, 4, 1]))
    moves = level_moves(card, before, after, facts_of(4))
    assert [(one.level, one.n) for one in moves] == [(0, 1), (2, 1), (4, 2), (None, 4)]
    zero, two, four, every = moves
    assert (zero.levelled, zero.before, zero.after) == (0, 0, 0.25)
    assert (two.levelled, two.before, two.after) == (0.5, 0.5, 1)
    assert (four.levelled, four.before, four.after) == (1, 0.75, 0.25)
    assert (every.levelled, every.before, every.after) == (0.625, 0.5, 0.4375)
    assert zero.change is None  # one fact shows nothing of how others vary
    assert four.chance.value == pytest.approx(-0.25)
    assert four.change.value == pytest.approx(-0.5)
    assert (every.change.n, every.change.clusters) == (4, 4)
    inside, outside, *relations = level_tables(card, before, after, facts_of(4))
    assert [(one.domain, one.relation) for one in (inside, outside, *relations)] == [
        ("in", None), ("out", None), ("in", "r0"), ("in", "r1"), ("out", "r2"),
    ]  # fmt: skip
    none = (0, 0, 0, 0, 0)
    assert inside.before == ((1, 0, 0, 0, 0), none, none, none, (0, 0, 1, 0, 1))
    assert inside.after == ((0, 1, 0, 0, 0), none, none, none, (1, 0, 1, 0, 0))
    assert outside.after == (none, none, (0, 0, 0, 0, 1), none, none)


@few
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_tables_hold_every_fact_once_and_share_their_rows(seed, n):
    chance = np.random.default_rng(seed)
    card, before, after = (levelled(chance.integers(0, 9, n), 8) for _ in range(3))
    facts = facts_of(n)
    tables = level_tables(card, before, after, facts.sample(fraction=1, shuffle=True, seed=seed))
    assert tables == level_tables(card.reverse(), before, after.reverse(), facts)
    for one in tables:
        assert np.sum(one.before, axis=1).tolist() == np.sum(one.after, axis=1).tolist()
    domains = [np.array(one.after) for one in tables if one.relation is None]
    relations = [np.array(one.after) for one in tables if one.relation is not None]
    assert sum(domains).sum() == n
    assert (sum(domains) == sum(relations)).all()
    moves = level_moves(card, before, after, facts)
    assert sum(one.n for one in moves[:-1]) == moves[-1].n == n
    for one in moves:
        for found in (one.chance, one.change):
            assert found is None or -1 <= found.low <= found.value <= found.high <= 1


RATES = np.random.default_rng(0).beta(0.35, 0.6, 240)
"""Of the facts of the simulations: many near 0 and near 1, some between."""


def simulate(seed, kept=1.0, draws=16):
    """Return the moves where a fine-tune leaves each fact `kept` of its rate."""
    chance = np.random.default_rng(seed)
    card, before = (levelled(chance.binomial(draws, RATES), draws) for _ in range(2))
    after = levelled(chance.binomial(draws, kept * RATES), draws)
    return level_moves(card, before, after, facts_of(len(RATES), answers=60))


def test_a_fine_tune_that_does_nothing_shows_no_change():
    covered, naive = [], []
    for seed in range(200):
        *_, top, every = simulate(seed)
        covered += [one.change.low <= 0 <= one.change.high for one in (top, every)]
        naive.append(top.after - top.levelled)
    assert 0.92 <= np.mean(covered) <= 0.985
    assert np.mean(naive) < -0.02


def test_measured_against_the_card_a_fine_tune_that_does_nothing_shows_a_loss():
    """The interval of after minus levelled misses 0 in half of the cases, not in 1 of 20."""
    missed = 0
    for seed in range(60):
        chance = np.random.default_rng(seed)
        card, after = (chance.binomial(16, RATES) for _ in range(2))
        top = card > 12
        facts = facts_of(len(RATES), answers=60).with_columns(level=pl.lit(4))
        design = Design.of(facts.filter(pl.Series(top)), by_level=False)
        missed += mean_change(design, ((after - card) / 16)[top]).high < 0
    assert missed > 20


def test_a_loss_of_a_known_size_is_found():
    every = simulate(1, kept=0.7)[-1]
    assert every.change.value == pytest.approx(-0.3 * RATES.mean(), abs=0.04)
    assert every.change.high < 0
    assert every.chance.low <= 0 <= every.chance.high


def test_what_shows_no_variation_has_no_interval():
    whole = levelled([4, 4, 4], 4)
    (top, every) = level_moves(whole, whole, levelled([1, 1, 1], 4), facts_of(3))
    assert (top.after, top.chance, top.change, every.change) == (0.25, None, None, None)
    alike = facts_of(2).with_columns(relation=pl.lit("r"), answer=pl.lit("a"))
    (_, every) = level_moves(
        levelled([4, 4], 4), levelled([4, 3], 4), levelled([0, 1], 4), alike
    )  # one cluster
    assert every.change is None


def test_clusters_that_change_alike_in_sum_have_no_interval():
    facts = pl.DataFrame({"fact_id": ["a", "b", "c", "d"], "level": 4, "relation": "r",
                          "answer": ["x", "x", "y", "y"]})  # fmt: skip
    design = Design.of(facts, by_level=False)
    assert mean_change(design, np.array([0.5, -0.5, 0.5, -0.5])) is None
    assert mean_change(design, np.array([0.5, 0.5, -0.5, -0.5])) is not None


def test_a_fact_that_was_not_measured_just_once_is_refused():
    whole = levelled([4, 2, 0], 4)
    args = {"card": whole, "before": whole, "after": whole, "facts": facts_of(3)}
    for name in ("card", "before", "after"):
        for frame in (whole.head(2), pl.concat([whole, whole.head(1)])):
            with pytest.raises(ValueError, match="just once"):
                level_moves(**{**args, name: frame})
    with pytest.raises(ValueError, match="just once"):
        level_tables(**{**args, "facts": facts_of(3).clear()})
    missing = whole.with_columns(rate=pl.when(pl.col("level") > 0).then("rate"))
    with pytest.raises(ValueError, match="just once"):
        level_moves(**{**args, "after": missing})
