"""Everything that is checked before work starts, and what the checks found out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.variants import BASE, TUNED, Again, Noise, Variant
from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.compare.cautions import cautions
from sftbench.compare.decoding import end_ids
from sftbench.compare.request import Request
from sftbench.compare.select import select
from sftbench.compare.sides import COSMETIC_CONFIG, Sides, make_sides
from sftbench.compare.tasks import Tasks, load_tasks
from sftbench.recipes.record import RecipeRecord, read_record

if TYPE_CHECKING:
    import polars as pl


PROMPT_TEXT, SELECTION = "prompt text", "selection of facts"
"""Names of two parts of a plan, of which the second decides the first as well."""


@dataclass(frozen=True)
class Plan:
    """A request whose parts fit together.

    Attributes:
        request: what was asked for.
        sides: base and tuned model, and how each is asked.
        rows: facts to ask: columns of `FACTS`, rate and level, sorted by fact_id.
        tasks: the lm-eval tasks to run as well, loaded; None if there are none.
        unlevelled: facts left out because the card gives them no level.
        recipe: the record beside the tuned model, if there is one.
        warnings: what a reader must know, one sentence each.
    """

    request: Request
    sides: Sides
    rows: pl.DataFrame
    tasks: Tasks | None
    unlevelled: int
    recipe: RecipeRecord | None
    warnings: tuple[str, ...]

    @property
    def base(self) -> Checkpoint:
        """The base."""
        return self.sides.base.checkpoint

    @property
    def tuned(self) -> Checkpoint:
        """The tuned model."""
        return self.sides.tuned.checkpoint

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """Base, tuned, the restored ones, then what shows noise."""
        return (BASE, TUNED, *self.request.restored, *noise_variants(self.request))

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
            "tokenizer": self.sides.base.tokenizer,
            "tokenizer of the tuned model": self.sides.tuned.tokenizer,
            "configuration of the base": _configuration_digest(self.base),
            "configuration of the tuned model": _configuration_digest(self.tuned),
            "fact set": self.request.facts.digest,
            "mastery card": self.request.card.digest,
            "prompt": {**asdict(self.request.prompt), "stop": list(self.request.prompt.stop)},
            "form of the question": self.request.chat,
            PROMPT_TEXT: [
                digest_of_lines(side.texts) for side in (self.sides.base, self.sides.tuned)
            ],
            "engine": _plain(asdict(self.request.engine)),
            SELECTION: self.asked_digest,
        }

    @property
    def key(self) -> str:
        """Digest of `parts`."""
        return digest_of(dict(self.parts))

    def variant_id(self, variant: Variant) -> str:
        """Return the digest that names a variant."""
        return variant.digest(self.base.digest, self.tuned.digest)


def noise_variants(request: Request) -> tuple[Noise | Again, ...]:
    """Return the variants that show what is only noise, none where none is asked for."""
    if not request.noise:
        return ()
    batch = other_batch(request.engine.batch_size)
    again = () if batch is None else (Again(batch),)
    return (*(Noise(draw) for draw in range(1, request.noise + 1)), *again)


def other_batch(batch_size: int) -> int | None:
    """Return a number of prompts that makes other batches; None where one prompt is a batch.

    Less than half and odd, so that prompts meet in other company.
    """
    return None if batch_size < 2 else max(1, (batch_size // 2 - 1) | 1)


def _plain(value: object) -> Any:
    """Return a value as it is read from JSON again: tuples are lists."""
    return json.loads(json.dumps(value))


def make_plan(request: Request) -> Plan:
    """Check that the parts of a request fit together; nothing is written, no model is loaded.

    Raises:
        SftbenchError: a checkpoint is broken, the card is for other facts or another base, the
            tuned model was trained from another base, there is no fact to ask, a fact has no
            shots, a chat template is missing or fails, or an lm-eval task is unknown.
    """
    base, tuned = open_checkpoint(request.base), open_checkpoint(request.tuned)
    request.card.require(facts=request.facts, base_digest=base.digest)
    recipe = read_record(request.tuned)
    _require_same_base(recipe, base, request)
    selection = select(
        request.facts,
        request.card,
        domain=request.domain,
        limit=request.limit,
        part=request.part,
    )
    sides = make_sides(request, base, tuned, selection.rows)
    return Plan(
        request=request,
        sides=sides,
        rows=selection.rows,
        tasks=None if request.tasks is None else load_tasks(request.tasks),
        unlevelled=selection.unlevelled,
        recipe=recipe,
        warnings=cautions(request, sides, recipe),
    )


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
