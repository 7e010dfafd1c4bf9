"""A comparison goes on where it stopped, and never mixes models, prompts or engines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from fakes import FakeEngine, factory_of, never
from two_models import relative

from sftbench.common.errors import SftbenchError
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.run import run
from sftbench.engines.protocol import Advance, Scored
from sftbench.engines.settings import EngineSettings
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.unit


def test_a_second_run_asks_nothing(compared: Compared, request_: Request) -> None:
    again = run(request_, never)
    assert again.summary.variants == compared.summary.variants
    assert again.lost.equals(compared.lost)


def test_further_percentages_join_the_folder(compared: Compared, request_: Request) -> None:
    engine = FakeEngine()
    more = run(replace(request_, restored=relative(10, 100)), factory_of(engine))
    assert engine.loads == 1
    assert more.summary.variants[:3] == compared.summary.variants[:3]
    assert more.summary.variants[3].percent == 100
    said = [text for text in more.summary.warnings if "equals the base" in text]
    assert [text.split(":")[0] for text in said] == ["tuned+restore(relative,100%)"]
    both = "tuned+restore(relative,10%) and tuned+restore(relative,100%): "
    assert sum(text.startswith(both) for text in more.summary.warnings) == 1  # 70 % unchanged


def test_a_killed_run_loses_the_variant_it_was_in(request_: Request) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(request_, factory_of(FakeEngine(dies_at=3)))
    assert not (request_.out / "summary.json").exists()
    engine = FakeEngine()
    run(request_, factory_of(engine))
    assert engine.loads == 2  # base and tuned were there


@pytest.mark.parametrize("where", ["load", "first answers"])
def test_a_run_that_fails_before_any_answer_does_not_claim_the_folder(
    request_: Request, where: str
) -> None:
    class Broken(FakeEngine):
        def logprobs(
            self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
        ) -> list[Scored]:
            return [Scored(float("nan"), 1) for _ in pairs]

    def refuse(weights: Mapping[str, Any]) -> None:
        raise SftbenchError("the weights do not fit the model")

    engine = Broken()
    if where == "load":
        engine.load = refuse  # type: ignore[method-assign]
    with pytest.raises(SftbenchError, match=r"do not fit|^base: 40 of 40 log-probabilities"):
        run(request_, factory_of(engine))
    assert not request_.out.exists()
    run(replace(request_, limit=10), factory_of(FakeEngine()))


@pytest.mark.parametrize("which", ["base", "tuned"])
def test_another_configuration_needs_another_folder(
    compared: Compared, request_: Request, which: str
) -> None:
    folder = getattr(request_, which)
    named = {"base": "base", "tuned": "tuned model"}[which]
    plain = {"model_type": "llama"}
    for changed in ({"rope_theta": 5.0}, {"eos_token_id": 7}, {"limits": [0.0, float("inf")]}):
        (folder / "config.json").write_text(json.dumps({**plain, **changed}))
        with pytest.raises(SftbenchError, match=f"another configuration of the {named}\n"):
            run(request_, never)
    (folder / "config.json").write_text(json.dumps({**plain, "use_cache": False}))
    run(request_, never)


def test_answers_of_another_engine_are_marked_in_the_summary_for_good(request_: Request) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(request_, factory_of(FakeEngine(dies_at=3, torch="1.0")))
    told: list[str] = []
    mixed = run(request_, factory_of(FakeEngine(torch="2.0")), told.append).summary
    said = "base and tuned: answered in an earlier run with fake torch 1.0 instead of 2.0; "
    assert [text for text in mixed.warnings if text.startswith(said)] == told[-1:]
    again = [text for text in run(request_, never).summary.warnings if "fake torch" in text]
    assert len(again) == 1
    assert again[0].startswith("tuned+restore(relative,10%) and tuned+restore(relative,20%): ")


def test_kept_answers_are_matched_anew(compared: Compared, request_: Request) -> None:
    path = request_.out / "answers" / "base.parquet"
    frame, made = ANSWERS.read(path)
    ANSWERS.write(frame.with_columns(correct=~pl.col("correct")), path, made)
    again = run(request_, never)
    assert again.summary.variants == compared.summary.variants
    assert ANSWERS.read(path)[0].equals(frame)


def test_another_comparison_needs_another_folder(compared: Compared, request_: Request) -> None:
    other = replace(request_, engine=EngineSettings(dtype="bfloat16"), limit=10)
    with pytest.raises(SftbenchError, match="another engine, selection of facts"):
        run(other, never)


def test_a_folder_with_other_things_is_left_alone(request_: Request) -> None:
    request_.out.mkdir()
    (request_.out / "thesis.tex").write_text("mine")
    with pytest.raises(SftbenchError, match="already exists"):
        run(request_, never)
