"""Any task of lm-eval on a variant that is never written, against the same variant written."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial

import pytest
import torch
from lm_eval.tasks import TaskManager
from typer.testing import CliRunner

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.regions import in_region
from sftbench.checkpoints.weights import read_tensors
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError
from sftbench.engines.settings import vllm_installed
from sftbench.facts.reference import resolve_facts
from sftbench.harness import data, wrapper
from sftbench.harness.tasks import tasks_path

pytestmark = pytest.mark.integration
vllm = pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed")

RULE = "relative,20%"
NOISE = 0.3
"""Standard deviation of the change of a weight, as a share of its tensor's own."""
KNOWLEDGE = "sft_knowledge_in"
LIMIT = 4
NATS = 0.01
"""By how much two engines may differ in one choice, in float32."""
CHOICE = """
task: foreign_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
WRITE = """
task: foreign_write
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[label]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Return the lab model with noise in every tensor of its blocks."""
    generator = torch.Generator().manual_seed(0)
    changed = {
        name: tensor.float()
        + torch.randn(tensor.shape, generator=generator) * tensor.float().std() * NOISE
        if in_region(name, "blocks") and tensor.ndim > 1
        else tensor
        for name, tensor in read_tensors(resolve("lab")).items()
    }
    path = tmp_path_factory.mktemp("models") / "tuned"
    write_checkpoint(path, changed, like=resolve("lab"))
    return path


@pytest.fixture(scope="module")
def restored(tuned):
    """Return the variant as `sftbench restore apply` writes it."""
    path = tuned.parent / "restored"
    pair = ("--base", "lab", "--tuned", str(tuned))
    command = ["restore", "apply", *pair, "--rule", RULE, "-o", str(path)]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Return a folder with two tasks that are not ours, and their data."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = resolve_facts("lab").scored().head(12).select("question", "answers").to_dicts()
    names = [row["answers"][0] for row in rows]
    lines = [
        json.dumps(
            {
                "question": f"Question: {row['question']}\nAnswer:",
                "choices": [names[i], names[i - 1], names[i - 2]],
                "label": 0,
            }
        )
        for i, row in enumerate(rows)
    ]
    data = folder / "data.jsonl"
    data.write_text("\n".join(lines))
    (folder / "choice.yaml").write_text(CHOICE.format(data=data))
    (folder / "write.yaml").write_text(WRITE.format(data=data))
    return folder


@pytest.fixture(scope="module")
def ask(foreign, tmp_path_factory):
    """Return a function that asks a model all three tasks, as lm-eval's command line does."""
    from lm_eval import simple_evaluate

    os.environ.setdefault("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    wrapper._register_models()

    def asked(model, **args):
        manager = TaskManager(
            include_path=[str(foreign), str(tasks_path())],
            include_defaults=False,
            metadata=args if "tuned" in args else {"mastery": "lab"},
        )
        return simple_evaluate(
            model=model,
            model_args=args,
            tasks=["foreign_choice", "foreign_write", KNOWLEDGE],
            task_manager=manager,
            batch_size=8,
            device="cpu",
            limit=LIMIT,
            bootstrap_iters=0,
            log_samples=True,
        )

    return asked


def samples_of(results):
    """Return what the model answered to each request, by task."""
    return {
        task: [[one["doc_hash"], one["resps"]] for one in samples]
        for task, samples in results["samples"].items()
    }


@pytest.fixture(scope="module")
def written(ask, restored):
    """Return what lm-eval's own `hf` says of the written variant."""
    return ask("hf", pretrained=str(restored), dtype="float32")


@pytest.fixture(scope="module")
def unwritten(ask, tuned):
    """Return what `sftbench-hf` says of the same variant."""
    return ask("sftbench-hf", base="lab", tuned=str(tuned), criterion="relative", percent=20)


def test_a_variant_answers_as_if_it_were_written(written, unwritten):
    told = samples_of(unwritten)
    assert told == samples_of(written)
    assert len(told["foreign_choice"]) == len(told["foreign_write"]) == LIMIT
    assert len(told) == 2 + 5  # a task per level
    assert unwritten["results"] == written["results"]


def test_other_variants_answer_otherwise(ask, tuned, unwritten):
    names = {"base": "lab", "tuned": str(tuned)}
    changed = ask("sftbench-hf", **names, variant="tuned")
    assert samples_of(changed) == samples_of(ask("hf", pretrained=str(tuned), dtype="float32"))
    assert samples_of(changed) != samples_of(unwritten)
    base = ask("sftbench-hf", **names, variant="base")
    assert samples_of(base) == samples_of(
        ask("hf", pretrained=str(resolve("lab")), dtype="float32")
    )
    assert samples_of(ask("sftbench-hf", **names, percent=100)) == samples_of(base)
    noise = samples_of(ask("sftbench-hf", **names, variant="noise"))
    assert noise != samples_of(base)
    assert noise != samples_of(ask("sftbench-hf", **names, variant="noise", draw=2))


def test_results_say_which_variant_it_was(unwritten, tuned):
    said = unwritten["config"]["sftbench"]
    assert said["variant"] == "tuned+restore(relative,20%)"
    assert said["tuned"]["path"] == str(tuned)
    assert said["base"]["name"] == "lab"
    assert said["restore"]["share"] == pytest.approx(0.2, abs=1e-4)
    assert (said["engine"]["engine"], said["engine"]["batch_size"]) == ("transformers", "8")
    assert unwritten["config"]["model_args"]["percent"] == 20
    json.dumps(said)


def test_the_command_line_finds_base_and_card(tuned, tmp_path, monkeypatch, capsys):
    # Only for speed: lm-eval's own task files are not indexed.
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    data._read.cache_clear()
    shutil.copytree(tuned, tmp_path / "mine")
    record = {"base_digest": checkpoint_digest(resolve("lab")), "base_name": "lab"}
    (tmp_path / "mine" / "sftbench_recipe.json").write_text(json.dumps(record))
    wrapper.run(
        [
            *("--tasks", "sft_knowledge_paper_in_level4", "--model", "sftbench-hf"),
            *("--model_args", f"tuned={tmp_path / 'mine'},percent=20,batch_size=16"),
            *("--limit", "2", "--output_path", str(tmp_path / "out")),
        ]
    )
    (path,) = (tmp_path / "out").glob("*/results_*.json")
    assert path.parent.name == "mine__tuned+restore-relative-20pct"
    said = json.loads(path.read_text())
    assert said["model_name"] == path.parent.name
    assert said["config"]["sftbench"]["variant"] == "tuned+restore(relative,20%)"
    told = capsys.readouterr().err
    assert "sftbench: tuned+restore(relative,20%), where base is lab (" in told
    assert "recipe record" in told  # where the base stands
    assert "sftbench: levels of the base" in told


@pytest.mark.parametrize("model", ["sftbench-hf", pytest.param("sftbench-vllm", marks=vllm)])
def test_the_command_line_scores_a_task_that_is_not_ours(
    model, written, foreign, tuned, tmp_path, monkeypatch
):
    """As lm-eval's own `hf` scores the checkpoint that `sftbench restore apply` writes."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    wrapper.run(
        [
            *("run", "--model", model, "--include_path", str(foreign)),
            *("--model_args", f"base=lab,tuned={tuned},criterion=relative,percent=20"),
            *("--tasks", "foreign_choice,foreign_write", "--limit", str(LIMIT)),
            *("--batch_size", "8", "--output_path", str(tmp_path)),
        ]
    )
    (path,) = tmp_path.glob("*/results_*.json")
    results = json.loads(path.read_text())["results"]
    for task in ("foreign_choice", "foreign_write"):
        assert score_of(results, task) == score_of(written["results"], task)


def score_of(results, task):
    """Return the figure of a task of this module."""
    return results[task].get("acc,none", results[task].get("exact_match,none"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("base=lab,percent=5", "tuned=T, the fine-tuned model, is missing"),
        ("base=lab,tuned={tuned},percent=500", "'500' is no percentage"),
        ("base=lab,tuned={tuned},percent=5,gpus=2", "sftbench-hf has no argument gpus"),
        ("base=lab,tuned={tuned},percent=5,dtype=int8", "the dtype 'int8' is not known"),
        ("tuned={tuned},percent=5", "the base of this model is not named"),
        ("base={small},tuned={tuned},percent=5", "base and tuned"),
        ("base=lab,tuned={tuned}/nowhere,percent=5", "there is no model"),
    ],
)
def test_what_is_wrong_is_one_message(args, said, tuned, small, monkeypatch):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    with pytest.raises(SftbenchError) as caught:
        wrapper.run(
            [
                *("--tasks", "sft_knowledge", "--model", "sftbench-hf"),
                *("--model_args", args.format(tuned=tuned, small=small)),
            ]
        )
    assert said in str(caught.value)
    assert "--base" not in str(caught.value)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a model that has no second block."""
    tensors = read_tensors(resolve("lab"))
    fewer = {name: one for name, one in tensors.items() if ".layers.1." not in name}
    path = tmp_path_factory.mktemp("small") / "small"
    write_checkpoint(path, fewer, like=resolve("lab"))
    return path


@vllm
def test_vllm_answers_as_transformers_does(ask, tuned, unwritten, written):
    args = {"base": "lab", "tuned": str(tuned), "criterion": "relative", "percent": 20}
    found = ask("sftbench-vllm", **args, max_length=512)
    for task in ("foreign_choice", "foreign_write"):
        assert score_of(found["results"], task) == score_of(written["results"], task)
    ours, theirs = samples_of(found), samples_of(unwritten)
    for name in theirs.keys() - {"foreign_choice"}:
        assert ours[name] == theirs[name]
    for mine, one in zip(ours["foreign_choice"], theirs["foreign_choice"], strict=True):
        assert [nats for ((nats, _),) in mine[1]] == pytest.approx(
            [nats for ((nats, _),) in one[1]], abs=NATS
        )
    said = found["config"]["sftbench"]
    assert said["variant"] == unwritten["config"]["sftbench"]["variant"]
    assert said["parity"]["largest"] < NATS
    assert said["engine"]["max_model_len"] == "512"
