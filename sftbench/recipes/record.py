"""The recipe record: what made a tuned checkpoint, kept as JSON inside its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, write_json
from sftbench.recipes.recipe import Recipe

RECORD_FILE = "sftbench_recipe.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Drawn(_Part):
    """The facts that were trained on.

    Attributes:
        card_digest: digest of the mastery card that they were drawn by, None without.
        fact_ids: in the order of the first epoch.
        per_relation: number of facts per relation.
        per_level: number of facts per mastery level, "unlevelled" for those without one.
    """

    facts_name: str
    facts_digest: str
    card_digest: str | None
    fact_ids: tuple[str, ...]
    fact_ids_digest: str
    per_relation: dict[str, int]
    per_level: dict[str, int]


class Training(_Part):
    """What the training did.

    Attributes:
        steps: optimiser steps.
        tokens: tokens that went through the model, padding not counted.
        counted_tokens: those of them that the loss counts.
        first_loss: loss of the first step, before any update (nats per counted token).
        mean_loss: mean over the steps.
        final_loss: of the last step, before its update.
        seconds: wall time of training alone.
        hardware: device and threads; no host name.
    """

    steps: int
    epochs: int
    tokens: int
    counted_tokens: int
    first_loss: float
    mean_loss: float
    final_loss: float
    seconds: float
    hardware: str


class UpdateNorm(_Part):
    """How far the tuned weights, as saved, are from the base.

    It stands beside every size: at one learning rate, more facts means more steps means further.

    Attributes:
        absolute: L2 norm of (tuned - base) over all scalars.
        relative: the same, divided by the L2 norm of the base.
    """

    absolute: float
    relative: float


class RecipeRecord(_Part):
    """What a tuned checkpoint was made of, and what its training did.

    Attributes:
        base_name: last part of the base folder's name; for people, the digest names it.
        tuned_digest: digest of the weights beside this record.
        software: package to version.
    """

    schema_version: Literal[1] = 1
    base_name: str
    base_digest: str
    tokenizer_digest: str
    tuned_digest: str
    recipe: Recipe
    recipe_digest: str
    drawn: Drawn
    training: Training
    update: UpdateNorm
    software: dict[str, str]


def write_record(folder: Path, record: RecipeRecord) -> None:
    """Write the record into a checkpoint folder."""
    write_json(folder / RECORD_FILE, record.model_dump(mode="json"))


def read_record(folder: Path) -> RecipeRecord | None:
    """Return the record of a checkpoint folder; None where it has none (made by other means).

    Raises:
        SftbenchError: the file is broken or of another version.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    try:
        return RecipeRecord.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise SftbenchError(
            f"is not a recipe record of this version ({key}: {first['msg']})",
            where=path,
            remedy="Remove the file to use the checkpoint without its record.",
        ) from None
