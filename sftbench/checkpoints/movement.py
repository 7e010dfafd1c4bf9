"""How far each tensor moved: norms, effective rank, unchanged scalars, the angle to another update.

One tensor at a time, in blocks of rows: beside a block there is only the Gram matrix of the smaller
side in memory and, of a matrix that is wider than high, its update. An update is taken in fp32
(s - p, as everywhere), its sums in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from sftbench.checkpoints.regions import layer_of, module_of
from sftbench.checkpoints.update import tensor_pairs
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from sftbench.checkpoints.pairing import Pair

BLOCK = 1 << 22
"""Scalars of an update that are held at a time, as fp64: 32 MiB."""
NOISE = 1e-14
"""Eigenvalues of a Gram matrix below this part of the largest are rounding: singular values below
1e-7 of the largest cannot be told from none."""


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

    Args:
        pair: base and tuned model.
        other: the same base and another model tuned from it, for the angle between the updates.
        ranks: whether the ranks are wanted, which take most of the time.
        advance: called with the scalars of each tensor that is done.

    Raises:
        SftbenchError: the models do not fit together, or `other` has other tensors.
    """
    theirs = None if other is None else _updates(other)
    for name, base, tuned in tensor_pairs(pair.before, pair.after):
        if not base.is_floating_point():
            continue
        second = None if theirs is None else _of_other(theirs, name, base, pair, other)
        yield _move(name, base, tuned, second, ranks=ranks)
        if advance is not None:
            advance(base.numel())


def _updates(pair: Pair) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the tensors of a pair where they lie, by name: nothing is read yet."""
    return {name: (base, tuned) for name, base, tuned in tensor_pairs(pair.before, pair.after)}


def _of_other(
    theirs: dict[str, tuple[torch.Tensor, torch.Tensor]],
    name: str,
    base: torch.Tensor,
    pair: Pair,
    other: Pair | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return base and tuned tensor of the other fine-tune, in the rows that all have."""
    found = theirs.get(name)
    if found is None or found[0].shape[1:] != base.shape[1:]:
        raise SftbenchError(
            f"has no tensor {name} like that of {pair.tuned.path}",
            where=None if other is None else other.tuned.path,
            remedy="Two updates have an angle only if both models were tuned from one base.",
        )
    return found


def _move(
    name: str,
    base: torch.Tensor,
    tuned: torch.Tensor,
    other: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    ranks: bool,
) -> TensorMove:
    sums = _Sums(base.shape) if ranks and base.dim() == 2 else _Sums()
    for start, stop in _blocks(base):
        p, s = base[start:stop].float(), tuned[start:stop].float()
        second = None if other is None else _difference(other, start, stop)
        sums.add(p, s - p, second)
    found = sums.ranks() if sums.norm else None
    return TensorMove(
        name=name,
        layer=layer_of(name),
        module=module_of(name),
        shape=tuple(base.shape),
        norm=sums.norm,
        base_norm=math.sqrt(sums.base),
        unchanged=sums.unchanged,
        zero_base=sums.zero_base,
        ranks=found,
        dot=None if other is None else sums.dot,
        other_norm=None if other is None else math.sqrt(sums.other),
    )


def _difference(pair: tuple[torch.Tensor, torch.Tensor], start: int, stop: int) -> torch.Tensor:
    before, after = (one[start:stop].float() for one in pair)
    return after - before


def _blocks(tensor: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the rows that are held at a time; at least one."""
    if tensor.dim() == 0:
        raise AssertionError("a weight has a dimension")
    row = max(1, tensor[0].numel()) if len(tensor) else 1
    step = max(1, BLOCK // row)
    for start in range(0, len(tensor), step):
        yield start, min(start + step, len(tensor))


class _Sums:
    """What is added up over the blocks of one tensor."""

    def __init__(self, shape: torch.Size | None = None) -> None:
        self.squares = self.base = self.dot = self.other = 0.0
        self.unchanged = self.zero_base = 0
        self._wide = shape is not None and shape[0] < shape[1]
        self._rows: list[torch.Tensor] = []
        self._gram: torch.Tensor | None = None
        if shape is not None and not self._wide:
            self._gram = torch.zeros(shape[1], shape[1], dtype=torch.float64)
        self._with_ranks = shape is not None

    def add(self, p: torch.Tensor, update: torch.Tensor, second: torch.Tensor | None) -> None:
        flat = update.double()
        self.squares += float((flat * flat).sum())
        self.base += float(p.double().square().sum())
        self.unchanged += int((update == 0).sum())
        self.zero_base += int((p == 0).sum())
        if second is not None:
            # Of a resized vocabulary, the rows that all three models have.
            rows = min(len(flat), len(second))
            theirs = second[:rows].double()
            self.dot += float((flat[:rows] * theirs).sum())
            self.other += float((theirs * theirs).sum())
        if self._gram is not None:
            self._gram += flat.T @ flat
        elif self._with_ranks:
            self._rows.append(update)

    @property
    def norm(self) -> float:
        return math.sqrt(self.squares)

    def ranks(self) -> Ranks | None:
        """Return the ranks of what was added, None where that is no matrix."""
        if not self._with_ranks:
            return None
        gram = self._gram
        if gram is None:
            gram = _outer(self._rows)
        return ranks_of(gram)


def _outer(rows: list[torch.Tensor]) -> torch.Tensor:
    """Return the Gram matrix of the rows of a wide matrix, by blocks of its columns."""
    whole = torch.cat(rows)
    gram = torch.zeros(len(whole), len(whole), dtype=torch.float64)
    step = max(1, BLOCK // len(whole))
    for start in range(0, whole.shape[1], step):
        part = whole[:, start : start + step].double()
        gram += part @ part.T
    return gram


def ranks_of(gram: torch.Tensor) -> Ranks:
    """Return the ranks of a matrix whose Gram matrix is given, fp64 ``[n, n]``; it is not zero."""
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    largest = float(values[-1])
    singular = values[values > NOISE * largest].sqrt()
    shares = singular / singular.sum()
    entropy = -(shares * shares.log()).sum()
    return Ranks(math.exp(float(entropy)), float(values.sum()) / largest)
