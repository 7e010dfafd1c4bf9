"""How far each tensor moved: norms, effective rank, unchanged scalars, the angle to another update.

One tensor at a time, in blocks of rows: beside a block there is only the Gram matrix of the smaller
side in memory and, of a matrix that is wider than high, its update. An update is taken in fp32
(s - p, as everywhere), its sums in fp64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from sftbench.checkpoints.regions import layer_of, module_of
from sftbench.checkpoints.update import HEAD, head_of, tensor_pairs
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sftbench.checkpoints.pairing import Pair

BLOCK = 1 << 22
"""Scalars of an update that are held at a time, as fp64: 32 MiB."""
NOISE = 1e-14
"""Eigenvalues of a Gram matrix below this part of the largest are rounding: singular values below
1e-7 of the largest cannot be told from none. (Measured on exact low-rank matrices of 64 to 1536
columns: rounding comes to 2e-16 to 3e-15; the effective rank of a spectrum that falls by 1e-6 is
right to 1e-11, by 1e-9 and more to 2e-6.)"""


_BLOCKS = re.compile(r"(?:^|\.)(?:h|blocks)\.([0-9]+)\.")
"""How families that do not call their blocks layers number them (GPT-2, BLOOM, Falcon, MPT)."""


class Ranks(NamedTuple):
    """How many directions an update matrix uses.

    Attributes:
        effective: exp of the entropy of the singular values as shares of their sum (Roy and
            Vetterli 2007, EUSIPCO): between 1 and the smaller side.
        stable: squared Frobenius norm over squared spectral norm (Rudelson and Vershynin 2007,
            J. ACM 54:21): at most the rank, and hardly moved by small singular values.
    """

    effective: float
    stable: float


class TensorMove(NamedTuple):
    """How far one tensor moved.

    Attributes:
        name: its name in the checkpoint.
        layer: number of its block; None outside the blocks.
        module: what it is in its block, such as "q_proj".
        shape: of what both models have of it.
        norm: L2 norm of the update.
        base_norm: of the base's tensor.
        unchanged: scalars with s = p.
        zero_base: scalars with p = 0.
        ranks: of the update; None where that is no matrix, did not move, or ranks are left out.
        dot: scalar product with another fine-tune's update; None without one.
        other_norm: L2 norm of that update.
    """

    name: str
    layer: int | None
    module: str
    shape: tuple[int, ...]
    norm: float
    base_norm: float
    unchanged: int
    zero_base: int
    ranks: Ranks | None = None
    dot: float | None = None
    other_norm: float | None = None

    @property
    def size(self) -> int:
        """Scalars."""
        return math.prod(self.shape)


Advance = Callable[[int], None]


def movement(
    pair: Pair, other: Pair | None = None, *, ranks: bool = True, advance: Advance | None = None
) -> Iterator[TensorMove]:
    """Yield how far each tensor moved; an output head that both models tie is its embedding.

    Tensors that hold no floats, or nothing, are left out.

    Args:
        pair: base and tuned model.
        other: the same base and another model tuned from it, for the angle between the updates.
            Its output head, where it ties that and the tuned model does not, is its embedding.
        ranks: whether the ranks are wanted, which take most of the time.
        advance: called with the scalars of each tensor that is done.

    Raises:
        SftbenchError: the models do not fit together, `other` has other tensors, or a model holds
            NaN or infinity.
    """
    for name, base, tuned in tensor_pairs(pair.before, pair.after):
        if not (base.is_floating_point() and tuned.is_floating_point() and base.numel()):
            continue
        second = None if other is None else _of_other(other, name, base, pair)
        sums = _sums(base, tuned, second, ranks=ranks and base.dim() == 2)
        if not sums.are_finite:
            raise _not_finite(name, pair, other)
        yield _move(name, tuple(base.shape), sums)
        if advance is not None:
            advance(base.numel())


def _of_other(
    other: Pair, name: str, base: torch.Tensor, pair: Pair
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return base and tuned tensor of the other fine-tune, in the rows that both have.

    They are looked up one at a time: of an adapter, a look merges.
    """
    if name == HEAD:
        found = head_of(other.before), head_of(other.after)
    else:
        found = other.before.get(name), other.after.get(name)
    before, after = found
    if before is None or after is None or not before.shape[1:] == after.shape[1:] == base.shape[1:]:
        raise SftbenchError(
            f"has no tensor {name} like that of {pair.tuned.path}",
            where=other.tuned.path,
            remedy="Two updates have an angle only if both models were tuned from one base.",
        )
    rows = min(len(_rowed(before)), len(_rowed(after)))
    return _rowed(before)[:rows], _rowed(after)[:rows]


def _not_finite(name: str, pair: Pair, other: Pair | None) -> SftbenchError:
    """Return why sums over a tensor are no numbers; that of a model's own NaN is raised."""
    from sftbench.checkpoints.measure import require_finite_pair  # takes a second to load

    for one in (pair, other):
        if one is not None and name in one.outside():
            require_finite_pair(one, [name])
    return SftbenchError(
        f"the update of {name} is beyond the range of fp32",
        where=pair.tuned.path,
        remedy="The training diverged: train again with a lower learning rate.",
    )


