"""Levels, cards, the journal, and the estimator on an engine whose answers are known."""

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lands import TEMPLATES, Oracle, fact_set, make

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.common.errors import SftbenchError
from sftbench.facts.reference import resolve_facts
from sftbench.mastery.bundled import bundled_cards, find_card, resolve_card
from sftbench.mastery.canonical import is_canonical
from sftbench.mastery.card import MasteryCard, with_levels
from sftbench.mastery.journal import Journal
from sftbench.mastery.levels import level_column, level_of
from sftbench.mastery.measured import Measured
from sftbench.mastery.sampled import SampledEstimator
from sftbench.mastery.select import select

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("hits", "level"),
    [(0, 0), (1, 1), (52, 1), (53, 2), (105, 2), (106, 3), (157, 3), (158, 4), (210, 4)],
)
def test_level_borders_of_210_draws(hits, level):
    assert level_of(hits, 210) == level


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_level_is_the_quarter_that_the_rate_lies_in(pair):
    hits, draws = pair
    level = level_of(hits, draws)
    rate = Fraction(hits, draws)
    assert (level == 0 and rate == 0) or Fraction(level - 1, 4) < rate <= Fraction(level, 4)
    frame = pl.DataFrame({"h": [hits], "d": [draws]})
    assert frame.select(level_column(pl.col("h"), pl.col("d"))).item() == level


@pytest.mark.parametrize(("hits", "draws"), [(1, 0), (-1, 10), (11, 10)])
def test_level_refuses_what_cannot_be(hits, draws):
    with pytest.raises(ValueError, match="draws"):
        level_of(hits, draws)


def test_rate_and_draws_come_from_the_hits():
    hits = [[True, False], [True, True], [False, False]]
    frame = with_levels(pl.DataFrame({"fact_id": ["a"], "hits": [hits]}))
    assert frame.row(0, named=True) == {
        "fact_id": "a",
        "hits": hits,
        "chances": None,
        "error": None,
        "draws": 6,
        "rate": 0.5,
        "level": 2,
        "level_chances": None,
    }


def test_the_card_holds_what_the_engine_knows(tmp_path):
    facts = fact_set()
    card = make(Oracle(), facts, tmp_path / "card.parquet")
    rates = dict(card.frame.select("fact_id", "rate").iter_rows())
    subjects = dict(facts.frame.select("fact_id", "subject").iter_rows())
    by_number = {int(subjects[i].removeprefix("Land")): rate for i, rate in rates.items()}
    assert 0 not in by_number  # out-of-domain train facts are not levelled
    assert all(abs(rate - number / 12) < 0.12 for number, rate in by_number.items())
    assert card.frame["draws"].to_list() == [210] * card.frame.height
    again = MasteryCard.read(tmp_path / "card.parquet")
    assert again.frame.equals(card.frame)
    assert again.digest == card.digest == again.record["digest"]
    assert not list(tmp_path.glob("*.journal"))


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(tmp_path):
    facts = fact_set()
    whole = make(Oracle(), facts, tmp_path / "whole.parquet")
    output = tmp_path / "card.parquet"
    with pytest.raises(KeyboardInterrupt):
        make(Oracle(stop_after=21 * 3 + 5), facts, output)
    assert not output.exists()
    journal = output.with_name("card.parquet.journal")
    with journal.open("a") as file:
        file.write('{"fact_id":"half')  # what a kill leaves in the middle of a line
    engine = Oracle()
    resumed = make(engine, facts, output)
    assert engine.asked == 21 * (whole.frame.height - 3)
    assert resumed.digest == whole.digest


def test_two_runs_cannot_write_one_card(tmp_path):
    with Journal(tmp_path / "j", "key") as first:
        first.add(Measured("a", [[True]]))
        with (
            pytest.raises(SftbenchError, match="another run is writing"),
            Journal(tmp_path / "j", "key"),
        ):
            pass
        first.add(Measured("b", [[False]]))
    with Journal(tmp_path / "j", "key") as second:
        assert {name: one.hits for name, one in second.finished.items()} == {
            "a": [[True]],
            "b": [[False]],
        }
        second.add(Measured("c", [[True]]))
    assert set(Journal(tmp_path / "j", "key").finished) == {"a", "b", "c"}


def test_a_run_that_finished_nothing_leaves_nothing(tmp_path):
    engine = Oracle(stop_after=0)
    with pytest.raises(KeyboardInterrupt):
        make(engine, fact_set(), tmp_path / "card.parquet")
    assert not list(tmp_path.iterdir())


def test_a_journal_of_another_run_is_refused(tmp_path):
    with Journal(tmp_path / "j", "key one") as journal:
        journal.add(Measured("a", [[True]]))
    assert Journal(tmp_path / "j", "key one").finished == {"a": Measured("a", [[True]])}
    with pytest.raises(SftbenchError, match="another model, facts"):
        Journal(tmp_path / "j", "key two")
    (tmp_path / "k").write_text("no json\n")
    with pytest.raises(SftbenchError, match="not a journal"):
        Journal(tmp_path / "k", "key one")


