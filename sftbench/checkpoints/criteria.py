"""Criteria: how a rule ranks scalars, or moves whole tensors, each with its source.

Those that rank name a score in `kernels.py` and which end of it is restored first. Those that
move are functions of one tensor, here: p in the base, s in the tuned model, d = s - p. To add a
criterion, add its score there or its function here, and its name in `rules.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sftbench.checkpoints import kernels
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.update import parts
from sftbench.common.digests import seed_of

if TYPE_CHECKING:
    import torch

    from sftbench.checkpoints.pairing import Pair

How = tuple[int, bool, bool, int, np.float32]
"""What the kernels are told: see `kernels.keys`."""
Move = Callable[["torch.Tensor", "torch.Tensor", Restored, int], "torch.Tensor"]
"""(p, s, rule, seed) in float32 to the variant's tensor in float32; the shapes are alike."""


@dataclass(frozen=True)
class Score:
    """A score that scalars are ranked by.

    Attributes:
        kind: its number in `kernels.py`.
        rounded: the same in bf16 arithmetic; None if it has none.
        lowest: the lowest are restored first.
    """

    kind: int
    rounded: int | None = None
    lowest: bool = False


SCORES = {
    # Ye et al. 2025 (arXiv 2509.16596), section 6: the largest |d| / (|p| + 1e-8).
    "relative": Score(kernels.RELATIVE, kernels.RELATIVE_BF16),
    # Controls: the largest |d|, any at all, and what the paper would restore last.
    "absolute": Score(kernels.ABSOLUTE, kernels.ABSOLUTE_BF16),
    "random": Score(kernels.RANDOM),
    "lowest-relative": Score(kernels.RELATIVE, kernels.RELATIVE_BF16, lowest=True),
    # TIES, trim (Yadav et al. 2023, arXiv 2306.01708): keep the largest |d|, drop the others.
    "ties": Score(kernels.ABSOLUTE, kernels.ABSOLUTE_BF16, lowest=True),
    # FAPM (arXiv 2509.08255): per tensor, keep the largest |d| - mean|p| |d| / |p|.
    "fapm": Score(kernels.FAPM, lowest=True),
    # DARE (Yu et al. 2023, arXiv 2311.03099) drops like this; see `enlarge` for the rest of it.
    "dare": Score(kernels.RANDOM),
}


@dataclass(frozen=True)
class Ranking:
    """An order of scalars; rules that differ in their size alone share one.

    Attributes:
        criterion: names the score.
        arithmetic: the number format of the score.
        only_changed: scalars that the fine-tune left alone are not counted and not restored.
        per_tensor: each tensor has an order of its own.
        region: the tensors that take part.
        draw: number of the draw of random numbers.
    """

    criterion: str
    arithmetic: str
    only_changed: bool
    per_tensor: bool
    region: str
    draw: int

    @property
    def is_exact_in_16_bits(self) -> bool:
        """Whether the upper 16 bits of a key are the whole of it."""
        return self.arithmetic == "bf16"

    @property
    def is_lowest(self) -> bool:
        """Whether the lowest scores are restored first."""
        return SCORES[self.criterion].lowest

    def how(self, pair: Pair, name: str) -> How:
        """Return what the kernels are told about one tensor."""
        score = SCORES[self.criterion]
        kind = score.rounded if self.arithmetic == "bf16" else score.kind
        assert kind is not None
        seed = seed_of("restore", self.criterion, self.draw, name) & 0xFFFFFFFF
        mean = mean_size(pair.tensors(name)[0]) if self.criterion == "fapm" else 0.0
        return kind, score.lowest, self.only_changed, seed, np.float32(mean)


def ranking_of(rule: Restored) -> Ranking | None:
    """Return the order that a rule cuts; None where it moves tensors instead."""
    if rule.criterion not in SCORES:
        return None
    return Ranking(
        criterion=rule.criterion,
        arithmetic=rule.arithmetic,
        only_changed=rule.measure != "scalars" and rule.criterion != "dare",
        per_tensor=rule.per_tensor or rule.criterion in ("fapm", "dare"),
        region=rule.region,
        draw=rule.draw,
    )


