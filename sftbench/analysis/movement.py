"""How the weights moved: tensors summed up by layer and module, as records for JSON.

docs/drift.md has the formulas. Norms are L2, in the units of the weights; shares are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from sftbench.analysis.record import Record


class TensorMovement(Record):
    """One tensor: see `sftbench.checkpoints.movement.TensorMove`.

    Attributes:
        smaller: its smaller side, what ranks are shares of; None for what is no matrix.
        effective_rank: between 1 and `smaller`; None likewise, or where nothing moved.
        stable_rank: likewise.
        dot: scalar product with the update of another fine-tune; None without one.
        other_norm: norm of that update.
    """

    name: str
    layer: int | None
    module: str
    size: int
    norm: float
    base_norm: float
    unchanged: int
    zero_base: int
    smaller: int | None = None
    effective_rank: float | None = None
    stable_rank: float | None = None
    dot: float | None = None
    other_norm: float | None = None


class Moved(Record):
    """Some tensors together.

    Attributes:
        layer: of one layer; None for all, or outside the blocks.
        module: of one module; None for all.
        size: scalars.
        norm: of their update.
        relative: `norm` over that of their base; None where that is 0.
        share: of the squared norm of the whole update; None where nothing moved at all.
        enrichment: `share` over their share of all scalars: 1 is what their size alone gives.
        unchanged: share of scalars that are the base's.
        rank_share: effective rank over its most, the mean over their matrices; None without any.
        cosine: of the angle to another fine-tune's update; None without one, or where one of the
            two is nothing.
        cosine_chance: standard deviation of the cosine of two random directions of this size.
    """

    layer: int | None
    module: str | None
    size: int
    norm: float
    relative: float | None
    share: float | None
    enrichment: float | None
    unchanged: float
    rank_share: float | None
    cosine: float | None
    cosine_chance: float


class MovementResult(Record):
    """How the weights moved: the part of a summary that `--drift` adds.

    Attributes:
        tensors: each tensor.
        total: all together.
        modules: each module over its layers, the largest first.
        cells: each module in each layer.
        zero_base: scalars that are 0 in the base.
        against: how the other fine-tune is called; None without one.
    """

    tensors: tuple[TensorMovement, ...]
    total: Moved
    modules: tuple[Moved, ...]
    cells: tuple[Moved, ...]
    zero_base: int
    against: str | None = None


def movement_result(
    tensors: Sequence[TensorMovement], against: str | None = None
) -> MovementResult:
    """Return tensors summed up.

    Args:
        tensors: each tensor of the model once.
        against: how the other fine-tune is called.

    Raises:
        ValueError: there are no tensors.
    """
    if not tensors:
        raise ValueError("a model has tensors")
    whole = _whole(tensors)

    def of(layer: int | None, module: str | None) -> Moved:
        """Sum up those of a layer, of a module, or of both."""
        those = [
            one for one in tensors if layer in (None, one.layer) and module in (None, one.module)
        ]
        return _moved(those, layer, module, whole)

    inside = [(one.layer, one.module) for one in tensors if one.layer is not None]
    modules = [of(None, module) for module in sorted({one.module for one in tensors})]
    return MovementResult(
        tensors=tuple(tensors),
        total=of(None, None),
        modules=tuple(sorted(modules, key=lambda one: (-one.size, one.module or ""))),
        cells=tuple(of(layer, module) for layer, module in sorted(set(inside))),
        zero_base=sum(one.zero_base for one in tensors),
        against=against,
    )


class LayerGroup(NamedTuple):
    """Consecutive layers together: the first, the last, and what they add up to."""

    first: int
    last: int
    moved: Moved


def layer_groups(result: MovementResult, most: int) -> tuple[LayerGroup, ...]:
    """Return the layers of a model in so many groups at most, alike in number as far as can be."""
    layers = sorted({one.layer for one in result.tensors if one.layer is not None})
    parts = min(most, len(layers))
    ends = [len(layers) * place // parts for place in range(parts + 1)] if parts else []
    return tuple(_group(result, layers[start], layers[stop - 1]) for start, stop in pairwise(ends))


def _group(result: MovementResult, first: int, last: int) -> LayerGroup:
    those = [one for one in result.tensors if one.layer is not None and first <= one.layer <= last]
    layer = first if first == last else None
    return LayerGroup(first, last, _moved(those, layer, None, _whole(result.tensors)))


def _whole(tensors: Sequence[TensorMovement]) -> tuple[int, float]:
    """Return scalars and squared norm of the update of a whole model."""
    return sum(one.size for one in tensors), math.fsum(one.norm**2 for one in tensors)


def _moved(
    those: Sequence[TensorMovement],
    layer: int | None,
    module: str | None,
    whole: tuple[int, float],
) -> Moved:
    size = sum(one.size for one in those)
    squared = math.fsum(one.norm**2 for one in those)
    base = math.fsum(one.base_norm**2 for one in those)
    share = squared / whole[1] if whole[1] else None
    ranks = [
        one.effective_rank / one.smaller
        for one in those
        if one.effective_rank is not None and one.smaller
    ]
    return Moved(
        layer=layer,
        module=module,
        size=size,
        norm=math.sqrt(squared),
        relative=math.sqrt(squared / base) if base else None,
        share=share,
        enrichment=None if share is None else share / (size / whole[0]),
        unchanged=sum(one.unchanged for one in those) / size,
        rank_share=sum(ranks) / len(ranks) if ranks else None,
        cosine=_cosine(those, squared),
        cosine_chance=1 / math.sqrt(size),
    )


def _cosine(those: Iterable[TensorMovement], squared: float) -> float | None:
    both = [(one.dot, one.other_norm) for one in those]
    if any(dot is None for dot, _ in both):
        return None
    others = math.fsum((norm or 0.0) ** 2 for _, norm in both)
    if not (squared and others):
        return None
    return math.fsum(dot or 0.0 for dot, _ in both) / math.sqrt(squared * others)
