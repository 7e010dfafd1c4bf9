"""`sftbench lm-eval`: the arguments that it hands on, and errors that are for people."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import sftbench
from sftbench.checkpoints.reference import resolve
from sftbench.common.errors import SftbenchError
from sftbench.harness import wrapper
from sftbench.harness.tasks import tasks_path

pytestmark = pytest.mark.unit


def test_our_tasks_are_included_unless_others_are(tmp_path):
    ours = ["--include_path", str(tasks_path())]
    assert wrapper.arguments(["--tasks", "sft_knowledge"]) == ["--tasks", "sft_knowledge", *ours]
    for given in (["--include_path", "x"], ["--include_path=x"]):
        assert wrapper.arguments(given) == given
    config = tmp_path / "run.yaml"
    config.write_text("include_path: [a, b]\n")
    assert wrapper.arguments(["--config", str(config)]) == ["--config", str(config)]
    config.write_text("model: hf\n")
    assert wrapper.arguments(["-C", str(config)]) == ["-C", str(config), *ours]
    assert wrapper.arguments([]) == []


def test_the_wrapper_hands_its_arguments_to_lm_eval(monkeypatch):
    from lm_eval.api.registry import model_registry

    seen = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(list(sys.argv)))
    before = sys.argv
    wrapper.run(["--tasks", "sft_knowledge", "--limit", "3"])
    given = ["lm_eval", "--tasks", "sft_knowledge", "--limit", "3"]
    assert seen == [[*given, "--include_path", str(tasks_path())]]
    assert sys.argv is before
    assert {*wrapper.MODELS, "hf", "vllm"} <= set(model_registry.keys())


def test_later_lm_evals_find_the_same_models():
    pyproject = Path(sftbench.__file__).parents[1] / "pyproject.toml"
    groups = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["entry-points"]
    assert groups["lm_eval.models"] == wrapper.MODELS


@pytest.mark.parametrize(("model", "ours"), [("vllm", [False]), ("sftbench-vllm", [True])])
def test_vllm_is_prepared_for_both_its_models(model, ours, monkeypatch):
    prepared = []
    monkeypatch.setattr(wrapper, "_prepare_vllm", lambda ours: prepared.append(ours))
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: None)
    wrapper.run(["--tasks", "sft_knowledge", "--model", model])
    assert prepared == ours


def test_the_results_of_a_variant_are_filed_under_its_name(monkeypatch):
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    found = []

    def tell():
        args = ({"tuned": "a/mine", "percent": 5}, {"pretrained": "b"}, "pretrained=c")
        found.extend(map(GeneralConfigTracker._get_model_name, args))

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", tell)
    wrapper.run(["--tasks", "sft_knowledge", "--model", "sftbench-hf"])
    assert found == ["mine__tuned+restore-relative-5pct", "b", "c"]
    assert GeneralConfigTracker._get_model_name({"tuned": "a/mine", "percent": 5}) is None


@pytest.mark.parametrize("form", ["pretrained={},dtype=float32", '{{"pretrained": "{}"}}'])
def test_truncated_weights_are_named_for_any_model(tmp_path, form):
    shutil.copytree(resolve("lab"), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SftbenchError, match="is truncated") as caught:
        wrapper.run(["--model", "hf", "--model_args", form.format(tmp_path / "cut")])

    assert str(weights) in str(caught.value)


def test_what_lm_eval_finds_wrong_is_an_error_for_people(monkeypatch):
    def fail():
        raise ValueError("Tasks not found: nonsense")

    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", fail)
    with pytest.raises(SftbenchError, match="lm-eval: Tasks not found: nonsense"):
        wrapper.run(["--tasks", "nonsense"])
