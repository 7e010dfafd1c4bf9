"""The perturbation null: the base with a random change that is as large as the fine-tune's.

What a fine-tune forgets is told from how easily borderline facts flip by a change of the same size
that aims at nothing: in every tensor a Gaussian direction, scaled to the L2 norm that the
fine-tune's update has there. What counts is the size that the engine sees: in bfloat16 rounding
swallows small changes and widens others, so the scale is sought at which the change, rounded, has
the norm of the update, rounded.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sftbench.checkpoints.update import HEAD, Tensors, distance, is_tied, tensor_pairs
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
    tied = is_tied(base)
    changed = dict(base)
    norms: list[float] = []
    updates: list[float] = []
    for name, first, second in tensor_pairs(base, tuned, where=where):
        before = first.to(form)
        update = distance(before, second.to(form))
        _require_finite(update, name, dtype, where[1])
        updates.append(update)
        # A head of the tuned model alone counts; the base has nothing there that could move.
        if update == 0 or (name == HEAD and tied):
            continue
        part, norm = _moved(before, update, seed_of("noise", digest, draw, name))
        whole = part.shape == base[name].shape
        changed[name] = part if whole else torch.cat([part, base[name][len(part) :].to(form)])
        norms.append(norm)
    if HEAD in base and tied:
        _tie(base, changed)
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


def _moved(before: torch.Tensor, norm: float, seed: int) -> tuple[torch.Tensor, float]:
    """Move a tensor in a Gaussian direction by a norm, as near as rounding to its dtype allows.

    The distance grows with the scale of the direction, but in steps where numbers are few.

    Returns:
        the tensor, and how far it was moved.
    """
    from scipy.optimize import brentq

    start, direction = before.float(), _direction(tuple(before.shape), seed)
    tried: list[tuple[float, torch.Tensor, float]] = []

    def excess(scale: float) -> float:
        moved = (start + scale * direction).to(before.dtype)
        found = distance(start, moved)
        over = found / norm - 1
        if not tried or abs(over) < tried[0][0]:
            tried[:] = [(abs(over), moved, found)]
        return 0.0 if abs(over) < CLOSE else over

    high = norm
    while excess(high) < 0:
        high *= 2
    if tried[0][0] >= CLOSE:
        brentq(excess, 0.0, high, rtol=CLOSE, maxiter=TRIES, disp=False)
    return tried[0][1:]


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
