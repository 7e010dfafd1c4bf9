"""What a reader of a comparison must know of the two models before any answer, a sentence each."""

from __future__ import annotations

from sftbench.checkpoints.folder import Checkpoint
from sftbench.checkpoints.tokenizers import same_tokenizer, tokenizer_difference
from sftbench.checkpoints.vocabulary import vocabulary_change
from sftbench.compare.chat import writes_the_date
from sftbench.compare.decoding import end_ids, settings_of_generate
from sftbench.compare.levels import cautions_of_levels
from sftbench.compare.request import Request
from sftbench.compare.sides import Sides, config_difference
from sftbench.recipes.record import RecipeRecord


def cautions(request: Request, sides: Sides, recipe: RecipeRecord | None) -> tuple[str, ...]:
    """Return everything that is known before any answer, the notes of the request first."""
    base, tuned = sides.base.checkpoint, sides.tuned.checkpoint
    return (
        *request.notes,
        *cautions_of_levels(request.card),
        *_of_recipe(recipe, tuned),
        *_of_vocabulary(base, tuned),
        *_of_tokenizers(sides),
        *_of_chat(request, sides),
        *_of_config(sides),
        *_of_decoding(sides),
    )


def _of_recipe(recipe: RecipeRecord | None, tuned: Checkpoint) -> list[str]:
    if recipe is None or recipe.tuned_digest == tuned.digest:
        return []
    return [
        "The tuned model's weights are not those that its recipe record was written for; "
        "they have been changed since, or the record was copied."
    ]


def _of_vocabulary(base: Checkpoint, tuned: Checkpoint) -> list[str]:
    change = vocabulary_change(base.path, tuned.path)
    return [] if change is None else [change.words]


def _of_tokenizers(sides: Sides) -> list[str]:
    difference = tokenizer_difference(sides.base.checkpoint.path, sides.tuned.checkpoint.path)
    if difference is None:
        return []
    if same_tokenizer(sides.base.checkpoint.path, sides.tuned.checkpoint.path):
        return [f"The two tokenizers give the same ids, but {difference}."]
    return [f"The two tokenizers differ: {difference}; each side is asked through its own."]


def _of_chat(request: Request, sides: Sides) -> list[str]:
    found = []
    if request.chat == "tuned":
        found.append(
            "The tuned model and what is restored from it are asked through their chat template, "
            "the base as plain text: part of what looks lost or gained is the form of the question."
        )
    elif request.chat == "all" and sides.base.texts != sides.tuned.texts:
        found.append(
            "Base and tuned model have different chat templates; each is asked through its own."
        )
    if any(
        side.chat and writes_the_date(side.checkpoint.path) for side in (sides.base, sides.tuned)
    ):
        found.append(
            "The chat template writes today's date into the prompt: another day may give other "
            "answers, and a run can be resumed on the same day only."
        )
    return found


def _of_config(sides: Sides) -> list[str]:
    other = config_difference(sides.base.checkpoint, sides.tuned.checkpoint)
    if not other:
        return []
    return [
        f"The two config.json differ in {', '.join(other)}; base and tuned model are each run "
        "with their own, and what is restored from the tuned model with the tuned model's."
    ]


def _of_decoding(sides: Sides) -> list[str]:
    found = []
    base, tuned = sides.base.checkpoint, sides.tuned.checkpoint
    mine, theirs = end_ids(base), end_ids(tuned)
    if mine != theirs:
        found.append(
            f"The base ends a text at the token ids {_ids(mine)}, the tuned model's own files at "
            f"{_ids(theirs)}; each ends at its own, and what is restored from the tuned model "
            "where the tuned model does."
        )
    for who, one in (("base", base), ("tuned model", tuned)):
        names = settings_of_generate(one)
        if names:
            found.append(
                f"The generation_config.json of the {who} sets {', '.join(names)}: lm-eval's hf "
                "model applies that to its answers, compare does not."
            )
    return found


def _ids(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids)) or "(none)"
