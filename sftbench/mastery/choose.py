"""Chooses the estimator that a fact set can be levelled with, and says what it does."""

from __future__ import annotations

from typing import Literal

from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Forecaster
from sftbench.facts.matching import How
from sftbench.facts.table import FactSet
from sftbench.mastery.adaptive import AdaptiveEstimator
from sftbench.mastery.estimate import Estimator
from sftbench.mastery.likelihood import LikelihoodEstimator
from sftbench.mastery.question_prompts import QuestionEstimator
from sftbench.mastery.sampled import SampledEstimator

EstimatorName = Literal["likelihood", "adaptive", "sampled"]

SAYS: dict[EstimatorName, str] = {
    "likelihood": "Mastery: the chance that a completion of a cloze template states an answer, "
    "estimated along 7 to 21 paths (docs/mastery.md). --estimator sampled draws 210 completions.",
    "adaptive": "Mastery: sampled completions of 21 cloze templates, until a fact's level is "
    "settled.",
    "sampled": "Mastery: sampled completions of 21 cloze templates.",
}
WITHOUT_TEMPLATES = (
    "Mastery: these facts have no cloze templates, so their questions are asked instead, in 7 "
    "wordings, each with 3 sets of 4 examples. Levels made so are not comparable with levels from "
    "cloze templates; the card says which they are."
)


def can_forecast(engine: object) -> bool:
    """Return whether mastery can be read as likelihood with this engine and its model."""
    return isinstance(engine, Forecaster) and engine.can_forecast()


def estimator_for(
    facts: FactSet,
    name: EstimatorName = "sampled",
    *,
    samples: int = 10,
    how: How = "words",
    seed: int = 0,
) -> tuple[Estimator, str]:
    """Return the estimator for these facts and a sentence that says how it measures.

    Cloze templates where every relation has them; question prompts where none has, whatever
    `name` says.

    Args:
        facts: what is levelled.
        name: which estimator, where there are templates.
        samples: most completions of each template or prompt; `likelihood` draws none.
        how: how an answer is recognised.
        seed: another seed is a fresh set of draws or paths.

    Raises:
        SftbenchError: some relations have templates and others have none, or there are neither
            templates nor enough train facts to show as examples.
    """
    relations = set(facts.frame["relation"])
    without = sorted(relation for relation in relations if not facts.templates.get(relation))
    if not without:
        return _of_templates(name, SampledEstimator(samples=samples, how=how, seed=seed))
    if len(without) < len(relations):
        raise SftbenchError(
            f"some relations have cloze templates and others have none ({', '.join(without[:5])}), "
            "and levels from the two ways of measuring cannot be mixed",
            where="facts",
            remedy="Make the fact table with templates for every relation, or for none.",
        )
    estimator: Estimator = QuestionEstimator(facts, samples=samples, how=how, seed=seed)
    return estimator, WITHOUT_TEMPLATES


def _of_templates(name: EstimatorName, drawn: SampledEstimator) -> tuple[Estimator, str]:
    if name == "adaptive":
        return AdaptiveEstimator(drawn), SAYS[name]
    if name == "likelihood":
        return LikelihoodEstimator(how=drawn.how, seed=drawn.seed), SAYS[name]
    return drawn, SAYS[name]
