"""Mastery without sampling every completion: the chance of a hit, read off the model's paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sftbench.common.digests import digest_of, seed_of
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Asked, Forecaster, Sampler, Sampling
from sftbench.facts.matching import AnswerMatcher, How, is_cased, without_diacritics
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

LOW, SURE = 0.25, 2.0
"""A mean that is so many standard errors below the end of level 1 may be settled by a part."""

PATH_VARIANCE = 0.25
"""Variance of one path's chance over that of one draw, p (1 - p), as measured (docs/mastery.md)."""


@dataclass(frozen=True)
class LikelihoodEstimator:
    """Every template is followed along one path that passes the answers by (`engines.forecast`).

    A third of a fact's templates, another third from fact to fact, is read first. Where that
    leaves little to gain in a level of 0 or 1, it is the estimate; everywhere else the other
    templates are read as well. So a fact that is hardly known costs little, and no template is
    preferred. Seeds come from the fact, the template and `seed` alone.

    Higher levels are read in full: to stop where a third happens to read high makes them higher
    (on the lab by 0.02 in levels 3 and 4).

    Attributes:
        temperature: of the sampling that is forecast.
        max_new_tokens: its longest completion.
        looked: tokens of it that are read; beyond them the chances are extrapolated.
        gain: the other templates are read if knowing their mean would make the best guess of the
            level likelier right by this much; 0 reads them always.
        how: how an answer is recognised, see `facts.matching`.
        seed: another seed is a fresh, independent set of paths.
    """

    temperature: float = 0.7
    max_new_tokens: int = 32
    looked: int = 12
    gain: float = 0.05
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
        # Facts that are read together share the beginnings of their prompts, and their length.
        ordered = sorted(facts, key=lambda row: (row["relation"], _part(row), len(row["subject"])))
        for start in range(0, len(ordered), TOGETHER):
            yield from self._together(engine, ordered[start : start + TOGETHER], templates)

    def _together(
        self,
        engine: Forecaster,
        facts: Sequence[FactRow],
        templates: Mapping[str, Sequence[str]],
    ) -> list[Measured]:
        chances: dict[str, Chances] = {
            row["fact_id"]: [None for _ in templates_of(row, templates)] for row in facts
        }
        self._read(engine, facts, templates, chances, first=True)
        left = [row for row in facts if not settled(chances[row["fact_id"]], self.gain)]
        self._read(engine, left, templates, chances, first=False)
        return [
            Measured(fact_id, chances=own, error=error_of(own)) for fact_id, own in chances.items()
        ]

    def _read(
        self,
        engine: Forecaster,
        facts: Sequence[FactRow],
        templates: Mapping[str, Sequence[str]],
        chances: Mapping[str, Chances],
        *,
        first: bool,
    ) -> None:
        """Read the first part of the templates of each fact, or all others, into `chances`."""
        places = [
            [
                place
                for place in range(len(chances[row["fact_id"]]))
                if (place % PARTS == _part(row)) == first
            ]
            for row in facts
        ]
        asked = [
            self._asked(row, [templates_of(row, templates)[place] for place in own])
            for row, own in zip(facts, places, strict=True)
        ]
        how = Sampling(self.temperature, self.max_new_tokens)
        forecasts = engine.forecast(asked, how, self.looked)
        for row, own, forecast in zip(facts, places, forecasts, strict=True):
            for place, (chance,) in zip(own, forecast, strict=True):
                chances[row["fact_id"]][place] = chance

    def _asked(self, row: FactRow, lines: Sequence[str]) -> Asked:
        return Asked(
            prompts=[line.replace(SUBJECT, row["subject"]) for line in lines],
            answers=spellings(row["answers"]) if self.how == "words" else row["answers"],
            seeds=[[seed_of(row["fact_id"], digest_of(line), self.seed)] for line in lines],
            found=AnswerMatcher(row["answers"], self.how).settled,
            whole_words=self.how == "words",
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
    """
    found: dict[str, None] = {}
    for answer in answers:
        for form in (answer, without_diacritics(answer)):
            each = " ".join(word[:1].upper() + word[1:] for word in form.split(" "))
            found |= dict.fromkeys((form, form[:1].upper() + form[1:], each))
            if not is_cased(form):
                found[form.lower()] = None
    return list(found)


def _part(row: FactRow) -> int:
    """Return which part of its templates a fact's first is: as good as random, and fixed."""
    return int(str(digest_of(row["fact_id"]))[:8], 16) % PARTS


def error_of(chances: Chances) -> float:
    """Return the standard error of the mean of the chances, None for templates that were not read.

    Of a part of the templates: their spread, which holds the paths' own, for a sample without
    replacement. Of all templates: the paths' own, as a share of a draw's (`PATH_VARIANCE`).
    """
    known = np.array([chance for chance in chances if chance is not None])
    spread = float((known * (1 - known)).mean())
    paths = PATH_VARIANCE * spread / len(known)
    unread = 1 - len(known) / len(chances)
    between = float(known.var(ddof=1)) / len(known) * unread if len(known) > 1 else spread * unread
    return float(np.sqrt(paths * (1 - unread) + between))


def settled(chances: Chances, gain: float) -> bool:
    """Return whether reading the templates that are None would tell little of the level.

    Args:
        chances: of all templates; those that were not read are None.
        gain: see `LikelihoodEstimator`.
    """
    known = [chance for chance in chances if chance is not None]
    if len(known) == len(chances):
        return True
    error = error_of(chances)
    if float(np.mean(known)) + SURE * error >= LOW:
        return False
    return worth_of_knowing([chances], [error])[0] < gain
