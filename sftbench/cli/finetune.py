"""`sftbench finetune`: tune a base on facts that it masters to a chosen level."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard
    from sftbench.recipes.recipe import Recipe
    from sftbench.recipes.record import RecipeRecord


def finetune(
    base: Annotated[str, typer.Option("--base", "-b", help="Base: a folder, smollm2 or lab.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint to make.")],
    facts: Annotated[str, typer.Option(help="Fact table, or geography, or lab.")] = "geography",
    mastery: Annotated[
        str | None,
        typer.Option(help="Mastery card of the base, or canonical; default: the one that ships."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe (YAML); flags go over it, defaults fill it.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="0 to 4, mixed (default), or any (needs no card).")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Facts to train on [240].")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides draw and order [0].")] = None,
    domain: Annotated[str | None, typer.Option(help="Relations: in or out (default: in).")] = None,
    prompt: Annotated[str | None, typer.Option(help="paper or fewshot (default: paper).")] = None,
    loss: Annotated[str | None, typer.Option(help="answer or full (default: answer).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Facts in a step [8].")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the facts [1].")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Its peak [1e-5].")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="cosine, linear or constant (default: cosine).")
    ] = None,
    warmup: Annotated[
        float | None, typer.Option(help="Share of the steps the rate rises in [0].")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of AdamW [0].")] = None,
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Norm the gradient is clipped to; 0: not [1].")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option(help="Less memory, more time, same result.")
    ] = None,
    save_dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16 (default: float32).")
    ] = None,
) -> None:
    """Tune a base on facts of one mastery level, or of all; the paper's recipe is the default.

    In square brackets: the value without a flag or a recipe file. The constants of AdamW are
    fields of the recipe file alone.
    """
    flags = {
        "level": level, "size": size, "seed": seed, "domain": domain, "prompt": prompt,
        "loss": loss, "batch_size": batch_size, "epochs": epochs, "learning_rate": learning_rate,
        "schedule": schedule, "warmup": warmup, "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm, "gradient_checkpointing": gradient_checkpointing,
        "save_dtype": save_dtype,
    }  # fmt: skip
    from sftbench.checkpoints.reference import resolve
    from sftbench.common.files import require_free
    from sftbench.facts.reference import resolve_facts
    from sftbench.recipes.recipe import load_recipe
    from sftbench.recipes.train import finetune as train

    wanted = load_recipe(recipe, flags)
    require_free(output)
    table = resolve_facts(facts)
    folder = resolve(base)
    card = _card(mastery, folder, table, wanted)
    record = train(wanted, base=folder, facts=table, card=card, output=output)
    _show(record, output)


def _card(mastery: str | None, base: Path, facts: FactSet, recipe: Recipe) -> MasteryCard | None:
    """Return the card that was named or ships; a recipe of level "any" can do without."""
    from sftbench.checkpoints.folder import open_checkpoint
    from sftbench.mastery.bundled import find_card, resolve_card

    digest = open_checkpoint(base).digest
    if recipe.level == "any" and mastery is None:
        return find_card(base_digest=digest, facts_digest=facts.digest)
    return resolve_card(mastery, base_digest=digest, facts=facts)


def _show(record: RecipeRecord, output: Path) -> None:
    """Print what was trained on, what the training did, and where the checkpoint is."""
    from rich.console import Console
    from rich.table import Table

    from sftbench.recipes.record import RECORD_FILE

    drawn, training = record.drawn, record.training
    table = Table(show_header=False, box=None, title=f"{record.base_name} tuned", pad_edge=False)
    table.add_row("facts", f"{len(drawn.fact_ids):,} of {drawn.facts_name}")
    table.add_row("  per relation", _counts(drawn.per_relation))
    table.add_row("  per level", _counts(drawn.per_level))
    table.add_row("steps", f"{training.steps:,} in {training.seconds:.0f} s ({training.hardware})")
    table.add_row("tokens", f"{training.tokens:,}, {training.counted_tokens:,} in the loss")
    table.add_row("loss", f"{training.first_loss:.3f} first, {training.final_loss:.3f} last")
    norm = record.update
    table.add_row("update norm", f"{norm.absolute:.4g} ({norm.relative:.3%} of the base)")
    console = Console()
    console.print(table)
    for path in (output, output / RECORD_FILE):
        console.print(str(path), soft_wrap=True, highlight=False)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
