"""The perturbation null: the base with a random change that is as large as the fine-tune's.

What a fine-tune forgets is told from how easily borderline facts flip by a change of the same size
that aims at nothing: in every tensor a Gaussian direction, scaled to the L2 norm that the
fine-tune's update has there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sftbench.checkpoints.update import HEAD, Tensors, head_of, is_tied, shared_names
from sftbench.common.digests import seed_of

if TYPE_CHECKING:
    from pathlib import Path


def perturbed(
    base: Tensors,
    tuned: Tensors,
    draw: int,
    digest: str,
    *,
    where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """Return the base's tensors with a random change of the update's norm, and a record of it.

    A tensor that the fine-tune left alone stays as it is. The others are float32, whatever they
    were, since rounding to fewer digits would swallow part of a small change. Of a resized
    vocabulary the rows that both models have are changed. A head that the base ties to its
    embedding stays tied; where the base has one and the tuned model ties its own, that one counts.

    The same draw of the same two models is the same change on every machine.

    Args:
        base: tensors of the base, by checkpoint name.
        tuned: tensors of the tuned model, as `shared_names` demands.
        draw: number of the draw.
        digest: names the two models (see `Variant.digest`); decides the random numbers.
        where: what errors call the two models.

    Returns:
        the tensors, and norm (L2 norm of the change over all tensors) and tensors (how many
        changed).

    Raises:
        SftbenchError: as `shared_names`.
    """
    changed = dict(base)
    squared = 0.0
    names = shared_names(base, tuned, where=where)
    for name in sorted({*names, HEAD} & base.keys()):
        after = tuned.get(name) if name != HEAD else head_of(tuned)
        if after is None or (name == HEAD and is_tied(base)):
            continue
        rows = _common(base[name], after)
        before = base[name][:rows] if rows is not None else base[name]
        other = after[:rows] if rows is not None else after
        norm = _norm(before, other)
        if norm == 0:
            continue
        moved = base[name].float().clone()
        part = moved[:rows] if rows is not None else moved
        part += _direction(tuple(part.shape), norm, seed_of("noise", digest, draw, name))
        changed[name] = moved
        squared += norm * norm
    if HEAD in base and is_tied(base):
        _tie(base, changed)
    return changed, {"norm": math.sqrt(squared), "tensors": _different(base, changed)}


def _common(before: torch.Tensor, after: torch.Tensor) -> int | None:
    """Return the rows that both have, None where the shapes are the same."""
    return None if before.shape == after.shape else min(len(before), len(after))


def _norm(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the L2 norm of an update, taken in fp32 and summed in fp64."""
    update = (after.float() - before.float()).flatten().double()
    return math.sqrt(float(update.dot(update)))


def _direction(shape: tuple[int, ...], norm: float, seed: int) -> torch.Tensor:
    """Return a Gaussian tensor (float32) of exactly this L2 norm.

    Drawn by numpy, whose streams are the same on every machine.
    """
    drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    flat = drawn.reshape(-1).astype(np.float64)
    return torch.from_numpy(drawn * np.float32(norm / math.sqrt(float(flat @ flat))))


def _tie(base: Tensors, changed: dict[str, torch.Tensor]) -> None:
    """Let a head that is stored and equal to the embedding follow it."""
    for name, tensor in base.items():
        if name != HEAD and tensor.shape == base[HEAD].shape and torch.equal(tensor, base[HEAD]):
            changed[HEAD] = changed[name]
            return


def _different(base: Tensors, changed: Tensors) -> int:
    return sum(changed[name] is not base[name] for name in base)
