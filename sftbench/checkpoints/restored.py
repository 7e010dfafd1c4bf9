"""The tensors of a restored variant, one at a time, in checkpoint names.

Whoever wants them takes them as they come: the shard writer, a transformers model, a vLLM worker.
Only the tensor that is being made is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sftbench.checkpoints import kernels
from sftbench.checkpoints.adapter_source import source_of
from sftbench.checkpoints.criteria import MOVES, SCORES, ranking_of, share_of_rule
from sftbench.checkpoints.lazy import ahead
from sftbench.checkpoints.pairing import Pair, Piece
from sftbench.checkpoints.planning import Planned
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.select import Hows
from sftbench.checkpoints.source import TORCH, as_floats, as_tensor, cast
from sftbench.checkpoints.update import HEAD, embedding_name, parts
from sftbench.common.digests import seed_of
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    import torch


WRITTEN = 1 << 21
"""Scalars that one thread restores at a time: few, so that one tensor keeps all of them busy."""


class RestoredWeights:
    """The tensors of one variant of two models.

    Args:
        pair: both models.
        planned: the rule, worked out for them.
    """

    def __init__(self, pair: Pair, planned: Planned) -> None:
        self.pair, self.planned = pair, planned

    @cached_property
    def _region(self) -> frozenset[str]:
        return frozenset(self.pair.region(self.planned.rule.region))

    @cached_property
    def _hows(self) -> Hows:
        ranking = ranking_of(self.planned.rule)
        assert ranking is not None
        return {name: ranking.how(self.pair, name) for name in self._region}

    def forms(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Return dtype (as safetensors writes it) and shape of each tensor, sorted by name."""
        tuned = self.pair.tuned
        return {name: (tuned.dtype(name), shape) for name, shape in tuned.shapes.items()}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor, sorted by name; no tensor is made."""
        return self.pair.tuned.shapes

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and tensor of the whole variant, sorted by name."""
        yield from ahead(self.pair.tuned.shapes, self.tensor)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor; one that the rule leaves alone is the tuned model's where it lies."""
        if name == HEAD and self.pair.head_follows:
            return self.tensor(embedding_name(self.pair.after) or name)
        if name not in self._region:
            return self.pair.after[name]
        if self.planned.rule.criterion in SCORES:
            return self._ranked(name)
        return moved(self.pair, self.planned.rule, name)

    def _ranked(self, name: str) -> torch.Tensor:
        """Set the scalars that are at or above the cut back to the base's value."""
        pair, cut, how = self.pair, self.planned.cut(name), self._hows[name]
        dtype, shape = pair.tuned.dtype(name), pair.tuned.shapes[name]
        flat = np.array(pair.tuned.flat(name))  # a copy: what is not restored stays tuned
        out = flat.view(f"u{flat.itemsize}")
        enlarged = self.planned.rule.criterion == "dare"

        def work(piece: Piece) -> None:
            if enlarged:
                _enlarge(pair, piece, flat, dtype, cut.count / pair.size(name))
            written = pair.written(name, piece.start, piece.stop).view(out.dtype)
            for start, stop, key in cut.parts(name, piece.start, piece.stop):
                part = piece.part(start, stop)
                kernels.restore(
                    how,
                    part.base,
                    part.tuned,
                    start,
                    key,
                    written[start - piece.start : stop - piece.start],
                    out[start:stop],
                )

        for _ in pair.sweep((name,), work, WRITTEN):
            pass
        return as_tensor(flat, dtype, shape)

    def origin(self) -> dict[str, Any]:
        """Return JSON from which another process makes the same tensors."""
        return {
            "kind": "restored",
            "base": self.pair.base.origin(),
            "tuned": self.pair.tuned.origin(),
            **self.planned.record(),
        }


def _enlarge(
    pair: Pair, piece: Piece, flat: np.ndarray[Any, Any], dtype: str, share: float
) -> None:
    """Write p + d / (1 - share) over a piece of the tuned model's scalars."""
    import torch

    from sftbench.checkpoints.criteria import enlarge

    if not 0 < share < 1:
        return
    form: torch.dtype = getattr(torch, TORCH[dtype])
    before, after = (one.reshape(-1) for one in pair.tensors(piece.name))
    here = slice(piece.start, piece.stop)
    made = enlarge(before[here].float(), after[here].float(), share).to(form)
    if not bool(made.isfinite().all()):
        raise out_of_range(pair, piece.name)
    flat[here] = made.view(torch.uint8).numpy().view(flat.dtype)


def moved(pair: Pair, rule: Restored, name: str) -> torch.Tensor:
    """Return a tensor as a criterion that moves whole tensors leaves it, in the tuned dtype.

    Of a resized vocabulary the rows that both models have are moved.

    Raises:
        SftbenchError: a scalar would leave the range of that dtype.
    """
    import torch

    before, after = pair.tensors(name)
    if rule.percent == 0:
        return after
    if rule.criterion == "interpolation":
        return _interpolated(pair, name, np.float32(share_of_rule(rule)))
    rows = None if before.shape == after.shape else min(len(before), len(after))
    p, s = before[:rows].float() if before.ndim else before.float(), after.float()
    part = s[:rows] if s.ndim else s
    seed = seed_of("restore", rule.criterion, rule.draw, name)
    made = MOVES[rule.criterion](p, part, rule, seed).to(after.dtype)
    if not all(bool(one.isfinite().all()) for one in parts(made)):
        raise out_of_range(pair, name)
    return made if rows is None else torch.cat([made, after[rows:]])


def _interpolated(pair: Pair, name: str, share: np.float32) -> torch.Tensor:
    """Return a tensor whose common scalars went this share of the way back."""
    dtype = pair.tuned.dtype(name)
    flat = np.array(pair.tuned.flat(name))

    def work(piece: Piece) -> bool:
        made = np.empty(piece.stop - piece.start, np.float32)
        kernels.interpolate(piece.base, piece.tuned, share, made)
        stored = cast(made, "F32", dtype)
        flat[piece.start : piece.stop] = stored
        return bool(kernels.not_finite(as_floats(stored, dtype)))

    if any(bad for _, bad in pair.sweep((name,), work, WRITTEN)):
        raise out_of_range(pair, name)
    return as_tensor(flat, dtype, pair.tuned.shapes[name])


def out_of_range(pair: Pair, name: str) -> SftbenchError:
    """Return the error that a tensor cannot be stored in the tuned model's dtype."""
    return SftbenchError(
        f"the tensor {name} would hold values beyond the range of {pair.tuned.dtype(name)}, the "
        "tuned model's dtype",
        where=pair.tuned.path,
        remedy="Convert the tuned model to the base's dtype first, or leave this tensor out with "
        "--region.",
    )


def restored_weights(origin: Mapping[str, Any]) -> RestoredWeights:
    """Return the weights that `RestoredWeights.origin` describes, opened in this process.

    Raises:
        SftbenchError: a folder is gone or broken.
    """
    from sftbench.checkpoints.planning import planned_of

    pair = Pair(source_of(origin["base"]), source_of(origin["tuned"]))
    return RestoredWeights(pair, planned_of(origin))
