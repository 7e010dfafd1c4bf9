"""The board: groups, answers, ranks and tables, held against the records and their items."""

from __future__ import annotations

import json
import math
import shutil
from typing import get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaderboards import change, put
from sftbench_leaderboard import answers as answers_module
from sftbench_leaderboard.answers import Answers, answers_of
from sftbench_leaderboard.board import DOMAINS, LEVELS, MODELS, TASKS, Board, id_of
from sftbench_leaderboard.folder import verdicts
from sftbench_leaderboard.from_compare import card_fields
from sftbench_leaderboard.groups import CONTROLS, groups_of, kind_of
from sftbench_leaderboard.headline import figures_of
from sftbench_leaderboard.items import ITEMS, sha256_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.standings import standings
from sftbench_leaderboard.tables import write_tables
from sftbench_leaderboard.validate import validate
from statsmodels.stats.proportion import proportion_confint

from sftbench.checkpoints.rules import Criterion
from sftbench.checkpoints.variants import parse_variant
from sftbench.common.digests import digest_of
from sftbench.mastery.canonical import canonical_settings
from sftbench.mastery.card import MasteryCard

pytestmark = pytest.mark.unit

KNOWN = range(30)
"""Numbers of the facts that the base answers right."""
HIGHEST = 2**32


def sibling(path, name, right, *, base=KNOWN, variant="tuned"):
    """Write the record of another model beside one: right at these facts, on the same card.

    Args:
        path: the record, whose base, facts and card it has.
        name: "org/model".
        right: numbers of the facts that it answers right.
        base: those that its run of the base answered right.
        variant: name of the variant.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    tuned, model = digest_of(name), content["model"]
    digest = parse_variant(variant).digest(content["base"]["digest"], tuned)
    model.update(name=name, tuned_digest=tuned, digest=digest, variant=variant)
    to = path.parents[2] / place_of(name, digest, content["suite"]["name"])
    items = answering(ITEMS.read(items_beside(path))[0], right, base)
    ITEMS.write(items, items_beside(to), {})
    content["items"]["sha256"] = sha256_of(items_beside(to).read_bytes())
    found = figures_of(items)
    content["domains"] = [one.model_dump(mode="json") for one in found.domains]
    content["base"]["domains"] = [one.model_dump(mode="json") for one in found.base]
    content.update(noise=[], checks={"base_again": None, "swap_parity": None})
    to.write_text(json.dumps(content), encoding="utf-8")
    return to


def answering(items, right, base):
    """Return items in which the model and the base are right at facts of these numbers."""
    number = pl.col("answer").str.extract(r"(\d+)").cast(pl.Int64)
    marks = items.with_columns(
        correct=number.is_in(list(right)), base_correct=number.is_in(list(base))
    )
    return marks.with_columns(
        text=said("correct"),
        base_text=said("base_correct"),
        noise=pl.lit([], pl.List(pl.Boolean)),
    )


def said(correct):
    return pl.when(correct).then(" " + pl.col("answer")).otherwise(pl.lit(" <nothing>"))


def canonical(card):
    """Return the card with the settings that make it the canonical one."""
    return MasteryCard(card.frame, {**card.record, "settings": canonical_settings()})


MODELS_MADE = {
    "a/all": {"right": KNOWN},
    "a/most": {"right": range(4, 34)},
    "a/copy": {"right": KNOWN},
    "a/none": {"right": range(30, 33)},
    "a/restored": {"right": range(2, 31), "variant": "tuned+restore(relative,5%)"},
    "a/control": {"right": range(40), "variant": "tuned+restore(random,5%)"},
    "a/lowest": {"right": range(12), "variant": "tuned+restore(lowest-relative,5%)"},
}


@pytest.fixture(scope="module")
def world(asked, submitted, tmp_path_factory):
    """Return accepted records of one group on its canonical card, by name of the model."""
    folder = tmp_path_factory.mktemp("canonical") / "results"
    card = canonical(asked.card)
    seed = folder / submitted[0].path.relative_to(submitted[0].path.parents[2])
    shutil.copytree(submitted[0].path.parent, seed.parent)
    change(seed, lambda content: content["card"].update(card_fields(card.record, card.digest)))
    for name, made in MODELS_MADE.items():
        sibling(seed, name, **made)
    shutil.rmtree(seed.parents[1])
    return accepted(folder, Known([asked.facts], [card]))


def accepted(folder, known):
    """Return the records of a folder by their names, each with its path; all must be accepted."""
    found = list(verdicts(folder, known))
    assert [one.problems for one in found] == [()] * len(found)
    return {one.record.model.name: (one.path, one.record) for one in found}


@pytest.fixture(scope="module")
def board(world):
    return Board.of(world.values())


def with_one_more(world, name, folder, **made):
    """Return the records with that of one more model, which lies in a folder of its own."""
    path, _ = world["a/all"]
    seed = folder / "/".join(path.parts[-3:])
    shutil.copytree(path.parent, seed.parent)
    to = sibling(seed, name, **made)
    shutil.rmtree(seed.parents[1])
    record = type(world["a/all"][1]).model_validate_json(to.read_bytes())
    return {**world, name: (to, record)}


def ranks(board, domain="in"):
    """Return rank, records tied and score of each model."""
    rows = board.models.join(board.domains.filter(domain=domain), on="record")
    chosen = rows.select("model", "rank", "tied", "ranked_score", "ranked_facts")
    return {name: tuple(rest) for name, *rest in chosen.iter_rows()}


def edited(record, **fields):
    """Return a record with other values: "base__digest" is the digest of the base."""
    for name, value in fields.items():
        part, _, inner = name.partition("__")
        if inner:
            value = getattr(record, part).model_copy(update={inner: value})
        record = record.model_copy(update={part: value})
    return record


# Groups


@pytest.mark.parametrize(
    "field",
    ["base__digest", "facts__digest", "facts__asked_digest", "suite__name", "suite__version",
     "card__digest"],
)  # fmt: skip
def test_another_base_fact_set_suite_or_card_is_another_group(submitted, field):
    one = submitted[0].record
    other = edited(one, **{field: "another"})
    found = groups_of([one, other, one])
    assert [places for _, places in found.values()] == [[0, 2], [1]]
    assert [group.id for group, _ in found.values()] == list(found)


@pytest.mark.parametrize(
    "field", ["base__name", "model__name", "made", "recipe", "command", "base__tokenizer_digest"]
)
def test_what_a_record_says_of_itself_makes_no_other_group(submitted, field):
    one = submitted[0].record
    found = groups_of([one, edited(one, **{field: "another"})])
    assert [places for _, places in found.values()] == [[0, 1]]


def test_a_base_is_called_what_most_models_call_it(submitted):
    record = submitted[0].record
    others = [edited(record, model__tuned_digest=one * 32) for one in "12"]
    liar = edited(record, base__name="another", model__tuned_digest="0" * 32)
    ((group, _),) = groups_of([liar, *others]).values()
    assert group.base == "base"
    assert (group.base_digest, group.suite) == (record.base.digest, "numbers-paper")
    assert (group.facts, group.asked, group.canonical) == ("numbers", 40, False)
    assert len(group.id) == 16


def test_two_bases_of_one_name_are_told_apart(submitted):
    record = submitted[0].record
    found = groups_of([record, edited(record, base__digest="f" * 32)]).values()
    assert [group.base for group, _ in found] == [f"base #{record.base.digest[:6]}", "base #ffffff"]


def test_other_levels_under_a_card_that_may_be_made_up_are_another_group(submitted):
    records = [submitted[0].record] * 3
    found = groups_of(records, lambda place: str(place % 2))
    assert [places for _, places in found.values()] == [[0, 2], [1]]


@pytest.mark.parametrize("criterion", get_args(Criterion))
def test_every_restore_is_either_meant_to_help_or_a_control(submitted, criterion):
    name = parse_variant(f"tuned+restore({criterion},5%)").name
    kind = kind_of(edited(submitted[0].record, model__variant=name))
    assert kind == ("control" if criterion in CONTROLS else "restored")


def test_the_controls_are_those_that_are_not_meant_to_help():
    assert set(CONTROLS) == {"random", "lowest-relative", "noise"}
    assert set(CONTROLS) < set(get_args(Criterion))


def test_the_tuned_model_is_no_restore(submitted):
    assert [kind_of(one.record) for one in submitted] == ["tuned", "restored", "restored"]


# Answers


@pytest.mark.parametrize("at_once", [1, 2, 3, 256])
def test_answers_are_those_of_each_file_in_the_order_of_the_records(world, monkeypatch, at_once):
    monkeypatch.setattr(answers_module, "AT_ONCE", at_once)
    paths = [items_beside(path) for path, _ in world.values()]
    found = answers_of(paths, list(world))
    frames = [pl.read_parquet(path) for path in paths]
    assert found.facts.equals(
        frames[0].select("fact_id", "relation", "domain", "level", "answer").sort("fact_id")
    )
    assert all(frame["fact_id"].equals(found.facts["fact_id"]) for frame in frames)
    assert np.array_equal(found.right, [frame["correct"].to_numpy() for frame in frames])
    assert np.array_equal(found.base, [frame["base_correct"].to_numpy() for frame in frames])
    assert len({row.tobytes() for row in found.right}) == len(paths) - 1  # one is a copy


@pytest.mark.parametrize("name", ["res[1]", "res*", "re?1", "correct=false", "{a,b}", "%20 #"])
def test_the_name_of_a_folder_is_no_pattern(world, tmp_path, name):
    path, record = world["a/none"]
    for folder, one in ((name, path), ("res1", world["a/all"][0]), ("resx", world["a/all"][0])):
        shutil.copytree(one.parent, tmp_path / folder / "/".join(path.parts[-3:-1]))
    copy = tmp_path / name / "/".join(path.parts[-3:])
    found = Board.of([(copy, record)])
    (only,) = found.answers.values()
    assert np.array_equal(only.right, answers_of([items_beside(path)], ["one"]).right)


def bits(rows):
    return np.array(rows, dtype=bool)


def answers_with(base):
    count = base.shape[1]
    facts = pl.DataFrame(
        {
            "fact_id": [f"{at:016x}" for at in range(count)],
            "relation": ["r"] * count,
            "domain": ["in", "out"] * (count // 2) + ["in"] * (count % 2),
            "level": pl.Series([at % 5 for at in range(count)], dtype=pl.Int8),
            "answer": [f"a{at}" for at in range(count)],
        }
    )
    return Answers(facts, base.copy(), base, np.arange(len(base)))


@given(st.integers(3, 9), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_one_of_three_or_more_runs_says_of_the_base_changes_nothing(runs, count, seed):
    random = np.random.default_rng(seed)
    honest = np.tile(random.random(count) < 0.5, (runs, 1))
    spoilt = honest.copy()
    spoilt[random.integers(runs)] = random.random(count) < 0.5
    assert np.array_equal(answers_with(spoilt).known, honest[0])


def test_the_base_knows_what_half_of_its_runs_answer_right():
    found = answers_with(bits([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]))
    assert found.known.tolist() == [True, True, False, False]
    assert found.apart.tolist() == [1, 0, 0, 0]


def test_of_two_runs_that_differ_neither_is_apart():
    found = answers_with(bits([[1] * 10 + [0] * 30, [1] * 40]))
    assert [found.agrees(place) for place in (0, 1)] == [True, True]


def test_a_run_has_one_vote_however_many_of_its_variants_were_sent_in():
    base = bits([[1, 0], [1, 1], [0, 1], [0, 1], [0, 1]])
    found = Answers(answers_with(base).facts, base, base, np.array([0, 1, 2, 2, 2]))
    assert found.known.tolist() == [True, True]


def test_facts_are_scored_that_the_base_knows_and_that_are_of_level_1_to_4_in_their_domain():
    found = answers_with(bits([[1] * 10 + [0] * 5]))
    assert np.flatnonzero(found.scored("in")).tolist() == [2, 4, 6, 8]
    assert np.flatnonzero(found.scored("out")).tolist() == [1, 3, 7, 9]
    assert found.design(found.scored("in")).fact_ids.to_list() == [
        f"{at:016x}" for at in (2, 4, 6, 8)
    ]


def test_a_base_that_knows_nothing_ranks_nobody():
    found = answers_with(bits([[0] * 10, [0] * 10]))
    assert found.design(found.scored("in")) is None
    assert standings(found, [0, 1]) == []
    assert standings(answers_with(bits([[1] * 10])), []) == []


# Ranks


def test_ranks_follow_the_scores_of_tuned_models(board):
    found = ranks(board)
    assert {name: rank for name, (rank, *_) in found.items()} == {
        "a/all": 1, "a/copy": 1, "a/most": 1, "a/none": 2,
        "a/restored": None, "a/control": None, "a/lowest": None,
    }  # fmt: skip
    assert found["a/all"] == (1, 3, 1.0, 12)
    assert found["a/none"] == (2, 1, 0.0, 12)
    assert found["a/control"] == (None, None, None, None)
    kinds = dict(board.models.select("model", "kind").iter_rows())
    assert kinds == dict.fromkeys(MODELS_MADE, "tuned") | {
        "a/restored": "restored", "a/control": "control", "a/lowest": "control",
    }  # fmt: skip


def test_where_all_runs_agree_on_the_base_ranks_rest_on_the_retention(board):
    ranked = board.domains.drop_nulls("rank")
    assert ranked.height == 2 * (len(MODELS_MADE) - 3)
    assert ranked["ranked_score"].to_list() == pytest.approx(ranked["retention"].to_list())
    assert ranked["ranked_facts"].equals(ranked["known"], check_names=False)


def test_restores_change_no_rank(world, board):
    models = {name: one for name, one in world.items() if "restore" not in one[1].model.variant}
    without = Board.of(models.values())
    assert {name: one for name, one in ranks(board).items() if one[0]} == ranks(without)


@pytest.mark.parametrize("domain", ["in", "out"])
def test_a_record_that_says_the_base_knew_nothing_changes_nobodys_rank(
    world, board, tmp_path, domain
):
    liar = {"right": range(30, 40), "base": range(0)}
    found = ranks(Board.of(with_one_more(world, "z/liar", tmp_path, **liar).values()), domain)
    mine = found.pop("z/liar")
    before = ranks(board, domain)
    assert {name: one[0] for name, one in found.items()} == {
        name: one[0] for name, one in before.items()
    }
    assert {name: one[2:] for name, one in found.items()} == {
        name: one[2:] for name, one in before.items()
    }
    # Nor does it help: what so many other runs contradict has no rank.
    assert mine == (None, None, None, None)


def test_the_order_of_the_records_decides_no_rank(world, board):
    assert ranks(Board.of(list(world.values())[::-1])) == ranks(board)


def test_ranks_are_never_across_groups(world, board):
    path, record = world["a/none"]
    moved = edited(record, base__digest="f" * 32, model__name="z/alone")
    both = Board.of([*world.values(), (path, moved)])
    found = ranks(both)
    assert found.pop("z/alone")[:2] == (1, 1)
    assert found == ranks(board)
    assert [len(places) for _, places in both.groups.values()] == [len(world), 1]


def test_without_the_canonical_card_there_are_figures_and_no_ranks(submitted):
    found = Board.of([(one.path, one.record) for one in submitted])
    assert found.models["canonical"].to_list() == [False] * 3
    for column in ("rank", "tied", "ranked_score", "ranked_facts"):
        assert found.domains[column].null_count() == 6
    assert found.domains["retention"].to_list() == [
        one.retention.score for it in submitted for one in it.record.domains
    ]


# Tables


def test_the_figures_of_the_tables_are_those_of_the_records(world, board):
    records = {id_of(record): record for _, record in world.values()}
    assert board.models["record"].to_list() == list(records)
    for row in board.models.iter_rows(named=True):
        one = records[row["record"]]
        assert (row["model"], row["variant"]) == (one.model.name, one.model.variant)
        assert (row["base"], row["base_digest"]) == (one.base.name, one.base.digest)
        assert (row["facts"], row["asked"], row["suite"]) == ("numbers", 40, "numbers-paper")
        assert (row["canonical"], row["estimator"]) == (True, "likelihood")
        assert (row["parameters"], row["made"]) == (44, one.made)
        assert (row["method"], row["level"], row["size"]) == ("full", "mixed", 240)
        assert (row["learning_rate"], row["update_norm"]) == (1e-5, one.update_norm)
        assert (row["seconds"], row["tokens"]) == (one.cost.seconds, one.cost.tokens)
        assert board.groups[row["group"]][0].base_digest == one.base.digest
    expected = [(key, one) for key, record in records.items() for one in record.domains]
    for (key, one), row in zip(expected, board.domains.iter_rows(named=True), strict=True):
        assert (row["record"], row["domain"]) == (key, one.domain)
        base = next(it for it in records[key].base.domains if it.domain == one.domain)
        assert row["base_accuracy"] == base.macro
        for name, interval in (("retention", one.score_interval), ("gain", one.gain_interval)):
            low, high = (interval.low, interval.high) if interval else (None, None)
            assert (row[f"{name}_low"], row[f"{name}_high"]) == (low, high)


def test_every_figure_follows_from_the_items(world, board):
    ids = {id_of(record): path for path, record in world.values()}
    for row in board.domains.iter_rows(named=True):
        items = pl.read_parquet(items_beside(ids[row["record"]])).filter(domain=row["domain"])
        before, after, scored = pl.col("base_correct"), pl.col("correct"), pl.col("level") > 0
        counts = items.select(
            known=(scored & before).sum(), kept=(scored & before & after).sum(),
            lost=(before & ~after).sum(), gained=(~before & after).sum(), wrong=(~before).sum(),
        ).row(0, named=True)  # fmt: skip
        assert {name: row[name] for name in ("known", "kept", "lost", "gained")} == {
            name: counts[name] for name in ("known", "kept", "lost", "gained")
        }
        assert row["gain"] == pytest.approx(counts["gained"] / counts["wrong"])
        kept = items.filter(scored & before).group_by("level").agg(after.mean())["correct"]
        assert row["retention"] == pytest.approx(kept.mean())
        levels = items.group_by("level").agg(after.mean(), before.mean())
        assert row["accuracy"] == pytest.approx(levels["correct"].mean())
        assert row["base_accuracy"] == pytest.approx(levels["base_correct"].mean())


def test_every_level_follows_from_the_items(world, board):
    ids = {id_of(record): path for path, record in world.values()}
    assert board.levels.height == 2 * 5 * len(world)
    assert not board.levels.select("record", "domain", "level").is_duplicated().any()
    for row in board.levels.iter_rows(named=True):
        items = pl.read_parquet(items_beside(ids[row["record"]]))
        here = items.filter(domain=row["domain"], level=row["level"])
        known, unknown = here.filter("base_correct"), here.filter(~pl.col("base_correct"))
        assert (row["known"], row["kept"]) == (known.height, known["correct"].sum())
        assert (row["unknown"], row["gained"]) == (unknown.height, unknown["correct"].sum())
        assert row["retained"] == pytest.approx(known["correct"].mean())
        low, high = proportion_confint(row["kept"], row["known"], method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_noise_and_restore_stand_in_the_tables(submitted):
    found = Board.of([(one.path, one.record) for one in submitted[:2]])
    tuned, restored = (one.record for one in submitted[:2])
    assert found.models["removed"].to_list() == [None, restored.restore.removed]
    assert found.models["scalars"].to_list() == [None, restored.restore.scalars]
    draws = [one.noise.value for one in tuned.noise]
    assert found.domains["forgotten_by_noise"].to_list() == [*draws, None, None]


QUESTION = "KL(variant || base), question, variant"
OTHERS = {
    "KL(base || variant), question, variant": 9.0,
    "KL(variant || base), question, floor": 8.0,
    "the paper's, level 4": 7.0,
}


@pytest.mark.parametrize(
    ("drift", "shown"),
    [
        ({**OTHERS, "KL(variant || base), neutral, variant": 6.0, QUESTION: 0.25}, 0.25),
        ({**OTHERS, "KL(variant || base), neutral, variant": 6.0}, 6.0),
        (OTHERS, None),
        ({}, None),
        (None, None),
    ],
)
def test_drift_is_that_of_the_variant_as_questions_are_asked(submitted, drift, shown):
    record = edited(submitted[0].record, drift=drift)
    assert Board.of([(submitted[0].path, record)]).models["drift"].to_list() == [shown]


def test_a_record_has_a_name_of_its_own_that_no_trust_goes_into(world):
    ids = {id_of(record) for _, record in world.values()}
    assert len(ids) == len(world)
    record = world["a/all"][1]
    assert id_of(edited(record, base__name="x", command="y", recipe=None)) == id_of(record)
    assert id_of(edited(record, items__sha256="0" * 64)) != id_of(record)
    assert id_of(edited(record, model__name="a/other")) != id_of(record)


def task(name, value, better, **more):
    return {"task": name, "metric": "acc,none", "value": value, "n": 100, "stderr": 0.02,
            "higher_is_better": better, **more}  # fmt: skip


def board_with(path, known, **fields):
    """Return the board of a record that says something else of itself, which must be accepted."""
    change(path, lambda content: content.update(fields))
    found = validate(path, known)
    assert found.problems == ()
    return Board.of([(path, found.record)])


def test_a_gain_is_positive_where_it_is_better(path, known):
    after, before = ([task("up", a, True), task("down", a, False), task("unsaid", a, None)]
                     for a in (0.5, 0.75))  # fmt: skip
    found = board_with(path, known, tasks=after, base_tasks=before).tasks
    assert found.select("task", "value", "base", "gain", "stderr", "n").rows() == [
        ("up", 0.5, 0.75, -0.25, 0.02, 100),
        ("down", 0.5, 0.75, 0.25, 0.02, 100),
        ("unsaid", 0.5, 0.75, None, 0.02, 100),
    ]


@pytest.mark.parametrize("n", [HIGHEST - 1, HIGHEST, 2**63, 2**70, 10**31])
def test_no_number_of_documents_breaks_the_tables(path, known, tmp_path, n):
    two = [task("one", 0.5, True, n=n), task("two", 0.5, True)]
    found = board_with(path, known, tasks=two, base_tasks=two)
    assert found.tasks["n"].to_list() == [n if n < HIGHEST else None, 100]
    written_as(found, tmp_path)


ODD = [True, False, 0, -1, 240.0, 240.5, -0.0, HIGHEST - 1, HIGHEST, float(HIGHEST), 2**63, 2**70,
       -(2**70), 10**31, 1e308, -1e308, 5e-324, "240", "", "NaN", "<b>", "x" * 200, "=1+1",
       None]  # fmt: skip


@pytest.mark.parametrize("value", ODD, ids=lambda one: ascii(one)[:12])
def test_a_recipe_that_is_taken_on_trust_breaks_no_table(path, known, tmp_path, value):
    recipe = dict.fromkeys(("method", "level", "size", "learning_rate"), value)
    found = board_with(path, known, recipe=recipe)
    assert_recipe(found, value)
    written_as(found, tmp_path)


@given(
    st.booleans() | st.integers(-(10**31), 10**31) | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False) | st.integers(HIGHEST - 2, HIGHEST + 2)
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_recipe_breaks_a_table(submitted, value):
    recipe = dict.fromkeys(("method", "level", "size", "learning_rate"), value)
    path, record = submitted[0].path, edited(submitted[0].record, recipe=recipe)
    assert_recipe(Board.of([(path, record)]), value)


def assert_recipe(board, value):
    """Assert that numbers stand where numbers are meant, and texts where texts are."""
    row = board.models.row(0, named=True)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number and 0 <= value < HIGHEST
    assert row["learning_rate"] == (value if fits else None)
    assert row["size"] == (value if fits and value == math.floor(value) else None)
    assert row["method"] == row["level"] == (None if value is None else str(value))


def written_as(board, folder):
    """Write the tables, and assert that all three kinds of file hold the same rows."""
    written = write_tables(board, folder / "tables")
    specs = (MODELS, DOMAINS, LEVELS, TASKS)
    for one, spec in zip(written, specs, strict=True):
        frame = getattr(board, one.name)
        base = folder / "tables" / one.name
        assert one.rows == frame.height
        assert dict(frame.schema) == dict(spec.columns)
        stored, about = spec.read(base.with_suffix(".parquet"))
        assert about == {"kind": spec.kind}
        assert stored.equals(frame)
        rows = json.loads(base.with_suffix(".json").read_text(encoding="utf-8"))
        assert pl.DataFrame(rows, schema=dict(spec.columns)).equals(frame)
        plain = pl.read_csv(base.with_suffix(".csv"), schema=dict(spec.columns))
        text = [name for name, kind in spec.columns.items() if kind == pl.String]
        assert plain.drop(text).equals(frame.drop(text))
        unquoted = plain.select(pl.col(text).str.strip_prefix("'").fill_null(""))
        assert unquoted.equals(frame.select(pl.col(text).fill_null("")))
    return written


def test_all_three_kinds_of_file_hold_the_same_rows(board, tmp_path):
    written = written_as(board, tmp_path)
    assert [(one.name, one.rows) for one in written] == [
        ("models", 7), ("domains", 14), ("levels", 70), ("tasks", 0),
    ]  # fmt: skip
    assert len(list((tmp_path / "tables").iterdir())) == 12


def test_a_board_without_records_has_tables_without_rows(tmp_path):
    found = Board.of([])
    assert [one.rows for one in written_as(found, tmp_path)] == [0] * 4
    assert (found.groups, found.answers) == ({}, {})


@pytest.mark.parametrize("mark", "=+-@")
def test_no_text_is_a_formula_in_a_spreadsheet(path, known, tmp_path, mark):
    formula = f"{mark}HYPERLINK(0)"
    change(path, put("base.name", formula))
    found = board_with(path, known, recipe={"method": formula, "level": "any"})
    write_tables(found, tmp_path / "tables")
    plain = pl.read_csv(tmp_path / "tables" / "models.csv")
    assert plain.select("base", "method", "level").row(0) == (f"'{formula}", f"'{formula}", "any")
    assert found.models["base"].to_list() == [formula]
    written_as(found, tmp_path)
