"""The gate: verdicts, what is refused, and what it will be able to see."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from gates import TERMS, facts_of, side

from sftbench.analysis.exact import holm
from sftbench.common.errors import SftbenchError
from sftbench.gate.endpoints import Endpoint, all_endpoints, parse_endpoint
from sftbench.gate.judge import judge
from sftbench.gate.plan import sights_of
from sftbench.gate.sides import joined
from sftbench.gate.terms import parse_margin
from sftbench.report.gate_words import sentences

pytestmark = pytest.mark.unit


def endpoint(result, name):
    return next(one for one in result.endpoints if one.endpoint == name)


def test_a_candidate_like_the_baseline_passes():
    result = judge(side(0.97, 0.97, 0.97), side(0.97, 0.97, 0.97, name="new", seed=1), TERMS)
    assert (result.verdict, result.exit_code) == ("non_inferior", 0)
    assert endpoint(result, "retention:in").low > -0.05


def test_a_candidate_that_loses_a_fifth_fails():
    result = judge(side(0.95), side(0.75, name="new", seed=1), TERMS)
    assert (result.verdict, result.exit_code) == ("inferior", 1)
    assert not result.passed
    assert {one.fact_id[0] for one in result.lost} == {"i", "o"}


@pytest.mark.parametrize(("policy", "code"), [("report", 3), ("pass", 0), ("fail", 1)])
def test_what_too_few_facts_do_not_tell_is_inconclusive_and_says_what_would(policy, code):
    few = facts_of(12)
    result = judge(side(0.9, facts=few), side(0.9, name="new", seed=1, facts=few), TERMS, policy)
    assert (result.verdict, result.exit_code) == ("inconclusive", code)
    assert endpoint(result, "retention:in").settling is not None
    assert any("settle" in line for line in sentences(result))


def test_the_very_same_answers_on_few_facts_are_no_pass():
    few = facts_of(5)
    mine = side(0.9, facts=few)
    other = replace(
        mine,
        name="new",
        runs=(replace(mine.runs[0], name=mine.runs[0].name.model_copy(update={"digest": "x"})),),
    )
    result = judge(mine, other, TERMS)
    assert endpoint(result, "retention:in").difference == 0
    assert result.verdict == "inconclusive"


def test_figures_are_means_over_runs_and_levels():
    mine, other = side(0.9, 0.8), side(0.7, name="new", seed=3)
    result = judge(mine, other, TERMS)
    one = endpoint(result, "retention:in")
    known = mine.facts.join(mine.base, on="fact_id").filter(
        pl.col("right"), pl.col("domain") == "in", pl.col("level") > 0
    )
    by_run = [
        known.select("fact_id", "level")
        .join(run.right, on="fact_id")
        .group_by("level")
        .agg(pl.col("right").mean())["right"]
        .mean()
        for run in (*mine.runs, *other.runs)
    ]
    assert one.baseline == pytest.approx((by_run[0] + by_run[1]) / 2)
    assert one.candidate == pytest.approx(by_run[2])
    assert one.difference == pytest.approx(one.candidate - one.baseline)
    assert one.n == known.height


def test_primary_endpoints_are_not_adjusted_and_the_others_are():
    result = judge(side(0.9), side(0.86, name="new", seed=1), TERMS)
    alone = [
        judge(
            side(0.9),
            side(0.86, name="new", seed=1),
            TERMS.model_copy(update={"primary": (one.endpoint,)}),
        )
        for one in result.others
    ]
    raw = [result_.primary[0].p_noninferior for result_ in alone]
    assert [one.p_noninferior for one in result.others] == pytest.approx(raw)
    assert [one.p_noninferior_holm for one in result.others] == pytest.approx(holm(raw))


def test_each_of_several_primary_endpoints_must_pass():
    facts = facts_of()
    mine = side(0.97, 0.97, 0.97, facts=facts)
    worse = side(0.97, 0.97, 0.97, name="new", seed=1, facts=facts)
    out = pl.col("fact_id").str.starts_with("out")
    runs = tuple(
        replace(
            run,
            right=run.right.with_columns(
                right=pl.col("right") & ~(out & pl.col("fact_id").str.ends_with("1"))
            ),
        )
        for run in worse.runs
    )
    worse = replace(worse, runs=runs)
    alone = judge(mine, worse, TERMS)
    assert alone.primary[0].verdict == "non_inferior"
    both = judge(
        mine, worse, TERMS.model_copy(update={"primary": ("retention:in", "retention:out")})
    )
    assert both.verdict in ("inferior", "inconclusive")


def test_an_endpoint_that_does_not_decide_fails_the_gate_where_it_is_shown_to_be_inferior():
    mine, new = side(0.98, 0.98, 0.98), side(0.98, 0.98, 0.98, name="new", seed=1)
    out = pl.col("fact_id").str.starts_with("out")
    runs = tuple(
        replace(run, right=run.right.with_columns(right=pl.col("right") & ~out)) for run in new.runs
    )
    result = judge(mine, replace(new, runs=runs), TERMS)
    assert result.primary[0].verdict == "non_inferior"
    assert (result.verdict, result.exit_code) == ("inferior", 1)
    assert any("did not fail" in line for line in sentences(result))


# What is refused


@pytest.mark.parametrize("name", ["base", "suite", "mastery card", "answers", "decoding"])
def test_sides_that_were_made_otherwise_are_refused_and_the_difference_is_named(name):
    mine, other = side(0.9), side(0.9, name="new", seed=1)
    mine, other = (
        replace(one, identity={**one.identity, name: letter * 32})
        for one, letter in ((mine, "a"), (other, "c"))
    )
    with pytest.raises(SftbenchError, match=f"differ in {name} \\(a+ and c+\\)") as error:
        judge(mine, other, TERMS)
    assert "gate init" in error.value.remedy


def test_other_facts_are_named_once_and_not_as_other_levels_and_questions():
    with pytest.raises(SftbenchError) as error:
        judge(side(0.9), side(0.9, name="new", seed=1, facts=facts_of(60)), TERMS)
    assert "facts asked" in str(error.value)
    assert "questions" not in str(error.value)


@pytest.mark.parametrize("name", ["questions", "mastery card", "decoding"])
def test_a_side_that_does_not_say_what_it_must_is_no_side(name):
    mine, other = side(0.9), side(0.9, name="new", seed=1)
    less = {key: value for key, value in mine.identity.items() if key != name}
    with pytest.raises(SftbenchError, match=f"does not say what it must: {name}"):
        judge(replace(mine, identity=less), other, TERMS)


@pytest.mark.parametrize("field", ["recipe", "variant"])
def test_a_side_is_runs_of_one_recipe(field):
    parts = []
    for value in ("a", "b"):
        one = side(0.9, name=value, seed=ord(value))
        name = one.runs[0].name.model_copy(update={field: value, "seed": ord(value)})
        parts.append(replace(one, runs=(replace(one.runs[0], name=name),)))
    with pytest.raises(SftbenchError, match=f"different {field}"):
        joined("x", parts)


def test_runs_of_the_baseline_may_be_the_candidate_but_not_help_it():
    mine = side(0.97, 0.97, 0.97)
    again = judge(mine, replace(mine, name="again"), TERMS)
    assert any("a run of the baseline itself" in note for note in again.notes)
    mixed = replace(side(0.7, name="new", seed=1), name="mixed")
    mixed = replace(mixed, runs=(*mixed.runs, *mine.runs[:2]))
    with pytest.raises(SftbenchError, match="holds runs of recipe"):
        judge(mine, mixed, TERMS)


def test_fewer_runs_than_promised_are_refused():
    with pytest.raises(SftbenchError, match="1 of the 3 runs"):
        judge(side(0.9), side(0.9, name="new"), TERMS.model_copy(update={"seeds": 3}))


@pytest.mark.parametrize(("field", "value"), [("digest", "same"), ("seed", 0), ("name", "same")])
def test_a_run_counts_once(field, value):
    runs = side(0.9, 0.9).runs
    same = [replace(run, name=run.name.model_copy(update={field: value})) for run in runs]
    parts = [replace(side(0.9), runs=(run,)) for run in same]
    with pytest.raises(SftbenchError, match="have the same"):
        joined("x", parts)


def test_a_base_that_answers_otherwise_is_another_engine():
    with pytest.raises(SftbenchError, match="the base itself"):
        judge(side(0.9), side(0.9, name="new", seed=1, base=0.85), TERMS)


def test_a_few_flips_of_the_base_are_said():
    mine = side(0.9)
    first = mine.base["fact_id"][500]
    flipped = mine.base.with_columns(
        right=pl.when(pl.col("fact_id") == first).then(~pl.col("right")).otherwise("right")
    )
    other = replace(side(0.9, name="new", seed=1), base=flipped)
    assert any("1 of 800 facts" in note for note in judge(mine, other, TERMS).notes)


def test_retention_needs_the_base():
    mine, other = side(0.9, base=None), side(0.9, name="new", seed=1, base=None)
    with pytest.raises(SftbenchError, match="needs what the base answers"):
        judge(mine, other, TERMS)
    terms = TERMS.model_copy(update={"primary": ("accuracy:in",)})
    assert judge(mine, other, terms).primary[0].endpoint == "accuracy:in"


def test_an_endpoint_without_facts_is_refused():
    facts = facts_of(domains=("in",))
    with pytest.raises(SftbenchError, match="rests on no fact"):
        judge(
            side(0.9, facts=facts),
            side(0.9, name="new", facts=facts, seed=1),
            TERMS.model_copy(update={"primary": ("retention:out",)}),
        )


@pytest.mark.parametrize("text", ["retention", "retention:up", "loss:in", "retention:in:level0",
                                  "accuracy:in:level9", "accuracy:in:3", ""])  # fmt: skip
def test_unknown_endpoints(text):
    with pytest.raises(SftbenchError, match="no endpoint"):
        parse_endpoint(text)


def test_endpoint_names_are_read_as_they_are_written():
    known = facts_of().with_columns(base=pl.lit(value=True))
    found = all_endpoints(known)
    assert len(found) == len({one.name for one in found}) == 12
    assert [parse_endpoint(one.name) for one in found] == found
    assert parse_endpoint("accuracy:in:level0") == Endpoint("accuracy", "in", 0)


@pytest.mark.parametrize("text", ["0", "0pp", "100pp", "1", "-2pp", "nan", "two", "", "2"])
def test_margins_that_are_none(text):
    with pytest.raises(SftbenchError, match="is none"):
        parse_margin(text)


def test_margins():
    assert parse_margin("2pp") == pytest.approx(0.02)
    assert parse_margin(" 0.02 ") == 0.02
    assert parse_margin("0.5pp") == pytest.approx(0.005)


# What a gate sees


def test_what_a_gate_sees_is_told_from_the_runs():
    (found,) = sights_of(side(0.9, 0.9, 0.9), TERMS)
    assert "3 runs" in found.assumed
    assert found.planned.discordance == pytest.approx((0.18,) * 4, abs=0.06)
    passes = [chance.passes for _, chance in found.losses]
    assert passes == sorted(passes, reverse=True)
    at_margin = dict(found.losses)[TERMS.margin]
    assert at_margin.passes <= 0.055


def test_one_run_says_what_is_assumed():
    (found,) = sights_of(side(0.9), TERMS)
    assert "one run shows nothing" in found.assumed
