"""The perturbation null: the base with a random change that is as large as the fine-tune's.

What a fine-tune forgets is told from how easily borderline facts flip by a change of the same size
that aims at nothing: in every tensor a Gaussian direction, scaled to the L2 norm that the
fine-tune's update has there. What counts is the size that the engine sees: in bfloat16 rounding
swallows small changes and widens others, so the scale is sought at which the change, rounded, has
the norm of the update, rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.update import (
    HEAD,
    Tensors,
    distance,
    embedding_name,
    is_tied,
    tensor_pairs,
)
from sftbench.common.digests import seed_of
from sftbench.common.errors import SftbenchError

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


class Perturbed:
    """The base's tensors with a random change of the update's norm, made one at a time.

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
        scales: of each tensor that changes, where they are known already.
    """

    def __init__(
        self,
        base: Tensors,
        tuned: Tensors,
        draw: int,
        digest: str,
        *,
        dtype: str = "float32",
        where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
        scales: Mapping[str, float] | None = None,
    ) -> None:
        self.base, self.tuned, self.draw, self.digest = base, tuned, draw, digest
        self.dtype, self.where = dtype, where
        if scales is not None:
            self.scales = dict(scales)  # in place of the search

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor, sorted by name."""
        return {name: tuple(self.base[name].shape) for name in sorted(self.base)}

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and tensor, sorted by name.

        Raises:
            SftbenchError: as `shared_names`; or the engine's dtype cannot hold the numbers.
        """
        for name in sorted(self.base):
            yield name, self.tensor(name)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor; one that does not change is the base's own."""
        if name == self._follower:
            return self.tensor(embedding_name(self.base) or name)
        if name not in self.scales:
            return self.base[name]
        whole = self.base[name]
        before = whole[: self._rows(name)].to(self._form)
        direction = _direction(tuple(before.shape), self._seed(name))
        part = _step(before, direction, self.scales[name])
        rest = whole[len(part) :] if part.ndim else whole[:0]
        return part if part.shape == whole.shape else torch.cat([part, rest.to(self._form)])

    @cached_property
    def scales(self) -> dict[str, float]:
        """Scale of the direction in each tensor that changes."""
        return {name: one.scale for name, one in self._found.items() if one.scale}

    @cached_property
    def perturbation(self) -> Perturbation:
        """What the change comes to, over all tensors."""
        found = self._found.values()
        changed = [one for one in found if one.scale]
        follows = self._follower is not None and embedding_name(self.base) in self.scales
        return Perturbation(
            math.hypot(*(one.norm for one in changed)),
            math.hypot(*(one.update for one in found)),
            len(changed) + follows,
            self.dtype,
        )

    @cached_property
    def _found(self) -> dict[str, _Scale]:
        tied = is_tied(self.base)
        found: dict[str, _Scale] = {}
        for name, first, second in tensor_pairs(self.base, self.tuned, where=self.where):
            before = first.to(self._form)
            update = distance(before, second.to(self._form))
            _require_finite(update, name, self.dtype, self.where[1])
            # A head of the tuned model alone counts; the base has nothing there that could move.
            if update == 0 or (name == HEAD and tied):
                found[name] = _Scale(0.0, 0.0, update)
            else:
                found[name] = _scale(before, update, self._seed(name))
        return found

    @cached_property
    def _follower(self) -> str | None:
        """The head, where it is stored and equal to the embedding, which it then follows."""
        stored = HEAD in self.base and embedding_name(self.base) is not None
        return HEAD if stored and is_tied(self.base) else None

    @property
    def _form(self) -> torch.dtype:
        form: torch.dtype = getattr(torch, self.dtype)
        return form

    def _seed(self, name: str) -> int:
        return seed_of("noise", self.digest, self.draw, name)

    def _rows(self, name: str) -> int | None:
        """Return how many rows both models have; None where that is no question."""
        other = self.tuned.get(name)
        if other is None or other.shape == self.base[name].shape:
            return None
        return min(len(other), len(self.base[name]))


class PerturbedWeights(Perturbed):
    """The same from two folders, which another process can make again."""

    def __init__(
        self,
        pair: Pair,
        draw: int,
        digest: str,
        dtype: str,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            pair.before,
            pair.after,
            draw,
            digest,
            dtype=dtype,
            where=(pair.base.path, pair.tuned.path),
            scales=scales,
        )
        self.pair = pair

    def origin(self) -> dict[str, Any]:
        """Return JSON from which another process makes the same tensors."""
        return {
            "kind": "perturbed",
            "base": str(self.pair.base.path.resolve()),
            "tuned": str(self.pair.tuned.path.resolve()),
            "draw": self.draw,
            "digest": self.digest,
            "dtype": self.dtype,
            "scales": self.scales,
        }


def perturbed_weights(origin: Mapping[str, Any]) -> PerturbedWeights:
    """Return the weights that `PerturbedWeights.origin` describes."""
    pair = Pair.open(Path(origin["base"]), Path(origin["tuned"]))
    return PerturbedWeights(
        pair, origin["draw"], origin["digest"], origin["dtype"], origin["scales"]
    )


class _Scale(NamedTuple):
    """Of one tensor: scale of the direction, norm of the change, norm of the update."""

    scale: float
    norm: float
    update: float


def _require_finite(update: float, name: str, dtype: str, where: str | Path) -> None:
    if not math.isfinite(update):
        raise SftbenchError(
            f"the tensor {name} holds numbers that {dtype} cannot hold",
            where=where,
            remedy="Use another --dtype: bfloat16 and float32 reach as far as each other.",
        )


def _scale(before: torch.Tensor, norm: float, seed: int) -> _Scale:
    """Find the scale of a Gaussian direction that moves a tensor by a norm.

    As near as rounding to its dtype allows: the distance grows with the scale of the direction,
    but in steps where numbers are few.
    """
    from scipy.optimize import brentq

    direction = _direction(tuple(before.shape), seed)
    best: list[_Scale] = []

    def excess(scale: float) -> float:
        found = distance(before, _step(before, direction, scale))
        over = found / norm - 1
        if not best or abs(over) < abs(best[0].norm / norm - 1):
            best[:] = [_Scale(scale, found, norm)]
        return 0.0 if abs(over) < CLOSE else over

    high = norm
    while excess(high) < 0:
        high *= 2
    if abs(best[0].norm / norm - 1) >= CLOSE:
        brentq(excess, 0.0, high, rtol=CLOSE, maxiter=TRIES, disp=False)
    return best[0]


def _step(before: torch.Tensor, direction: torch.Tensor, scale: float) -> torch.Tensor:
    return (before.float() + scale * direction).to(before.dtype)


def _direction(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return a Gaussian tensor (float32) of L2 norm 1, drawn by numpy: torch differs by machine."""
    drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    flat = drawn.reshape(-1).astype(np.float64)
    return torch.from_numpy(drawn / np.float32(math.sqrt(float(flat @ flat))))
