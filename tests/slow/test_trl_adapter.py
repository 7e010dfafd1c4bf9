"""An adapter as the field makes it: trl and peft alone train it, sftbench finds base and merges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from two_models import relative

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.pair import find_pair
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.restored_folders import plan_folders, write_restored
from sftbench.checkpoints.tokenizers import same_tokenizer
from sftbench.checkpoints.update import update_norm
from sftbench.checkpoints.weights import read_tensors

pytestmark = pytest.mark.slow

STEPS = 6


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a few steps with trl and peft, and nothing else, from a copy of the lab model."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder = tmp_path_factory.mktemp("trl")
    texts = [f"Question: who is number {i}?\nAnswer: number {i}" for i in range(4 * STEPS)]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(resolve("lab"), dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder / "out"),
            max_steps=STEPS,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            bf16=False,
            use_cpu=True,
            report_to=[],
            logging_steps=1,
            max_length=64,
            seed=0,
        ),
        train_dataset=Dataset.from_dict({"text": texts}),
        processing_class=AutoTokenizer.from_pretrained(resolve("lab")),
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model()
    return folder / "out"


@torch.no_grad()
def logits_of(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(2, 66).view(2, 32)).logits


def test_its_base_is_found_and_it_answers_as_beside_it(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    names = {path.name for path in adapter.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= names
    pair = find_pair(str(adapter))
    assert pair.base == resolve("lab")
    assert pair.notes[0].endswith("by adapter_config.json.")
    base = AutoModelForCausalLM.from_pretrained(pair.base, dtype=torch.float32)
    before = logits_of(base)
    beside = logits_of(PeftModel.from_pretrained(base, adapter))
    alone = logits_of(AutoModelForCausalLM.from_pretrained(pair.tuned, dtype=torch.float32))
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-4)
    assert (alone - before).abs().max() > 0.1
    assert same_tokenizer(pair.base, pair.tuned)

    assert update_norm(read_tensors(pair.base), read_tensors(pair.tuned)) > 0
    planning = plan_folders(pair.base, pair.tuned, relative(20))
    write_restored(planning, [tmp_path / "restored"])
    (restored,) = planning.planned
    assert open_checkpoint(tmp_path / "restored").digest != planning.tuned.digest
    assert 0 < restored.report.l1_removed < 1
    assert not restored.report.equals_base
