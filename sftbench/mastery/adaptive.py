"""Sampling that stops for a fact once its level is settled at a stated error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from sftbench.engines.protocol import Sampler, Sampling
from sftbench.facts.matching import AnswerMatcher
from sftbench.mastery.levels import LEVELS, level_of
from sftbench.mastery.measured import Measured
from sftbench.mastery.sampled import FactRow, SampledEstimator, templates_of

PRIOR = (0.15, 1.0)
"""Beta distribution of the chance of a hit before anything is drawn: most facts are not known."""

TOGETHER = 60
"""Facts that are drawn in turns, so that batches stay full while facts settle."""


@dataclass(frozen=True)
class AdaptiveEstimator:
    """Every template is completed once in each round, until more rounds would change nothing.

    Round i draws what draw i of `SampledEstimator` draws, so that a fact which never settles has
    the very hits of the sampled card. A fact is settled when the level that `drawn` rounds would
    give is known with probability ``1 - error``: what is not drawn yet is beta-binomial, with the
    prior `PRIOR` and the hits so far.

    Attributes:
        drawn: the card that is stopped early; its `samples` are the most rounds.
        error: probability, by the estimator's own reckoning, of another level than `drawn` gives.
    """

    drawn: SampledEstimator = field(default_factory=SampledEstimator)
    error: float = 0.05

    name = "adaptive"

    def settings(self) -> dict[str, Any]:
        """Return what decides the draws, for the card's record."""
        own = {"estimator": self.name, "error": self.error, "prior": list(PRIOR)}
        return {**asdict(self.drawn), **own}

    def estimate(
        self, engine: Sampler, facts: Sequence[FactRow], templates: Mapping[str, Sequence[str]]
    ) -> Iterator[Measured]:
        """Yield each fact once it is settled: hits ``[templates][rounds]``.

        Raises:
            SftbenchError: a relation has no templates.
        """
        for row in facts:
            templates_of(row, templates)  # an error comes before the first draw
        for start in range(0, len(facts), TOGETHER):
            yield from self._together(engine, facts[start : start + TOGETHER], templates)

    def _together(
        self, engine: Sampler, facts: Sequence[FactRow], templates: Mapping[str, Sequence[str]]
    ) -> Iterator[Measured]:
        hits: dict[str, list[list[bool]]] = {
            row["fact_id"]: [[] for _ in templates_of(row, templates)] for row in facts
        }
        left = list(facts)
        for number in range(self.drawn.samples):
            self._round(engine, left, templates, number, hits)
            settled = [self._settled(hits[row["fact_id"]], number + 1) for row in left]
            for row, done in zip(left, settled, strict=True):
                if done:
                    yield Measured(row["fact_id"], hits=hits[row["fact_id"]])
            left = [row for row, done in zip(left, settled, strict=True) if not done]

    def _round(
        self,
        engine: Sampler,
        facts: Sequence[FactRow],
        templates: Mapping[str, Sequence[str]],
        number: int,
        hits: Mapping[str, list[list[bool]]],
    ) -> None:
        """Draw every template of the facts once more, and note the hits."""
        matchers = [AnswerMatcher(row["answers"], self.drawn.how) for row in facts]
        draws = []
        for row, matcher in zip(facts, matchers, strict=True):
            for template in templates_of(row, templates):
                whole = self.drawn.draws(row, template, matcher)
                draws.append(replace(whole, seed=whole.seed + number, n=1))
        how = Sampling(self.drawn.temperature, self.drawn.max_new_tokens)
        completions = engine.sample(draws, how)
        for row, matcher in zip(facts, matchers, strict=True):
            for drawn in hits[row["fact_id"]]:
                (one,) = next(completions)
                drawn.append(matcher.contains(one.text))

    def _settled(self, hits: Sequence[Sequence[bool]], rounds: int) -> bool:
        if rounds == self.drawn.samples:
            return True
        so_far = sum(map(sum, hits))
        draws, whole = len(hits) * rounds, len(hits) * self.drawn.samples
        chances = level_chances_after(so_far, draws, whole)
        return chances[level_of(so_far, draws)] >= 1 - self.error


@lru_cache(maxsize=4096)
def level_chances_after(hits: int, draws: int, whole: int) -> tuple[float, ...]:
    """Return the probability of each level of `whole` draws, once `draws` gave so many hits.

    Args:
        hits: among the first `draws`.
        draws: made so far; at most `whole`.
        whole: draws that the level is defined by.

    Returns:
        Five probabilities, levels 0 to 4; they sum to 1.
    """
    from scipy.stats import betabinom

    first, second = PRIOR[0] + hits, PRIOR[1] + draws - hits
    more = np.arange(whole - draws + 1)
    chance = betabinom(whole - draws, first, second).pmf(more)
    found = np.zeros(len(LEVELS))
    np.add.at(found, [level_of(hits + int(extra), whole) for extra in more], chance)
    return tuple(float(share) for share in found / found.sum())
