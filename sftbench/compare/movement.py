"""How the weights of a comparison moved: measured once, kept in its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sftbench.analysis.movement import MovementResult, TensorMovement, movement_result
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.movement import TensorMove, movement
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.pairing import Pair
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json, write_json
from sftbench.common.progress import progress

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
        against: another model tuned from the same base, for the angle between the updates.

    Raises:
        SftbenchError: the models do not fit together.
    """
    key = digest_of({"base": plan.base.digest, "tuned": plan.tuned.digest, "version": VERSION})
    other = None if against is None else checkpoint_digest(against)
    path = folder / MOVEMENT
    kept = _kept(path, key, other)
    if kept is not None:
        return kept
    pair = Pair.open(plan.base.path, plan.tuned.path)
    second = None if against is None else Pair.open(plan.base.path, against)
    total = sum(pair.size(name) for name in pair.outside())
    with progress("weights", total, unit="scalars") as advance:
        tensors = [tensor_record(one) for one in movement(pair, second, advance=advance)]
    found = movement_result(tensors, None if against is None else name_of(against))
    content = {"key": key, "against": other, "movement": found.model_dump(mode="json")}
    write_json(path, content)
    return found


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
