"""Inner loops of restore: ranks of scalars, their histograms, and sums over what is restored.

Compiled by numba, for pieces of tensors that are already in memory. They hold no lock of Python,
so that several threads share the work. The scores that are ranked stand in `_fill`, each with its
source; a scalar is p in the base and s in the tuned model.

A score becomes a *key*, an int32 that sorts as the score does (the bits of a float, flipped where
it is negative): larger keys are restored first. Where only changed scalars count, the others have
the smallest key of all. A histogram over the upper 16 bits, then one over the lower 16 bits of the
few bins that matter, gives any order statistic exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPSILON = 1e-8
"""Added to |p| where something is divided by it (the paper, section 6)."""

RELATIVE, RELATIVE_BF16, ABSOLUTE, ABSOLUTE_BF16, RANDOM, FAPM = range(6)

BINS = 1 << 16
LOWEST = -(1 << 31)
"""The key of what is never restored: scalars that did not change, where only the others count.
Those others then have keys from `LOWEST + BINS` on, so that the lowest bin tells the two apart."""

FIELDS = (
    "count", "written", "zero_base", "l1", "l2_squared", "change", "zero_base_change", "changed",
    "base_squared",
)  # fmt: skip
"""Columns of the sums: scalars; those whose stored value the restore changes; those with p equal
to 0; |s - p|; (s - p)^2; relative change of those with p not 0, and of those with p equal to 0;
those with s not p, in the arithmetic of the ranking; p^2, of all scalars only."""

BLOCK = 2048  # scalars whose buffers fit into the caches nearest to a core
_EPS = np.float32(EPSILON)
_BITS = np.uint32(0x322C)  # 1e-8 in bfloat16
_ZERO, _ONE = np.float32(0), np.float32(1)
_SHIFT = np.float32(4096)  # two counts of a block in one float: more than a block holds
_U = np.uint32
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
# Sums over a block of a few thousand floats may be taken in any order.
_SUMS: dict[str, Any] = {**_OPTIONS, "fastmath": {"reassoc", "nsz", "contract"}}


@njit(**_OPTIONS)
def decode(raw: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write scalars as float32: from float32, or from the bits of bfloat16 in uint16."""
    if raw.itemsize == 4:
        for i in range(raw.size):
            out[i] = raw[i]
    else:
        bits = out.view(np.uint32)
        for i in range(raw.size):
            bits[i] = _U(raw[i]) << _U(16)


@njit(**_OPTIONS)
def _round(values: NDArray[np.float32]) -> None:
    """Round to bfloat16, to nearest, ties to even, in place."""
    bits = values.view(np.uint32)
    for i in range(bits.size):
        odd = (bits[i] >> _U(16)) & _U(1)
        bits[i] = _U(bits[i] + _U(0x7FFF) + odd) & _U(0xFFFF0000)


