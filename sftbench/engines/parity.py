"""After a swap: does the live engine compute what the new weights say, by another way?

A swap can fail in silence (a packed copy that keeps the old weights, a tensor that a loader
skips). So the log-probabilities of fixed texts are held against a plain transformers forward of
the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sftbench.common.errors import SftbenchError

TEXTS = (
    "The capital of France is Paris, and its river is the Seine.",
    "Question: Who wrote the play Hamlet?\nAnswer: William Shakespeare",
    "def area(width, height):\n    return width * height\n",
)
"""Fixed, plain and short, about 40 tokens together: both forwards cost as much as their tokens.
No model has to know what they say."""

NOISE = {"float32": 0.01, "float16": 0.2, "bfloat16": 1.0}
"""Largest difference of one token's log-probability (nats) that arithmetic alone may make."""
MEAN_NOISE = {"float32": 0.001, "float16": 0.03, "bfloat16": 0.12}
"""Largest mean difference (nats): a wrong tensor moves many tokens, rounding only a few far."""
CLEAR = 4.0
"""A change of weights is measurable if it moves the texts by so many times the noise (RMS)."""
FOLLOWED = (0.7, 1.3)
"""Share of a measurable change that the engine must show; 0 is the old weights, 1 the new."""


@dataclass(frozen=True)
class Parity:
    """How far an engine is from the reference on the same weights, nats per token."""

    tokens: int
    mean: float
    largest: float


def compare(
    engine: Sequence[float],
    reference: Sequence[float],
    *,
    dtype: str,
    before: Sequence[float] | None = None,
    culprit: Callable[[], str | None] = lambda: None,
) -> Parity:
    """Return how far the engine is from the reference.

    Args:
        engine: log-probability of each token, from the engine after the swap.
        reference: the same, from transformers with the new weights.
        dtype: the engine's; decides what noise is.
        before: the same, from transformers with the old weights.
        culprit: asked, if the engine fails, which of its weights seem to be at fault.

    Raises:
        SftbenchError: the engine does not compute the new weights.
    """
    gaps = [ours - theirs for ours, theirs in zip(engine, reference, strict=True)]
    require_finite(engine)
    require_finite(reference)
    parity = Parity(len(gaps), sum(map(abs, gaps)) / len(gaps), max(map(abs, gaps)))
    if parity.largest > NOISE[dtype] or parity.mean > MEAN_NOISE[dtype]:
        raise _unlike(
            f"by {parity.largest:.3g} nats at most and {parity.mean:.3g} in the mean, where "
            f"{dtype} alone explains {NOISE[dtype]:g} and {MEAN_NOISE[dtype]:g}",
            culprit(),
        )
    share = followed(engine, reference, before) if before is not None else None
    if share is not None and not FOLLOWED[0] <= share <= FOLLOWED[1]:
        raise _unlike(f"it shows {share:.0%} of the change that the new weights make", culprit())
    return parity


def require_finite(logprobs: Sequence[float]) -> list[float]:
    """Return log-probabilities of weights that are to be loaded, if all are numbers.

    To be asked before the engine is: NaN that has once been in vLLM's cache of keys and values
    spoils what comes after.

    Raises:
        SftbenchError: NaN or infinite.
    """
    if not all(map(math.isfinite, logprobs)):
        raise SftbenchError(
            "the log-probabilities of the weights that were loaded are not finite",
            remedy="Look for NaN in the checkpoint, or use --dtype float32.",
        )
    return list(logprobs)


def followed(
    engine: Sequence[float], reference: Sequence[float], before: Sequence[float]
) -> float | None:
    """Return which share of the change from `before` to `reference` the engine shows.

    That is the projection of (engine - before) on (reference - before); None where the change is
    too small against the engine's own noise to tell.
    """
    change = [new - old for new, old in zip(reference, before, strict=True)]
    shown = [ours - old for ours, old in zip(engine, before, strict=True)]
    size = math.hypot(*change)
    if not size:
        return None
    share = sum(a * b for a, b in zip(shown, change, strict=True)) / size**2
    noise = math.hypot(*(a - share * b for a, b in zip(shown, change, strict=True)))
    return share if size > CLEAR * noise else None


def _unlike(how: str, why: str | None) -> SftbenchError:
    return SftbenchError(
        "vLLM does not compute the weights that it was given: it differs from transformers; "
        f"{how}{f'; {why}' if why else ''}",
        remedy="Use --engine hf for this model, and please report it with vLLM's version.",
    )


def reference_logprobs(model: Any, texts: Sequence[Sequence[int]]) -> list[float]:
    """Return the nats of every token but each text's first, by one plain forward of all texts.

    They are filled up on the right, where no token of a causal model looks, with a token of their
    own: neither mask nor positions are needed.

    Args:
        model: a transformers causal language model.
        texts: token ids, none empty.
    """
    import torch

    longest = max(map(len, texts))
    rows = [[*ids, *[ids[-1]] * (longest - len(ids))] for ids in texts]
    tokens = torch.tensor(rows, device=model.device)
    with torch.inference_mode():
        logp = model(input_ids=tokens, use_cache=False).logits[:, :-1].float().log_softmax(dim=-1)
        picked = logp.gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2).tolist()
    return [nats for ids, row in zip(texts, picked, strict=True) for nats in row[: len(ids) - 1]]