def test_a_card_is_refused_for_other_facts_or_another_base(tmp_path):
    facts = fact_set()
    card = make(Oracle(), facts, tmp_path / "card.parquet")
    card.require(facts=facts, base_digest="0" * 32)
    with pytest.raises(SftbenchError, match="levels other facts"):
        card.require(facts=fact_set(13))
    with pytest.raises(SftbenchError, match="not for this base"):
        card.require(facts=facts, base_digest="1" * 32)
    with pytest.raises(SftbenchError, match="no mastery card ships"):
        resolve_card(None, base_digest="0" * 32, facts=facts)
    named = resolve_card(str(tmp_path / "card.parquet"), base_digest="0" * 32, facts=facts)
    assert named.digest == card.digest


def test_an_edited_card_is_refused(tmp_path):
    path = tmp_path / "card.parquet"
    card = make(Oracle(), fact_set(), path)
    record = dict(card.record)
    edited = card.frame.with_columns(hits=pl.col("hits").list.reverse())
    MasteryCard(edited, record).write(tmp_path / "honest.parquet")
    MasteryCard.read(tmp_path / "honest.parquet")
    from sftbench.mastery.card import MASTERY

    for spoilt in (edited, card.frame.with_columns(level=pl.lit(4, pl.Int8))):
        MASTERY.write(spoilt, path, {**record, "digest": card.digest})
        with pytest.raises(SftbenchError, match="not those that this card was written with"):
            MasteryCard.read(path)
    MASTERY.write(card.frame.with_columns(rate=1.0), path, {**record, "digest": card.digest})
    with pytest.raises(SftbenchError, match="not those that this card was written with"):
        MasteryCard.read(path)


@given(st.integers(1, 9))
def test_a_larger_selection_extends_a_smaller_one(limit):
    facts = fact_set(40)
    smaller = set(select(facts, limit)["fact_id"])
    larger = set(select(facts, limit + 1)["fact_id"])
    assert len(smaller) == limit
    assert smaller < larger


def test_one_split_can_be_levelled_alone(tmp_path):
    facts = fact_set(40)
    whole = make(Oracle(), facts, tmp_path / "whole.parquet")
    tested = make(Oracle(), facts, tmp_path / "tested.parquet", split="test")
    wanted = facts.frame.filter(split="test")["fact_id"]
    assert 0 < len(wanted) < whole.frame.height
    assert set(tested.frame["fact_id"]) == set(wanted)
    assert tested.frame.equals(whole.frame.filter(pl.col("fact_id").is_in(wanted.implode())))
    assert tested.record["selection"]["split"] == "test"
    assert "split" not in whole.record["selection"]


def test_flagged_facts_are_not_levelled():
    assert select(fact_set(flags=("answer_in_question",)), None).is_empty()


def test_seeds_depend_on_fact_and_template_alone():
    class Recorder(Oracle):
        def sample(self, draws, how):
            self.seeds = {draw.prompt: draw.seed for draw in draws}
            return super().sample(draws, how)

    rows = list(fact_set().frame.iter_rows(named=True))
    seeds = []
    for order in (rows, rows[::-1][:5]):
        engine = Recorder()
        list(SampledEstimator().estimate(engine, order, TEMPLATES))
        seeds.append(engine.seeds)
    assert seeds[1].items() <= seeds[0].items()
    assert len(set(seeds[0].values())) == len(seeds[0])
    engine = Recorder()
    list(SampledEstimator(seed=1).estimate(engine, rows, TEMPLATES))
    assert not set(engine.seeds.values()) & set(seeds[0].values())


def test_the_canonical_card_is_named_and_else_the_smaller_one_ships():
    base, facts = open_checkpoint(resolve("lab")), resolve_facts("lab")
    usual = resolve_card(None, base_digest=base.digest, facts=facts)
    canonical = resolve_card("canonical", base_digest=base.digest, facts=facts)
    assert is_canonical(canonical)
    assert not is_canonical(usual)
    assert set(facts.scored()["fact_id"]) <= set(canonical.frame["fact_id"])
    with pytest.raises(SftbenchError, match="no canonical mastery card ships"):
        resolve_card("canonical", base_digest="0" * 32, facts=facts)


def test_canonical_means_one_card_wherever_a_card_is_named():
    from sftbench.checkpoints.digest import checkpoint_digest
    from sftbench.compare.levels import find_facts
    from sftbench.harness.choose import choose
    from sftbench.watch.levelled import _facts_and_card

    folder = resolve("lab")
    digest = checkpoint_digest(folder)
    canonical = resolve_card("canonical", base_digest=digest, facts=resolve_facts("lab"))
    for named in (None, "lab"):
        _, checked = find_facts(named, "canonical", digest)
        _, watched = _facts_and_card(digest, named, "canonical")
        asked = MasteryCard.read(choose("canonical", named, str(folder)).card)
        assert checked.digest == watched.digest == asked.digest == canonical.digest
    with pytest.raises(SftbenchError, match="no canonical mastery card ships"):
        find_facts(None, "canonical", "0" * 32)
    with pytest.raises(SftbenchError, match="no canonical mastery card ships"):
        _facts_and_card("0" * 32, None, "canonical")
    with pytest.raises(SftbenchError, match="the canonical mastery card was asked for"):
        choose("canonical", None, None)


def test_without_a_fact_set_a_card_of_facts_that_ship_is_found():
    record = next(record for _, record in bundled_cards() if record["facts_name"] == "geography")
    for canonical in (False, True):
        card = find_card(base_digest=str(record["model_digest"]), canonical=canonical)
        assert card is not None
        assert card.record["facts_name"] == "geography"
