"""The sentences and names that say how the predictions moved: on the page and elsewhere."""

from __future__ import annotations

from sftbench.analysis.drift import PAPER_LEVEL, DriftResult, Mean
from sftbench.analysis.summary import TUNED, Summary
from sftbench.report.words import count, label

FORM_NAMES = {"cloze": "cloze", "question": "question"}
KIND_NAMES = {"lead-in": "lead-in", "answer": "answer", "end": "end"}
NOTHING = 1e-6
"""Nats: a mean below has no interval worth the room."""
FLOOR_NAME = "base read again"


def name_of(summary: Summary, variant: str) -> str:
    """Return how a variant is shown; the noise floor and random changes by what they are."""
    drift = summary.drift
    if drift is not None and variant == drift.floor:
        return FLOOR_NAME
    return next((label(one) for one in summary.every if one.name == variant), variant)


def plain_name(variant: str) -> str:
    """Return how a variant is shown where there is no comparison: "restore(relative,5%)"."""
    return FLOOR_NAME if variant == "base+again(1)" else variant.removeprefix("tuned+")


def nats_of(mean: Mean | None) -> str:
    """Return a mean divergence with three digits, "–" where there is none."""
    return "–" if mean is None else f"{mean.value:.3g}"


def bounds_of(mean: Mean | None) -> str:
    """Return the interval of a mean divergence in brackets, "" where there is none."""
    if mean is None or mean.low is None or mean.high is None or mean.value < NOTHING:
        return ""
    return f"[{mean.low:.2g}, {mean.high:.2g}]"


def drift_sentence(drift: DriftResult) -> str:
    """Return how far the tuned model's predictions lie from the base's, and what noise does."""
    tuned, floor = (
        {form: drift.row(name, form) for form in FORM_NAMES} for name in (TUNED, drift.floor or "")
    )
    parts = [
        f"{one.tuned_base.value:.3g} nats a token in {FORM_NAMES[form]} texts"
        for form, one in tuned.items()
        if one is not None
    ]
    bound = "" if drift.exact else "at least "
    said = f"KL(tuned || base) is {bound}{' and '.join(parts)}"
    read = [one.tuned_base.value for one in floor.values() if one is not None]
    if read:
        said += f"; the base read again is {max(read):.1g} from itself"
    nulls = [
        one.tuned_base.value
        for name in drift.nulls
        if (one := drift.row(name, "question")) is not None
    ]
    if nulls:
        said += f", and a random change of that size {sum(nulls) / len(nulls):.2g}"
    return f"{said}."


def paper_sentence(drift: DriftResult) -> str:
    """Return the paper's figure of the tuned model, or why there is none."""
    found = drift.paper_row(TUNED)
    if found is not None:
        facts = count(found.kl.n, f"level-{PAPER_LEVEL} fact")
        return f"The paper's figure (ten logits, {facts}): {found.kl.value:.3g} nats."
    every = drift.paper_row(TUNED, None)
    if every is None:
        return "The paper's figure cannot be given: no fact that the base completes early."
    return (
        f"The paper takes facts of level {PAPER_LEVEL}, of which there are none here that the "
        f"base completes early; over {count(every.kl.n, 'fact')} of all levels its figure is "
        f"{every.kl.value:.3g} nats."
    )
