"""Mastery without sampling every completion: the chance of a hit, read off the model's paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sftbench.common.digests import digest_of, seed_of
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Asked, Forecaster, Sampler, Sampling
from sftbench.facts.matching import (
    AnswerMatcher,
    How,
    ends_with_a_word,
    is_cased,
    without_article,
    without_diacritics,
)
from sftbench.facts.templates import SUBJECT
from sftbench.mastery.levels import worth_of_knowing
from sftbench.mastery.measured import Chances, Measured
from sftbench.mastery.sampled import FactRow, templates_of

VERSION = 1
"""Counts changes of the estimator that change its figures."""

PARTS = 3
"""A fact's templates are read in a first part, and the others only where that leaves it open."""

TOGETHER = 40
"""Facts that are read in turns."""

LOW, SURE = 0.25, 2.5
"""A mean that is so many standard errors below the end of level 1 may be settled by a part."""

PATH_VARIANCE = 2.0
"""Variance of one path's chance p, in units of (p (1 - p))^2: between a hundredth and six tenths
of a draw's, as two paths of SmolLM2's facts showed (docs/mastery.md)."""

Step = Literal["part", "others", "again"]
STEPS: tuple[Step, ...] = ("part", "others", "again")
"""What is read of a fact, as far as it is not settled: a part, the others, all once more."""

Readings = list[list[float]]
"""Of each template the chances along its paths; none where it was not read."""


@dataclass(frozen=True)
class LikelihoodEstimator:
    """Every template is followed along one path that passes the answers by (`engines.forecast`).

    A third of a fact's templates, another third from fact to fact, is read first. Where that
    leaves little to gain in a level of 0 or 1, it is the estimate; everywhere else the other
    templates are read as well, and once more all of them, along other paths, where the level is
    still open. So a fact that is hardly known costs little, and no template is preferred. Seeds
    come from the fact, the template and `seed` alone.

    Higher levels are never settled by a part: to stop where a third happens to read high makes
    them higher (on the lab by 0.02 in levels 3 and 4).

    Attributes:
        temperature: of the sampling that is forecast.
        max_new_tokens: its longest completion.
        looked: tokens of it that are read; beyond them the chances are extrapolated.
        gain: a fact is read on if knowing its mean would make the best guess of its level likelier
            right by this much; 0 reads everything.
        how: how an answer is recognised, see `facts.matching`.
        seed: another seed is a fresh, independent set of paths.
    """

    temperature: float = 0.7
    max_new_tokens: int = 32
    looked: int = 12
    gain: float = 0.15
    how: How = "words"
    seed: int = 0

    name = "likelihood"

    def settings(self) -> dict[str, Any]:
        """Return what decides the estimates, for the card's record."""
        return {"estimator": self.name, "version": VERSION, "parts": PARTS, **asdict(self)}

    def estimate(
        self, engine: Sampler, facts: Sequence[FactRow], templates: Mapping[str, Sequence[str]]
    ) -> Iterator[Measured]:
        """Yield each fact with its chances, one for each template; None where it was not read.

        Raises:
            SftbenchError: a relation has no templates, or the engine cannot forecast.
        """
        if not isinstance(engine, Forecaster):
            raise cannot_forecast(engine.describe().get("engine", ""))
        for row in facts:
            templates_of(row, templates)  # an error comes before the first fact is read

        def alike(row: FactRow) -> tuple[str, int, int]:
            # Facts that are read together share the beginnings of their prompts; what a fact is
            # shorter than the longest of them is read in vain.
            return row["relation"], _part(row), _length(engine, row, templates)

        ordered = sorted(facts, key=alike)
        for start in range(0, len(ordered), TOGETHER):
            yield from self._together(engine, ordered[start : start + TOGETHER], templates)

    def _together(
        self,
        engine: Forecaster,
        facts: Sequence[FactRow],
        templates: Mapping[str, Sequence[str]],
    ) -> Iterator[Measured]:
        """Yield each fact as soon as it is settled."""
        readings: dict[str, Readings] = {
            row["fact_id"]: [[] for _ in templates_of(row, templates)] for row in facts
        }
        left = list(facts)
        for step in STEPS:
            self._read(engine, left, templates, readings, step)
            own = {row["fact_id"]: settled(readings[row["fact_id"]], self.gain) for row in left}
            left = [row for row in left if not own[row["fact_id"]]]
            for fact_id, done in own.items():
                if done or step == STEPS[-1]:
                    read = readings[fact_id]
                    yield Measured(fact_id, chances=chances_of(read), error=self.error_of(read))

    def error_of(self, readings: Readings) -> float:
        """Return the standard error of the mean of a fact's chances."""
        return error_of(readings)

    def _read(
        self,
        engine: Forecaster,
        facts: Sequence[FactRow],
        templates: Mapping[str, Sequence[str]],
        readings: Mapping[str, Readings],
        step: Step,
    ) -> None:
        """Read the templates of each fact that a step reads, and note the chances."""
        places = [
            [
                place
                for place in range(len(readings[row["fact_id"]]))
                if step == "again" or (place % PARTS == _part(row)) == (step == "part")
            ]
            for row in facts
        ]
        asked = [
            self._asked(row, [templates_of(row, templates)[place] for place in own], step)
            for row, own in zip(facts, places, strict=True)
        ]
        how = Sampling(self.temperature, self.max_new_tokens)
        forecasts = engine.forecast(asked, how, self.looked)
        for row, own, forecast in zip(facts, places, forecasts, strict=True):
            for place, chances in zip(own, forecast, strict=True):
                readings[row["fact_id"]][place] += chances

    def _asked(self, row: FactRow, lines: Sequence[str], step: Step) -> Asked:
        path = int(step == "again")
        return Asked(
            prompts=_prompts(row, lines),
            answers=spellings(row["answers"]) if self.how == "words" else row["answers"],
            seeds=[
                [seed_of(self.name, row["fact_id"], digest_of(line), self.seed) + path]
                for line in lines
            ],
            found=AnswerMatcher(row["answers"], self.how).settled,
            whole_words=self.how == "words" and ends_with_a_word(row["answers"]),
        )


