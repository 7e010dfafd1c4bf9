"""How the weights of a comparison moved: measured once, kept in its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sftbench.analysis.movement import MovementResult, TensorMovement, movement_result
from sftbench.checkpoints.adapters import is_adapter
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.merging import merged
from sftbench.checkpoints.movement import TensorMove, movement
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.pairing import Pair
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, write_json
from sftbench.common.progress import progress
from sftbench.recipes.record import read_record

if TYPE_CHECKING:
    from sftbench.compare.plan import Plan

MOVEMENT = "movement.json"
VERSION = 1
"""Counts changes that change figures."""


def measure_movement(plan: Plan, folder: Path, against: Path | None = None) -> MovementResult:
    """Return how far each tensor moved from base to tuned model.

    Args:
        plan: names the two models.
        folder: where the result is kept, and found again.
        against: another model tuned from the same base, for the angle between the updates; an
            adapter is merged into the base first (in the cache).

    Raises:
        SftbenchError: the models do not fit together, or `against` is known to be tuned from
            another base.
    """
    second = None if against is None else _tuned_from(plan, against)
    key = digest_of({"base": plan.base.digest, "tuned": plan.tuned.digest, "version": VERSION})
    other = None if second is None else checkpoint_digest(second)
    path = folder / MOVEMENT
    kept = _kept(path, key, other)
    if kept is not None:
        return kept
    pair = Pair.open(plan.base.path, plan.tuned.path)
    theirs = None if second is None else Pair.open(plan.base.path, second)
    total = sum(pair.size(name) for name in pair.outside())
    with progress("weights", total, unit="scalars") as advance:
        tensors = [tensor_record(one) for one in movement(pair, theirs, advance=advance)]
    found = movement_result(tensors, None if against is None else name_of(against))
    content = {"key": key, "against": other, "movement": found.model_dump(mode="json")}
    write_json(path, content)
    return found


def _tuned_from(plan: Plan, against: Path) -> Path:
    """Return a full model that, as far as its record tells, was tuned from the plan's base."""
    recipe = read_record(against)
    if recipe is not None and recipe.base_digest != plan.base.digest:
        raise SftbenchError(
            f"was tuned from {recipe.base_name} (digest {recipe.base_digest[:12]}), not from "
            f"{name_of(plan.base.path)} (digest {plan.base.digest[:12]})",
            where=against,
            remedy="Two updates have an angle only if both models were tuned from one base.",
        )
    return merged(against, plan.base.path) if is_adapter(against) else against


def _kept(path: Path, key: str, against: str | None) -> MovementResult | None:
    """Return what is there of these models; an angle that nobody asks for again stays with it."""
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    if against is not None and content.get("against") != against:
        return None
    try:
        return MovementResult.model_validate(content.get("movement"))
    except ValidationError:
        raise SftbenchError(
            "does not hold how weights moved", where=path, remedy="Remove it."
        ) from None


def tensor_record(move: TensorMove) -> TensorMovement:
    """Return a tensor as it stands in the summary."""
    return TensorMovement(
        name=move.name,
        layer=move.layer,
        module=move.module,
        size=math.prod(move.shape),
        norm=move.norm,
        base_norm=move.base_norm,
        unchanged=move.unchanged,
        zero_base=move.zero_base,
        smaller=min(move.shape) if len(move.shape) == 2 else None,
        effective_rank=None if move.ranks is None else move.ranks.effective,
        stable_rank=None if move.ranks is None else move.ranks.stable,
        dot=move.dot,
        other_norm=move.other_norm,
    )
