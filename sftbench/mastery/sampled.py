"""The paper's estimator: sampled completions of cloze templates (Ye et al., section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sftbench.common.digests import digest_of, seed_of
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Draws, Sampler, Sampling
from sftbench.facts.matching import AnswerMatcher, How
from sftbench.facts.templates import SUBJECT
from sftbench.mastery.measured import Measured

FactRow = Mapping[str, Any]


@dataclass(frozen=True)
class SampledEstimator:
    """Every template is completed `samples` times; R is the share that states an answer.

    A completion ends as soon as it has stated an answer for good: what follows cannot change
    the hit. A seed comes from the fact, the template and `seed` alone, so that two users draw
    alike and the order of the facts does not matter.

    Attributes:
        samples: completions of each template.
        temperature: of the softmax; no top-p, no top-k.
        max_new_tokens: longest completion.
        how: how an answer is recognised, see `facts.matching`.
        seed: another seed is a fresh, independent set of draws.
    """

    samples: int = 10
    temperature: float = 0.7
    max_new_tokens: int = 32
    how: How = "words"
    seed: int = 0

    name = "sampled"

    def settings(self) -> dict[str, Any]:
        """Return what decides the draws, for the card's record."""
        return {"estimator": self.name, **asdict(self)}

    def estimate(
        self, engine: Sampler, facts: Sequence[FactRow], templates: Mapping[str, Sequence[str]]
    ) -> Iterator[Measured]:
        """Yield each fact with its hits ``[templates][samples]``, in the order of the facts.

        Raises:
            SftbenchError: a relation has no templates.
        """
        matchers = [AnswerMatcher(row["answers"], self.how) for row in facts]
        lines = [templates_of(row, templates) for row in facts]
        draws = (
            self.draws(row, line, matcher)
            for row, own, matcher in zip(facts, lines, matchers, strict=True)
            for line in own
        )
        how = Sampling(self.temperature, self.max_new_tokens)
        completions = engine.sample(list(draws), how)
        for row, own, matcher in zip(facts, lines, matchers, strict=True):
            hits = [[matcher.contains(one.text) for one in next(completions)] for _ in own]
            yield Measured(row["fact_id"], hits=hits)

    def draws(self, row: FactRow, template: str, matcher: AnswerMatcher) -> Draws:
        """Return what is drawn for one template of a fact."""
        prompt = template.replace(SUBJECT, row["subject"])
        seed = seed_of(row["fact_id"], digest_of(template), self.seed)
        return Draws(prompt, seed, self.samples, matcher.settled)


def templates_of(row: FactRow, templates: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the cloze templates of a fact's relation.

    Raises:
        SftbenchError: it has none.
    """
    own = templates.get(row["relation"])
    if not own:
        raise SftbenchError(
            f"the relation {row['relation']} has no cloze templates",
            remedy="Make the fact table with templates for it (`sftbench facts import ... "
            "--templates FILE.yaml`, see docs/facts.md), or with none at all: then its questions "
            "are asked instead.",
        )
    return own
