"""Forgetting held against random changes, and answers that flip: by hand, and the edges."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.intervals import difference_of, wilson
from sftbench.analysis.noise import flipped, forgetting

pytestmark = pytest.mark.unit

few = settings(max_examples=25, deadline=None)
SCHEMA = ["fact_id", "level", "relation", "answer", "base", "tuned", "noise 1", "noise 2"]
ANSWER = st.booleans()
tables = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from("rs"), st.sampled_from("abcd"), *[ANSWER] * 4
    ),
    min_size=1,
    max_size=25,
).map(
    lambda rows: pl.DataFrame(
        [(f"f{place:02d}", *row) for place, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )
)  # fmt: skip


def known_facts(lost, *lost_by_noise, n=20):
    """Facts of one level that the base knows; the first ones are lost."""
    counts = {"tuned": lost, **{f"noise {i}": one for i, one in enumerate(lost_by_noise, 1)}}
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:02d}" for i in range(n)],
            "level": [2] * n,
            "relation": ["r"] * n,
            "answer": [f"a{i}" for i in range(n)],
            "base": [True] * n,
            **{name: [i >= count for i in range(n)] for name, count in counts.items()},
        }
    )


def held_against(facts, draws):
    found = forgetting(facts, "base", "tuned", [f"noise {i + 1}" for i in range(draws)])
    assert found is not None
    return found


def test_by_hand():
    found = held_against(known_facts(8, 2, 4), 2)
    assert (found.known, found.lost, found.lost_by_noise) == (20, 8, (2, 4))
    assert found.tuned.value == pytest.approx(0.4)
    assert found.noise.runs == pytest.approx((0.1, 0.2))
    assert found.noise.value == pytest.approx(0.15)
    assert found.noise.between == pytest.approx(0.1 / math.sqrt(2))
    assert found.excess.value == pytest.approx(0.25)
    assert found.excess.low < 0.25 < found.excess.high
    alone = difference_of(found.tuned.limited, found.noise.limited)
    assert alone.low <= found.excess.low
    assert found.excess.high <= alone.high
    assert found.times.value == pytest.approx(0.4 / 0.15)
    assert found.times.low < found.times.value < found.times.high


def test_only_known_facts_above_level_0_count_and_levels_count_alike():
    facts = known_facts(10, 5).with_columns(
        level=pl.Series([0, 0, *[1] * 8, *[3] * 10]),
        base=pl.Series([True] * 9 + [False] + [True] * 10),
    )
    found = held_against(facts, 1)
    assert (found.known, found.lost, found.lost_by_noise) == (17, 7, (3,))
    assert found.tuned.value == pytest.approx((1 + 0) / 2)
    assert found.noise.value == pytest.approx((3 / 7 + 0) / 2)
    assert found.noise.between is None


def test_without_known_facts_there_is_none():
    nothing = known_facts(1, 1).with_columns(base=pl.lit(value=False))
    assert forgetting(nothing, "base", "tuned", ["noise 1"]) is None
    level_0 = known_facts(1, 1).with_columns(level=pl.lit(0))
    assert forgetting(level_0, "base", "tuned", ["noise 1"]) is None


def test_noise_that_forgets_nothing_leaves_the_ratio_without_upper_bound():
    found = held_against(known_facts(8, 0, 0, 0), 3)
    assert (found.times.value, found.times.high) == (math.inf, math.inf)
    assert 0 < found.times.low < math.inf
    assert found.excess.value == pytest.approx(0.4)
    neither = held_against(known_facts(0, 0, 0, 0), 3)
    assert math.isnan(neither.times.value)
    assert (neither.times.low, neither.times.high) == (0, math.inf)
    assert neither.excess.low < 0 < neither.excess.high


def test_a_fine_tune_that_is_like_noise_is_no_more_than_it():
    found = held_against(known_facts(3, 3, 3), 2)
    assert found.excess.value == 0
    assert found.excess.low < 0 < found.excess.high
    assert found.times.low < found.times.value == 1 < found.times.high


def test_much_more_than_noise_is_seen():
    found = held_against(known_facts(60, 4, 6, 5, n=100), 3)
    assert found.excess.low > 0.4
    assert found.times.low > 3


@few
@given(tables)
def test_times_and_excess_say_the_same(facts):
    found = forgetting(facts, "base", "tuned", ["noise 1", "noise 2"])
    for one in () if found is None else (found, found.alike):
        assert 0 <= one.correlation <= 1
        for ratio, gap in ((one.times.low, one.excess.low), (one.times.high, one.excess.high)):
            assert (ratio > 1) == (gap > 0) or abs(ratio - 1) < 1e-6


def test_facts_that_both_forget_make_the_difference_surer():
    alike = held_against(known_facts(8, 8, 6), 2)
    apart = known_facts(8, 8, 6).with_columns(tuned=pl.col("tuned").reverse())
    assert held_against(apart, 2).correlation == 0 < alike.correlation
    assert held_against(apart, 2).noise == alike.noise
    assert alike.excess.low > held_against(apart, 2).excess.low


@few
@given(tables, st.integers(0, 10**6))
def test_the_order_of_rows_and_draws_does_not_matter(facts, seed):
    found = forgetting(facts, "base", "tuned", ["noise 1", "noise 2"])
    mixed = facts.sample(fraction=1, shuffle=True, seed=seed)
    other = forgetting(mixed, "base", "tuned", ["noise 1", "noise 2"])
    assert repr(other) == repr(found)  # NaN is not equal to itself
    turned = forgetting(facts, "base", "tuned", ["noise 2", "noise 1"])
    if found is None:
        assert facts.filter(pl.col("base"), pl.col("level") > 0).is_empty()
        return
    assert turned is not None
    assert turned.lost_by_noise == found.lost_by_noise[::-1]
    assert turned.noise.limited == pytest.approx(found.noise.limited, abs=1e-8)
    assert found.excess.value == pytest.approx(found.tuned.value - found.noise.value)
    assert found.lost <= found.known


def asked(correct, text):
    names = [f"f{i}" for i in range(len(correct))]
    return pl.DataFrame({"fact_id": names, "correct": correct, "text": text})


def test_flips_by_hand():
    first = asked([True, True, False, False], ["a", "b", "c", "d"])
    second = asked([True, False, False, True], ["A", "x", "c", "y"])
    found = flipped(first, second.reverse())
    assert (found.n, found.changed, found.worded, found.share) == (4, 2, 3, 0.5)
    assert found.interval == wilson(2, 4)
    assert flipped(first, first)[:4] == (4, 0, 0, 0.0)


def test_flips_need_the_same_facts_each_once():
    facts = asked([True, False], ["a", "b"])
    for other in (facts.head(1), facts.with_columns(fact_id="g" + pl.col("fact_id"))):
        with pytest.raises(ValueError, match="same facts"):
            flipped(facts, other)
    twice = pl.concat([facts.head(1)] * 2)
    with pytest.raises(ValueError, match="each once"):
        flipped(twice, twice)


def test_draws_at_random_are_held_against_draws_of_their_like():
    """A fine-tune that is one more draw of the noise is rarely found to forget more."""
    rng = np.random.default_rng(3)
    ease = rng.random(150) * 0.3
    seen = 0
    for _ in range(40):
        columns = {name: pl.Series(rng.random(150) >= ease) for name in SCHEMA[5:]}
        found = held_against(known_facts(0, n=150).with_columns(**columns), 2)
        seen += found.excess.low > 0
    assert seen <= 5