def mean_size(tensor: torch.Tensor) -> float:
    """Return mean |p| of a tensor, summed in fp64 over pieces."""
    sizes = (float(part.double().abs().sum()) for part in parts(tensor))
    return math.fsum(sizes) / max(1, tensor.numel())


# -- those that move -------------------------------------------------------------------------
# Interpolation moves every scalar by itself, whatever the tensor: see `kernels.interpolate`.


def truncate(p: torch.Tensor, s: torch.Tensor, rule: Restored, seed: int) -> torch.Tensor:
    """DG-Hard (arXiv 2605.20296): drop the small singular values of each delta matrix.

    Without a size those below the threshold of Gavish and Donoho (2014, arXiv 1305.5870) for
    unknown noise, omega(beta) times the median; with one the smallest that together hold at most
    that share of the matrix's norm. Tensors that are no matrices stay tuned.
    """
    import torch

    if s.ndim != 2 or min(s.shape) < 2:
        return s
    u, sizes, v = torch.linalg.svd(s - p, full_matrices=False)
    keep: torch.Tensor
    if rule.percent is None:
        keep = sizes > gavish_donoho(*s.shape) * sizes.quantile(0.5)
    else:
        # The sums of squares from the smallest on, as shares of all.
        below = (sizes.double() ** 2).flip(0).cumsum(0).flip(0)
        keep = below > share_of_rule(rule) ** 2 * below[0]
    kept: torch.Tensor = (u[:, keep] * sizes[keep]) @ v[keep]
    return p + kept


def gavish_donoho(rows: int, columns: int) -> float:
    """Return omega(beta), Gavish and Donoho 2014: lambda(beta) over the Marchenko-Pastur median."""
    beta = min(rows, columns) / max(rows, columns)
    root = math.sqrt(beta**2 + 14 * beta + 1)
    optimal = math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + root))
    return optimal / math.sqrt(_marchenko_pastur_median(beta))


def _marchenko_pastur_median(beta: float) -> float:
    from scipy.integrate import quad
    from scipy.optimize import brentq

    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2

    def density(t: float) -> float:
        return math.sqrt(max(0.0, (high - t) * (t - low))) / (2 * math.pi * beta * t)

    def above_half(x: float) -> float:
        return float(quad(density, low, x, limit=200)[0]) - 0.5

    return float(brentq(above_half, low + 1e-9, high))


def disturb(p: torch.Tensor, s: torch.Tensor, rule: Restored, seed: int) -> torch.Tensor:
    """The perturbation null: s moved in a random direction by a share of the tensor's |d|."""
    import torch

    drawn = np.random.default_rng(seed).standard_normal(tuple(s.shape), dtype=np.float32)
    direction = torch.from_numpy(drawn)
    norm = float(direction.double().norm())
    size = float((s - p).double().norm())
    return s + (share_of_rule(rule) * size / norm) * direction if norm else s


MOVES: dict[str, Move] = {
    "spectral": truncate,
    "noise": disturb,
}


def dropped_share(rule: Restored) -> float:
    """Return the share of scalars that DARE drops.

    By norm: dropping a share q at random and enlarging the rest moves the tuned model by
    sqrt(q / (1 - q)) of the update's norm, in expectation.
    """
    share = share_of_rule(rule)
    return share**2 / (1 + share**2) if rule.measure == "norm" else share


def enlarge(p: torch.Tensor, s: torch.Tensor, share: float) -> torch.Tensor:
    """DARE: what was not dropped counts for the rest as well, p + d / (1 - share)."""
    return p + (s - p) / (1 - share)


def share_of_rule(rule: Restored) -> float:
    """Return how much a rule takes back, 0 to 1."""
    assert rule.percent is not None
    return float(rule.percent) / 100
