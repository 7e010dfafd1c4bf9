"""Fine-tuning: from a base, facts and a recipe to a checkpoint with its record."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sftbench.checkpoints.digest import checkpoint_digest, tokenizer_digest
from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.names import name_of
from sftbench.common.digests import digest_of, software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_folder, require_free
from sftbench.common.progress import progress
from sftbench.facts.prompts import PROMPTS, answer_text, prompt_text
from sftbench.facts.shots import shots_of
from sftbench.recipes.choose import choose
from sftbench.recipes.recipe import Recipe
from sftbench.recipes.record import Drawn, RecipeRecord, Training, UpdateNorm, write_record
from sftbench.recipes.tokens import TrainingIds, training_ids

if TYPE_CHECKING:
    import polars as pl
    from transformers import PreTrainedTokenizerBase

    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

SOFTWARE = ("sftbench", "torch", "transformers", "tokenizers", "trl", "accelerate")


def finetune(
    recipe: Recipe,
    *,
    base: Path,
    facts: FactSet,
    card: MasteryCard | None,
    output: Path,
) -> RecipeRecord:
    """Train a base on facts and write the tuned checkpoint, whole or not at all.

    The base is read into float32 whatever it is stored in, trained on a GPU if there is one, and
    written as `recipe.save_dtype` with the base's own configuration and tokenizer files.

    Args:
        recipe: what is trained on and how.
        base: checkpoint folder of the base.
        facts: where the facts are drawn from (train split).
        card: the base's mastery card; None only for a recipe of level "any".
        output: folder to make; must not exist, or be empty.

    Returns:
        The record that was written into the folder.

    Raises:
        SftbenchError: `output` is taken, the base is no valid checkpoint or cannot be trained,
            the card is for another base or other facts, there are too few facts, or the loss
            stopped being a number. Nothing is written then.
    """
    require_free(output)
    _require_trl()
    source = open_checkpoint(base)
    if card is not None:
        card.require(facts=facts, base_digest=source.digest)
    chosen = choose(facts, card, recipe)
    with atomic_folder(output) as staging:
        training, update = _tune(recipe, source, facts, chosen, staging)
        record = RecipeRecord(
            base_name=name_of(base),
            base_digest=source.digest,
            tokenizer_digest=tokenizer_digest(staging),
            tuned_digest=checkpoint_digest(staging),
            recipe=recipe,
            recipe_digest=recipe.digest,
            drawn=_drawn(chosen, facts, card),
            training=training,
            update=update,
            software=dict(software_versions(*SOFTWARE)),
        )
        write_record(staging, record)
    return record


def _require_trl() -> None:
    if importlib.util.find_spec("trl") is None:
        raise SftbenchError(
            "fine-tuning needs the package trl, which is not installed",
            remedy='Install it with `pip install "sftbench[train]"`.',
        )


def _drawn(chosen: pl.DataFrame, facts: FactSet, card: MasteryCard | None) -> Drawn:
    names = chosen["fact_id"].to_list()
    levels = ["unlevelled" if level is None else str(level) for level in chosen["level"]]
    return Drawn(
        facts_name=facts.name,
        facts_digest=facts.digest,
        card_digest=None if card is None else card.digest,
        fact_ids=tuple(names),
        fact_ids_digest=digest_of(names),
        per_relation=dict(sorted(Counter(chosen["relation"]).items())),
        per_level=dict(sorted(Counter(levels).items())),
    )


def _tune(
    recipe: Recipe, source: Checkpoint, facts: FactSet, chosen: pl.DataFrame, folder: Path
) -> tuple[Training, UpdateNorm]:
    """Train on the chosen facts and write the weights into `folder`."""
    from sftbench.recipes.trainer import quiet, train
    from sftbench.recipes.weights import load_for_training, write_trained

    with quiet():
        model, tokenizer = load_for_training(source.path)
        examples = _examples(chosen, facts, tokenizer, recipe, source)
        steps = recipe.epochs * -(-len(examples) // recipe.batch_size)
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="sftbench-") as scratch,
            progress("training", steps, unit="steps") as on_step,
        ):
            losses = train(
                model,
                tokenizer,
                examples,
                chosen["fact_id"].to_list(),
                recipe,
                scratch=Path(scratch),
                on_step=on_step,
            )
        seconds = time.monotonic() - began
        update = write_trained(folder, model, source.path, recipe)
    return _training(recipe, examples, losses, seconds), update


def _examples(
    chosen: pl.DataFrame,
    facts: FactSet,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    source: Checkpoint,
) -> list[TrainingIds]:
    """Return one example per chosen fact: the recipe's prompt, then the canonical answer."""
    prompt = PROMPTS[recipe.prompt]
    shots = shots_of(facts) if prompt.shots else None
    examples = []
    for row in chosen.iter_rows(named=True):
        shown = () if shots is None else shots(row["fact_id"], row["relation"])
        text = prompt_text(prompt, row["question"], shown)
        answer = answer_text(prompt, row["answers"][0])
        examples.append(training_ids(tokenizer, text, answer, recipe.loss))
    longest = max(len(one.input_ids) for one in examples)
    limit = source.config.get("max_position_embeddings")
    if isinstance(limit, int) and longest > limit:
        raise SftbenchError(
            f"an example has {longest} tokens and the base reads at most {limit}",
            where=source.path / "config.json",
            remedy="The prompt `paper` is the shortest.",
        )
    return examples


def _training(
    recipe: Recipe, examples: Sequence[TrainingIds], losses: Sequence[float], seconds: float
) -> Training:
    return Training(
        steps=len(losses),
        epochs=recipe.epochs,
        tokens=recipe.epochs * sum(len(one.input_ids) for one in examples),
        counted_tokens=recipe.epochs * sum(one.counted for one in examples),
        first_loss=losses[0],
        mean_loss=sum(losses) / len(losses),
        final_loss=losses[-1],
        seconds=round(seconds, 1),
        hardware=_hardware(),
    )


def _hardware() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}"
    return f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"
