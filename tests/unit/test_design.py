"""The stratified clustered variance: against R's survey package, and what always holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.design import Design, value_column

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[1] / "data" / "statistics"
FACTS = pl.read_csv(DATA / "facts.csv").with_columns(change=pl.col("after") - pl.col("before"))
SURVEY = json.loads((DATA / "survey.json").read_text())
SCHEMA = ["fact_id", "level", "relation", "answer", "right"]

some = settings(max_examples=50, deadline=None)
tables = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from("rst"), st.sampled_from("abcde"), st.integers(0, 1)
    ),
    min_size=1,
    max_size=30,
).map(
    lambda rows: pl.DataFrame(
        [(f"f{place:02d}", *row) for place, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )
)
seeds = st.integers(0, 10**6)


def own_answers(n, relations=1):
    numbers = range(n)
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:04d}" for i in numbers],
            "level": [1] * n,
            "relation": [f"r{i % relations}" for i in numbers],
            "answer": [f"a{i}" for i in numbers],
        }
    )


@pytest.mark.parametrize("name", [name for name in SURVEY if name != "survey"])
def test_figure_and_variance_are_those_of_the_survey_package(name):
    which, column, by = name.split()
    facts = FACTS if which == "all" else FACTS.filter(pl.col("relation") != "currency")
    design = Design.of(facts, by_level=by == "levels")
    values = value_column(facts, design, column)
    assert design.mean(values) == pytest.approx(SURVEY[name]["value"], abs=1e-9)
    assert design.spread(values).variance == pytest.approx(SURVEY[name]["se"] ** 2, abs=1e-9)


def test_the_facts_asked_of_survey_hold_a_relation_of_one_answer_and_shared_ones():
    answers = FACTS.group_by("relation").agg(pl.col("answer").n_unique(), pl.len())
    assert answers.filter(pl.col("answer") == 1)["relation"].to_list() == ["currency"]
    assert (answers["len"] > answers["answer"]).all()
    assert set(FACTS["level"]) == {1, 2, 3, 4}


@pytest.mark.parametrize("column", ["right", "change"])
def test_degrees_of_freedom_are_those_of_the_quadratic_form(column):
    """2 mean^2 / variance of a quadratic form of normal totals, by matrices."""
    design = Design.of(FACTS)
    spread = design.spread(value_column(FACTS, design, column))
    form = np.zeros((design.clusters, design.clusters))
    for stratum in set(design.stratum):
        members = np.flatnonzero(design.stratum == stratum)
        m = len(members)
        block = (np.eye(m) - 1 / m) * m / (m - 1) if m > 1 else np.eye(1)
        form[np.ix_(members, members)] = block
    squares = np.array([(design.weights[design.cluster == c] ** 2).sum() for c in range(len(form))])
    sums = np.array([design.weights[design.cluster == c].sum() ** 2 for c in range(len(form))])
    shared = min(1.0, (spread.deff - 1) / (sums.sum() / squares.sum() - 1))
    totals = form @ np.diag((1 - shared) * squares + shared * sums)
    assert spread.df == pytest.approx(np.trace(totals) ** 2 / np.trace(totals @ totals))


def test_facts_with_answers_of_their_own_have_the_usual_variance_and_df():
    facts = own_answers(40)
    right = np.arange(40) % 4 == 0
    spread = Design.of(facts).spread(right.astype(float))
    assert spread.variance == pytest.approx(right.var(ddof=1) / 40)
    assert spread.df == pytest.approx(39)
    assert Design.of(own_answers(40, relations=4)).spread(right * 1.0).df == pytest.approx(36)


def test_facts_that_go_together_count_once():
    facts = own_answers(40).with_columns(
        answer=pl.Series([f"a{i // 4}" for i in range(40)])
    )  # ten answers of four facts
    right = (np.arange(40) // 4 % 2).astype(float)
    spread = Design.of(facts).spread(right)
    assert spread.variance == pytest.approx(0.25 / 9)
    assert spread.deff == pytest.approx(4 * 10 / 9)
    assert spread.df == pytest.approx(9)


def test_equal_answers_of_two_relations_are_two_clusters():
    facts = own_answers(4, relations=2).with_columns(answer=pl.lit("same"))
    assert Design.of(facts).clusters == 2


def test_that_relations_differ_is_no_uncertainty():
    design = Design.of(own_answers(40, relations=2))
    assert design.spread((np.arange(40) % 2).astype(float)).variance == pytest.approx(0)


def test_levels_count_alike_whatever_their_size():
    facts = own_answers(4).with_columns(level=pl.Series([0, 4, 4, 4]))
    right = np.array([1.0, 0.0, 0.0, 1.0])
    assert Design.of(facts).levels == (0, 4)
    assert Design.of(facts).mean(right) == pytest.approx((1 + 1 / 3) / 2)
    assert Design.of(facts, by_level=False).mean(right) == pytest.approx(0.5)


def test_no_facts_and_repeated_facts_are_refused():
    facts = own_answers(3)
    for wrong in (facts.clear(), pl.concat([facts, facts.head(1)])):
        with pytest.raises(ValueError, match="each once"):
            Design.of(wrong)


def test_values_are_paired_by_fact_id():
    facts = own_answers(5)
    design = Design.of(facts)
    rows = facts.select("fact_id", right=pl.Series([True, False, True, True, False]))
    found = value_column(rows.sort("fact_id", descending=True), design, "right")
    assert found.tolist() == [1, 0, 1, 1, 0]
    for wrong in (rows.head(4), pl.concat([rows, rows.head(1)])):
        with pytest.raises(ValueError, match="column right must hold each fact"):
            value_column(wrong, design, "right")


@some
@given(tables, seeds, st.booleans())
def test_the_order_of_the_rows_does_not_matter(facts, seed, by_level):
    found = []
    for rows in (facts, facts.sample(fraction=1, shuffle=True, seed=seed)):
        design = Design.of(rows, by_level=by_level)
        values = value_column(rows, design, "right")
        found.append((design.fact_ids.to_list(), design.mean(values), design.spread(values)))
    assert found[0] == found[1]


@some
@given(tables)
def test_names_do_not_matter(facts):
    design = Design.of(facts)
    values = value_column(facts, design, "right")
    renamed = facts.with_columns(
        fact_id=pl.Series([f"g{99 - i}" for i in range(facts.height)]),
        relation=pl.col("relation").replace({"r": "z", "t": "a"}),
        answer="x" + pl.col("answer").replace({"a": "Ω", "c": "0"}),
    )
    other = Design.of(renamed)
    spread = other.spread(value_column(renamed, other, "right"))
    assert spread == pytest.approx(design.spread(values))


@some
@given(tables, st.sampled_from([0.0, 1.0, 1 / 3]))
def test_constant_values_have_no_variance(facts, value):
    spread = Design.of(facts).spread(np.full(facts.height, value))
    assert spread.variance == pytest.approx(0, abs=1e-25)
    assert Design.of(facts).clusters == 1 or spread.deff == 1


def test_a_single_cluster_counts_as_one_fact():
    """It cannot show how clusters vary, so its facts are taken to hang together completely."""
    facts = own_answers(8).with_columns(answer=pl.lit("a"))
    spread = Design.of(facts).spread(np.array([1, 1, 1, 0, 1, 1, 1, 1.0]))
    assert spread.deff == 8
    assert spread.variance == pytest.approx(7 / 64)
    assert spread.df == 1


def test_relations_of_one_answer_each_show_together_how_answers_vary():
    facts = own_answers(4, relations=4)
    alike = own_answers(4)
    values = np.array([1, 0, 0, 0.0])
    assert Design.of(facts).spread(values) == Design.of(alike).spread(values)
    assert Design.of(facts).spread(values).df == pytest.approx(3)
    two = Design.of(own_answers(2, relations=2)).spread(np.array([1, 0.0]))
    assert two.df == 1


@some
@given(tables, st.booleans())
def test_weights_add_up_and_what_is_bounded_is_in_its_bounds(facts, by_level):
    design = Design.of(facts, by_level=by_level)
    values = value_column(facts, design, "right")
    spread = design.spread(values)
    assert design.weights.sum() == pytest.approx(1)
    assert design.weights @ values == pytest.approx(design.mean(values))
    assert (design.n, design.sizes.sum()) == (facts.height, facts.height)
    assert design.clusters == facts.select("relation", "answer").n_unique()
    assert spread.variance >= 0
    assert spread.deff >= 1
    assert 1 <= spread.df <= design.clusters + 1e-9


@some
@given(tables)
def test_right_and_wrong_are_equally_uncertain(facts):
    design = Design.of(facts)
    values = value_column(facts, design, "right")
    assert design.spread(1 - values) == pytest.approx(design.spread(values), abs=1e-12)
