"""The trainer: trl's SFTTrainer, held to the recipe. Heavy: import it inside functions only."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import torch
import transformers
from torch.utils.data import Sampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from sftbench.common.errors import SftbenchError
from sftbench.common.progress import Step
from sftbench.recipes.choose import epoch_order
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.tokens import TrainingIds

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
"""Our names to those of transformers, whose "constant" passes over the warm-up in silence."""


def settings(recipe: Recipe, scratch: Path) -> SFTConfig:
    """Return trl's settings: each default of trl or transformers that could change the result.

    Values in brackets are what trl 1.16 with transformers 5.19 would have taken.
    """
    on_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(scratch),
        # What the paper states.
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=1,
        num_train_epochs=recipe.epochs,  # [3]
        optim="adamw_torch",  # [adamw_torch_fused: the same mathematics, other rounding]
        learning_rate=recipe.learning_rate,  # [2e-5]
        lr_scheduler_type=SCHEDULES[recipe.schedule],  # [linear]
        # What the paper leaves open.
        warmup_steps=recipe.warmup,  # below 1 it is a share of the steps, rounded up
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,  # [42]
        data_seed=recipe.seed,
        loss_type="nll",
        label_smoothing_factor=0.0,
        average_tokens_across_devices=True,  # a step's loss is the mean over its counted tokens
        # float32 throughout: the model is loaded in float32, and nothing is cast below it.
        bf16=False,  # [True: autocast to bfloat16]
        fp16=False,
        tf32=False,  # [None: left as found]
        gradient_checkpointing=recipe.gradient_checkpointing,  # [True]
        torch_compile=False,
        # The ids are ours: trl neither tokenizes, adds end-of-text, cuts, drops nor packs.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,  # [1024: longer examples are cut]
        packing=False,
        padding_free=False,
        shuffle_dataset=False,
        remove_unused_columns=True,
        dataloader_drop_last=False,  # the last step of an epoch may be smaller
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,  # [True, with a warning where there is no GPU]
        use_cpu=not on_gpu,
        # Nothing is written or sent, and no bad loss is hidden.
        save_strategy="no",  # [steps]
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
        logging_steps=1,  # [10]
        logging_nan_inf_filter=False,  # [True: NaN is left out of the logged loss]
    )


class _SeededOrder(Sampler[int]):
    """Goes through the facts in an order that seed, epoch and the facts' names decide."""

    def __init__(self, fact_ids: Sequence[str], seed: int) -> None:
        self._fact_ids = list(fact_ids)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader at the start of each epoch (from 0)."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._fact_ids)

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self._fact_ids, self._seed, self._epoch))


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with our order of examples, and without its ping to the Hub."""

    order: _SeededOrder

    def _get_train_sampler(self, train_dataset: object = None) -> Sampler[int]:
        return self.order  # [a random order, of torch's generator]

    def _send_telemetry(self) -> None:
        """Trl reports model architecture and GPU at each start; a benchmark does not."""


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Collects the loss of each step, shows it, and stops at the first that is not finite."""

    def __init__(self, on_step: Step) -> None:
        self.losses: list[float] = []
        self._on_step = on_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Take the step's loss; the last log of a run has none and is not a step's."""
        if not logs or "loss" not in logs:
            return
        loss, norm = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise SftbenchError(
                f"the loss or its gradient is not a finite number (loss {loss}, gradient {norm})",
                where=f"step {state.global_step}",
                remedy="Lower learning_rate; if it is the first step, look for NaN in the base.",
            )
        self.losses.append(loss)
        self._on_step(1, f"loss {loss:.3f}")


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[TrainingIds],
    fact_ids: Sequence[str],
    recipe: Recipe,
    *,
    scratch: Path,
    on_step: Step,
) -> list[float]:
    """Train `model` in place and return the loss of each step (nats per counted token).

    Args:
        model: float32 weights; all of them are trained.
        tokenizer: gives the padding id; nothing is tokenized with it.
        examples: one per fact, in the order of `fact_ids`.
        fact_ids: names of the facts; with the seed they decide the order of each epoch.
        recipe: how.
        scratch: a folder for what trl may write; thrown away by the caller.
        on_step: called after each step.

    Raises:
        SftbenchError: a loss or gradient that is not finite, or several GPUs in one process.
    """
    if torch.cuda.device_count() > 1:
        raise SftbenchError(
            "training runs on one GPU and several are visible",
            where="CUDA_VISIBLE_DEVICES",
            remedy="Make one visible: CUDA_VISIBLE_DEVICES=0 sftbench finetune ...",
        )
    rows = datasets.Dataset.from_dict(
        {
            "input_ids": [example.input_ids for example in examples],
            "labels": [example.labels for example in examples],
        }
    )
    watch = _Watch(on_step)
    trainer = _Trainer(
        model=model,
        args=settings(recipe, scratch),
        train_dataset=rows,
        processing_class=tokenizer,
        # Given, so that trl does not choose a padding token and write it into the model's config.
        data_collator=DataCollatorForLanguageModeling(pad_token_id=padding_id(tokenizer)),
        callbacks=[watch],
    )
    trainer.order = _SeededOrder(fact_ids, recipe.seed)
    for unwanted in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(unwanted)
    trainer.train()
    return watch.losses


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that fills a batch on the right; masked, so that any id would do."""
    pad = tokenizer.pad_token_id
    return int(pad if isinstance(pad, int) else tokenizer.eos_token_id)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and notices of transformers, datasets and trl within the block."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    datasets_bars = datasets.are_progress_bars_disabled()
    loggers = [logging.getLogger(name) for name in ("trl", "accelerate")]
    levels = [logger.level for logger in loggers]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
        if not datasets_bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
