"""Watching a training run: what may be asked for, the probe set, the stop rule, live models."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from fakes import card_for, fact_set, write_model, write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.common.errors import SftbenchError
from sftbench.scoring.balance import in_turn
from sftbench.scoring.retention import retention
from sftbench.watch import live
from sftbench.watch.levelled import find_levelled, require_same_tokenizer, require_vocabulary
from sftbench.watch.probe import MOST_ASKED, ProbeSet, known_by, require_stoppable
from sftbench.watch.stop import FEWEST_PROBES, Schedule

pytestmark = pytest.mark.unit

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("every", 0),
        ("every", 2.5),
        ("every", True),
        ("probes", FEWEST_PROBES - 1),
        ("patience", 0),
        ("batch_size", 0),
        ("stop_below", 0.0),
        ("stop_below", 90),
        ("stop_below", float("nan")),
        ("stop_below", True),
    ],
)
def test_what_cannot_be_meant_is_refused(field, value):
    with pytest.raises(SftbenchError) as caught:
        Schedule(**{field: value})

    assert caught.value.where == field
    assert repr(value) in caught.value.what
    assert caught.value.remedy


def test_the_defaults_watch_and_never_stop():
    assert not Schedule().stops([0.0] * 10)


@given(st.lists(SHARES, max_size=12), st.floats(0.01, 1), st.integers(1, 5))
def test_it_stops_just_where_the_last_probes_all_show_it(highs, below, patience):
    rule = Schedule(stop_below=below, patience=patience)
    in_a_row = 0
    for high in highs:
        in_a_row = in_a_row + 1 if high < below else 0

    assert rule.stops(highs) == (in_a_row >= patience)


@given(st.lists(SHARES, min_size=1, max_size=8), st.floats(0.02, 1), st.integers(1, 4))
def test_a_lower_threshold_or_more_patience_never_stops_earlier(highs, below, patience):
    gentler = [
        Schedule(stop_below=below / 2, patience=patience),
        Schedule(stop_below=below, patience=patience + 1),
    ]
    if any(rule.stops(highs) for rule in gentler):
        assert Schedule(stop_below=below, patience=patience).stops(highs)


def levelled(count: int) -> pl.DataFrame:
    """Return made-up facts of the levels 1..4 in both domains, answers shared by some."""
    numbers = range(count)
    rows = pl.DataFrame(
        {
            "fact_id": [f"{number * 7919 % 100_003:05d}" for number in numbers],
            "relation": [f"relation{number % 3}" for number in numbers],
            "domain": [("in", "out")[number % 5 == 0] for number in numbers],
            "level": [1 + number // 2 % 4 for number in numbers],
            "answer": [f"answer{number % 17}" for number in numbers],
            "text": [f"What is {number}?" for number in numbers],
        }
    )
    return rows.with_columns(pl.concat_list("answer").alias("answers"))


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_the_score_is_the_knowledge_retention_score(right):
    probes = ProbeSet(levelled(40).sort("fact_id"))
    found = probes.retention(right)
    for domain, one in found.items():
        rows = probes.rows.with_columns(correct=pl.Series(right)).filter(pl.col("domain") == domain)
        base = rows.select("fact_id", correct=pl.lit(value=True))
        expected = retention(base, rows, rows).score

        assert one.value == pytest.approx(expected)
        assert one.low <= one.value <= one.high
        assert one.n == rows.height == probes.sizes[domain]


def test_retention_that_is_just_the_threshold_seldom_stops_and_half_of_it_always():
    probes = ProbeSet(levelled(200).sort("fact_id"))
    rule = Schedule(stop_below=0.9)
    chance = np.random.default_rng(1)

    def stopped(share: float) -> float:
        draws = (chance.random((200, 200)) < share).tolist()
        return float(np.mean([rule.stops([probes.retention(one)["in"].high]) for one in draws]))

    assert stopped(0.9) <= 0.07
    assert stopped(0.45) == 1.0


def test_the_probe_set_is_what_the_base_answers_right_balanced():
    asked: list[str] = []

    def ask(rows: pl.DataFrame) -> list[bool]:
        asked.extend(rows["fact_id"])
        return [int(fact_id) % 3 > 0 for fact_id in rows["fact_id"]]

    rows = levelled(400)
    probes = known_by(ask, rows, 40)
    cells = probes.rows.group_by("level", "domain").len()

    assert probes.rows.height == 40
    assert probes.rows["fact_id"].is_sorted()
    assert len(asked) == len(set(asked)) <= 80
    assert cells.height == 8
    assert cells["len"].max() - cells["len"].min() <= 3
    assert asked == in_turn(rows)["fact_id"].to_list()[: len(asked)]


def test_the_base_is_asked_so_much_and_no_more():
    asked: list[str] = []

    def ask(rows: pl.DataFrame) -> list[bool]:
        asked.extend(rows["fact_id"])
        return [fact_id == first for fact_id in rows["fact_id"]]

    first = in_turn(levelled(300))["fact_id"][0]
    assert known_by(ask, levelled(300), 20).rows["fact_id"].to_list() == [first]
    assert len(asked) == MOST_ASKED * 20


def test_a_base_that_answers_nothing_right_is_refused():
    with pytest.raises(SftbenchError, match=r"answers none of 60 levelled facts right") as caught:
        known_by(lambda rows: [False] * rows.height, levelled(60), 20)

    assert caught.value.where == "base"


def test_a_rule_that_could_never_stop_is_refused():
    few = ProbeSet(levelled(4).sort("fact_id"))
    outside = ProbeSet(levelled(100).filter(pl.col("domain") == "out").sort("fact_id"))
    enough = ProbeSet(levelled(100).sort("fact_id"))

    require_stoppable(few, Schedule())
    require_stoppable(enough, Schedule(stop_below=0.9))
    for probes in (few, outside):
        with pytest.raises(SftbenchError, match="too few to show") as caught:
            require_stoppable(probes, Schedule(stop_below=0.5))
        assert caught.value.where == "stop_below"


@pytest.fixture
def base(tmp_path):
    return write_model(tmp_path / "base", [1.0] * 40)


def test_base_facts_and_card_are_found_and_checked(base, tmp_path):
    facts = fact_set(shots=True)
    card = card_for(facts, checkpoint_digest(base))
    card.write(tmp_path / "card.parquet")
    facts.write(tmp_path / "facts.parquet")
    found = find_levelled(base, facts, card)

    assert set(found.rows["level"]) == {1, 2, 3, 4}
    assert all(text.endswith("?\nAnswer:") for text in found.rows["text"])
    assert found.rows["text"][0].count("Question:") == 5
    named = find_levelled(str(base), tmp_path / "facts.parquet", str(tmp_path / "card.parquet"))
    assert named.rows.equals(found.rows)

    other = card_for(facts, "0" * 32)
    unlevelled = replace(card, frame=card.frame.filter(pl.col("level") == 0))
    for arguments, message in [
        ((facts, other), "not for this base"),
        ((fact_set(), card), "levels other facts"),
        ((None, card), "levels facts that do not ship"),
        ((facts, None), "no mastery card ships for this base"),
        ((None, None), "no mastery card ships for this base"),
        ((facts, unlevelled), "none of the test facts of numbers"),
        (("nowhere", card), "no fact table of this name"),
    ]:
        with pytest.raises(SftbenchError, match=message) as caught:
            find_levelled(base, *arguments)
        assert caught.value.remedy


def test_another_tokenizer_is_refused_and_added_tokens_are_not(base, tmp_path):
    from transformers import AutoTokenizer

    facts = fact_set(shots=True)
    found = find_levelled(base, facts, card_for(facts, checkpoint_digest(base)))
    for name, words in (("other", ["Question", "zero"]), ("more", [])):
        (tmp_path / name).mkdir()
        write_tokenizer(tmp_path / name, more=words)
    other, more = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("other", "more"))
    more.add_special_tokens({"pad_token": "<pad>"})

    require_same_tokenizer(found, None)
    require_same_tokenizer(found, more)
    require_same_tokenizer(found, SimpleNamespace(tokenizer=more))  # a processor holds one
    with pytest.raises(SftbenchError, match="into other ids"):
        require_same_tokenizer(found, other)
    require_vocabulary(found, 3)
    with pytest.raises(SftbenchError, match=r"knows 2 tokens .* ids up to 2"):
        require_vocabulary(found, 2)


def test_asking_leaves_modes_gradients_and_generators_as_they_were():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(), torch.nn.Linear(2, 2))
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first: list[tuple[float, float, float]] = []

    def disturb() -> None:
        with live.undisturbed(model):
            assert not any(module.training for module in model.modules())
            first.append(drawn())
            model[0].bias.requires_grad_(True)
            model[2].weight.requires_grad_(False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        disturb()

    assert [drawn()] == first
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert [one.requires_grad for one in model.parameters()] == [True, False, True, True]


def test_sharded_models_are_refused():
    class FullyShardedDataParallel(torch.nn.Module):
        """Stands for torch's own, which needs a process group."""

    zero3 = torch.nn.Linear(2, 2)
    zero3.weight.ds_id = 0
    live.require_whole(torch.nn.Linear(2, 2))
    for model in (zero3, torch.nn.Sequential(FullyShardedDataParallel())):
        with pytest.raises(SftbenchError, match="sharded over processes") as caught:
            live.require_whole(model)
        assert "sftbench check" in caught.value.remedy


def test_a_model_that_answers_no_prompt_is_refused():
    with pytest.raises(SftbenchError, match="Linear is no causal language model"):
        live.require_causal(torch.nn.Linear(2, 2))


def test_the_package_imports_nothing_heavy_and_still_has_the_callback():
    code = (
        "import sys, sftbench; heavy = {'torch', 'transformers', 'polars'} & set(sys.modules); "
        "assert not heavy, heavy; from sftbench import RetentionCallback; "
        "assert RetentionCallback.__module__ == 'sftbench.watch.callback'; "
        "assert not hasattr(sftbench, 'RetentionCallbacks')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
