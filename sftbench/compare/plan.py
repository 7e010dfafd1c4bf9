"""Everything that is checked before work starts, and what the checks found out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.digest import tokenizer_digest
from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.variants import BASE, TUNED, Restored, Variant
from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.compare.decoding import end_ids, settings_of_generate
from sftbench.compare.request import Request
from sftbench.compare.select import select
from sftbench.facts.shots import shots_of
from sftbench.recipes.record import RecipeRecord, read_record
from sftbench.scoring.answers import prompt_texts

if TYPE_CHECKING:
    import polars as pl

COSMETIC_CONFIG = frozenset(
    (
        "_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id",
        "pad_token_id", "torch_dtype", "transformers_version", "use_cache",
    )
)  # fmt: skip
"""Keys of config.json that do not change what the weights compute; where text ends is told apart
by `end_ids`, since other values here may come to the same ids."""


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
        texts: what each of them is asked with, shots included.
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
    texts: tuple[str, ...]
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
            "configuration of the base": _configuration_digest(self.base),
            "configuration of the tuned model": _configuration_digest(self.tuned),
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
            tuned model was trained from another base, there is no fact to ask, or a fact has no
            shots.
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
        texts=_texts(request, selection.rows),
        unlevelled=selection.unlevelled,
        recipe=recipe,
        warnings=(*_recipe_warnings(recipe, tuned), *_warnings(base, tuned, *tokenizers)),
    )


def _texts(request: Request, rows: pl.DataFrame) -> tuple[str, ...]:
    try:
        return tuple(prompt_texts(rows, request.prompt, shots_of(request.facts)))
    except SftbenchError as error:
        raise SftbenchError(
            error.what,
            where=error.where,
            remedy="Use a fact table whose train split has at least one fact to show, "
            "or ask zero-shot with --prompt paper.",
        ) from None


def _configuration_digest(checkpoint: Checkpoint) -> str:
    computing = {k: v for k, v in checkpoint.config.items() if k not in COSMETIC_CONFIG}
    # As text, since some config.json hold Infinity, which a digest of JSON refuses.
    return digest_of([json.dumps(computing, sort_keys=True), list(end_ids(checkpoint))])


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
    return [*found, *_decoding_warnings(base, tuned)]


def _decoding_warnings(base: Checkpoint, tuned: Checkpoint) -> list[str]:
    found = []
    mine, theirs = end_ids(base), end_ids(tuned)
    if mine != theirs:
        found.append(
            f"The base ends a text at the token ids {_ids(mine)}, the tuned model's own files at "
            f"{_ids(theirs)}; every variant is run with the base's, where lm-eval on the tuned "
            "folder ends at its own."
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
