"""The perturbation null: the base with a random change that is as large as the fine-tune's.

What a fine-tune forgets is told from how easily borderline facts flip by a change of the same size
that aims at nothing: in every tensor a Gaussian direction, scaled to the L2 norm that the
fine-tune's update has there. What counts is the size that the engine sees: in bfloat16 rounding
swallows small changes and widens others, so the scale is sought at which the change, rounded, has
the norm of the update, rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sftbench.checkpoints.update import HEAD, Tensors, head_of, is_tied, shared_names
from sftbench.common.digests import seed_of
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from pathlib import Path


CLOSE = 1e-3
"""A norm may differ from the one wanted by this part of it."""
TRIES = 40
"""Scales that are tried until the norm is close; a tensor of few numbers may not have any."""


@dataclass(frozen=True)
class Perturbation:
    """What a random change came to, over all tensors.

    Attributes:
        norm: L2 norm of the change, as the engine sees it.
        update: that of the fine-tune's update, likewise; the two differ where rounding leaves no
            scale that fits, or where the tuned model has a head of its own that the base ties.
        tensors: tensors that changed.
        dtype: number format that both are rounded to.
        numpy: version of numpy, which drew the numbers.
    """

    norm: float
    update: float
    tensors: int
    dtype: str
    numpy: str = np.__version__

    @property
    def ratio(self) -> float:
        """The norm over that of the update; 1 where the update is none."""
        return self.norm / self.update if self.update else 1.0

    def record(self) -> dict[str, Any]:
        """Return it as it stands in files."""
        return {**asdict(self), "ratio": self.ratio}


def perturbed(
    base: Tensors,
    tuned: Tensors,
    draw: int,
    digest: str,
    *,
    dtype: str = "float32",
    where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
) -> tuple[dict[str, torch.Tensor], Perturbation]:
    """Return the base's tensors with a random change of the update's norm, and a record of it.

    A tensor that the fine-tune left alone stays as it is; the others have the engine's dtype. Of a
    resized vocabulary the rows that both models have are changed. A head that the base ties to its
    embedding stays tied; where the base has one and the tuned model ties its own, that one counts.

    The same draw of the same two models is the same change on every machine, up to the last digit
    and as long as numpy keeps its stream of random numbers.

    Args:
        base: tensors of the base, by checkpoint name.
        tuned: tensors of the tuned model, as `shared_names` demands.
        draw: number of the draw.
        digest: names the two models (see `Variant.digest`); decides the random numbers.
        dtype: number format of the engine's weights.
        where: what errors call the two models.

    Raises:
        SftbenchError: as `shared_names`; or the engine's dtype cannot hold the numbers.
    """
    form: torch.dtype = getattr(torch, dtype)
    changed = dict(base)
    norms: list[float] = []
    updates: list[float] = []
    names = shared_names(base, tuned, where=where)
    for name in sorted({*names, HEAD} & base.keys()):
        after = tuned.get(name) if name != HEAD else head_of(tuned)
        if after is None or (name == HEAD and is_tied(base)):
            continue
        rows = _common(base[name], after)
        before = (base[name] if rows is None else base[name][:rows]).to(form)
        update = _distance(before, (after if rows is None else after[:rows]).to(form))
        _require_finite(update, name, dtype, where[1])
        if update == 0:
            continue
        moved = base[name].to(form, copy=True)
        part = moved if rows is None else moved[:rows]
        part.copy_(_moved(before, update, seed_of("noise", digest, draw, name)))
        changed[name] = moved
        norms.append(_distance(before, part))
        updates.append(update)
    if HEAD in base and is_tied(base):
        _tie(base, changed)
    updates.append(_own_head(base, tuned, form))
    return changed, Perturbation(
        math.hypot(*norms), math.hypot(*updates), _different(base, changed), dtype
    )


def _require_finite(update: float, name: str, dtype: str, where: str | Path) -> None:
    if not math.isfinite(update):
        raise SftbenchError(
            f"the tensor {name} holds numbers that {dtype} cannot hold",
            where=where,
            remedy="Use another --dtype: bfloat16 and float32 reach as far as each other.",
        )


def _own_head(base: Tensors, tuned: Tensors, form: torch.dtype) -> float:
    """Return how far a head of the tuned model lies from the embedding that is the base's head.

    The base has nothing there that a random change could move by itself, so this only counts.
    """
    if HEAD not in tuned or HEAD in base:
        return 0.0
    mine, theirs = head_of(base), tuned[HEAD]
    if mine is None or is_tied(tuned):
        return 0.0
    rows = min(len(mine), len(theirs))
    return _distance(mine[:rows].to(form), theirs[:rows].to(form))


def _common(before: torch.Tensor, after: torch.Tensor) -> int | None:
    """Return the rows that both have, None where the shapes are the same."""
    return None if before.shape == after.shape else min(len(before), len(after))


def _distance(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return the L2 norm of an update, taken in fp32 and summed in fp64."""
    update = (after.float() - before.float()).flatten().double()
    return math.sqrt(float(update.dot(update)))


def _moved(before: torch.Tensor, norm: float, seed: int) -> torch.Tensor:
    """Return a tensor moved in a Gaussian direction, rounded to its dtype, by this L2 norm."""
    direction = _direction(tuple(before.shape), seed)
    start = before.float()

    def at(scale: float) -> torch.Tensor:
        return (start + scale * direction).to(before.dtype)

    return at(_scale(lambda scale: _distance(before, at(scale)), norm))


def _scale(distance: Callable[[float], float], norm: float) -> float:
    """Return the scale at which a distance that grows with it comes closest to a norm."""
    low, high = 0.0, math.inf
    scale = best = norm
    nearest = math.inf
    for _ in range(TRIES):
        found = distance(scale)
        off = abs(found / norm - 1)
        if off < nearest:
            best, nearest = scale, off
        if off < CLOSE:
            break
        low, high = (scale, high) if found < norm else (low, scale)
        scale = 2 * scale if math.isinf(high) else (low + high) / 2
    return best


def _direction(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return a Gaussian tensor (float32) of L2 norm 1, drawn by numpy: torch differs by machine."""
    drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    flat = drawn.reshape(-1).astype(np.float64)
    return torch.from_numpy(drawn / np.float32(math.sqrt(float(flat @ flat))))


def _tie(base: Tensors, changed: dict[str, torch.Tensor]) -> None:
    """Let a head that is stored and equal to the embedding follow it."""
    for name, tensor in base.items():
        if name != HEAD and tensor.shape == base[HEAD].shape and torch.equal(tensor, base[HEAD]):
            changed[HEAD] = changed[name]
            return


def _different(base: Tensors, changed: Tensors) -> int:
    return sum(changed[name] is not base[name] for name in base)
