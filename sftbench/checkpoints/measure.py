"""What thresholds restore, in sums, and where equal keys are cut: one pass for any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sftbench.checkpoints import kernels
from sftbench.checkpoints.kernels import FIELDS
from sftbench.checkpoints.select import Cut, Hows, Threshold
from sftbench.checkpoints.source import pieces
from sftbench.checkpoints.update import parts
from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sftbench.checkpoints.pairing import Pair, Piece
    from sftbench.checkpoints.source import Source

LOOKED_THROUGH = 1 << 16
"""Scalars whose keys are looked through at a time for the last of equal ones."""

Sums = Mapping[str, "NDArray[np.float64]"]
"""By tensor: shape [thresholds + 1, fields], see `kernels.FIELDS`; the last row is of all."""


@dataclass(frozen=True)
class Measured:
    """What thresholds restore.

    Attributes:
        cuts: where each ends among equal keys.
        sums: what each restores of each tensor.
    """

    cuts: tuple[Cut, ...]
    sums: Sums


def measure(
    pair: Pair, names: Sequence[str], hows: Hows, thresholds: Sequence[Threshold]
) -> Measured:
    """Return what each threshold restores of each tensor, and where equal keys are cut.

    Raises:
        SftbenchError: a weight is NaN or infinite, or beyond the range of the tuned model's dtype,
            or a relative change is too large.
    """
    ties = _Ties(pair, hows, thresholds)
    found: dict[str, NDArray[np.float64]] = {}

    def work(piece: Piece) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if piece.written is not piece.base and kernels.not_finite(piece.written):
            raise _beyond_range(pair, piece.name)
        return _sums(piece, hows, ties.keys, ties.equal)

    for piece, (sums, tied) in pair.sweep(names, work):
        if not np.isfinite(sums).all():
            raise _not_finite(pair, piece.name)
        sums[:-1] += ties.take(piece, tied)
        found[piece.name] = found.get(piece.name, 0) + sums
    return Measured(ties.cuts, found)


def _sums(
    piece: Piece, hows: Hows, keys: NDArray[np.int64], equal: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sums = np.zeros((len(keys) + 1, len(FIELDS)))
    tied = np.zeros((len(keys), len(FIELDS)))
    kernels.measure(
        hows[piece.name],
        piece.base,
        piece.tuned,
        piece.written,
        piece.written is piece.base,
        piece.start,
        keys,
        equal,
        sums,
        tied,
    )
    return sums, tied


class _Ties:
    """Equal keys at the thresholds, shared out as the pieces come by in order."""

    def __init__(self, pair: Pair, hows: Hows, thresholds: Sequence[Threshold]) -> None:
        self._hows, self._thresholds = hows, thresholds
        self._left = [one.left for one in thresholds]
        self._places: dict[int, tuple[str, int]] = {}
        self.keys = np.array([one.key for one in thresholds], np.int64)
        none = 1 << 31
        self.equal = np.array([one.key - 1 if one.left else none for one in thresholds], np.int64)

    def take(self, piece: Piece, tied: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is restored of the piece's equal keys; shape as `tied`."""
        taken = np.zeros_like(tied)
        for j, left in enumerate(self._left):
            here = int(tied[j, 0])
            if not left or not here:
                continue
            self._left[j] = max(0, left - here)
            if here < left:
                taken[j] = tied[j]
                continue
            # The place is that of the last one, wherever the pieces happen to end.
            stop = self._last(piece, int(self.equal[j]), left)
            self._places[j] = piece.name, stop
            part = piece.part(piece.start, stop)
            nothing = np.full_like(self.keys[j : j + 1], 1 << 31)
            taken[j] = _sums(part, self._hows, nothing, self.equal[j : j + 1])[1][0]
        return taken

    def _last(self, piece: Piece, key: int, left: int) -> int:
        """Return the flat index after the last of so many equal keys."""
        keys = np.empty(min(LOOKED_THROUGH, len(piece.base)), np.int32)
        for start, stop in pieces(len(piece.base), len(keys)):
            part = piece.part(piece.start + start, piece.start + stop)
            here = keys[: stop - start]
            kernels.keys(self._hows[piece.name], part.base, part.tuned, part.start, here)
            found = np.flatnonzero(here == key)
            if len(found) >= left:
                return part.start + int(found[left - 1]) + 1
            left -= len(found)
        raise AssertionError("the piece holds fewer equal keys than were counted")

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where each threshold ends, once all pieces came by."""
        return tuple(
            Cut(one.key, *self._places.get(j, ("", 0)), count=one.count)
            for j, one in enumerate(self._thresholds)
        )


def require_finite_pair(pair: Pair, names: Sequence[str]) -> None:
    """Raise `SftbenchError` naming the first tensor that holds NaN or infinity."""

    def work(piece: Piece) -> bool:
        return bool(kernels.not_finite(piece.base) or kernels.not_finite(piece.tuned))

    for piece, bad in pair.sweep(names, work):
        if bad:
            raise _not_finite(pair, piece.name)


def require_finite_rows(pair: Pair) -> None:
    """Raise likewise for tensors of a resized vocabulary, in the rows of one model alone too."""
    for name in pair.outside():
        if not pair.is_whole(name) and pair.is_float(name):
            for source in (pair.base, pair.tuned):
                if _bad_scalars(pair, source, name):
                    raise _not_finite(pair, name)


def _beyond_range(pair: Pair, name: str) -> SftbenchError:
    """Return why the base's scalars of a tensor cannot be restored."""
    if _bad_scalars(pair, pair.base, name):
        return _not_finite(pair, name)
    return SftbenchError(
        f"the tensor {name} holds values beyond the range of {pair.tuned.dtype(name)}, in which "
        "the tuned model stores it",
        where=pair.base.path,
        remedy="Convert the tuned model to the base's dtype first, or leave this tensor out with "
        "--region.",
    )


def _not_finite(pair: Pair, name: str) -> SftbenchError:
    for source in (pair.base, pair.tuned):
        count = _bad_scalars(pair, source, name)
        if count:
            return SftbenchError(
                f"the tensor {name} holds {count:,} NaN or infinite scalar{'s' * (count > 1)}",
                where=source.path,
                remedy="The training diverged or the file is damaged: train again with a lower "
                "learning rate, or copy the checkpoint again.",
            )
    return SftbenchError(
        "a relative change overflows: the weights have diverged",
        where=pair.tuned.path,
        remedy="Train again with a lower learning rate.",
    )


def _bad_scalars(pair: Pair, source: Source, name: str) -> int:
    tensor = pair.tensors(name)[0 if source is pair.base else 1]
    found = 0
    for part in parts(tensor):
        found += int((~part.isfinite()).sum())
    return found
