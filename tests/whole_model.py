"""The oracle: the paper's restore on whole models in memory, by a full sort.

Source: Ye et al. 2025 (arXiv 2509.16596), section 6. Written before the streaming one and without
anything of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sftbench.checkpoints.update import (
    HEAD,
    Tensors,
    head_of,
    shared_names,
)
from sftbench.checkpoints.vocabulary import in_blocks
from sftbench.checkpoints.weights import require_finite
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPSILON = 1e-8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BITS = {"fp32": torch.int32, "bf16": torch.int16}


def in_region(name: str) -> bool:
    """Return whether the paper ranks a tensor: the blocks, without their norms."""
    return in_blocks(name) and "norm" not in name


def restored_count(scalars: int, percent: Decimal) -> int:
    """Return int(n * k / 100) in exact arithmetic.

    Raises:
        ValueError: the percentage is not between 0 and 100.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} % is not between 0 and 100 %")
    return int(scalars * Fraction(percent) / 100)


def relative_change(base: torch.Tensor, tuned: torch.Tensor, arithmetic: str) -> torch.Tensor:
    """Return |s - p| / (|p| + 1e-8) for each scalar (p base, s tuned).

    In fp32 or in bf16: p, s and the constant are cast to that format, and the result of every
    operation is rounded to it. (Torch with a plain number for the constant rounds it on a CPU
    and not on a GPU, which matters where |p| is below 1e-5.)
    """
    dtype = DTYPES[arithmetic]
    p, s, epsilon = base.to(dtype), tuned.to(dtype), torch.tensor(EPSILON, dtype=dtype)
    return ((s - p).abs() / (p.abs() + epsilon)).contiguous()


def rank(
    base: Tensors,
    tuned: Tensors,
    arithmetic: str = "fp32",
    *,
    where: tuple[str | Path, str | Path] = ("the base", "the tuned model"),
) -> Ranking:
    """Rank the scalars of the region once, for any number of percentages.

    Args:
        base: tensors of the base, by checkpoint name, any float dtype.
        tuned: tensors of the tuned model; names and shapes as `shared_names` demands, float
            dtypes may differ.
        arithmetic: the number format of the relative change.
        where: what errors call the two models, such as their folders.

    Raises:
        SftbenchError: names or shapes differ, a weight is NaN or infinite, there is no region,
            or a relative change is too large for the arithmetic.
    """
    names = shared_names(base, tuned, where=where)
    for tensors, place in zip((base, tuned), where, strict=True):
        require_finite(tensors, place)
    region = [name for name in names if in_region(name)]
    _require_region(region, (base, tuned), where)
    changes = {name: relative_change(base[name], tuned[name], arithmetic) for name in region}
    ascending = np.concatenate([_bits(change).flatten().numpy() for change in changes.values()])
    ascending.sort(kind="stable" if arithmetic == "bf16" else None)  # radix for 16 bits
    ranking = Ranking(base, tuned, arithmetic, changes, ascending)
    if not math.isfinite(ranking.value_at(ranking.scalars - 1)):
        raise SftbenchError(
            f"a relative change overflows {arithmetic}: the weights have diverged",
            where=where[1],
            remedy="Train again with a lower learning rate.",
        )
    return ranking


def _require_region(
    region: list[str], models: tuple[Tensors, Tensors], where: tuple[str | Path, str | Path]
) -> None:
    if not region:
        raise SftbenchError(
            'no tensor has "layers" in its name, so there is nothing to rank',
            where=where[0],
            remedy="The relative criterion is for models whose blocks are called layers.",
        )
    for name in region:
        for tensors, place in zip(models, where, strict=True):
            if not tensors[name].is_floating_point():
                raise SftbenchError(
                    f"the tensor {name} holds {tensors[name].dtype}, not floats",
                    where=place,
                    remedy="Restore works on models that are not quantised.",
                )


def _bits(change: torch.Tensor) -> torch.Tensor:
    """Return the bits of numbers that are not negative, as integers: they sort alike."""
    return change.view(torch.int32 if change.dtype == torch.float32 else torch.int16)


@dataclass(frozen=True)
class Figures:
    """What a restore did: fields of `RestoreReport`."""

    percent: float
    arithmetic: str
    region: int
    count: int
    threshold: float | None
    unchanged: int
    unchanged_share: float
    zero_base: int
    zero_base_restored: int
    zero_base_change_share: float
    change_share: float
    change_share_without_zero_base: float
    l1_removed: float
    l2_removed: float
    changed: int
    equals_base: bool
    equals_tuned: bool