def cannot_forecast(engine: str) -> SftbenchError:
    """Return the error of an engine that is no `Forecaster`."""
    return SftbenchError(
        f"the engine {engine} shows no probabilities inside a completion, which the estimator "
        "likelihood needs",
        remedy="Use --engine hf, or --estimator sampled.",
    )


def spellings(answers: Sequence[str]) -> list[str]:
    """Return the ways in which answers are usually written: capitals and diacritics, or without.

    All of them count as the same answer (`facts.matching`); rarer ones are met along the paths.
    An article in front is left out: paths that may not say "the" would lead nowhere.
    """
    found: dict[str, None] = {}
    for answer in map(without_article, answers):
        for form in (answer, without_diacritics(answer)):
            each = " ".join(word[:1].upper() + word[1:] for word in form.split(" "))
            found |= dict.fromkeys((form, form[:1].upper() + form[1:], each))
            if not is_cased(form):
                found[form.lower()] = None
    return list(found)


def _prompts(row: FactRow, lines: Sequence[str]) -> list[str]:
    return [line.replace(SUBJECT, row["subject"]) for line in lines]


def _length(engine: Forecaster, row: FactRow, templates: Mapping[str, Sequence[str]]) -> int:
    """Return the tokens of the prompts that are read of a fact at first."""
    lines = templates_of(row, templates)[_part(row) :: PARTS]
    return sum(len(engine.encode(prompt)) for prompt in _prompts(row, lines))


def _part(row: FactRow) -> int:
    """Return which part of its templates a fact's first is: as good as random, and fixed."""
    return int(str(digest_of(row["fact_id"]))[:8], 16) % PARTS


def chances_of(readings: Readings) -> Chances:
    """Return the mean over paths of each template, None where it was not read."""
    # Six digits: what else was in the batch changes the last bits, and cards have digests.
    return [round(sum(paths) / len(paths), 6) if paths else None for paths in readings]


def error_of(readings: Readings) -> float:
    """Return the standard error of the mean over the templates that were read.

    Two parts: what the templates that were not read would change, from the spread of those that
    were (a sample without replacement; the paths' own spread is in it), and the paths' own.
    """
    known = np.array([chance for chance in chances_of(readings) if chance is not None])
    paths = np.array([len(own) for own in readings if own])
    unread = 1 - len(known) / len(readings)
    own = PATH_VARIANCE * (known * (1 - known)) ** 2 / paths
    between = float(known.var(ddof=1)) if len(known) > 1 else float((known * (1 - known)).mean())
    variance = (float(own.mean()) * (1 - unread) + between * unread) / len(known)
    return round(float(np.sqrt(variance)), 6)


def settled(readings: Readings, gain: float) -> bool:
    """Return whether reading on would tell little of the level.

    Args:
        readings: of all templates.
        gain: see `LikelihoodEstimator`.
    """
    chances, error = chances_of(readings), error_of(readings)
    known = [chance for chance in chances if chance is not None]
    if len(known) < len(chances) and float(np.mean(known)) + SURE * error >= LOW:
        return False
    return worth_of_knowing([chances], [error])[0] < gain