@njit(**_OPTIONS)
def _relative(p: NDArray[np.float32], s: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """|s - p| / (|p| + 1e-8): Ye et al. 2025 (arXiv 2509.16596), section 6."""
    for i in range(p.size):
        out[i] = abs(s[i] - p[i]) / (abs(p[i]) + _EPS)


@njit(**_OPTIONS)
def _relative_bf16(
    p: NDArray[np.float32],
    s: NDArray[np.float32],
    out: NDArray[np.float32],
    work: NDArray[np.float32],
) -> None:
    """The same with every result rounded to bfloat16, as in the authors' tool."""
    for i in range(p.size):
        out[i] = abs(s[i] - p[i])
    _round(out)
    work.view(np.uint32)[:] = _BITS << _U(16)
    epsilon = work[0]
    for i in range(p.size):
        work[i] = abs(p[i]) + epsilon
    _round(work)
    for i in range(p.size):
        out[i] = out[i] / work[i]
    _round(out)


@njit(**_OPTIONS)
def _absolute(p: NDArray[np.float32], s: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """|s - p|; ranked from below, what TIES trims: Yadav et al. 2023 (arXiv 2306.01708)."""
    for i in range(p.size):
        out[i] = abs(s[i] - p[i])


@njit(**_OPTIONS)
def _fapm(
    p: NDArray[np.float32], s: NDArray[np.float32], mean: np.float32, out: NDArray[np.float32]
) -> None:
    """|d| - mean|p| |d| / |p|, d = s - p: FAPM (arXiv 2509.08255); the lowest are pruned."""
    for i in range(p.size):
        d = abs(s[i] - p[i])
        out[i] = d - mean * d / (abs(p[i]) + _EPS)


@njit(**_OPTIONS)
def _random(start: int, seed: int, out: NDArray[np.int32]) -> None:
    """Numbers that depend on seed and place alone (a mixing function of 32 bits, twice)."""
    bits = out.view(np.uint32)
    for i in range(out.size):
        x = _U(start + i) ^ _U(seed)
        for _ in range(2):
            x ^= x >> _U(16)
            x = _U(x * _U(0x7FEB352D))
            x ^= x >> _U(15)
            x = _U(x * _U(0x846CA68B))
            x ^= x >> _U(16)
        bits[i] = x


@njit(**_OPTIONS)
def _fill(
    kind: int,
    p: NDArray[np.float32],
    s: NDArray[np.float32],
    seed: int,
    start: int,
    mean: np.float32,
    key: NDArray[np.int32],
    work: NDArray[np.float32],
) -> None:
    """Write the keys of a block; bf16 kinds round p and s in place."""
    score = key.view(np.float32)
    if kind in (RELATIVE_BF16, ABSOLUTE_BF16):
        _round(p)
        _round(s)
    if kind == RELATIVE:
        _relative(p, s, score)
    elif kind == RELATIVE_BF16:
        _relative_bf16(p, s, score, work)
    elif kind in (ABSOLUTE, ABSOLUTE_BF16):
        _absolute(p, s, score)
        if kind == ABSOLUTE_BF16:
            _round(score)
    elif kind == FAPM:
        _fapm(p, s, mean, score)
        for i in range(key.size):  # negative floats sort downwards by their bits
            key[i] = key[i] ^ np.int32((key[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))
    else:
        _random(start, seed, key)


@njit(**_OPTIONS)
def _keys(
    how: tuple[int, bool, bool, int, np.float32],
    base: NDArray[Any],
    tuned: NDArray[Any],
    start: int,
    p: NDArray[np.float32],
    s: NDArray[np.float32],
    key: NDArray[np.int32],
    work: NDArray[np.float32],
) -> None:
    """Decode a block and write its keys."""
    kind, lowest, only_changed, seed, mean = how
    decode(base, p)
    decode(tuned, s)
    _fill(kind, p, s, seed, start, mean, key, work)
    if lowest:
        for i in range(key.size):
            key[i] = ~key[i]
    if only_changed:
        for i in range(key.size):
            above = max(key[i], np.int32(LOWEST + BINS))
            key[i] = above if p[i] != s[i] else np.int32(LOWEST)


@njit(**_OPTIONS)
def keys(
    how: tuple[int, bool, bool, int, np.float32],
    base: NDArray[Any],
    tuned: NDArray[Any],
    start: int,
    out: NDArray[np.int32],
) -> None:
    """Write the key of each scalar of a piece.

    Args:
        how: kind of score, whether the lowest come first, whether only changed scalars count, a
            seed of 32 bits, and mean |p| of the tensor.
        base: scalars of the base, float32, or bfloat16 as uint16.
        tuned: those of the tuned model, likewise.
        start: flat index of the first in its tensor.
        out: int32, as long as they are.
    """
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    work = np.empty(BLOCK, np.float32)
    for b in range(0, base.size, BLOCK):
        n = min(BLOCK, base.size - b)
        _keys(
            how,
            base[b : b + n],
            tuned[b : b + n],
            start + b,
            p[:n],
            s[:n],
            out[b : b + n],
            work[:n],
        )


@njit(**_OPTIONS)
def histogram(
    how: tuple[int, bool, bool, int, np.float32],
    base: NDArray[Any],
    tuned: NDArray[Any],
    start: int,
    step: int,
    rows: NDArray[np.uint8],
    coarse: NDArray[np.uint32],
    fine: NDArray[np.uint32],
) -> None:
    """Count a piece by the upper 16 bits of its keys, and by the lower ones in a few bins.

    Args:
        how: as in `keys`.
        base: as in `keys`.
        tuned: as in `keys`.
        start: as in `keys`.
        step: `BLOCK` scalars of each so many are counted: `BLOCK` for all of them.
        rows: for each bin of the upper bits its row in `fine` plus 1, or 0.
        coarse: shape [65536].
        fine: shape [rows, 65536].
    """
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    key, work = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for b in range(0, base.size, step):
        n = min(BLOCK, base.size - b)
        _keys(how, base[b : b + n], tuned[b : b + n], start + b, p[:n], s[:n], key[:n], work[:n])
        for i in range(n):
            place = (key[i] >> 16) + 32768
            coarse[place] += _U(1)
            row = rows[place]
            if row:
                fine[row - 1, key[i] & 0xFFFF] += _U(1)


@njit(**_OPTIONS)
def squares(
    how: tuple[int, bool, bool, int, np.float32],
    base: NDArray[Any],
    tuned: NDArray[Any],
    start: int,
    step: int,
    rows: NDArray[np.uint8],
    coarse: NDArray[np.float64],
    fine: NDArray[np.float64],
) -> None:
    """As `histogram`, with (s - p)^2 in place of ones."""
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    key, work = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for b in range(0, base.size, step):
        n = min(BLOCK, base.size - b)
        _keys(how, base[b : b + n], tuned[b : b + n], start + b, p[:n], s[:n], key[:n], work[:n])
        if how[0] in (RELATIVE_BF16, ABSOLUTE_BF16):  # norms are of the models themselves
            decode(base[b : b + n], p[:n])
            decode(tuned[b : b + n], s[:n])
        for i in range(n):
            place = (key[i] >> 16) + 32768
            # What the ranking takes for unchanged is not restored, and does not count.
            d = np.float64(s[i] - p[i]) if key[i] != LOWEST or not how[2] else 0.0
            coarse[place] += d * d
            row = rows[place]
            if row:
                fine[row - 1, key[i] & 0xFFFF] += d * d


@njit(**_SUMS)
def _equal(key: NDArray[np.int32], threshold: np.int32) -> np.float32:
    found = _ZERO
    for i in range(key.size):
        found += _ONE if key[i] == threshold else _ZERO
    return found


@njit(**_SUMS)
def _add(
    key: NDArray[np.int32],
    update: NDArray[np.float32],
    change: NDArray[np.float32],
    marks: NDArray[np.float32],
    low: np.int32,
    high: np.int32,
    out: NDArray[np.float64],
) -> None:
    """Add the sums over keys from `low` to `high`; `marks` holds two of them in one number."""
    count, both, l1, l2, r = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(key.size):
        chosen = (key[i] >= low) & (key[i] <= high)
        d = update[i] if chosen else _ZERO
        count += _ONE if chosen else _ZERO
        both += marks[i] if chosen else _ZERO
        l1 += d
        l2 += d * d
        r += change[i] if chosen else _ZERO
    _take(out, count, both, l1, l2, r)


@njit(**_SUMS)
def _add_above(
    key: NDArray[np.int32],
    update: NDArray[np.float32],
    change: NDArray[np.float32],
    marks: NDArray[np.float32],
    low: np.int32,
    out: NDArray[np.float64],
) -> None:
    """The same over keys from `low` on."""
    count, both, l1, l2, r = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(key.size):
        chosen = key[i] >= low
        d = update[i] if chosen else _ZERO
        count += _ONE if chosen else _ZERO
        both += marks[i] if chosen else _ZERO
        l1 += d
        l2 += d * d
        r += change[i] if chosen else _ZERO
    _take(out, count, both, l1, l2, r)


@njit(**_SUMS)
def _add_all(
    p: NDArray[np.float32],
    update: NDArray[np.float32],
    change: NDArray[np.float32],
    marks: NDArray[np.float32],
    out: NDArray[np.float64],
) -> None:
    """The same over all, and the sum of p^2."""
    both, l1, l2, r, squared = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(update.size):
        d = update[i]
        both += marks[i]
        l1 += d
        l2 += d * d
        r += change[i]
        squared += p[i] * p[i]
    _take(out, np.float32(update.size), both, l1, l2, r)
    out[8] += squared


@njit(**_OPTIONS)
def _take(
    out: NDArray[np.float64],
    count: np.float32,
    both: np.float32,
    l1: np.float32,
    l2: np.float32,
    r: np.float32,
) -> None:
    changed = both // _SHIFT
    out[0] += count
    out[1] += both - changed * _SHIFT
    out[3] += l1
    out[4] += l2
    out[5] += r
    out[7] += changed


@njit(**_OPTIONS)
def measure(
    how: tuple[int, bool, bool, int, np.float32],
    base: NDArray[Any],
    tuned: NDArray[Any],
    written: NDArray[Any],
    alike: bool,
    start: int,
    thresholds: NDArray[np.int64],
    ties: NDArray[np.int64],
    sums: NDArray[np.float64],
    tied: NDArray[np.float64],
) -> None:
    """Add up what each threshold restores, and what has the key just below it.

    Args:
        how: as in `keys`.
        base: as in `keys`.
        tuned: as in `keys`.
        written: the base's scalars as the tuned model's dtype holds them.
        alike: `written` is `base`.
        start: as in `keys`.
        thresholds: keys from which a scalar is restored; 2^31 restores none.
        ties: keys of which only some are restored; 2^31 where there is none.
        sums: shape [thresholds + 1, 9], see `FIELDS`; the last row is of all scalars.
        tied: shape [thresholds, 9], the same over scalars with the key in `ties`.
    """
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    q, r = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    key, work = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for b in range(0, base.size, BLOCK):
        n = min(BLOCK, base.size - b)
        _keys(how, base[b : b + n], tuned[b : b + n], start + b, p[:n], s[:n], key[:n], work[:n])
        _changes(
            how[0], alike, base[b : b + n], tuned[b : b + n], written[b : b + n],
            p[:n], s[:n], q[:n], r[:n], work[:n],
        )  # fmt: skip
        _take_zeros(p[:n], key[:n], r[:n], thresholds, ties, sums, tied)
        for j in range(thresholds.size):
            if thresholds[j] <= 0x7FFFFFFF:
                _add_above(key[:n], s[:n], r[:n], q[:n], np.int32(thresholds[j]), sums[j])
            if ties[j] <= 0x7FFFFFFF and _equal(key[:n], np.int32(ties[j])) > 0:
                tie = np.int32(ties[j])
                _add(key[:n], s[:n], r[:n], q[:n], tie, tie, tied[j])
        _add_all(p[:n], s[:n], r[:n], q[:n], sums[-1])


@njit(**_OPTIONS)
def _changes(
    kind: int,
    alike: bool,
    base: NDArray[Any],
    tuned: NDArray[Any],
    written: NDArray[Any],
    p: NDArray[np.float32],
    s: NDArray[np.float32],
    q: NDArray[np.float32],
    r: NDArray[np.float32],
    work: NDArray[np.float32],
) -> None:
    """From the numbers that were ranked to what is summed: p, |s - p| in s, marks in q, r."""
    rounded = kind in (RELATIVE_BF16, ABSOLUTE_BF16)
    if rounded:
        _relative_bf16(p, s, r, work)
    else:
        _relative(p, s, r)
    for i in range(p.size):
        q[i] = _SHIFT if p[i] != s[i] else _ZERO
    if rounded:  # norms are of the models themselves
        decode(base, p)
        decode(tuned, s)
    if alike:
        for i in range(p.size):
            q[i] += _ONE if p[i] != s[i] else _ZERO
    else:
        decode(written, work)
        for i in range(p.size):
            q[i] += _ONE if work[i] != s[i] else _ZERO
    for i in range(p.size):
        s[i] = abs(s[i] - p[i])


@njit(**_OPTIONS)
def _take_zeros(
    p: NDArray[np.float32],
    key: NDArray[np.int32],
    r: NDArray[np.float32],
    thresholds: NDArray[np.int64],
    ties: NDArray[np.int64],
    sums: NDArray[np.float64],
    tied: NDArray[np.float64],
) -> None:
    """Add the few scalars that are zero in the base by themselves, and blank their change."""
    if _equal_zero(p) == 0:
        return
    for i in range(p.size):
        if p[i] == 0:
            for j in range(thresholds.size):
                if key[i] >= thresholds[j]:
                    sums[j, 2] += 1
                    sums[j, 6] += r[i]
                elif key[i] == ties[j]:
                    tied[j, 2] += 1
                    tied[j, 6] += r[i]
            sums[-1, 2] += 1
            sums[-1, 6] += r[i]
            r[i] = 0


@njit(**_SUMS)
def _equal_zero(values: NDArray[np.float32]) -> np.float32:
    found = _ZERO
    for i in range(values.size):
        found += _ONE if values[i] == _ZERO else _ZERO
    return found


@njit(**_OPTIONS)
def restore(
    how: tuple[int, bool, bool, int, np.float32],
    base: NDArray[Any],
    tuned: NDArray[Any],
    start: int,
    threshold: int,
    written: NDArray[Any],
    out: NDArray[Any],
) -> None:
    """Write a piece of the restored tensor.

    Args:
        how: as in `keys`.
        base: as in `keys`.
        tuned: as in `keys`.
        start: as in `keys`.
        threshold: key from which a scalar is restored.
        written: the base's scalars in the tuned model's dtype, in any unsigned or float form.
        out: the tuned model's scalars in the same form; changed where they are restored.
    """
    if threshold > 0x7FFFFFFF:
        return
    low = np.int32(threshold)
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    key, work = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    for b in range(0, base.size, BLOCK):
        n = min(BLOCK, base.size - b)
        _keys(how, base[b : b + n], tuned[b : b + n], start + b, p[:n], s[:n], key[:n], work[:n])
        before, after = written[b : b + n], out[b : b + n]
        for i in range(n):
            after[i] = before[i] if key[i] >= low else after[i]


@njit(**_OPTIONS)
def interpolate(
    base: NDArray[Any], tuned: NDArray[Any], share: np.float32, out: NDArray[np.float32]
) -> None:
    """Write s - a d, a the share that goes: WiSE-FT, Wortsman et al. 2021 (arXiv 2109.01903).

    Args:
        base: as in `keys`.
        tuned: as in `keys`.
        share: a, 0 to 1.
        out: float32, as long as they are.
    """
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for b in range(0, base.size, BLOCK):
        n = min(BLOCK, base.size - b)
        decode(base[b : b + n], p[:n])
        decode(tuned[b : b + n], s[:n])
        made = out[b : b + n]
        for i in range(n):
            made[i] = s[i] + share * (p[i] - s[i])


@njit(**_OPTIONS)
def moved(
    base: NDArray[Any],
    tuned: NDArray[Any],
    written: NDArray[Any],
    made: NDArray[Any],
    sums: NDArray[np.float64],
) -> None:
    """Add up how far scalars moved, whatever moved them.

    Args:
        base: as in `keys`.
        tuned: as in `keys`.
        written: the base's scalars as the tuned model's dtype holds them.
        made: the variant's scalars, likewise.
        sums: shape [10]: as `FIELDS`, of the scalars that moved; last, those that are not the
            base's.
    """
    p, s = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    q, v = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for b in range(0, base.size, BLOCK):
        n = min(BLOCK, base.size - b)
        decode(base[b : b + n], p[:n])
        decode(tuned[b : b + n], s[:n])
        decode(written[b : b + n], q[:n])
        decode(made[b : b + n], v[:n])
        count, zeros, changed, missed, l1, l2 = 0, 0, 0, 0, 0.0, 0.0
        for i in range(n):
            differs = v[i] != s[i]
            count += differs
            zeros += differs & (p[i] == 0)
            changed += differs & (p[i] != s[i])
            missed += v[i] != q[i]
            way = np.float64(abs(v[i] - s[i]))
            l1 += way
            l2 += way * way
        sums[0] += count
        sums[1] += count
        sums[2] += zeros
        sums[3] += l1
        sums[4] += l2
        sums[7] += changed
        sums[9] += missed


@njit(**_OPTIONS)
def not_finite(raw: NDArray[Any]) -> int:
    """Return how many scalars are NaN or infinite: float32, or bfloat16 as uint16."""
    found = 0
    values = np.empty(BLOCK, np.float32)
    for b in range(0, raw.size, BLOCK):
        n = min(BLOCK, raw.size - b)
        decode(raw[b : b + n], values[:n])
        for i in range(n):
            found += not np.isfinite(values[i])
    return found