def _sums(
    base: torch.Tensor,
    tuned: torch.Tensor,
    other: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    ranks: bool,
) -> _Sums:
    """Return what one tensor adds up to."""
    base, tuned = _rowed(base), _rowed(tuned)
    sums = _Sums(base.shape) if ranks else _Sums()
    for start, stop in _blocks(base):
        p, s = base[start:stop].float(), tuned[start:stop].float()
        second = None if other is None else _difference(other, start, stop)
        sums.add(p, s - p, second)
    return sums


def _move(name: str, shape: tuple[int, ...], sums: _Sums) -> TensorMove:
    return TensorMove(
        name=name,
        layer=_layer(name),
        module=module_of(name),
        shape=shape,
        norm=sums.norm,
        base_norm=math.sqrt(sums.base),
        unchanged=sums.unchanged,
        zero_base=sums.zero_base,
        ranks=sums.ranks() if sums.norm else None,
        dot=sums.dot,
        other_norm=None if sums.other is None else math.sqrt(sums.other),
    )


def _layer(name: str) -> int | None:
    found = _BLOCKS.search(name)
    return layer_of(name) if found is None else int(found[1])


def _rowed(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that has rows: a single number is one."""
    return tensor.reshape(1) if tensor.dim() == 0 else tensor


def _difference(pair: tuple[torch.Tensor, torch.Tensor], start: int, stop: int) -> torch.Tensor:
    before, after = (one[start:stop].float() for one in pair)
    return after - before


def _blocks(tensor: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the rows that are held at a time; at least one."""
    step = max(1, BLOCK // tensor[0].numel())
    for start in range(0, len(tensor), step):
        yield start, min(start + step, len(tensor))


class _Sums:
    """What is added up over the blocks of one tensor."""

    def __init__(self, shape: torch.Size | None = None) -> None:
        self.squares = self.base = 0.0
        self.dot: float | None = None
        self.other: float | None = None
        self.unchanged = self.zero_base = 0
        self._with_ranks = shape is not None
        self._rows: list[torch.Tensor] = []
        self._gram: torch.Tensor | None = None
        if shape is not None and shape[0] >= shape[1]:
            self._gram = torch.zeros(shape[1], shape[1], dtype=torch.float64)

    def add(self, p: torch.Tensor, update: torch.Tensor, second: torch.Tensor | None) -> None:
        """Add a block of rows: the base's, the update's, and those of the other update."""
        wide = update.double()
        self.squares += _inner(wide, wide)
        self.base += _inner(p.double(), p.double())
        self.unchanged += int((update == 0).sum())
        self.zero_base += int((p == 0).sum())
        if second is not None:
            # Of a resized vocabulary, the rows that all three models have.
            rows = min(len(wide), len(second))
            theirs = second[:rows].double()
            self.dot = (self.dot or 0.0) + _inner(wide[:rows], theirs)
            self.other = (self.other or 0.0) + _inner(theirs, theirs)
        if self._gram is not None:
            self._gram += _gram(wide.numpy())
        elif self._with_ranks:
            self._rows.append(update)

    @property
    def are_finite(self) -> bool:
        """Whether all of them are numbers."""
        sums = (self.squares, self.base, self.dot or 0.0, self.other or 0.0)
        return all(math.isfinite(one) for one in sums)

    @property
    def norm(self) -> float:
        """L2 norm of the update."""
        return math.sqrt(self.squares)

    def ranks(self) -> Ranks | None:
        """Return the ranks of what was added, None where that is no matrix."""
        if not self._with_ranks:
            return None
        gram = self._gram
        if gram is None:
            gram = _outer(self._rows)
        return ranks_of(gram)


def _inner(one: torch.Tensor, two: torch.Tensor) -> float:
    return float(one.reshape(-1).dot(two.reshape(-1)))


def _gram(tall: NDArray[np.float64]) -> torch.Tensor:
    """Return the Gram matrix of the columns; numpy, not torch, works out only half of it."""
    return torch.from_numpy(tall.T @ tall)


def _outer(rows: list[torch.Tensor]) -> torch.Tensor:
    """Return the Gram matrix of the rows of a wide matrix, by blocks of its columns."""
    whole = torch.cat(rows)
    gram = torch.zeros(len(whole), len(whole), dtype=torch.float64)
    step = max(1, BLOCK // len(whole))
    for start in range(0, whole.shape[1], step):
        gram += _gram(whole[:, start : start + step].double().numpy().T)
    return gram


def ranks_of(gram: torch.Tensor) -> Ranks:
    """Return the ranks of a matrix whose Gram matrix is given, fp64 ``[n, n]``; it is not zero."""
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    largest = float(values[-1])
    singular = values[values > NOISE * largest].sqrt()
    shares = singular / singular.sum()
    entropy = -(shares * shares.log()).sum()
    return Ranks(math.exp(float(entropy)), float(values.sum()) / largest)
