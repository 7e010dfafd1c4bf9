"""vLLM through the command line, as a user starts it: mastery, lm-eval, and a model it refuses."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.weights import read_tensors
from sftbench.engines.settings import vllm_installed
from sftbench.harness.run import evaluate
from sftbench.mastery.card import MasteryCard

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed"),
]


def sftbench(folder, *args):
    return subprocess.run(
        [sys.executable, "-c", "from sftbench.cli.app import main; main()", *map(str, args)],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def narrow(tmp_path):
    """Return a copy of the lab model whose attention heads are 16 wide."""
    folder = tmp_path / "narrow"
    shutil.copytree(resolve("lab"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["head_dim"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    heads = config["num_attention_heads"] * 16
    cut = {
        name: tensor[:heads].clone()
        if any(part in name for part in ("q_proj", "k_proj", "v_proj"))
        else tensor[:, :heads].clone()
        if "o_proj" in name
        else tensor
        for name, tensor in read_tensors(folder).items()
    }
    assert all(isinstance(tensor, torch.Tensor) for tensor in cut.values())
    save_file(cut, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_card_is_made_with_vllm(tmp_path):
    done = sftbench(
        tmp_path,
        *("mastery", "--model", "lab", "--facts", "lab", "--limit", 4, "--samples", 2),
        *("--engine", "vllm", "--engine-options", "max-model-len=128", "-o", "card.parquet"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    card = MasteryCard.read(tmp_path / "card.parquet")
    assert card.frame.height == 4
    assert card.record["engine"]["engine"] == "vllm"
    assert card.record["engine"]["max_model_len"] == "128"
    assert "Traceback" not in done.stderr
    assert "WARNING" not in done.stderr


def test_heads_that_vllm_cannot_run_are_refused_in_plain_words(tmp_path, narrow):
    done = sftbench(
        tmp_path,
        *("mastery", "--model", narrow, "--facts", "lab", "--limit", 1),
        *("--engine", "vllm", "-o", "card.parquet"),
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "vLLM cannot run attention heads of this size" in done.stderr
    assert "--engine hf" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "card.parquet").exists()


def test_lm_eval_with_its_own_vllm_answers_as_ours(tmp_path):
    """The CPU distribution is found, and the answers are those of transformers."""
    task = "sft_knowledge_in_level4"
    done = sftbench(
        tmp_path,
        *("lm-eval", "--model", "vllm", "--tasks", task, "--batch_size", "auto"),
        "--model_args",
        f"pretrained={resolve('lab')},dtype=float32,max_model_len=512,enforce_eager=True",
        *("--metadata", '{"mastery": "lab"}', "--limit", "12"),
        *("--log_samples", "--output_path", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (samples,) = (tmp_path / "out").glob(f"*/samples_{task}_*.jsonl")
    told = [json.loads(line) for line in samples.read_text().splitlines()]
    ours = {one["doc"]["fact_id"]: one["resps"][0][0] for one in told}
    assert len(ours) == 12
    answers = evaluate("lab", "lab")
    theirs = dict(answers.select("fact_id", "text").iter_rows())
    assert ours == {fact_id: theirs[fact_id] for fact_id in ours}
