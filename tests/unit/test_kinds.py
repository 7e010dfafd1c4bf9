"""Which kind a loss is: the rule, its interval, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.analysis.kinds import LEAST_ERROR, Rate, change, is_lower, kind_of, none_left

pytestmark = pytest.mark.unit

DRAWS = 210


def drawn(hits: int) -> Rate:
    return Rate(hits / DRAWS, draws=DRAWS)


hits = st.integers(0, DRAWS)
chances = st.builds(
    lambda value, error: Rate(value, error=error), st.floats(0, 1), st.floats(0, 0.2)
)


def test_a_fact_that_is_gone_is_a_loss_of_knowledge() -> None:
    assert kind_of(drawn(100), drawn(0)) == "knowledge"
    assert kind_of(Rate(0.5, error=0.03), Rate(0.1, error=0.03)) == "knowledge"


def test_a_fact_that_is_still_there_is_a_loss_of_access() -> None:
    assert kind_of(drawn(100), drawn(95)) == "access"
    assert kind_of(drawn(100), drawn(160)) == "access"
    assert kind_of(Rate(0.5, error=0.03), Rate(0.45, error=0.03)) == "access"
    # A fall that is sure and small: the fact is there.
    assert kind_of(Rate(0.8, error=0.002), Rate(0.7, error=0.002)) == "access"
    assert kind_of(Rate(0.8, error=0.002), Rate(0.6, error=0.002)) == "knowledge"


def test_a_fact_that_the_base_hardly_states_cannot_be_told() -> None:
    assert kind_of(drawn(2), drawn(0)) == "undecided"
    assert kind_of(drawn(0), drawn(0)) == "undecided"
    assert kind_of(Rate(0.001, error=0.0005), Rate(0.0, error=0.0)) == "undecided"
    # ... but what could have been seen and was not is access.
    assert kind_of(drawn(12), drawn(10)) == "access"


@given(hits, hits)
def test_newcombes_interval_of_two_shares(before: int, after: int) -> None:
    low, high = change(drawn(before), drawn(after))
    assert -1 <= low <= (after - before) / DRAWS + 1e-12
    assert high >= (after - before) / DRAWS - 1e-12
    turned = change(drawn(after), drawn(before))
    assert (turned.low, turned.high) == pytest.approx((-high, -low))


def test_newcombes_interval_is_that_of_statsmodels_formula() -> None:
    # Newcombe 1998, table II (a): 56 of 70 against 48 of 80, method 10: 0.0524 to 0.3339.
    low, high = change(Rate(48 / 80, draws=80), Rate(56 / 70, draws=70))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(chances, chances)
def test_a_surer_measurement_tells_no_less(before: Rate, after: Rate) -> None:
    assert change(before, after).low <= after.value - before.value <= change(before, after).high
    if is_lower(before, after):
        assert is_lower(before._replace(error=LEAST_ERROR), after)
        assert is_lower(before, none_left(after))


@given(hits, hits)
def test_a_larger_fall_is_a_loss_where_a_smaller_one_is(before: int, after: int) -> None:
    if after and kind_of(drawn(before), drawn(after)) == "knowledge":
        assert kind_of(drawn(before), drawn(after - 1)) == "knowledge"


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3, 0.5, 0.8, 0.97])
def test_the_base_against_itself_is_rarely_less_known(rate: float) -> None:
    """Draws in 21 templates that differ: no more than 2.5 % are called a loss of knowledge."""
    random = np.random.default_rng(7)
    spread = 8
    templates = random.beta(rate * spread, (1 - rate) * spread, (4000, 21))
    before, after = (random.binomial(10, templates).sum(axis=1) for _ in range(2))
    lower = [is_lower(drawn(b), drawn(a)) for b, a in zip(before, after, strict=True)]
    assert np.mean(lower) <= 0.025
