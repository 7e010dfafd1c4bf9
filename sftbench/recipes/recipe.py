"""The recipe: everything that decides what a fine-tune does, from YAML or from flags."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError

MAX_SEED = 2**32 - 1  # numpy's generator, which the trainer seeds as well, takes no more

Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Recipe(BaseModel):
    """What is trained on, how long and how; the defaults are the paper's recipe (section 3).

    The paper states: full fine-tuning, batch 8, one epoch, AdamW, a cosine schedule, learning
    rate 1e-5, its own prompt, one level, balanced over relations. It does not state warm-up,
    weight decay, the constants of AdamW, clipping, precision, loss masking or seeds; each of
    these is a field here, so that no library decides it unseen.

    Attributes:
        level: mastery level of the facts that are trained on; "mixed" takes all levels alike,
            "any" takes train facts whatever their level and needs no mastery card.
        size: number of facts; each is one training example.
        domain: relations that are drawn from, "in" for those the paper trains on.
        seed: decides which facts are drawn and the order of each epoch.
        prompt: name of the prompt (`facts/prompts.py`) that a question is put in.
        loss: "answer" counts the answer and end-of-text, "full" every token that is predicted.
        batch_size: examples per step; a step's loss is the mean over its counted tokens.
        epochs: passes over the facts, each in an order of its own.
        warmup: share of the steps in which the learning rate rises from zero.
        max_grad_norm: L2 norm that the gradient is clipped to; 0 does not clip.
        precision: "fp32" = weights, gradients and optimiser state in float32, no autocast.
        gradient_checkpointing: recompute activations to save memory; changes no result.
        save_dtype: dtype of the checkpoint that is written. In bfloat16 an update smaller than
            half a unit in the last place disappears: at 1e-5 that is most of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    level: Literal[0, 1, 2, 3, 4, "mixed", "any"] = "mixed"
    size: Count = 240
    domain: Literal["in", "out"] = "in"
    seed: Annotated[int, Field(strict=True, ge=0, le=MAX_SEED)] = 0

    prompt: Literal["paper", "fewshot"] = "paper"
    loss: Literal["answer", "full"] = "answer"

    batch_size: Count = 8
    epochs: Count = 1
    optimizer: Literal["adamw"] = "adamw"
    learning_rate: Positive = 1e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.0
    weight_decay: NotNegative = 0.0
    adam_beta1: Share = 0.9
    adam_beta2: Share = 0.999
    adam_epsilon: Positive = 1e-8
    max_grad_norm: NotNegative = 1.0

    precision: Literal["fp32"] = "fp32"
    gradient_checkpointing: Annotated[bool, Field(strict=True)] = False
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @field_validator("level", mode="before")
    @classmethod
    def _level_from_text(cls, value: object) -> object:
        """A flag brings "2" where YAML brings 2; and true, which equals 1, is no level."""
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        return str(value) if isinstance(value, bool) else value

    @property
    def digest(self) -> str:
        """Digest of all fields, defaults included."""
        return digest_of(self.model_dump(mode="json"))


def load_recipe(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a YAML file, with flags put over it.

    Args:
        path: YAML mapping of fields to values; what it leaves out has its default.
        flags: field to value; None stands for a flag that was not given.

    Raises:
        SftbenchError: no such file, no YAML, an unknown field or a value that is not allowed;
            it names the file and the field.
    """
    written = {} if path is None else _read_yaml(path)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return Recipe.model_validate({**written, **given})
    except ValidationError as error:
        raise _for_people(error, path, given) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SftbenchError("there is no such recipe", where=path) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SftbenchError(f"cannot be read as YAML ({reason})", where=path) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise SftbenchError(
            "a recipe is a mapping of fields to values",
            where=path,
            remedy="Write lines such as `learning_rate: 1e-5`.",
        )
    return content


def _for_people(
    error: ValidationError, path: Path | None, flags: Mapping[str, Any]
) -> SftbenchError:
    """Turn the first complaint of pydantic into one that names file and key, or the flag."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    field = str(first["loc"][0]) if first["loc"] else ""
    from_flag = path is None or field in flags
    where = f"--{field.replace('_', '-')}" if from_flag else f"{path}: {key}"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, Recipe.model_fields, n=1)
        known = ", ".join(Recipe.model_fields)
        what = "a recipe has no such field"
        remedy = f"Did you mean {near[0]}?" if near else f"Its fields are: {known}."
        return SftbenchError(what, where=where, remedy=remedy)
    message = str(first["msg"])
    what = f"{message[:1].lower()}{message[1:]}; it is {first['input']!r}"
    more = len(error.errors()) - 1
    return SftbenchError(what, where=where, remedy=f"({more} more like it)" if more else None)
