"""The tasks through lm-eval's own command line and Python interface, on the lab model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file, save_file

from sftbench.checkpoints.reference import resolve
from sftbench.common.errors import SftbenchError
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.facts.table import DOMAINS
from sftbench.harness import wrapper
from sftbench.harness.choose import named_card
from sftbench.harness.run import evaluate
from sftbench.harness.tasks import tasks_path
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.levels import LEVELS

pytestmark = pytest.mark.integration

EMPTY = ("in", 3)
LIMIT = 4


@pytest.fixture(scope="module")
def card_with_a_gap(tmp_path_factory):
    """Return the lab's card without the facts of one level of one domain."""
    card = MasteryCard.read(named_card("lab"))
    domain, level = EMPTY
    there = resolve_facts("lab").scored(domain=domain)["fact_id"].to_list()
    gone = pl.col("fact_id").is_in(there) & (pl.col("level") == level)
    path = tmp_path_factory.mktemp("card") / "card.parquet"
    MasteryCard(card.frame.filter(~gone), card.record).write(path)
    return path


def counts_of(card_path):
    """Return how many test facts a card puts into each (domain, level)."""
    rows = resolve_facts("lab").scored().join(MasteryCard.read(card_path).frame, on="fact_id")
    counted = {(domain, level): 0 for domain in DOMAINS for level in LEVELS}
    return counted | {key: len(part) for key, part in rows.group_by("domain", "level")}


def results_of(folder):
    (path,) = folder.glob("*/results_*.json")
    return json.loads(path.read_text())


def test_plain_lm_eval_runs_the_group_with_an_empty_level(card_with_a_gap, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "--include_path", str(tasks_path())),
            *("--tasks", "sft_knowledge", "--model", "hf", "--batch_size", "16"),
            *("--model_args", f"pretrained={resolve('lab')},dtype=float32", "--device", "cpu"),
            *("--metadata", json.dumps({"mastery": str(card_with_a_gap)})),
            *("--limit", str(LIMIT), "--log_samples", "--output_path", str(tmp_path)),
        ],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sftbench: ")]
    assert "; empty: in 3" in line
    assert resolve_facts("lab").digest[:12] in line
    results, counts = results_of(tmp_path), counts_of(card_with_a_gap)
    for domain in DOMAINS:
        accuracies, asked = [], 0
        for level in LEVELS:
            name = f"sft_knowledge_{domain}_level{level}"
            n = min(LIMIT, counts[domain, level])
            asked += n
            assert results["n-samples"][name]["effective"] == n
            (samples,) = tmp_path.glob(f"*/samples_{name}_*.jsonl")
            assert len(samples.read_text().splitlines()) == n
            if n:
                accuracies.append(results["results"][name]["acc,none"])
        macro = results["groups"][f"sft_knowledge_{domain}"]
        assert macro["acc,none"] == pytest.approx(sum(accuracies) / len(accuracies))
        assert macro["sample_len"] == asked > 0
    assert results["n-shot"]["sft_knowledge_in"] == PROMPTS["fewshot"].shots


def test_the_wrapper_needs_no_card_for_a_base_whose_card_ships(tmp_path, monkeypatch):
    # Only for speed: lm-eval's own task files are not indexed.
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    wrapper.run(
        [
            *("--tasks", "sft_knowledge_paper", "--model", "sftbench", "--batch_size", "16"),
            *("--model_args", "pretrained=lab", "--limit", "2", "--device", "cpu"),
            *("--output_path", str(tmp_path)),
        ]
    )
    results = results_of(tmp_path)
    expected = sum(min(2, n) for n in counts_of(named_card("lab")).values())
    assert results["groups"]["sft_knowledge_paper"]["sample_len"] == expected
    assert results["n-shot"]["sft_knowledge_paper_in"] == 0
    assert results["config"]["model_dtype"] == "torch.float32"


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the lab model that a test may spoil."""
    return Path(shutil.copytree(resolve("lab"), tmp_path / "copy"))


def refused(folder, monkeypatch):
    """Return what the wrapper says of a checkpoint that cannot be used."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    with pytest.raises(SftbenchError) as error:
        wrapper.run(
            [
                *("--tasks", "sft_knowledge", "--model", "sftbench", "--device", "cpu"),
                *("--model_args", f"pretrained={folder}"),
            ]
        )
    return str(error.value)


def test_truncated_weights_are_named(copy, monkeypatch):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert refused(copy, monkeypatch).startswith(f"{weights}: is truncated")


def test_a_tensor_that_holds_nan_is_named(copy, monkeypatch):
    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name][0, 0] = torch.nan
    save_file(tensors, weights, metadata={"format": "pt"})
    said = refused(copy, monkeypatch)
    assert said.startswith(f"{copy}: the tensor {name} holds 1 NaN or infinite scalar")


def test_plain_lm_eval_ends_with_2_on_our_errors(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "--include_path", str(tasks_path())),
            *("--tasks", "sft_knowledge", "--model", "dummy"),
            *("--metadata", json.dumps({"mastery": "nowhere.parquet"})),
        ],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Error: nowhere.parquet: there is no such mastery card" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_lab_model_answers_what_it_masters():
    answers = evaluate("lab", "lab")
    facts = resolve_facts("lab").scored()
    assert answers["fact_id"].is_in(facts["fact_id"].to_list()).all()
    right = dict(answers.group_by("level").agg(pl.col("correct").mean()).iter_rows())
    assert right[4] > 0.5
    assert right[4] - right[0] > 0.4


def test_an_unknown_prompt_is_an_error():
    with pytest.raises(SftbenchError, match="there is no prompt 'chat'"):
        evaluate("lab", "lab", prompt="chat")
