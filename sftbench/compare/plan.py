"""Everything that is checked before work starts, and what the checks found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.digest import tokenizer_digest
from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.variants import BASE, TUNED, Restored, Variant
from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.compare.request import Request
from sftbench.compare.select import select
from sftbench.recipes.record import RecipeRecord, read_record

if TYPE_CHECKING:
    import polars as pl

COSMETIC_CONFIG = frozenset(
    (
        "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id",
        "pad_token_id", "torch_dtype", "transformers_version", "use_cache",
    )
)  # fmt: skip
"""Keys of config.json that do not change what the weights compute."""


@dataclass(frozen=True)
class Plan:
    """A request whose parts fit together.

    Attributes:
        request: what was asked for.
        base: the base.
        tuned: the tuned model.
        base_tokenizer: digest of the tokenizer that every variant is asked with.
        tuned_tokenizer: digest of the tuned model's own.
        rows: facts to ask: columns of `FACTS`, rate and level, sorted by fact_id.
        unlevelled: facts left out because the card gives them no level.
        recipe: the record beside the tuned model, if there is one.
        warnings: what a reader must know, one sentence each.
    """

    request: Request
    base: Checkpoint
    tuned: Checkpoint
    base_tokenizer: str
    tuned_tokenizer: str
    rows: pl.DataFrame
    unlevelled: int
    recipe: RecipeRecord | None
    warnings: tuple[str, ...]

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Base, tuned, then the restored ones by percent."""
        arithmetic = self.request.arithmetic
        restored = (Restored("relative", one, arithmetic) for one in sorted(self.request.percents))
        return (BASE, TUNED, *restored)

    @cached_property
    def asked_digest(self) -> str:
        """Digest of the fact_ids that are asked."""
        return digest_of_lines(self.rows["fact_id"])

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """All that decides an answer but the variant, by what a person calls it."""
        return {
            "base": self.base.digest,
            "tuned model": self.tuned.digest,
            "tokenizer": self.base_tokenizer,
            "fact set": self.request.facts.digest,
            "mastery card": self.request.card.digest,
            "prompt": {**asdict(self.request.prompt), "stop": list(self.request.prompt.stop)},
            "engine": asdict(self.request.engine),
            "selection of facts": self.asked_digest,
        }

    @property
    def key(self) -> str:
        """Digest of `parts`."""
        return digest_of(dict(self.parts))

    def variant_id(self, variant: Variant) -> str:
        """Return the digest that names a variant."""
        return variant.digest(self.base.digest, self.tuned.digest)


def make_plan(request: Request) -> Plan:
    """Check that the parts of a request fit together; nothing is written, no model is loaded.

    Raises:
        SftbenchError: a checkpoint is broken, the card is for other facts or another base, the
            tuned model was trained from another base, or there is no fact to ask.
    """
    base, tuned = open_checkpoint(request.base), open_checkpoint(request.tuned)
    request.card.require(facts=request.facts, base_digest=base.digest)
    recipe = read_record(request.tuned)
    _require_same_base(recipe, base, request)
    selection = select(request.facts, request.card, domain=request.domain, limit=request.limit)
    tokenizers = tokenizer_digest(base.path), tokenizer_digest(tuned.path)
    return Plan(
        request=request,
        base=base,
        tuned=tuned,
        base_tokenizer=tokenizers[0],
        tuned_tokenizer=tokenizers[1],
        rows=selection.rows,
        unlevelled=selection.unlevelled,
        recipe=recipe,
        warnings=(*_recipe_warnings(recipe, tuned), *_warnings(base, tuned, *tokenizers)),
    )


def _require_same_base(recipe: RecipeRecord | None, base: Checkpoint, request: Request) -> None:
    if recipe is not None and recipe.base_digest != base.digest:
        raise SftbenchError(
            f"was tuned from {recipe.base_name} (digest {recipe.base_digest[:12]}), "
            f"not from {request.base_name or base.path} (digest {base.digest[:12]})",
            where=request.tuned,
            remedy="Name the base that its recipe record names with --base.",
        )


def _recipe_warnings(recipe: RecipeRecord | None, tuned: Checkpoint) -> list[str]:
    if recipe is None or recipe.tuned_digest == tuned.digest:
        return []
    return [
        "The tuned model's weights are not those that its recipe record was written for; "
        "they have been changed since, or the record was copied."
    ]


def _warnings(base: Checkpoint, tuned: Checkpoint, mine: str, theirs: str) -> list[str]:
    found = []
    if mine != theirs:
        found.append(
            "The tuned model's tokenizer differs from the base's; "
            "every variant is asked with the base's."
        )
    keys = (base.config.keys() | tuned.config.keys()) - COSMETIC_CONFIG
    other = sorted(key for key in keys if base.config.get(key) != tuned.config.get(key))
    if other:
        found.append(
            f"The two config.json differ in {', '.join(other)}; "
            "every variant is run with the base's."
        )
    return found
