"""Mastery by likelihood and by sampling that stops: what is read, drawn and told of it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lands import Oracle, fact_set, make

from sftbench.cli.mastery import _wanted
from sftbench.common.errors import SftbenchError
from sftbench.compare.levels import cautions_of_levels
from sftbench.engines.protocol import Completion
from sftbench.mastery.adaptive import AdaptiveEstimator, level_chances_after
from sftbench.mastery.card import MADE_OF, MasteryCard, with_levels
from sftbench.mastery.choose import estimator_for
from sftbench.mastery.levels import BLOCK, level_chances, level_of, worth_of_knowing
from sftbench.mastery.likelihood import (
    LikelihoodEstimator,
    chances_of,
    error_of,
    settled,
    spellings,
)
from sftbench.mastery.sampled import SampledEstimator

pytestmark = pytest.mark.unit


class Seer(Oracle):
    """An engine that forecasts what `Oracle` draws: Land<i> is known in i of 12 completions."""

    def __init__(self, stop_after=None):
        super().__init__(stop_after)
        self.prompts = []

    def can_forecast(self):
        return True

    def encode(self, text):
        return text.split()

    def forecast(self, asked, how, looked):
        assert (how.temperature, how.max_new_tokens, looked) == (0.7, 32, 12)
        for one in asked:
            if len(self.prompts) == self.stop_after:
                raise KeyboardInterrupt
            self.prompts.append((one.answers[0], len(one.prompts)))
            number = int(one.answers[0].removeprefix("Town"))
            assert one.found(f" Town{number}.")
            assert not one.found(" Oz.")
            yield [[min(1.0, number / 12)] for _ in one.prompts]


def made(engine, output, facts=None, **options):
    return make(engine, facts or fact_set(), output, estimator=LikelihoodEstimator(), **options)


def test_the_card_holds_the_chances_and_the_levels_that_follow(tmp_path):
    facts = fact_set()
    card = made(Seer(), tmp_path / "card.parquet", facts)
    subjects = dict(facts.frame.select("fact_id", "subject").iter_rows())
    for row in card.frame.iter_rows(named=True):
        number = int(subjects[row["fact_id"]].removeprefix("Land"))
        assert row["hits"] is None
        assert row["draws"] is None
        assert row["rate"] == pytest.approx(number / 12, abs=1e-6)
        if number % 3:  # at a border the level is a matter of luck
            assert row["level"] == level_of(number, 12)
        assert sum(row["level_chances"]) == pytest.approx(1)
    again = MasteryCard.read(tmp_path / "card.parquet")
    assert again.frame.equals(card.frame)
    assert again.digest == card.digest
    assert again.estimator == "likelihood"
    (said,) = cautions_of_levels(again)
    assert "estimated by likelihood" in said


def test_a_third_of_the_templates_is_read_where_that_settles_the_level(tmp_path):
    engine = Seer()
    facts = fact_set()
    made(engine, tmp_path / "card.parquet", facts)
    counts: dict[int, int] = {}
    for answer, count in engine.prompts:
        number = int(answer.removeprefix("Town"))
        counts[number] = counts.get(number, 0) + count
    assert counts[1] == 7
    # Higher levels are read in full, and once more where they are near a border.
    assert {read for number, read in counts.items() if number > 1} == {21, 42}
    assert all(counts[number] == 42 for number in (3, 6, 9) if number in counts)


def test_all_templates_are_read_where_they_disagree():
    facts = fact_set()

    class Divided(Seer):
        def forecast(self, asked, how, looked):
            for one in asked:
                self.prompts.append((one.answers[0], len(one.prompts)))
                yield [[1.0 if "way 1," in line else 0.1] for line in one.prompts]

    engine = Divided()
    rows = facts.frame.to_dicts()
    found = list(LikelihoodEstimator().estimate(engine, rows, facts.templates))
    assert {one.fact_id for one in found} == {row["fact_id"] for row in rows}
    counts = {one.fact_id: sum(chance is not None for chance in one.chances) for one in found}
    assert set(counts.values()) <= {7, 21}
    assert sum(count for _, count in engine.prompts) >= sum(counts.values())
    assert 21 in counts.values()


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(tmp_path):
    whole = made(Seer(), tmp_path / "whole.parquet", fact_set(100))
    with pytest.raises(KeyboardInterrupt):
        made(Seer(stop_after=50), tmp_path / "card.parquet", fact_set(100))
    resumed = made(Seer(), tmp_path / "card.parquet", fact_set(100))
    assert resumed.digest == whole.digest


def test_an_engine_that_cannot_forecast_is_named(tmp_path):
    with pytest.raises(SftbenchError, match="oracle shows no probabilities") as error:
        made(Oracle(), tmp_path / "card.parquet")
    assert "--estimator sampled" in str(error.value.remedy)


def test_a_card_that_was_edited_is_refused(tmp_path):
    card = made(Seer(), tmp_path / "card.parquet")
    edited = card.frame.with_columns(error=pl.col("error") + 0.1).select(MADE_OF)
    MasteryCard(with_levels(edited), card.record).write(tmp_path / "other.parquet")
    other = MasteryCard.read(tmp_path / "other.parquet")
    assert other.digest != card.digest
    from sftbench.mastery.card import MASTERY

    levels = card.frame.with_columns(level=pl.lit(4))
    MASTERY.write(levels, tmp_path / "spoilt.parquet", {**card.record, "digest": card.digest})
    with pytest.raises(SftbenchError, match="not those that this card was written with"):
        MasteryCard.read(tmp_path / "spoilt.parquet")


def test_cards_of_earlier_versions_are_read(tmp_path):
    card = make(Oracle(), fact_set(), tmp_path / "card.parquet")
    older = pl.read_parquet(tmp_path / "card.parquet").drop("chances", "error", "level_chances")
    metadata = pl.read_parquet_metadata(tmp_path / "card.parquet")
    older.write_parquet(tmp_path / "older.parquet", metadata={"sftbench": metadata["sftbench"]})
    assert MasteryCard.read(tmp_path / "older.parquet").frame.equals(card.frame)


def test_many_facts_have_the_levels_that_each_has_alone():
    rng = random.Random(0)
    chances = [[rng.random() ** 4 for _ in range(3)] for _ in range(2 * BLOCK + 1)]
    errors = [rng.random() / 10 for _ in chances]
    together = level_chances(chances, errors)
    for place in (0, BLOCK - 1, BLOCK, 2 * BLOCK):
        (alone,) = level_chances([chances[place]], [errors[place]])
        assert together[place] == pytest.approx(alone, rel=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(1, 3))
def test_level_chances_are_those_of_independent_draws(chances, draws):
    (found,) = level_chances([chances], [0.0], draws)
    exact = np.zeros(5)
    drawn = [chance for chance in chances for _ in range(draws)]
    for hits in itertools.product((0, 1), repeat=min(len(drawn), 12)) if len(drawn) < 10 else ():
        weight = np.prod([c if hit else 1 - c for c, hit in zip(drawn, hits, strict=True)])
        exact[level_of(sum(hits), len(drawn))] += weight
    if exact.sum():
        assert found == pytest.approx(exact.tolist(), abs=1e-9)
    assert sum(found) == pytest.approx(1)


def test_an_error_spreads_the_levels_and_unread_templates_are_like_the_others():
    (sure,) = level_chances([[0.2] * 21], [0.0])
    (unsure,) = level_chances([[0.2] * 21], [0.1])
    assert max(unsure) < max(sure)
    (part,) = level_chances([[0.2, *[None] * 20]], [0.0])
    assert part == pytest.approx(sure)


def one_path(chances):
    return [[] if chance is None else [chance] for chance in chances]


def test_errors_of_a_random_third_are_of_the_size_that_they_say():
    generator = np.random.default_rng(0)
    told, missed = [], []
    for _ in range(300):
        chances = generator.beta(0.5, 1, 21)
        chosen = set(generator.permutation(21)[:7].tolist())
        own = [float(c) if place in chosen else None for place, c in enumerate(chances)]
        told.append(error_of(one_path(own)) ** 2)
        missed.append((np.mean([c for c in own if c is not None]) - chances.mean()) ** 2)
    # A little more than the templates' own spread: the paths' is in it as well.
    assert 0.9 < np.mean(told) / np.mean(missed) < 1.3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=21))
def test_the_error_falls_with_every_path(chances):
    one, two = error_of([[c] for c in chances]), error_of([[c, c] for c in chances])
    assert two == pytest.approx(one / 2**0.5, abs=1e-6)
    assert error_of([[c] for c in chances] + [[]]) >= one * (1 - 1 / (len(chances) + 1))
    assert chances_of([[0.2, 0.4], []]) == [pytest.approx(0.3), None]


def test_a_part_settles_low_levels_away_from_their_borders():
    low, high = [0.08, 0.09, 0.08, *[None] * 3], [0.6, 0.61, 0.6, *[None] * 3]
    assert settled(one_path(low), 0.05)
    assert not settled(one_path(low), 0.0)
    assert settled(one_path([0.0, 0.0, None]), 0.05)
    assert not settled(one_path(high), 0.05)  # a part is too few above level 1
    assert settled(one_path([0.6] * 21), 0.05)
    assert not settled(one_path([0.0, 0.7, 0.0, None, None, None]), 0.05)
    assert not settled(one_path([0.5] * 21), 0.05)


def test_knowing_is_worth_nothing_where_there_is_no_error_or_no_border():
    sure, inside, border = worth_of_knowing([[0.25] * 21, [0.12] * 21, [0.25] * 21], [0, 0.01, 0.1])
    assert sure == pytest.approx(0, abs=1e-9)
    assert inside < 0.01
    assert border > 0.1


class Biased:
    """Completes a prompt rightly in a share of the draws, by seed; counts them."""

    def __init__(self, share):
        self.share, self.drawn = share, 0

    def describe(self):
        return {"engine": "biased", "dtype": "float32"}

    def sample(self, draws, how):
        for draw in draws:
            self.drawn += draw.n
            number = int(draw.prompt.split(",")[0].removeprefix("Land"))
            uniform = [np.random.default_rng(draw.seed + i).random() for i in range(draw.n)]
            yield [
                Completion(f" Town{number}." if u < self.share else " Oz.", "stop", 3)
                for u in uniform
            ]


@pytest.mark.parametrize("share", [0.0, 0.004, 0.1, 0.24, 0.6, 1.0])
def test_sampling_stops_early_with_the_level_of_all_draws(share):
    facts = fact_set(60)
    rows = facts.scored().to_dicts()
    whole, part = Biased(share), Biased(share)
    full = {
        one.fact_id: one.hits for one in SampledEstimator().estimate(whole, rows, facts.templates)
    }
    early = {
        one.fact_id: one.hits for one in AdaptiveEstimator().estimate(part, rows, facts.templates)
    }
    assert early.keys() == full.keys()
    assert part.drawn <= whole.drawn
    if share in (0.1, 0.6, 1.0):
        assert part.drawn < 0.6 * whole.drawn
    wrong = 0
    for fact_id, hits in early.items():
        rounds = len(hits[0])
        assert hits == [row[:rounds] for row in full[fact_id]]
        levels = [level_of(sum(map(sum, own)), 21 * len(own[0])) for own in (hits, full[fact_id])]
        wrong += levels[0] != levels[1]
    assert wrong <= 0.15 * len(early)


def test_what_is_not_drawn_yet_is_beta_binomial():
    assert level_chances_after(0, 210, 210) == (1.0, 0.0, 0.0, 0.0, 0.0)
    assert level_chances_after(106, 210, 210) == (0.0, 0.0, 0.0, 1.0, 0.0)
    few, many = level_chances_after(0, 21, 210), level_chances_after(0, 168, 210)
    assert few[0] < many[0] < 1
    assert sum(level_chances_after(50, 189, 210)) == pytest.approx(1)


def test_spellings_hold_capitals_and_diacritics_but_no_article_in_front():
    assert spellings(["The Netherlands"]) == ["Netherlands", "netherlands"]
    assert spellings(["bolívar"]) == ["bolívar", "Bolívar", "bolivar", "Bolivar"]
    assert "Australian Dollar" in spellings(["Australian dollar"])
    assert spellings(["US"]) == ["US"]
    assert spellings(["A"]) == ["A"]
    assert spellings(["The The"]) == ["The The"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "likelihood"),
        ({"samples": 20}, "sampled"),
        ({"engine": "vllm"}, "sampled"),
        ({"estimator": "adaptive", "samples": 5}, "adaptive"),
        ({"with_templates": False}, "sampled"),
        ({"with_templates": False, "engine": "vllm"}, "sampled"),
    ],
)
def test_the_command_chooses_an_estimator(options, wanted):
    given_ = {"estimator": "auto", "engine": "auto", "samples": None, "with_templates": True}
    assert _wanted(**{**given_, **options}) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "vllm"}, "engine vllm shows no probabilities"),
        ({"samples": 3}, "draws no samples"),
        ({"with_templates": False}, "needs cloze templates"),
    ],
)
def test_options_that_would_do_nothing_are_errors(options, message):
    given_ = {"estimator": "likelihood", "engine": "hf", "samples": None, "with_templates": True}
    with pytest.raises(SftbenchError, match=message):
        _wanted(**{**given_, **options})


def test_the_estimator_is_chosen_by_name():
    facts = fact_set()
    names = ("likelihood", "adaptive", "sampled")
    made_ = {name: estimator_for(facts, name, how="strict-paper", seed=3)[0] for name in names}
    assert {name: one.settings()["estimator"] for name, one in made_.items()} == dict(
        zip(names, names, strict=True)
    )
    assert all(one.settings()["seed"] == 3 for one in made_.values())
    assert all(one.settings()["how"] == "strict-paper" for one in made_.values())
