"""Shares and differences with their bounds: what always holds, and the design in them."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.estimates import difference, share
from sftbench.analysis.intervals import mean_difference, mean_share, quantile

pytestmark = pytest.mark.unit

SCHEMA = ["fact_id", "level", "relation", "answer", "before", "after"]

some = settings(max_examples=40, deadline=None)
tables = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from("rs"),
        st.sampled_from("abcde"),
        st.integers(0, 1),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=30,
).map(
    lambda rows: pl.DataFrame(
        [(f"f{place:02d}", *row) for place, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )
)


def read(facts):
    design = Design.of(facts)
    return design, *(value_column(facts, design, name) for name in ("before", "after"))


def own_answers(n, level=1):
    return Design.of(
        pl.DataFrame(
            {
                "fact_id": [f"f{i:04d}" for i in range(n)],
                "level": [level] * n,
                "relation": ["r"] * n,
                "answer": [f"a{i}" for i in range(n)],
            }
        )
    )


@some
@given(tables)
def test_a_share_lies_in_its_interval_in_0_to_1(facts):
    design, right, _ = read(facts)
    found = share(design, right)
    assert found.value == design.mean(right)
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1
    assert found.low < found.high
    assert found.limited == (found.value, found.low, found.high)
    assert (found.n, found.clusters) == (design.n, design.clusters)


@some
@given(tables)
def test_a_difference_lies_in_its_interval_in_minus_1_to_1(facts):
    found = difference(*read(facts))
    assert -1 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1
    assert found.low < found.high


@some
@given(tables, st.integers(0, 10**6))
def test_the_order_of_the_rows_does_not_matter(facts, seed):
    mixed = facts.sample(fraction=1, shuffle=True, seed=seed)
    assert difference(*read(mixed)) == difference(*read(facts))
    assert share(*read(mixed)[:2]) == share(*read(facts)[:2])


@some
@given(tables, st.integers(0, 10**6))
def test_one_side_in_another_order_is_paired_by_fact_id(facts, seed):
    design, before, after = read(facts)
    mixed = facts.select("fact_id", "after").sample(fraction=1, shuffle=True, seed=seed)
    assert value_column(mixed, design, "after").tolist() == after.tolist()
    found = difference(design, before, value_column(mixed, design, "after"))
    assert found == difference(design, before, after)


@some
@given(tables)
def test_equal_answers_differ_by_nothing(facts):
    design, before, _ = read(facts)
    found = difference(design, before, before)
    assert (found.value, found.se) == (0, 0)
    assert found.clusters == 1 or found.deff == 1
    assert found.low < 0 < found.high
    assert found.low == pytest.approx(-found.high, abs=1e-7)


@some
@given(tables)
def test_exchanging_before_and_after_mirrors_the_interval(facts):
    design, before, after = read(facts)
    one, other = difference(design, before, after), difference(design, after, before)
    assert (-other.value, -other.high, -other.low) == pytest.approx(one.limited[:3], abs=1e-7)
    assert (other.se, other.df, other.deff) == pytest.approx((one.se, one.df, one.deff))


@some
@given(tables)
def test_what_is_right_and_what_is_wrong_mirror_each_other(facts):
    design, right, _ = read(facts)
    one, other = share(design, right), share(design, 1 - right)
    assert (1 - other.value, 1 - other.high, 1 - other.low) == pytest.approx(
        one.limited[:3], abs=1e-7
    )


@some
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=20))
def test_more_facts_of_the_same_shares_give_a_narrower_interval(answers):
    before, after = np.array(answers, dtype=float).T
    one, four = own_answers(len(before)), own_answers(4 * len(before))

    def width(found):
        return found.high - found.low

    assert width(share(four, np.tile(after, 4))) < width(share(one, after))
    more = difference(four, np.tile(before, 4), np.tile(after, 4))
    assert width(more) < width(difference(one, before, after))


def test_independent_facts_have_the_score_interval_with_a_t_quantile():
    design = own_answers(50)
    right = (np.arange(50) % 5 > 0).astype(float)
    found = share(design, right)
    n = 50 / (50 / 49)  # the design effect of the sample variance
    assert found.low == pytest.approx(mean_share([0.8 * n], [n], q=quantile(49)).low)
    assert found.se == pytest.approx(math.sqrt(0.16 / 49))
    before = np.roll(right, 1)
    change = difference(design, before, right)
    bounds = mean_difference([0.2 * 50], [0.2 * 50], [50 / change.deff * 1.0], q=quantile(49))
    assert change.value == pytest.approx(0)
    assert change.high <= bounds.high


def test_facts_that_are_lost_together_give_a_wider_interval():
    """Every fact of an answer alike: as uncertain as so many answers, not as so many facts."""
    apart = own_answers(100)
    facts = pl.DataFrame({"fact_id": apart.fact_ids, "level": 1, "relation": "r"})
    together = Design.of(
        facts.with_columns(answer=pl.Series([f"a{i // 10}" for i in range(100)])),
    )
    before, after = np.ones(100), (np.arange(100) // 10 % 5 > 0).astype(float)
    one, ten = difference(apart, before, after), difference(together, before, after)
    assert one.value == ten.value == pytest.approx(-0.2)
    assert ten.deff == pytest.approx(10 * 10 / 9)
    assert ten.se == pytest.approx(math.sqrt(0.16 / 9))
    assert ten.high - ten.low > 3 * (one.high - one.low)
    answers = difference(own_answers(10), before[:10], after[::10])
    assert ten.limited == pytest.approx(answers.limited)
