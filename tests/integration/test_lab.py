"""The lab that ships: its levels are graded, and follow what its text said."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.facts.matching import is_right
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.shots import shots_of
from sftbench.lab.build import MODEL, Lab, read_lab, shipped_lab, shortfalls
from sftbench.lab.sizes import TEST
from sftbench.lab.world import make_world
from sftbench.mastery.levels import LEVELS

pytestmark = pytest.mark.integration

LARGEST = 5_000_000  # bytes


@pytest.fixture(scope="module")
def lab() -> Lab:
    return read_lab(shipped_lab())


@pytest.fixture(scope="module")
def known(lab) -> pl.DataFrame:
    """Facts with level, rate and how the text treated them."""
    return lab.facts.frame.join(lab.card.frame, on="fact_id").join(lab.statements, on="fact_id")


@pytest.fixture(scope="module")
def engine(lab):
    from sftbench.engines.transformers import TransformersEngine

    return TransformersEngine(lab.path / MODEL, batch_size=50)


def test_every_level_has_fifty_scored_test_facts(lab):
    scored = lab.facts.scored(split="test").join(lab.card.frame, on="fact_id")
    counts = dict(scored.group_by("level").len().iter_rows())

    assert {level: counts.get(level, 0) >= 50 for level in LEVELS} == dict.fromkeys(LEVELS, True)
    assert shortfalls(lab) == []


def test_the_card_is_for_this_model_and_these_facts(lab):
    assert resolve("lab") == lab.path / MODEL
    assert lab.card.record["model_digest"] == open_checkpoint(lab.path / MODEL).digest
    assert lab.card.record["facts_digest"] == lab.facts.digest
    assert lab.card.record["templates_digest"] == lab.facts.templates_digest


def test_the_facts_are_those_that_the_code_makes(lab):
    world = make_world(TEST)

    assert world.facts.digest == lab.facts.digest
    assert world.facts.templates_digest == lab.facts.templates_digest
    assert world.statements.equals(lab.statements)


def test_it_is_small_enough_to_ship():
    files = [path for path in shipped_lab().rglob("*") if path.is_file()]

    assert sum(path.stat().st_size for path in files) <= LARGEST
    assert not [path.name for path in files if path.suffix in {".bin", ".pt", ".journal"}]


def test_the_rate_follows_frequency_and_contradiction(known):
    share = 1 - pl.col("contradicted") / pl.col("statements")
    often = known.filter(pl.col("statements") >= 8).with_columns(share=share)
    undisputed = known.filter(pl.col("contradicted") == 0)
    rank = pl.corr("share", "rate", method="spearman")

    assert often.select(rank).item() > 0.9
    assert undisputed.select(pl.corr("statements", "rate", method="spearman")).item() > 0.7
    never = known.filter(pl.col("statements") == 0)
    assert never["rate"].mean() < 0.05
    assert known.filter(pl.col("statements") >= 8, pl.col("contradicted") == 0)["rate"].mean() > 0.8


def test_greedy_answers_get_better_with_the_level(lab, known, engine):
    rows = known.filter(pl.col("split") == "test", pl.col("domain") == "in")
    rows = pl.concat([part.head(30) for part in rows.partition_by("level", maintain_order=True)])
    shots = shots_of(lab.facts)
    prompt = PROMPTS["fewshot"]
    prompts = [
        prompt_text(prompt, row["question"], shots(row["fact_id"], row["relation"]))
        for row in rows.iter_rows(named=True)
    ]
    texts = engine.greedy(prompts, max_new_tokens=prompt.max_new_tokens, stop=prompt.stop)
    right = [
        is_right(one.text, answers, prompt.how)
        for one, answers in zip(texts, rows["answers"].to_list(), strict=True)
    ]
    accuracy = dict(
        rows.with_columns(right=pl.Series(right))
        .group_by("level")
        .agg(pl.col("right").mean())
        .iter_rows()
    )

    assert accuracy[0] <= 0.1
    assert accuracy[0] < accuracy[2] < accuracy[4]
    assert accuracy[1] < accuracy[3]
    assert accuracy[4] >= 0.7


def test_the_card_is_what_the_estimator_draws_again(lab, known, engine):
    from sftbench.mastery.sampled import SampledEstimator

    rows = pl.concat(
        [part.head(2) for part in known.partition_by("level", maintain_order=True)]
    ).sort("fact_id")
    drawn = SampledEstimator().estimate(
        engine, list(rows.iter_rows(named=True)), lab.facts.templates
    )

    for row, found in zip(rows.iter_rows(named=True), drawn, strict=True):
        assert found.fact_id == row["fact_id"]
        assert sum(map(sum, found.hits)) == pytest.approx(row["rate"] * row["draws"], abs=3)


@pytest.mark.parametrize(
    "text",
    ["<|question|> Where is Paris? <|answer|>", "naïve Ελλάδα 日本 🙂", "a  b\n\tc", ""],
)
def test_the_tokenizer_encodes_any_text(engine, text):
    ids = engine.tokenizer(text)["input_ids"]

    assert engine.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert ids[0] == engine.tokenizer.bos_token_id
    assert engine.tokenizer.unk_token_id is None


def test_the_shipped_folder_is_a_standard_one():
    model = Path(resolve("lab"))
    names = {path.name for path in model.iterdir()}

    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names


def test_likelihood_levels_the_facts_as_sampling_does(lab, known, engine):
    from sftbench.analysis.agreement import agreement
    from sftbench.mastery.card import MADE_OF, MASTERY, with_levels
    from sftbench.mastery.likelihood import LikelihoodEstimator

    rows = pl.concat(
        [part.head(40) for part in known.partition_by("level", maintain_order=True)]
    ).sort("fact_id")
    facts = list(rows.iter_rows(named=True))
    found = LikelihoodEstimator().estimate(engine, facts, lab.facts.templates)
    schema = {name: MASTERY.columns[name] for name in MADE_OF}
    estimated = with_levels(pl.DataFrame(list(found), schema, orient="row"))
    both = rows.join(estimated, on="fact_id", suffix="_estimated")
    agreed = agreement(
        both.select("level", "rate").rows(),
        both.select("level_estimated", "rate_estimated").rows(),
    )
    # Of all 753 facts 90.8 % agree; a card's own re-run agrees in 87.6 %.
    assert agreed.same >= 0.85
    assert agreed.kappa is not None
    assert agreed.kappa >= 0.95
    assert all(abs(level.bias) < 0.02 for level in agreed.levels)