@dataclass(frozen=True)
class Ranking:
    """All scalars of the region in the order in which they are restored.

    The order: larger relative change first; equal ones by tensor name (code-point order), then
    by flat index (row-major), lower first.

    Attributes:
        base: tensors of the base, by name.
        tuned: tensors of the tuned model, by name.
        arithmetic: the number format of `changes`.
        changes: relative change of each region tensor, in its shape, sorted by name.
        ascending: all changes as the integers of their bits, ascending.
    """

    base: Tensors
    tuned: Tensors
    arithmetic: str
    changes: Tensors
    ascending: NDArray[np.signedinteger[Any]]

    @property
    def scalars(self) -> int:
        """The number of scalars in the region."""
        return len(self.ascending)

    def value_at(self, place: int) -> float:
        """Return the relative change at a place of the ascending order."""
        bits = torch.tensor([int(self.ascending[place])], dtype=BITS[self.arithmetic])
        return float(bits.view(DTYPES[self.arithmetic]).item())

    def masks(self, percent: Decimal) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, boolean mask of what is restored) of each region tensor, sorted by name."""
        count = restored_count(self.scalars, percent)
        if count == 0:
            return
        threshold = self.ascending[-count]
        above = self.scalars - int(self.ascending.searchsorted(threshold, side="right"))
        ties_left = count - above
        for name, change in self.changes.items():
            bits = _bits(change)
            mask = bits > int(threshold)
            if ties_left:
                ties = (bits == int(threshold)).view(-1).nonzero().view(-1)[:ties_left]
                mask.view(-1)[ties] = True
                ties_left -= len(ties)
            yield name, mask

    def apply(self, percent: Decimal) -> tuple[dict[str, torch.Tensor], Figures]:
        """Return the tuned tensors with the top `percent` of the region set back, and a report.

        A restored scalar takes the base's value in the tuned tensor's dtype. A tensor in which
        nothing is restored is the tuned one itself, not a copy.
        """
        result = dict(self.tuned)
        restored, changed = UpdateSums(), 0
        for name, mask in self.masks(percent):
            base, tuned = self.base[name], self.tuned[name]
            result[name] = torch.where(mask, base.to(tuned.dtype), tuned)
            changed += int((result[name] != tuned).sum())
            restored += sums_of(base, tuned, self.changes[name], mask)
        return result, self._report(percent, restored, changed)

    def _report(self, percent: Decimal, restored: UpdateSums, changed: int) -> Figures:
        whole = self._whole
        return Figures(
            percent=float(percent),
            arithmetic=self.arithmetic,
            region=self.scalars,
            count=restored.count,
            threshold=self.value_at(-restored.count) if restored.count else None,
            unchanged=self._unchanged,
            unchanged_share=_share(self._unchanged, self.scalars),
            zero_base=whole.zero_base,
            zero_base_restored=restored.zero_base,
            zero_base_change_share=_share(whole.zero_base_change, whole.change),
            change_share=_share(restored.change, whole.change),
            change_share_without_zero_base=_share(restored.other_change, whole.other_change),
            l1_removed=_share(restored.l1, whole.l1),
            l2_removed=math.sqrt(_share(restored.l2_squared, whole.l2_squared)),
            changed=changed,
            equals_base=self._outside_equal and changed == self._different,
            equals_tuned=changed == 0,
        )

    @cached_property
    def _whole(self) -> UpdateSums:
        sums = (sums_of(self.base[n], self.tuned[n], change) for n, change in self.changes.items())
        return sum(sums, start=UpdateSums())

    @cached_property
    def _unchanged(self) -> int:
        """Scalars of the region with s equal to p in the arithmetic of the ranking."""
        dtype = DTYPES[self.arithmetic]
        pairs = ((self.base[name].to(dtype), self.tuned[name].to(dtype)) for name in self.changes)
        return sum(int((p == s).sum()) for p, s in pairs)

    @cached_property
    def _different(self) -> int:
        """Scalars of the region that a full restore would change, in the tuned dtypes."""
        pairs = ((self.base[name], self.tuned[name]) for name in self.changes)
        return sum(int((p.to(s.dtype) != s).sum()) for p, s in pairs)

    @cached_property
    def _outside_equal(self) -> bool:
        """Whether every tensor outside the region is the base's, in the tuned dtypes."""
        names = (self.base.keys() & self.tuned.keys()) - self.changes.keys() - {HEAD}
        pairs = [(self.base[name], self.tuned[name]) for name in names]
        heads = head_of(self.base), head_of(self.tuned)
        if heads[0] is not None and heads[1] is not None:
            pairs.append((heads[0], heads[1]))
        return all(torch.equal(before.to(after.dtype), after) for before, after in pairs)


def _share(part: float, whole: float) -> float:
    """Return part / whole, kept in [0, 1] against rounding; 0 where there is nothing to share."""
    return min(1.0, max(0.0, part / whole)) if whole else 0.0


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
