"""What is checked before a comparison starts, and what it warns of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import BASE, FakeEngine, factory_of, never, record, write_model

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.cli.compare import compare
from sftbench.common.errors import SftbenchError
from sftbench.compare.plan import make_plan
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.facts.prompts import PROMPTS
from sftbench.recipes.record import write_record

pytestmark = pytest.mark.unit


def test_missing_shots_are_told_before_anything_is_done(request_: Request) -> None:
    with pytest.raises(SftbenchError, match=r"(?s)no fact is reserved .*--prompt paper\.$"):
        run(replace(request_, prompt=PROMPTS["fewshot"]), never)
    assert not request_.out.exists()
    run(request_, factory_of(FakeEngine()))


def test_what_lm_eval_on_the_tuned_folder_would_do_otherwise_is_said(request_: Request) -> None:
    (request_.base / "generation_config.json").write_text('{"no_repeat_ngram_size": 3}')
    (request_.tuned / "generation_config.json").write_text('{"eos_token_id": [8, 7]}')
    ends, settings = make_plan(request_).warnings
    assert ends.startswith(
        "The base ends a text at the token ids 2, the tuned model's own files at 2, 7, 8;"
    )
    assert settings.startswith("The generation_config.json of the base sets no_repeat_ngram_size:")


def test_a_card_of_another_base_is_an_error(request_: Request) -> None:
    with pytest.raises(SftbenchError, match="for the base tiny"):
        run(replace(request_, base=request_.tuned), never)
    assert not request_.out.exists()


def test_a_tuned_model_of_another_base_is_an_error(request_: Request) -> None:
    write_record(request_.tuned, record("f" * 32, checkpoint_digest(request_.tuned)))
    with pytest.raises(SftbenchError, match=r"was tuned from another .digest ffffffffffff"):
        run(request_, never)
    assert not request_.out.exists()


def test_weights_that_are_not_those_of_the_recipe_are_said(request_: Request) -> None:
    write_record(request_.tuned, record(checkpoint_digest(request_.base), "3" * 32))
    found = run(request_, factory_of(FakeEngine())).summary
    assert found.warnings[0].startswith("The tuned model's weights are not those that its recipe")


@pytest.mark.parametrize(
    ("flag", "value"), [("prompt", "poem"), ("engine", "abacus"), ("domain", "both")]
)
def test_a_choice_that_is_not_known_is_an_error(flag: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match=f"--{flag} {value} is not known"):
        compare(base="lab", tuned="lab", output=tmp_path / "out", **{flag: value})


def test_models_that_do_not_match_are_an_error(request_: Request, tmp_path: Path) -> None:
    small = write_model(tmp_path / "small", BASE[:-1])
    with pytest.raises(SftbenchError, match="differ in shape"):
        run(replace(request_, tuned=small), never)
    broken = write_model(tmp_path / "broken", [float("nan"), *BASE[1:]])
    with pytest.raises(SftbenchError, match="NaN"):
        run(replace(request_, tuned=broken), never)
    assert not request_.out.exists()
