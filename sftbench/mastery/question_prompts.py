"""The estimator for facts without cloze templates: sampled answers to the questions themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftbench.common.digests import digest_of, seed_of
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Draws, Sampler, Sampling
from sftbench.facts.matching import AnswerMatcher, How, first_line
from sftbench.facts.prompts import SHOT_DELIMITER
from sftbench.facts.shots import Shot, ShotSets, shots_of
from sftbench.facts.table import FactSet
from sftbench.mastery.measured import Measured

FactRow = Mapping[str, Any]

QUESTION = "{question}"
WORDINGS = (
    "Question: {question}\nAnswer:",
    "Q: {question}\nA:",
    "{question}\nThe answer is",
    "Asked: {question}\nAnswered:",
    "Student: {question}\nTeacher:",
    "Quiz question: {question}\nCorrect answer:",
    'When somebody asks "{question}", the right reply is',
)
"""Ways to put a question; an answer follows after one space."""
SHOT_SETS = 3
"""Each wording is shown with so many sets of examples: 7 x 3 = 21 prompts, as many as templates."""
SHOTS_SHOWN = 4


@dataclass(frozen=True)
class QuestionPrompt:
    """One of a relation's prompts: the examples as they are shown, and the wording."""

    examples: str
    wording: str

    def ask(self, question: str) -> str:
        """Return the text to complete."""
        return self.examples + self.wording.replace(QUESTION, question)


def prompts_of(shots: ShotSets, relation: str) -> tuple[QuestionPrompt, ...]:
    """Return the 21 prompts of a relation: every wording with each of three sets of examples.

    Raises:
        SftbenchError: the fact set has too few train facts to make three different sets.
    """
    return tuple(
        QuestionPrompt("".join(_shown(wording, shot) for shot in chosen), wording)
        for chosen in _selections(shots, relation)
        for wording in WORDINGS
    )


def _shown(wording: str, shot: Shot) -> str:
    return f"{wording.replace(QUESTION, shot.question)} {shot.answer}{SHOT_DELIMITER}"


def _selections(shots: ShotSets, relation: str) -> list[tuple[Shot, ...]]:
    """Return three different selections of shots: the relation's sets, else turns of them."""
    sets = list(shots.by_relation.get(relation, {}).values())
    turned = [
        (*shown[turn:], *shown[:turn])
        for turn in range(max(map(len, sets), default=0))
        for shown in sets
        if turn < len(shown)
    ]
    different = list(dict.fromkeys(selection[:SHOTS_SHOWN] for selection in turned))
    if len(different) < SHOT_SETS:
        raise SftbenchError(
            f"the relation {relation} has no cloze templates, and too few train facts to show as "
            "examples instead",
            where="facts",
            remedy="Give the facts templates (--templates), or more train facts: 60 to a relation "
            "serve well.",
        )
    return different[:SHOT_SETS]


class QuestionEstimator:
    """Every question is put in 21 ways and answered `samples` times; R is the share of hits.

    Only the first line that is not empty counts: a base model goes on with questions of its own.
    A completion ends as soon as that line, or an answer in it, is complete. Seeds come from the
    fact, the prompt and `seed` alone.

    Args:
        facts: whose reserved shots serve as examples.
        samples: completions of each prompt.
        temperature: of the softmax; no top-p, no top-k.
        max_new_tokens: longest completion.
        how: how an answer is recognised, see `facts.matching`.
        seed: another seed is a fresh, independent set of draws.

    Raises:
        SftbenchError: too few train facts for examples (see `prompts_of`).
    """

    name = "question-prompts"

    def __init__(
        self,
        facts: FactSet,
        *,
        samples: int = 10,
        temperature: float = 0.7,
        max_new_tokens: int = 32,
        how: How = "words",
        seed: int = 0,
    ) -> None:
        """Make the prompts of every relation."""
        shots = shots_of(facts)
        self._prompts = {
            relation: prompts_of(shots, relation)
            for relation in sorted(set(facts.frame["relation"]))
        }
        self._samples = samples
        self._sampling = Sampling(temperature, max_new_tokens)
        self._how: How = how
        self._seed = seed

    def settings(self) -> dict[str, Any]:
        """Return what decides the draws, for the card's record."""
        texts = {
            relation: [prompt.ask(QUESTION) for prompt in prompts]
            for relation, prompts in self._prompts.items()
        }
        return {
            "estimator": self.name,
            "samples": self._samples,
            "temperature": self._sampling.temperature,
            "max_new_tokens": self._sampling.max_new_tokens,
            "how": self._how,
            "seed": self._seed,
            "wordings": len(WORDINGS),
            "shot_sets": SHOT_SETS,
            "shots": SHOTS_SHOWN,
            "prompts_digest": digest_of(texts),
        }

    def estimate(
        self, engine: Sampler, facts: Sequence[FactRow], templates: Mapping[str, Sequence[str]]
    ) -> Iterator[Measured]:
        """Yield each fact with its hits ``[prompts][samples]``, in the order of the facts.

        `templates` are not used: that is what this estimator is for.
        """
        matchers = [AnswerMatcher(row["answers"], self._how) for row in facts]
        draws = [
            self._draws(row, prompt, matcher)
            for row, matcher in zip(facts, matchers, strict=True)
            for prompt in self._prompts[row["relation"]]
        ]
        completions = engine.sample(draws, self._sampling)
        for row, matcher in zip(facts, matchers, strict=True):
            hits = [
                [matcher.contains(first_line(one.text)) for one in next(completions)]
                for _ in self._prompts[row["relation"]]
            ]
            yield Measured(row["fact_id"], hits=hits)

    def _draws(self, row: FactRow, prompt: QuestionPrompt, matcher: AnswerMatcher) -> Draws:
        text = prompt.ask(QUESTION)
        seed = seed_of(row["fact_id"], digest_of(text), self._seed)

        def ended(so_far: str) -> bool:
            return _has_whole_line(so_far) or matcher.settled(first_line(so_far))

        return Draws(prompt.ask(row["question"]), seed, self._samples, ended)


def _has_whole_line(text: str) -> bool:
    """Return whether the first line that is not empty has ended: more text cannot change it."""
    return len(f"{text.lstrip()}x".splitlines()) > 1
