"""Where a ranking is cut: the exact scalars that a full sort would take, without sorting.

A histogram of keys by their upper 16 bits, and by their lower 16 bits in those bins that matter,
gives the key of any order statistic. Which bins matter is guessed from a sample, so that one pass
over both models does, whatever their size and however many sizes are asked for; a wrong guess
costs one more pass, never the result. A full sort would put larger keys first and equal ones in
the order of their places: by tensor name (code-point order), then by flat index; where a cut goes
through equal keys, `measure.py` finds the place in the pass that it makes anyway.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sftbench.checkpoints import kernels
from sftbench.checkpoints.criteria import How, Ranking
from sftbench.checkpoints.kernels import BINS, LOWEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sftbench.checkpoints.pairing import Pair, Piece
    from sftbench.checkpoints.rules import Measure

NONE = 1 << 31
"""Above every key."""
STRIDE = 64_901
"""A block of each so many scalars is looked at for a guess: a prime, no multiple of any row."""
DEVIATIONS = 6.0
"""The guess takes bins whose rank may be wanted, at so many standard errors of the sample."""
MOST_COUNTED = (1 << 32) - 1
"""Scalars that a histogram of 32 bits is sure to hold."""
MOST_BINS = 48
"""That one pass takes: each has a histogram of its own, in every thread."""

_Number = TypeVar("_Number", bound=np.generic)

Size = tuple[Decimal, "Measure"]
Hows = Mapping[str, How]


@dataclass(frozen=True)
class Cut:
    """Where a ranking is cut.

    Attributes:
        key: scalars with at least this key are restored.
        name: those with the next smaller key are restored too in all tensors before this one;
            "" where none are.
        place: and in that tensor, before this flat index.
        count: scalars that are restored.
    """

    key: int
    name: str = ""
    place: int = 0
    count: int = 0

    def parts(self, name: str, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, key from which scalars are restored) of a part of a tensor."""
        if not self.name or name > self.name:
            yield start, stop, self.key
        elif name < self.name or stop <= self.place:
            yield start, stop, self.key - 1
        elif start >= self.place:
            yield start, stop, self.key
        else:
            yield start, self.place, self.key - 1
            yield self.place, stop, self.key


@dataclass(frozen=True)
class Threshold:
    """A cut whose place among equal keys is not known yet.

    Attributes:
        key: scalars with at least this key are restored.
        left: and so many of those with the next smaller key, the first ones.
        count: scalars that are restored, these included.
    """

    key: int
    left: int
    count: int


@dataclass(frozen=True)
class _Counts:
    """Histograms of a ranking: of scalars, and of their squared update where a size is a norm.

    Attributes:
        coarse: by the upper 16 bits of the keys.
        fine: by the lower ones, of some bins.
        squares: as `coarse`; empty where no size is a norm.
        fine_squares: as `fine`.
    """

    coarse: NDArray[np.int64]
    fine: Mapping[int, NDArray[np.int64]]
    squares: NDArray[np.float64]
    fine_squares: Mapping[int, NDArray[np.float64]]


def search(
    pair: Pair, names: Sequence[str], hows: Hows, ranking: Ranking, sizes: Sequence[Size]
) -> list[Threshold]:
    """Return the threshold of each size in a ranking of these tensors.

    Args:
        pair: both models.
        names: the tensors, sorted.
        hows: what the kernels are told of each.
        ranking: the order.
        sizes: how much to restore.
    """
    by_norm = any(measure == "norm" for _, measure in sizes)
    guess = () if ranking.is_exact_in_16_bits else _guess(pair, names, hows, ranking, sizes)
    counts = _count(pair, names, hows, guess, by_norm=by_norm)
    if not np.isfinite(counts.squares).all():
        return [Threshold(NONE, 0, 0) for _ in sizes]  # `measure` says which tensor is to blame
    bins = [_find_bin(size, counts, ranking) for size in sizes]
    missing = sorted({one.bin for one in bins if isinstance(one, _Bin)} - counts.fine.keys())
    if ranking.is_exact_in_16_bits:
        missing = []
    for first in range(0, len(missing), MOST_BINS):
        more = _count(pair, names, hows, missing[first : first + MOST_BINS], by_norm=by_norm)
        counts = _Counts(
            counts.coarse,
            {**counts.fine, **more.fine},
            counts.squares,
            {**counts.fine_squares, **more.fine_squares},
        )
    return [one if isinstance(one, Threshold) else _find_key(one, counts, ranking) for one in bins]


