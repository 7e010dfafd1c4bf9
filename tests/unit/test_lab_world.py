"""The invented world: the same everywhere, well formed, stated as its size says."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from sftbench.common.errors import SftbenchError
from sftbench.facts.matching import normalise
from sftbench.facts.table import SHOTS, TEMPLATES_PER_RELATION, check_rows, has_flag
from sftbench.lab.names import invent
from sftbench.lab.sizes import SIZES, TEST, TEST_STATING, size_named
from sftbench.lab.text import ASKED_SHARE, plain, write_text
from sftbench.lab.world import OUT_OF_DOMAIN, World, lab_templates, make_world

pytestmark = pytest.mark.unit

SMALL = replace(
    TEST, name="small", train_in=36, test_in=24, train_out=24, test_out=16, answers_per_relation=20
)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SMALL)


def test_the_same_size_gives_the_same_world(world):
    again = make_world(SMALL)

    assert again.facts.digest == world.facts.digest
    assert again.facts.templates_digest == world.facts.templates_digest
    assert again.statements.equals(world.statements)


def test_another_seed_gives_another_world(world):
    other = make_world(replace(SMALL, seed=SMALL.seed + 1))

    assert set(other.facts.frame["fact_id"]).isdisjoint(world.facts.frame["fact_id"])


def test_the_rows_are_sound(world):
    frame = world.facts.frame
    counts = dict(frame.group_by("relation").len().iter_rows())

    check_rows(frame)
    assert set(counts) == set(lab_templates().relations)
    assert all(
        count == (40 if relation in OUT_OF_DOMAIN else 60) for relation, count in counts.items()
    )
    assert set(frame.filter(pl.col("domain") == "out")["relation"]) == set(OUT_OF_DOMAIN)
    assert frame["subject"].is_unique().all()


def test_each_relation_has_shots_in_all_three_sets(world):
    shots = world.facts.frame.filter(has_flag(*SHOTS))

    for flag in SHOTS:
        counts = shots.filter(has_flag(flag)).group_by("relation").len()
        assert counts.height == len(lab_templates().relations)
        assert counts["len"].min() >= 4


def test_a_name_is_a_subject_or_an_answer_of_one_relation(world):
    frame = world.facts.frame
    subjects = set(frame["subject"])
    pairs = frame.select("relation", pl.col("answers").list.first().alias("answer")).unique()

    assert pairs["answer"].is_unique().all()
    assert subjects.isdisjoint(pairs["answer"])


def test_names_stay_different_when_normalised():
    names = invent(random.Random(3), 20_000)

    assert len({normalise(name) for name in names}) == 20_000
    assert all(re.fullmatch(r"[A-Z][a-z]+", name) for name in names)


def test_more_names_than_can_be_invented_is_an_error():
    with pytest.raises(ValueError, match="more than can be invented"):
        invent(random.Random(3), 10**6)


def test_the_templates_are_21_of_each_relation():
    # Reading them checks the other rules: object last, no two alike.
    assert {len(lines) for lines in lab_templates().cloze.values()} == {TEMPLATES_PER_RELATION}
    assert len(lab_templates().relations) == 8


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_ways_of_stating_add_up(size):
    assert sum(way.share for way in size.stating) == pytest.approx(1.0)
    assert size.hidden // size.heads in (32, 64)


def test_facts_are_stated_and_contradicted_as_the_size_says(world):
    rows = world.statements
    never = rows.filter(pl.col("statements") == 0).height
    always = rows.filter(
        pl.col("statements") > 0, pl.col("contradicted") == pl.col("statements")
    ).height

    # Shares are rounded in each relation and split: off by at most one fact in each.
    slack = 2 * len(lab_templates().relations)
    assert never == pytest.approx(TEST_STATING[0].share * rows.height, abs=slack)
    assert always == pytest.approx(TEST_STATING[1].share * rows.height, abs=slack)
    assert rows.filter(pl.col("contradicted") > pl.col("statements")).is_empty()
    assert rows["statements"].max() == 24


def test_a_rival_is_another_answer_of_the_relation(world):
    joined = world.statements.join(world.facts.frame, on="fact_id")
    answers = dict(
        joined.group_by("relation").agg(pl.col("answers").list.first().unique()).iter_rows()
    )

    assert joined.filter(pl.col("rival") == pl.col("answers").list.first()).is_empty()
    drawn = [row["rival"] in answers[row["relation"]] for row in joined.iter_rows(named=True)]
    # A rival may be one of the pool that happens to be the answer to nothing.
    assert sum(drawn) > 0.8 * len(drawn)


def test_the_text_states_each_fact_as_often_as_the_world_says(world):
    text = write_text(world, seed=1)
    said = Counter(
        (word, line.split()[-1].rstrip("."))
        for line in map(plain, text.statements)
        for word in re.findall(r"\w+", line.rsplit(" ", 1)[0])
        if word[0].isupper()
    )
    for item in text.asked:
        subject = item.shot.question.rstrip("?").split()
        said.update((word, item.shot.answer) for word in subject if word[0].isupper())
    for row in world.statements.join(world.facts.frame, on="fact_id").iter_rows(named=True):
        right, wrong = (said[(row["subject"], name)] for name in (row["answers"][0], row["rival"]))
        assert (right + wrong, wrong) == (row["statements"], row["contradicted"])


def test_only_train_facts_are_asked(world):
    asked = {item.shot.question for item in write_text(world, seed=1).asked}
    frame = world.facts.frame

    assert asked.isdisjoint(frame.filter(pl.col("split") == "test")["question"])
    train = frame.filter(pl.col("split") == "train").join(world.statements, on="fact_id")
    often = train.filter(pl.col("statements") * ASKED_SHARE >= 1)
    assert set(often["question"]) <= asked


def test_the_papers_prompt_is_left_for_the_fine_tune(world):
    assert not [one for one in write_text(world, seed=1).documents(1) if "<|" in plain(one)]


def test_another_seed_groups_the_same_questions_anew(world):
    text = write_text(world, seed=1)
    first, second = text.documents(1), text.documents(2)

    assert text.documents(1) == first
    assert first != second
    words = [sorted(" ".join(map(plain, some)).split()) for some in (first, second)]
    assert words[0] == words[1]


def test_an_unknown_size_is_named():
    with pytest.raises(SftbenchError, match="no lab size 'huge'"):
        size_named("huge")
