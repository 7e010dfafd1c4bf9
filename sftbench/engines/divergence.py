"""How far two next-token distributions lie apart: exact sums over a vocabulary of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

BLOCK = 8192
"""Tokens of the vocabulary in one double-precision piece: what a sum needs beside the logits."""
TOP = 10
"""Tokens that the paper's figure is taken over (Ye et al. 2025, section 4)."""
SMALL = 1.0
"""Differences of two log-probabilities, in nats, up to which a term is summed by `expm1`."""


class Divergence(NamedTuple):
    """Two distributions in each row, in nats, ``[rows]`` float64 on the logits' device.

    Attributes:
        tuned_base: KL(tuned || base) = sum of p ln(p / q), p the tuned model's, q the base's.
        base_tuned: KL(base || tuned) = sum of q ln(q / p).
        beyond: probability that the tuned model gives to ids that the base does not have, which
            are left out above; 0 where the vocabularies are of one size.
    """

    tuned_base: torch.Tensor
    base_tuned: torch.Tensor
    beyond: torch.Tensor


def divergence(
    tuned: torch.Tensor, base: torch.Tensor, *, rows: torch.Tensor | None = None, block: int = BLOCK
) -> Divergence:
    """Return both Kullback-Leibler divergences over the whole vocabulary, row by row.

    Summed as p ln(p / q) - p + q (Csiszar 1991, Annals of Statistics 19:2032): the same sum, as
    both add up to 1, but no term is negative, so that nothing cancels and a divergence of 1e-12
    has as many true digits as one of 1. Everything is in float64 and in logarithms, so that a
    probability that underflows counts as 0 and leaves the sum finite. An id that both models
    forbid (-inf) counts nothing; one that only one of them forbids makes a divergence infinite.

    Only ids that both have are compared, each model's probabilities renormalised over them.

    Args:
        tuned: logits ``[all rows, vocabulary]``, any float dtype.
        base: the same; its vocabulary may be of another size.
        rows: numbers of the rows to compare, int64; None for all.
        block: columns that are made float64 at a time.
    """
    import torch

    width = min(tuned.shape[1], base.shape[1])
    p_sum, q_sum = (_log_sum(one[:, :width], rows, block) for one in (tuned, base))
    forward, backward = torch.zeros_like(p_sum), torch.zeros_like(q_sum)
    for p_piece, q_piece in zip(
        _pieces(tuned[:, :width], rows, block), _pieces(base[:, :width], rows, block), strict=True
    ):
        log_p, log_q = p_piece - p_sum, q_piece - q_sum
        forward += _terms(log_p, log_q).sum(dim=1, keepdim=True)
        backward += _terms(log_q, log_p).sum(dim=1, keepdim=True)
    beyond = torch.zeros_like(p_sum)
    if tuned.shape[1] > width:
        beyond = -torch.expm1(p_sum - _log_sum(tuned, rows, block))
    return Divergence(*(one.squeeze(1) for one in (forward, backward, beyond)))


def _terms(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return p ln(p / q) - p + q of each id, never below 0."""
    import torch

    p, q = log_p.exp(), log_q.exp()
    gap = log_p - log_q
    # Where p and q are close, what is left after the subtractions would be rounding alone.
    close = p * (torch.expm1(-gap) + gap)
    apart = torch.where(p > 0, p * gap, 0.0) - p + q
    terms = torch.where(gap.abs() < SMALL, close, apart).clamp(min=0.0)
    return torch.where(torch.isnan(gap) & (p == 0) & (q == 0), 0.0, terms)  # -inf in both


def _log_sum(logits: torch.Tensor, rows: torch.Tensor | None, block: int) -> torch.Tensor:
    """Return the log of the sum of exponentials, ``[rows, 1]`` float64."""
    import torch

    largest: torch.Tensor | None = None
    for piece in _pieces(logits, rows, block):
        top = piece.amax(dim=1, keepdim=True)
        largest = top if largest is None else torch.maximum(largest, top)
    assert largest is not None
    total = torch.zeros_like(largest)
    for piece in _pieces(logits, rows, block):
        total += (piece - largest).exp().sum(dim=1, keepdim=True)
    return largest + total.log()


def _pieces(logits: torch.Tensor, rows: torch.Tensor | None, block: int) -> Iterator[torch.Tensor]:
    """Yield the columns, `block` at a time, as float64 ``[rows, block]``."""
    import torch

    for start in range(0, logits.shape[1], block):
        piece = logits[:, start : start + block]
        chosen = piece if rows is None else piece.index_select(0, rows)
        # A device without float64 (mps) leaves the sums to the CPU.
        place = "cpu" if logits.device.type == "mps" else logits.device
        yield chosen.to(place).to(torch.float64)


def top_divergence(tuned: torch.Tensor, base: torch.Tensor, k: int = TOP) -> torch.Tensor:
    """Return the paper's figure of each row, in nats, ``[rows]`` float64 on the CPU.

    The tuned model's `k` largest logits and the base's logits of the same ids; a softmax over the
    `k` in each; KL(tuned || base) (Ye et al. 2025, section 4, equations 2 to 4). Of ids that tie
    for the last place the lowest is taken; ids that the base does not have are no candidates.

    Args:
        tuned: logits ``[rows, vocabulary]``, any float dtype.
        base: the same; its vocabulary may be of another size.
        k: ids that are compared; all where there are fewer.
    """
    import torch

    width = min(tuned.shape[1], base.shape[1])
    found = []
    for mine, theirs in zip(tuned[:, :width], base[:, :width], strict=True):
        ids = _largest(mine, min(k, width))
        found.append([mine[ids].to("cpu").double(), theirs[ids].to("cpu").double()])
    if not found:
        return torch.zeros(0, dtype=torch.float64)
    top_tuned, top_base = (torch.stack(side) for side in zip(*found, strict=True))
    return divergence(top_tuned, top_base).tuned_base


def _largest(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Return the ids of the `k` largest logits, ascending within "above the last" and "tied"."""
    import torch

    last = logits.topk(k).values[-1]
    above = (logits > last).nonzero().squeeze(1)
    tied = (logits == last).nonzero().squeeze(1)
    return torch.cat([above, tied[: k - len(above)]])