def _count(
    pair: Pair, names: Sequence[str], hows: Hows, bins: Sequence[int], *, by_norm: bool
) -> _Counts:
    """Return the histograms of all tensors, the fine ones of these bins."""
    rows = np.zeros(BINS, np.uint8)
    rows[list(bins)] = np.arange(1, len(bins) + 1)
    tally = _Tally(len(bins))

    def work(piece: Piece) -> tuple[NDArray[Any], ...]:
        given = hows[piece.name], piece.base, piece.tuned, piece.start, kernels.BLOCK, rows
        kernels.histogram(*given, *tally.room(piece.stop - piece.start))
        if not by_norm:
            return ()
        sums = np.zeros(BINS), np.zeros((len(bins), BINS))
        kernels.squares(*given, *sums)
        return sums

    squares, fine_squares = np.zeros(BINS), np.zeros((len(bins), BINS))
    for _, found in pair.sweep(names, work):
        # In order: the last bits of a sum of floats depend on it.
        for total, one in zip((squares, fine_squares), found, strict=False):
            total += one
    coarse, fine = tally.total()
    return _Counts(
        coarse,
        dict(zip(bins, fine, strict=True)),
        squares,
        dict(zip(bins, fine_squares, strict=True)),
    )


class _Tally:
    """Counts that each thread keeps for itself and that are added up at the end.

    Args:
        bins: bins with a fine histogram.
    """

    def __init__(self, bins: int) -> None:
        self._bins = bins
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._coarse = np.zeros(BINS, np.int64)
        self._fine = np.zeros((bins, BINS), np.int64)
        self._open: list[tuple[NDArray[np.uint32], NDArray[np.uint32]]] = []

    def room(self, scalars: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return this thread's coarse and fine counts, in which so many more find room."""
        counts = getattr(self._mine, "counts", None)
        if counts is None or self._mine.scalars + scalars > MOST_COUNTED:
            full, counts = counts, self._new()
            with self._lock:
                if full is not None:
                    self._close(full)
                self._open.append(counts)
            self._mine.counts, self._mine.scalars = counts, 0
        self._mine.scalars += scalars
        return counts

    def _new(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        return np.zeros(BINS, np.uint32), np.zeros((self._bins, BINS), np.uint32)

    def _close(self, counts: tuple[NDArray[np.uint32], NDArray[np.uint32]]) -> None:
        self._coarse += counts[0]
        self._fine += counts[1]
        self._open = [one for one in self._open if one is not counts]

    def total(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what all threads counted; none of them counts any more."""
        for counts in list(self._open):
            self._close(counts)
        return self._coarse, self._fine


def _guess(
    pair: Pair, names: Sequence[str], hows: Hows, ranking: Ranking, sizes: Sequence[Size]
) -> list[int]:
    """Return the bins that the cuts are likely to fall into, by a sample of both models."""
    by_norm = any(measure == "norm" for _, measure in sizes)
    none = np.zeros(BINS, np.uint8)

    def work(piece: Piece) -> tuple[NDArray[Any], NDArray[Any]]:
        counts, sums = np.zeros(BINS, np.uint32), np.zeros(BINS)
        given = hows[piece.name], piece.base, piece.tuned, piece.start, STRIDE, none
        kernels.histogram(*given, counts, np.zeros((0, BINS), np.uint32))
        if by_norm:
            kernels.squares(*given, sums, np.zeros((0, BINS)))
        return counts, sums

    sampled = 0
    counts, squares = np.zeros(BINS), np.zeros(BINS)
    for piece, (some, sums) in pair.sweep(names, work):
        # A short piece gives more of itself to the sample than a long one.
        seen = int(some.sum())
        counts += some * ((piece.stop - piece.start) / seen)
        squares += sums * ((piece.stop - piece.start) / seen)
        sampled += seen
    found: set[int] = set()
    for percent, measure in sizes:
        weights = squares if measure == "norm" else _ranked(counts, ranking)
        found.update(_likely_bins(float(percent) / 100, measure, weights, sampled))
    return sorted(found)[:MOST_BINS]


def _likely_bins(
    share: float, measure: Measure, weights: NDArray[np.float64], sampled: int
) -> list[int]:
    goal = share**2 if measure == "norm" else share
    total = float(weights.sum())
    if not 0 < goal < 1 or not 0 < total < math.inf:
        return []
    above = np.cumsum(weights[::-1]) / total
    error = DEVIATIONS * math.sqrt(goal * (1 - goal) / sampled)
    first, last = np.searchsorted(above, [max(0.0, goal - error), goal + error])
    places = range(BINS - 1 - min(int(last), BINS - 1), BINS - int(first))
    return [place for place in places if weights[place]]


def _ranked(counts: NDArray[_Number], ranking: Ranking) -> NDArray[_Number]:
    """Return the counts without scalars that do not count: those that did not change."""
    if not ranking.only_changed:
        return counts
    ranked = counts.copy()
    ranked[0] = 0
    return ranked


@dataclass(frozen=True)
class _Bin:
    """The bin that a cut falls into.

    Attributes:
        bin: its number.
        goal: scalars, or squared norm, still to be found in it, from its upper end.
        by_norm: it is squared norm.
        above: scalars above it.
    """

    bin: int
    goal: float
    by_norm: bool
    above: int


def _find_bin(size: Size, counts: _Counts, ranking: Ranking) -> _Bin | Threshold:
    """Return the bin that a cut falls into, or the threshold where all or none is restored."""
    percent, measure = size
    coarse = _ranked(counts.coarse, ranking)
    ranked = int(coarse.sum())
    if measure == "norm":
        count = ranked if percent == 100 else -1
    else:
        count = restored_count(ranked, percent)
    if count == 0 or percent == 0 or not ranked:
        return Threshold(NONE, 0, 0)
    if count == ranked:
        return Threshold(LOWEST + 1 if ranking.only_changed else LOWEST, 0, ranked)
    by_norm = measure == "norm"
    weights = counts.squares if by_norm else coarse.astype(np.float64)
    goal = float(percent / 100) ** 2 * float(weights.sum()) if by_norm else float(count)
    above = np.cumsum(weights[::-1])
    place = min(int(np.searchsorted(above, goal)), BINS - 1)
    rest = goal - (float(above[place - 1]) if place else 0.0)
    return _Bin(BINS - 1 - place, rest, by_norm, int(coarse[BINS - place :].sum()))


def restored_count(scalars: int, percent: Decimal) -> int:
    """Return int(n * k / 100) in exact arithmetic.

    Raises:
        ValueError: the percentage is not between 0 and 100.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} % is not between 0 and 100 %")
    return int(scalars * Fraction(percent) / 100)


def _find_key(one: _Bin, counts: _Counts, ranking: Ranking) -> Threshold:
    """Return the threshold within a bin."""
    fine = counts.fine.get(one.bin)
    if fine is None:  # the upper bits are the whole key; the lower ones are alike
        return _whole_bin(one, counts, flipped=ranking.is_lowest)
    weights = counts.fine_squares[one.bin] if one.by_norm else fine.astype(np.float64)
    above = np.cumsum(weights[::-1])
    place = min(int(np.searchsorted(above, one.goal)), BINS - 1)
    low = BINS - 1 - place
    rest = one.goal - (float(above[place - 1]) if place else 0.0)
    left = _of_equal(rest, int(fine[low]), float(weights[low]), by_norm=one.by_norm)
    key = ((one.bin - 32768) << 16) + low
    return _threshold(key, left, int(fine[low]), one.above + int(fine[low + 1 :].sum()))


def _whole_bin(one: _Bin, counts: _Counts, *, flipped: bool) -> Threshold:
    equal = int(counts.coarse[one.bin])
    squared = float(counts.squares[one.bin]) if one.by_norm else 0.0
    left = _of_equal(one.goal, equal, squared, by_norm=one.by_norm)
    # Where the lowest come first a key is flipped, and its lower bits are all set.
    key = ((one.bin - 32768) << 16) + (BINS - 1 if flipped else 0)
    return _threshold(key, left, equal, one.above)


def _of_equal(rest: float, equal: int, squared: float, *, by_norm: bool) -> int:
    """Return how many of equal keys are restored; by norm they are taken to be alike."""
    if not by_norm:
        return round(rest)
    each = squared / equal if equal else 0.0
    return min(equal, max(1, math.ceil(rest / each))) if each else equal


def _threshold(key: int, left: int, equal: int, above: int) -> Threshold:
    if left >= equal:
        return Threshold(key, 0, above + equal)
    return Threshold(key + 1, left, above + left)
