"""Ranks with tie groups: what is apart is told apart, and chance ranks nobody."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sftbench_leaderboard.ranks import rank

from sftbench.analysis.design import Design

pytestmark = pytest.mark.unit


def facts(n: int, answers: int = 40, relations: int = 4) -> Design:
    numbers = np.arange(n)
    return Design.of(
        pl.DataFrame(
            {
                "fact_id": [f"{number:05d}" for number in numbers],
                "level": (1 + numbers % 4).astype(np.int8),
                "relation": [f"r{number % relations}" for number in numbers],
                "answer": [f"a{number % answers}" for number in numbers],
            }
        )
    )


def models(design: Design, shares: list[float], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.array([random.random(design.n) < share for share in shares]).astype(float)


def test_what_is_apart_has_a_rank_of_its_own() -> None:
    design = facts(400)
    kept = models(design, [0.6, 0.95, 0.8, 0.951], seed=1)
    found = rank(design, kept)
    assert [one.rank for one in found] == [3, 1, 2, 1]
    assert sum(one.leads for one in found) == 3
    assert found[0].score == pytest.approx(design.mean(kept[0]))


def test_a_copy_stands_with_its_original() -> None:
    design = facts(80)
    kept = models(design, [0.9, 0.5], seed=2)
    found = rank(design, np.vstack([kept, kept]))
    assert [one.rank for one in found] == [1, 2, 1, 2]
    assert [one.leads for one in found] == [True, True, False, False]


def test_whole_answers_lost_by_chance_do_not_separate() -> None:
    """Two models that each lose one of 12 answers, of 10 facts: no difference of ten facts."""
    design = facts(120, answers=12, relations=1)
    kept = np.ones((2, design.n))
    kept[0, design.cluster == 0] = 0
    kept[1, (design.cluster == 1) | (design.cluster == 2)] = 0
    assert [one.rank for one in rank(design, kept)] == [1, 1]


def test_equals_are_set_apart_no_more_often_than_stated() -> None:
    """Two equal models whose answers hang together: the worse of the two falls in 5 % or less.

    Either may be the worse one, so that the two-sided rate is twice alpha.
    """
    design = facts(200, answers=50, relations=2)
    random = np.random.default_rng(3)
    apart = 0
    for _ in range(400):
        by_answer = random.random((2, design.clusters)) < 0.5
        loose = random.random((2, design.n)) < 0.85
        kept = np.where(random.random((2, design.n)) < 0.5, by_answer[:, design.cluster], loose)
        apart += max(one.rank for one in rank(design, kept.astype(float))) > 1
    assert apart / 400 <= 0.1 + 3 * (0.1 * 0.9 / 400) ** 0.5


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_ranks_are_dense_and_follow_the_scores(seed: int, count: int) -> None:
    design = facts(60, answers=15)
    random = np.random.default_rng(seed)
    kept = models(design, list(random.uniform(0.2, 1, count)), seed)
    found = rank(design, kept)
    by_score = sorted(found, key=lambda one: (-one.score, one.rank))
    ranks = [one.rank for one in by_score]
    assert ranks[0] == 1
    assert all(after - before in (0, 1) for before, after in itertools.pairwise(ranks))
    for score in {one.score for one in found}:
        assert len({one.rank for one in found if one.score == score}) == 1
    for group in set(ranks):
        assert sum(one.leads for one in found if one.rank == group) == 1
    shuffled = list(range(count))[::-1]
    assert [one.rank for one in rank(design, kept[shuffled])] == [
        found[place].rank for place in shuffled
    ]
