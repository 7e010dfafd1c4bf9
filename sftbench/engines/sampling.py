"""Sampling that depends on the seed alone: inverse-CDF draws from counter-based uniforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sftbench.engines.protocol import Draws

if TYPE_CHECKING:
    import torch

BLOCK = 256
CHUNK = 16
"""Rows drawn together: what they need stays in a processor's cache (3 MB at 49,152 tokens)."""


def uniforms(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """Return float64 ``[len(seeds), steps]`` in [0, 1): row i depends on ``seeds[i]`` alone.

    Philox is counter-based, so the draw at a step does not depend on the batch that it shares.
    """
    import numpy as np
    import torch

    rows = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """Draw one token for each row from softmax(logits / temperature).

    The token is the first whose cumulated probability exceeds the uniform. The sum runs in
    blocks: block totals in float64 find the block, then its own cumulated sum finds the token,
    which is both exact and many times cheaper than one sum over the vocabulary.

    Args:
        logits: floating point ``[rows, vocabulary]``.
        temperature: above 0.
        uniform: float64 ``[rows]`` in [0, 1).

    Returns:
        int64 ``[rows]``.
    """
    import torch

    uniform = uniform.to(logits.device)
    starts = range(0, len(logits), CHUNK)
    return torch.cat(
        [
            _draw_chunk(logits[start : start + CHUNK], temperature, uniform[start : start + CHUNK])
            for start in starts
        ]
    )


def _draw_chunk(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    import torch

    rows, vocabulary = logits.shape
    weights = logits.to(torch.float32, copy=True).div_(temperature)
    weights = weights.sub_(weights.amax(dim=1, keepdim=True)).exp_()
    if vocabulary % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, -vocabulary % BLOCK))
    blocks = weights.view(rows, -1, BLOCK)
    totals = blocks.sum(dim=2).double().cumsum(dim=1)
    target = uniform.unsqueeze(1) * totals[:, -1:]
    block = torch.searchsorted(totals, target, right=True).clamp(max=totals.shape[1] - 1)
    before = torch.where(block > 0, totals.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(rows, device=logits.device), block.squeeze(1)].double()
    place = torch.searchsorted(inside.cumsum(dim=1), target - before, right=True)
    # Rounding may leave the target just above the block's own sum: take its last likely token.
    last = BLOCK - 1 - (inside > 0).flip(1).to(torch.int8).argmax(dim=1, keepdim=True)
    return (block * BLOCK + torch.minimum(place, last)).squeeze(1)


def batches(draws: Sequence[Draws], rows: int) -> Iterator[list[Draws]]:
    """Cut into batches of at most `rows` completions (a larger draw has a batch of its own)."""
    batch: list[Draws] = []
    for one in draws:
        if batch and sum(other.n for other in batch) + one.n > rows:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
