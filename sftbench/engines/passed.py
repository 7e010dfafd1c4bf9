"""What a path passes by, as a chance: turns to an answer, which of them to read on, the sum.

A path is a completion that never begins an answer (`engines.forecast` follows them). At each of
its steps it holds the probability of each first token of an answer; here is decided where the rest
of an answer is read, shared what was read, and added up what was passed. Nothing here is a model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sftbench.engines.protocol import Finish

WORTH_READING = 5e-3
"""Probability of going to a first token anywhere along a path from which on r is read for it. For
less, it is the mean of what other paths of the fact showed; one of them is always read."""

DRIFT = 1.2
"""Tokens beyond those followed pass an answer so many times as often as the late ones that were:
with 8 to 16 tokens followed, what SmolLM2's paths of 32 tokens showed (docs/mastery.md)."""


@dataclass
class Path:
    """A completion that avoids the answers.

    Attributes:
        row: its fact's place in the batch.
        prompt: its prompt's place.
        places: numbers of the nodes whose next token is step 0, 1 ...
        ids: the tokens drawn.
        passed: for each step the probability of each first token of an answer.
        finish: why it ended; "length" if it was followed to the end.
        rest: r of each first token of an answer.
    """

    row: int
    prompt: int
    places: list[int]
    ids: list[int] = field(default_factory=list)
    passed: list[list[float]] = field(default_factory=list)
    finish: Finish = "length"
    rest: dict[int, float] = field(default_factory=dict)


class Turn(NamedTuple):
    """A step at which a path passed a first token, and the probability of going there at all."""

    step: int
    weight: float


def turns_of(path: Path, seed: int) -> list[Turn]:
    """Return for each first token the step to look at, drawn by its weight."""
    import numpy as np

    passed = np.array(path.passed)
    there = np.concatenate([[1.0], np.cumprod(1 - passed.sum(axis=1))[:-1].clip(min=0)])
    weights: Any = np.cumsum(there[:, None] * passed, axis=0)
    # Another key than that of the path's own draws, whose uniforms are used up.
    uniform: Any = np.random.Generator(np.random.Philox(key=[seed, 1])).random(passed.shape[1])
    last = len(passed) - 1
    return [
        Turn(
            min(int(np.searchsorted(weights[:, first], uniform[first] * total, "right")), last),
            float(total),
        )
        for first, total in enumerate(weights[-1].tolist())
    ]


def worth_reading(paths: Sequence[Path], turns: Sequence[Sequence[Turn]]) -> list[tuple[int, int]]:
    """Return (path, first token) of what is read: all that weigh, and each fact's heaviest."""
    heaviest: dict[tuple[int, int], int] = {}
    chosen = set()
    for number, (path, own) in enumerate(zip(paths, turns, strict=True)):
        for first, turn in enumerate(own):
            best = heaviest.setdefault((path.row, first), number)
            if turn.weight > turns[best][first].weight:
                heaviest[path.row, first] = number
            if turn.weight >= WORTH_READING:
                chosen.add((number, first))
    chosen |= {(number, first) for (_, first), number in heaviest.items()}
    return sorted(chosen)


def share_rests(paths: Sequence[Path], turns: Sequence[Sequence[Turn]]) -> None:
    """Give r, by its weighted mean over the paths of a fact, to those where it was not read."""
    sums: dict[tuple[int, int], tuple[float, float]] = {}
    for path, own in zip(paths, turns, strict=True):
        for first, rest in path.rest.items():
            total, weight = sums.get((path.row, first), (0.0, 0.0))
            heavy = max(own[first].weight, 1e-30)
            sums[path.row, first] = (total + heavy * rest, weight + heavy)
    for path, own in zip(paths, turns, strict=True):
        for first in range(len(own)):
            if first not in path.rest:
                total, weight = sums[path.row, first]
                path.rest[first] = total / weight


def chance_of(path: Path, longest: int) -> float:
    """Return the chance that a completion of at most `longest` tokens states an answer."""
    if path.finish == "found":
        return 1.0
    passed_by = path.passed[: max(longest, 0)]
    if not passed_by:
        return 0.0
    hazards = [
        min(1.0, sum(g * path.rest[first] for first, g in enumerate(passed)))
        for passed in passed_by
    ]
    kept = math.prod(1 - hazard for hazard in hazards)
    if path.finish == "length":
        late = hazards[len(hazards) // 2 :]
        kept *= (1 - sum(late) / len(late)) ** (DRIFT * max(0, longest - len(hazards)))
    return 1 - kept
