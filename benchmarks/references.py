"""Reference workloads: fixed work of a known kind, timed in turns with each benchmark.

On a shared machine seconds say little. How many times as long as such work something takes says
more, as a busy neighbour slows both; each benchmark names the reference that is of its kind.
Whoever changes what a reference does raises `WORKLOADS`: ratios to it are then other ratios.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

WORKLOADS = 1
"""Which reference workloads these are; runs against others are not compared."""

MATRIX, PRODUCTS = 512, 14
SUMMED, PIECE = 1 << 26, 1 << 20  # scalars: 128 MiB of bfloat16, in pieces that fit a core's cache
LINES, WORDS = 2000, 40
STARTS = 4


@dataclass(frozen=True)
class Reference:
    """A workload that benchmarks are held against.

    Attributes:
        name: what saved runs and tables call it.
        work: does it once.
    """

    name: str
    work: Callable[[], object]

    def seconds(self) -> float:
        """Return how long it takes now."""
        began = time.perf_counter()
        self.work()
        return time.perf_counter() - began


def _products() -> float:
    """Multiply float32 matrices, as a model does."""
    import torch

    factor = _matrix()
    made = factor
    for _ in range(PRODUCTS):
        made = torch.tanh(made @ factor)
    return float(made[0, 0])


@cache
def _matrix() -> torch.Tensor:
    import torch

    drawn = np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32)
    return torch.from_numpy(drawn / np.float32(MATRIX**0.5))


def _sums() -> float:
    """Read bfloat16 scalars once and sum them in float32: the least that a restore does."""
    return sum(float(part.float().sum()) for part in _scalars().split(PIECE))


@cache
def _scalars() -> torch.Tensor:
    import torch

    drawn = np.random.default_rng(0).standard_normal(PIECE, dtype=np.float32)
    return torch.from_numpy(drawn).bfloat16().repeat(SUMMED // PIECE)


def _count_words() -> int:
    """Fold, split, search and count the words of a text, in plain Python."""
    seen: Counter[str] = Counter()
    for line in _lines():
        folded = re.sub(r"[^\w ]", " ", line).casefold()
        seen.update(word.strip("aeiou") for word in folded.split())
        seen["found"] += any(word in folded for word in ("kalo", "ruzo", "nami"))
    return len(sorted(seen.items(), key=lambda item: (-item[1], item[0])))


@cache
def _lines() -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    syllables = np.array(("ka", "lo", "mi", "ru", "té", "zo", "na", "Pe"))
    words = ["".join(three) for three in syllables[rng.integers(0, 8, (LINES * WORDS, 3))]]
    return tuple(", ".join(words[at : at + WORDS]) + "." for at in range(0, len(words), WORDS))


def _starts() -> None:
    """Start Python a few times, to do nothing."""
    for _ in range(STARTS):
        subprocess.run([sys.executable, "-c", "pass"], check=True)


ARITHMETIC = Reference("arithmetic", _products)
SUMS = Reference("sums", _sums)
INTERPRETER = Reference("interpreter", _count_words)
PROCESS = Reference("process", _starts)


class Ratio(NamedTuple):
    """How many times as long as its reference a benchmark takes.

    Attributes:
        ratio: median of the rounds' ratios.
        spread: distance between the quartiles of the rounds' ratios, as a part of the median.
    """

    ratio: float
    spread: float


def ratio_of(seconds: Sequence[float], references: Sequence[float]) -> Ratio:
    """Return the ratio of rounds that were timed in turns with a reference.

    Each round is held against the references just before and just after it: over five runs on a
    busy machine that moved less than the median of all rounds over the median of all references.

    Args:
        seconds: of each round.
        references: one before the first round and one after each: one more than rounds.
    """
    around = map(statistics.mean, pairwise(references))
    rounds = [one / reference for one, reference in zip(seconds, around, strict=True)]
    low, middle, high = statistics.quantiles(rounds, n=4)
    return Ratio(middle, (high - low) / middle)
