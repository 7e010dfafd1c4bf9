"""`sftbench lm-eval`: the arguments that it hands on, and errors that are for people."""

from __future__ import annotations

import shutil
import sys

import pytest

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
    assert {"sftbench", "hf", "vllm"} <= set(model_registry.keys())


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
