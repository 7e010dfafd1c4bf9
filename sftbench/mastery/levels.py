"""Mastery levels: how a share of right completions becomes one of five levels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

LEVELS = (0, 1, 2, 3, 4)

DRAWS = 10
"""Completions of each template in the card that levels are defined by (Ye et al., section 3.1)."""

BLOCK = 256
"""Facts whose numbers of hits are found together: what each draw reads again stays in the cache."""

_NODES = ((-2.8569700138728, 0.0112574113277), (-1.3556261799743, 0.2220759220056))
_NORMAL = (*_NODES, (0.0, 0.5333333333333), *((-node, weight) for node, weight in _NODES))
"""Five points and weights that stand for a normal distribution (Gauss-Hermite)."""


def level_of(hits: int, draws: int) -> int:
    """Return the level of R = hits / draws: 0 if R = 0, else i with R in ((i-1)/4, i/4].

    In whole numbers, so that 105 of 210 is level 2 and 106 is level 3 (Ye et al., section 3.1).

    Raises:
        ValueError: no draws, or hits outside [0, draws].
    """
    if draws <= 0 or not 0 <= hits <= draws:
        raise ValueError(f"{hits} hits in {draws} draws")
    return -(-4 * hits // draws)


def level_column(hits: pl.Expr, draws: pl.Expr) -> pl.Expr:
    """Return `level_of` as a polars expression (Int8)."""
    import polars as pl

    return (-((-4 * hits.cast(pl.Int64)) // draws.cast(pl.Int64))).cast(pl.Int8)


def level_chances(
    chances: Sequence[Sequence[float | None]], errors: Sequence[float], draws: int = DRAWS
) -> list[list[float]]:
    """Return the probability of each level of a sampled card, from the chances of a hit.

    R = 0 is a matter of luck for a fact that is stated once in a hundred times, so its level is
    too. The number of hits of a fact whose chances are known is a sum of independent draws
    (Poisson-binomial), computed exactly; that the chances are estimates is allowed for by
    averaging over five multiples of them, log-normal with the error of their mean as their spread.

    Args:
        chances: for each fact the chance of a hit under each of its templates; those that are
            None are taken from the others, in turn.
        errors: for each fact the standard error of the mean of its chances.
        draws: completions of each template.

    Returns:
        ``[facts][5]``, rows that sum to 1.
    """
    import numpy as np

    weights = np.array([weight for _, weight in _NORMAL])
    shares = np.einsum("n,nfl->fl", weights, _by_multiple(chances, errors, draws))
    return [[float(share) for share in row] for row in shares / shares.sum(axis=1, keepdims=True)]


def worth_of_knowing(
    chances: Sequence[Sequence[float | None]], errors: Sequence[float], draws: int = DRAWS
) -> list[float]:
    """Return how much likelier the best guess of a level would be right, were the error nothing.

    Where a level is a matter of luck whatever the chances are exactly (R = 0 or just above), or
    where they are well inside it, that is little: there is no use in measuring on.

    Args:
        chances: as in `level_chances`.
        errors: as in `level_chances`.
        draws: completions of each template.

    Returns:
        For each fact a probability in [0, 1].
    """
    import numpy as np

    weights = np.array([weight for _, weight in _NORMAL])
    by_multiple = _by_multiple(chances, errors, draws)
    knowing = np.einsum("n,nf->f", weights, by_multiple.max(axis=2))
    now = np.einsum("n,nfl->fl", weights, by_multiple).max(axis=1)
    return [float(gain) for gain in np.maximum(knowing - now, 0)]


def _by_multiple(
    chances: Sequence[Sequence[float | None]], errors: Sequence[float], draws: int
) -> Any:
    """Return the levels' probabilities at each multiple of the chances, ``[5][facts][5]``."""
    import numpy as np

    found = np.zeros((len(_NORMAL), len(chances), len(LEVELS)))
    by_width: dict[int, list[int]] = {}
    for place, row in enumerate(chances):
        by_width.setdefault(len(row), []).append(place)
    for width, places in by_width.items():
        known = np.array([_filled(chances[place]) for place in places], dtype=float)
        mean = known.mean(axis=1)
        ratio = np.array([errors[place] for place in places], dtype=float)
        ratio = np.divide(ratio, mean, out=np.zeros_like(mean), where=mean > 0)
        spread = np.sqrt(np.log1p(ratio**2))  # log-normal: a chance is never nothing
        levels = np.array([level_of(hits, draws * width) for hits in range(draws * width + 1)])
        for number, (node, _) in enumerate(_NORMAL):
            multiple = np.exp(node * spread - spread**2 / 2)
            hits = _hits_of((known * multiple[:, None]).clip(0, 1), draws)
            for level in LEVELS:
                found[number, places, level] = hits[:, levels == level].sum(axis=1)
    return found


def _filled(chances: Sequence[float | None]) -> list[float]:
    known = [chance for chance in chances if chance is not None]
    others = itertools.cycle(known)
    return [next(others) if chance is None else chance for chance in chances]


def _hits_of(chances: Any, draws: int) -> Any:
    """Return the probability of each number of hits, ``[facts, templates x draws + 1]``."""
    import numpy as np

    facts, width = chances.shape
    hits = np.empty((width * draws + 1, facts))
    for start in range(0, facts, BLOCK):
        part = slice(start, start + BLOCK)
        own = np.zeros((len(hits), len(chances[part])))
        own[0] = 1.0
        more = np.empty_like(own)
        for template in range(width):
            chance = np.ascontiguousarray(chances[part, template])
            none = 1 - chance
            for made in range(template * draws, (template + 1) * draws):
                np.multiply(own[: made + 1], chance, out=more[: made + 1])
                own[: made + 1] *= none
                own[1 : made + 2] += more[: made + 1]
        hits[:, part] = own
    return hits.T
