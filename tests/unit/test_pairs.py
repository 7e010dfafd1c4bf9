"""Two variants on the same facts: counts, tests, pairing, and the smallest difference seen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.analysis.design import Design
from sftbench.analysis.estimates import difference
from sftbench.analysis.exact import holm, mcnemar, sign_flip
from sftbench.analysis.intervals import newcombe, tango
from sftbench.analysis.pairs import Counts, count, paired, smallest_seen

pytestmark = pytest.mark.unit

SCHEMA = ["fact_id", "level", "relation", "answer", "first", "second", "base"]
MODEL = st.booleans()

few = settings(max_examples=10, deadline=None)
some = settings(max_examples=60, deadline=None)
tables = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from("rs"), st.sampled_from("abcde"), MODEL, MODEL, MODEL
    ),
    min_size=1,
    max_size=30,
).map(
    lambda rows: pl.DataFrame(
        [(f"f{place:02d}", *row) for place, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )
)


def by_hand():
    """Ten facts of level 1 (kept 4, lost 3, gained 1, wrong 2), five of level 0 (all lost)."""
    first = [True] * 7 + [False] * 3 + [True] * 5
    second = [True] * 4 + [False] * 3 + [True] + [False] * 2 + [False] * 5
    return pl.DataFrame(
        {
            "fact_id": [f"f{i:02d}" for i in range(15)],
            "level": [1] * 10 + [0] * 5,
            "relation": ["r"] * 15,
            "answer": [f"a{i}" for i in range(10)] + ["same"] * 5,
            "first": first,
            "second": second,
            "base": first,
        }
    )


def test_counts_by_hand():
    found = paired(by_hand(), "first", "second", known="base")
    assert found.facts.counts == Counts(kept=4, lost=8, gained=1, wrong=2)
    assert (found.facts.counts.n, found.facts.counts.changed) == (15, 9)
    assert [one.level for one in found.levels] == [0, 1]
    assert [one.counts for one in found.levels] == [Counts(0, 5, 0, 0), Counts(4, 3, 1, 2)]
    assert found.macro.value == pytest.approx((-1 - 0.2) / 2)
    assert found.retention is not None
    assert (found.retention.value, found.retention.n) == (pytest.approx(-3 / 7), 7)


def test_tests_by_hand():
    found = paired(by_hand(), "first", "second")
    lost, mixed = found.levels
    assert lost.p_mcnemar == pytest.approx(2 / 2**5)
    assert lost.p == 1  # one answer: one exchange
    assert mixed.p == mixed.p_mcnemar == pytest.approx(mcnemar(3, 1))
    assert [one.p_holm for one in found.levels] == holm([lost.p, mixed.p])
    assert found.facts.p_holm == found.facts.p
    assert found.facts.tango == tango(1, 8, 15)
    assert found.facts.newcombe == newcombe(4, 1, 8, 15)
    assert found.retention is None


def test_without_known_facts_there_is_no_retention():
    facts = by_hand().with_columns(base=pl.col("level") == 0)
    assert paired(facts, "first", "second", known="base").retention is None


def test_no_facts_and_repeated_facts_are_refused():
    for wrong in (by_hand().clear(), pl.concat([by_hand(), by_hand().tail(1)])):
        with pytest.raises(ValueError, match="each once"):
            paired(wrong, "first", "second")


@few
@given(tables, st.integers(0, 10**6))
def test_the_order_of_the_rows_does_not_matter(facts, seed):
    mixed = facts.sample(fraction=1, shuffle=True, seed=seed)
    found = paired(facts, "first", "second", known="base")
    assert paired(mixed, "first", "second", known="base") == found


@few
@given(tables)
def test_a_variant_does_not_differ_from_itself(facts):
    found = paired(facts, "first", "first", known="base")
    for one in (found.facts, *found.levels):
        assert (one.p, one.p_mcnemar, one.p_holm, one.estimate.value) == (1, 1, 1, 0)
        assert one.counts.changed == 0
        for low, high in (one.tango, one.newcombe, (one.estimate.low, one.estimate.high)):
            assert low <= 0 <= high
    assert found.macro.value == 0
    assert found.macro.low < 0 < found.macro.high
    assert found.retention is None or found.retention.value == 0


@few
@given(tables)
def test_exchanging_the_variants_mirrors_the_intervals_and_keeps_p(facts):
    one, other = paired(facts, "first", "second"), paired(facts, "second", "first")
    for mine, theirs in zip((one.facts, *one.levels), (other.facts, *other.levels), strict=True):
        assert (mine.p, mine.p_mcnemar, mine.p_holm) == pytest.approx(
            (theirs.p, theirs.p_mcnemar, theirs.p_holm)
        )
        assert mine.counts == theirs.counts._replace(
            lost=theirs.counts.gained, gained=theirs.counts.lost
        )
        assert mine.tango == pytest.approx((-theirs.tango.high, -theirs.tango.low), abs=1e-7)
        assert mine.newcombe == pytest.approx((-theirs.newcombe.high, -theirs.newcombe.low))
        assert mine.smallest == pytest.approx(theirs.smallest)
    assert one.macro.low == pytest.approx(-other.macro.high, abs=1e-7)


@few
@given(tables)
def test_counts_add_up_and_bounds_hold_the_estimate(facts):
    found = paired(facts, "first", "second")
    assert found.facts.counts == tuple(
        map(sum, zip(*(one.counts for one in found.levels), strict=True))
    )
    assert found.facts.counts.n == facts.height
    for one in (found.facts, *found.levels):
        value = (one.counts.gained - one.counts.lost) / one.counts.n
        assert one.estimate.value == pytest.approx(value)
        for low, high in (one.tango, one.newcombe, (one.estimate.low, one.estimate.high)):
            assert -1 <= low <= value + 1e-9
            assert value - 1e-9 <= high <= 1
        assert one.p <= one.p_holm <= 1
        assert one.smallest is None or 0 < one.smallest <= 1
    assert found.macro_smallest is None or 0 < found.macro_smallest <= 1


def test_count_takes_numbers_and_booleans():
    before, after = np.array([1.0, 1.0, 0.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    assert count(before, after) == count(before > 0, after > 0) == Counts(1, 1, 2, 1)


def estimate_like(df, deff=1.0):
    return difference(own_answers(2), np.zeros(2), np.zeros(2))._replace(df=df, deff=deff)


def own_answers(n, together=1):
    numbers = range(n)
    return Design.of(
        pl.DataFrame(
            {
                "fact_id": [f"f{i:04d}" for i in numbers],
                "level": [1] * n,
                "relation": ["r"] * n,
                "answer": [f"a{i // together}" for i in numbers],
            }
        )
    )


levels_of = st.lists(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=1,
    max_size=5,
)


@some
@given(levels_of, st.floats(1, 500), st.floats(1, 20), st.integers(2, 10))
def test_the_smallest_difference_seen_is_none_or_a_fraction_and_falls_with_n(
    levels, df, deff, times
):
    changed, n = (list(column) for column in zip(*levels, strict=True))
    found = smallest_seen(changed, n, estimate_like(df, deff))
    assert found is None or 0 < found <= 1
    more = smallest_seen([c * times for c in changed], [m * times for m in n], estimate_like(df))
    if found is not None:
        assert more is not None
        assert more < found


def test_few_facts_see_no_difference():
    assert smallest_seen([0], [1], estimate_like(1.0)) is None
    assert smallest_seen([1], [2], estimate_like(1.0)) is None
    # Even if all of five facts change, the interval of independent facts holds 0.
    assert smallest_seen([1], [5], estimate_like(1e6)) == pytest.approx(1.0, abs=0.2)
    assert smallest_seen([1], [3], estimate_like(1e6)) is None


@pytest.mark.parametrize(("n", "together"), [(100, 1), (600, 1), (600, 5)])
def test_the_smallest_difference_is_seen_four_times_in_five(n, together):
    """Facts that gain or lose, whole answers alike, as often as that difference takes."""
    rng = np.random.default_rng(n + together)
    design, clusters = own_answers(n, together), n // together

    def drawn(true, changed):
        chance = rng.random(clusters)
        lost, gained = (changed - true) / 2, (changed + true) / 2
        step = (chance < gained).astype(float) - (chance > 1 - lost)
        return np.repeat(step, together)

    def seen(step):
        return difference(design, (step < 0) * 1.0, (step > 0) * 1.0)

    pilot = [seen(drawn(0.0, 0.2)) for _ in range(20)]
    typical = pilot[0]._replace(
        deff=float(np.mean([one.deff for one in pilot])),
        df=float(np.mean([one.df for one in pilot])),
    )
    smallest = smallest_seen([n // 5], [n], typical)
    assert smallest is not None
    found = [seen(drawn(smallest, 0.2)) for _ in range(250)]
    assert np.mean([one.low > 0 for one in found]) == pytest.approx(0.8, abs=0.1)


def test_sign_flip_of_all_facts_uses_the_clusters_within_relations():
    facts = by_hand().with_columns(relation=pl.Series(["r", "s"] * 7 + ["r"]))
    design = Design.of(facts, by_level=False)
    steps = facts["second"].cast(pl.Int8).to_numpy() - facts["first"].cast(pl.Int8).to_numpy()
    expected = sign_flip(steps.astype(float), design.cluster)
    assert paired(facts, "first", "second").facts.p == pytest.approx(expected)
    assert design.clusters == 12
