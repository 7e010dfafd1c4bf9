"""Short training runs of the lab model, by plain Trainer and by trl: for the tests of watching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from sftbench.checkpoints.reference import resolve

LAB = resolve("lab")
TEXTS = [f"Question: who is number {i}?\nAnswer: number {7 * i % 13}" for i in range(64)]


class Target(TrainerCallback):
    """Stands for TensorBoard and the like: keeps what the trainer reports, by step."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.lines.append((state.global_step, dict(logs)))


def lab_model(dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(LAB, dtype=dtype)


def lab_tokenizer() -> Any:
    tokenizer = AutoTokenizer.from_pretrained(LAB)
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def settings(output: Path, **how: Any) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-5,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": [],
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 0,
        "disable_tqdm": True,
        **how,
    }


def plain_trainer(output: Path, *callbacks: TrainerCallback, model: Any = None, **how: Any) -> Any:
    """Return transformers' own trainer; everything is seeded."""
    set_seed(0)
    tokenizer = lab_tokenizer()
    return Trainer(
        model=lab_model() if model is None else model,
        args=TrainingArguments(**settings(output, **how)),
        train_dataset=Dataset.from_dict(dict(tokenizer(TEXTS))),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


def sft_trainer(
    output: Path, *callbacks: TrainerCallback, model: Any = None, peft: Any = None, **how: Any
) -> Any:
    """Return trl's trainer with its own defaults: autocast to bf16, gradient checkpointing."""
    set_seed(0)
    return SFTTrainer(
        model=lab_model() if model is None else model,
        args=SFTConfig(**settings(output, **how)),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        processing_class=lab_tokenizer(),
        peft_config=peft,
        callbacks=list(callbacks),
    )
