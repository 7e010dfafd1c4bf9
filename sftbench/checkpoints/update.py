"""The update from base to tuned: whether the two fit together, and sums over parts of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from sftbench.common.errors import SftbenchError

Tensors = Mapping[str, torch.Tensor]

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
NAMES_SHOWN = 3
REMEDY = "Name the base that this model was tuned from; adapters must be merged first."


@dataclass(frozen=True)
class UpdateSums:
    """Sums in fp64 over a set of scalars (p base, s tuned, r relative change).

    Attributes:
        count: scalars in the set.
        zero_base: those with p equal to 0, in the dtype of r.
        zero_base_change: sum of r over those with p equal to 0.
        other_change: sum of r over the others, kept apart because it may be far smaller.
        l1: sum of |s - p|, with s - p in fp32.
        l2_squared: sum of (s - p)^2.
    """

    count: int = 0
    zero_base: int = 0
    zero_base_change: float = 0.0
    other_change: float = 0.0
    l1: float = 0.0
    l2_squared: float = 0.0

    @property
    def change(self) -> float:
        """Sum of r."""
        return self.zero_base_change + self.other_change

    def __add__(self, other: UpdateSums) -> UpdateSums:
        """Return the sums over both sets."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return UpdateSums(*(mine + theirs for mine, theirs in pairs))


def sums_of(
    base: torch.Tensor, tuned: torch.Tensor, change: torch.Tensor, mask: torch.Tensor | None = None
) -> UpdateSums:
    """Return the sums over one tensor, or over the part of it that `mask` selects."""
    zero = base.to(change.dtype) == 0
    update = tuned.float() - base.float()
    if mask is not None:
        zero, update, change = zero & mask, update * mask, change * mask
    exact = update.flatten().double()
    return UpdateSums(
        count=base.numel() if mask is None else int(mask.sum()),
        zero_base=int(zero.sum()),
        zero_base_change=float(change[zero].sum(dtype=torch.float64)),
        other_change=float(change.masked_fill(zero, 0).sum(dtype=torch.float64)),
        l1=float(update.abs().sum(dtype=torch.float64)),
        l2_squared=float(exact.dot(exact)),
    )


def shared_names(
    base: Tensors,
    tuned: Tensors,
    *,
    where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
) -> list[str]:
    """Return the names of the tensors that both models have, sorted.

    An output head that is tied to the embedding may be stored on one side only.

    Raises:
        SftbenchError: names or shapes differ otherwise.
    """
    only_base, only_tuned = sorted(base.keys() - tuned.keys()), sorted(tuned.keys() - base.keys())
    if not _is_tied_head(only_base, base) and not _is_tied_head(only_tuned, tuned):
        _require_no_others(only_base, only_tuned, where)
    names = sorted(base.keys() & tuned.keys())
    other_shape = [name for name in names if base[name].shape != tuned[name].shape]
    if other_shape:
        pairs = [
            f"{name} ({list(base[name].shape)} in base, {list(tuned[name].shape)} in tuned)"
            for name in other_shape
        ]
        raise SftbenchError(
            f"base and tuned differ in shape: {_some(pairs)}", where=where[1], remedy=REMEDY
        )
    return names


def _is_tied_head(extra: list[str], tensors: Tensors) -> bool:
    """Return whether the only extra tensor is an output head equal to the embedding."""
    return (
        extra == [HEAD] and EMBEDDING in tensors and torch.equal(tensors[HEAD], tensors[EMBEDDING])
    )


def _require_no_others(
    only_base: list[str], only_tuned: list[str], where: tuple[str | Path, str | Path]
) -> None:
    if not only_base and not only_tuned:
        return
    parts = [
        f"only {place} has {_some(names)}"
        for place, names in zip(where, (only_base, only_tuned), strict=True)
        if names
    ]
    raise SftbenchError(
        f"base and tuned hold different tensors: {'; '.join(parts)}", where=where[1], remedy=REMEDY
    )


def _some(names: list[str]) -> str:
    rest = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def update_norm(base: Tensors, tuned: Tensors) -> float:
    """Return the L2 norm of s - p over all tensors of the model (s - p in fp32, sum in fp64).

    A tied output head counts once, as the embedding.

    Raises:
        SftbenchError: as `shared_names`.
    """
    total = 0.0
    for name in shared_names(base, tuned):
        if name == HEAD and _is_tied_head([HEAD], base) and _is_tied_head([HEAD], tuned):
            continue
        update = (tuned[name].float() - base[name].float()).flatten().double()
        total += float(update.dot(update))
    return math.sqrt(total)
