"""A LoRA fine-tune by trl and peft alone, merged: a model that sftbench did not train.

    python leaderboard/examples/train_lora.py BASE FACTS SIZE LEARNING_RATE OUTPUT

It trains on the first facts of the training split, with the prompt that sftbench trains with.
"""

from __future__ import annotations

import sys
import tempfile

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from sftbench.checkpoints.reference import resolve
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts


def main() -> None:
    """Train on the first facts of the training split and save the merged model."""
    base, facts, size, rate, output = sys.argv[1:]
    rows = resolve_facts(facts).scored(domain="in", split="train").sort("fact_id").head(int(size))
    texts = [
        {"prompt": prompt_text(PROMPTS["paper"], question), "completion": f" {answers[0]}"}
        for question, answers in rows.select("question", "answers").iter_rows()
    ]
    tokenizer = AutoTokenizer.from_pretrained(resolve(base))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(resolve(base), dtype="float32"),
            args=SFTConfig(
                output_dir=scratch, num_train_epochs=1, per_device_train_batch_size=8,
                learning_rate=float(rate), bf16=False, use_cpu=True, report_to=[],
                save_strategy="no", logging_steps=10, max_length=64, seed=0,
            ),
            train_dataset=Dataset.from_list(texts),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear",
                                   task_type="CAUSAL_LM"),
        )  # fmt: skip
        trainer.train()
        trainer.model.merge_and_unload().save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    main()
